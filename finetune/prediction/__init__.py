"""Predict many rows: block by block, in one or several processes, into a folder that can be continued."""

from finetune.prediction.blocks import BLOCK_ROWS, Blocks, Predict
from finetune.prediction.engines import ENGINES, Load, predicted
from finetune.prediction.output import Output, Written, check

__all__ = ["BLOCK_ROWS", "ENGINES", "Blocks", "Load", "Output", "Predict", "Written", "check", "predicted"]
