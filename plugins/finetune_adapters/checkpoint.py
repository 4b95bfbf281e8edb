"""Checkpoints that hold what trains, and not the frozen model again and again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from transformers import TrainerCallback
from transformers.utils import SAFE_WEIGHTS_NAME

from finetune_adapters.adapters import trained


class KeepSmall(TrainerCallback):
    """Replaces the weights in a checkpoint, as soon as it is written, by those that train.

    The trainer loads a checkpoint's weights into the model that it already has, so on resume all others are the base's.
    """

    def on_save(self, args: Any, state: Any, control: Any, *, model: Any, **_: Any) -> None:
        """Write the small file beside the whole one, and put it in its place."""
        weights = Path(args.output_dir) / f"checkpoint-{state.global_step}" / SAFE_WEIGHTS_NAME
        if state.is_world_process_zero and weights.is_file():
            small = weights.with_suffix(".small")
            save_file(trained(model), small, metadata={"format": "pt"})
            os.replace(small, weights)
