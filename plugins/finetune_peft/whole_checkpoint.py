"""Checkpoints that hold every trainable parameter: some methods of PEFT save fewer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from finetune.errors import BadCheckpoint
from finetune_peft.strategy import PeftStrategy

CHECKPOINT = "trained.safetensors"
"""File of a checkpoint that holds every trainable parameter. Of P-tuning, PEFT saves the virtual tokens, and not the
network that makes them."""


class WholeCheckpoint(PeftStrategy):
    """A strategy whose checkpoints hold every trainable parameter as it is."""

    def write_checkpoint(self, model: Any, directory: Path) -> None:
        """Write every trainable parameter, unchanged."""
        tensors = {name: p.detach().cpu().contiguous() for name, p in _trainable(model).items()}
        save_file(tensors, directory / CHECKPOINT)

    def read_checkpoint(self, model: Any, directory: Path) -> bool:
        """Read every trainable parameter.

        Raises:
            BadCheckpoint: The file is missing, or holds other parameters.
        """
        path = directory / CHECKPOINT
        if not path.is_file():
            raise BadCheckpoint(
                f"{directory.name} lacks {CHECKPOINT}, so the trained parameters cannot be restored. "
                "Start again with --overwrite."
            )
        tensors = load_file(path)
        parameters = _trainable(model)
        differing = sorted(tensors.keys() ^ parameters.keys())
        if differing:
            raise BadCheckpoint(
                f"{directory.name}: {CHECKPOINT} belongs to another model: {differing[0]!r} is not in both. "
                "Start again with --overwrite."
            )
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(tensors[name])
        return True


def _trainable(model: Any) -> dict[str, Any]:
    return {name: p for name, p in model.named_parameters() if p.requires_grad}
