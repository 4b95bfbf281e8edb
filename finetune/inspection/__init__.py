"""Look at a data set, and propose how to read it, the task, the columns and the model, each with a reason."""

from finetune.inspection.columns import Column, column
from finetune.inspection.look import Look, look
from finetune.inspection.propose import CLOSE, Proposal, alternatives, propose
from finetune.inspection.recommend import Base, base_model, chosen, where_it_is

__all__ = [
    "CLOSE",
    "Base",
    "Column",
    "Look",
    "Proposal",
    "alternatives",
    "base_model",
    "chosen",
    "column",
    "look",
    "propose",
    "where_it_is",
]
