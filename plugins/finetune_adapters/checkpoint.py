"""Checkpoints without the weights of the frozen base model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from transformers import TrainerCallback
from transformers.utils import SAFE_WEIGHTS_NAME

from finetune_adapters.adapters import trainable_parameters


class KeepSmall(TrainerCallback):
    """Replaces the weights in a checkpoint, after it was written, by the trainable ones.

    On resume, the trainer loads a checkpoint's weights into the model that it has already, so all other weights are
    those of the base model.
    """

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Write the small file, and replace the complete one by it."""
        weights = Path(args.output_dir) / f"checkpoint-{state.global_step}" / SAFE_WEIGHTS_NAME
        if state.is_world_process_zero and weights.is_file():
            small = weights.with_suffix(".small")
            save_file(trainable_parameters(kwargs["model"]), small, metadata={"format": "pt"})
            os.replace(small, weights)
