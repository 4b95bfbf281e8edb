"""Features → a padded batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

LABELS = ("start_positions", "end_positions")


@dataclass(frozen=True, kw_only=True)
class PadRight:
    """Pads a batch of windows on the right, whatever side the tokenizer would pad.

    Label positions and logits then count from the window's own first token in every batch. Padding on the left would
    shift them by an amount that the trainer forgets: it joins the logits of batches of different widths by adding −100
    on the right. Encoders and decoders do not care: what is padded is masked, and positions count from the first token.
    """

    pad_token_id: int
    pad_token_type_id: int = 0

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the batch as tensors: ``input_ids``, ``attention_mask``, ``token_type_ids``, and labels if any."""
        fill = {"input_ids": self.pad_token_id, "attention_mask": 0, "token_type_ids": self.pad_token_type_id}
        width = max(len(feature["input_ids"]) for feature in features)
        batch: dict[str, Any] = {}
        for name, padding in fill.items():
            if name in features[0]:
                table = np.full((len(features), width), padding, np.int64)
                for row, feature in zip(table, features, strict=True):
                    row[: len(feature[name])] = feature[name]
                batch[name] = torch.from_numpy(table)
        for name in LABELS:
            if name in features[0]:
                batch[name] = torch.tensor([int(feature[name]) for feature in features])
        return batch
