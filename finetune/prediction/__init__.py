"""Predict many rows: block by block, in one or several processes, into a folder that can be continued."""

from finetune.prediction.asking import Asked, asked, naming
from finetune.prediction.blocks import BLOCK_ROWS, Blocks, Predict
from finetune.prediction.engines import ENGINES, Load, predicted
from finetune.prediction.inference import Inference
from finetune.prediction.output import Output, Written, check
from finetune.prediction.predictor import EncodedRow, Predictor
from finetune.prediction.target import Target, target

__all__ = [
    "BLOCK_ROWS", "ENGINES", "Asked", "Blocks", "EncodedRow", "Inference", "Load", "Output", "Predict", "Predictor",
    "Target", "Written", "asked", "check", "naming", "predicted", "target",
]  # fmt: skip
