"""Pad sequences of different lengths to one batch."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from transformers import DataCollatorWithPadding

from finetune.errors import BadOptions
from finetune.interfaces import IGNORE_INDEX
from finetune.models import base_model_of

Side = Literal["left", "right"]


def pad(rows: Sequence[Sequence[int]], value: int, *, side: Side = "right") -> torch.Tensor:
    """Return rows of different lengths as one tensor of integers, (B, L), padded with a value.

    >>> pad([[5, 6], [7, 8, 9]], 0).tolist(), pad([[5, 6], [7, 8, 9]], 0, side="left").tolist()
    ([[5, 6, 0], [7, 8, 9]], [[0, 5, 6], [7, 8, 9]])
    """
    width = max((len(row) for row in rows), default=0)
    table = np.full((len(rows), width), value, np.int64)
    for place, row in zip(table, rows, strict=True):
        if side == "right":
            place[: len(row)] = row
        else:
            place[width - len(row) :] = row
    return torch.from_numpy(table)


def padded_by_tokenizer(tokenizer: Any, model: Any) -> DataCollatorWithPadding:
    """Return transformers' collator, which pads on the side that suits the model, regardless of the tokenizer's side.

    On the right, a decoder sees no padding before the end of a text, and the text has the same positions in each batch.
    On the left, GPT-2, GPT-Neo, GPT-BigCode, OpenAI's GPT and CTRL count positions from the padding on, so that the
    prediction for a text depends on the longest text of its batch.
    """
    own = copy.copy(tokenizer)  # the side of the tokenizer itself is saved with the model, for generation
    own.padding_side = padding_side(model)
    return DataCollatorWithPadding(own)


def padding_side(model: Any) -> Side:
    """Return the side on which a text is padded so that a model's head does not read the padding.

    A head that summarizes a text by its last position needs the padding on the left. XLNet's configuration asks for
    it; RoFormer's head for multiple choice does it by default.
    """
    for module in base_model_of(model).modules():
        if getattr(module, "summary_type", None) == "last":
            return "left"
    return "right"


def pad_mask(rows: Sequence[Sequence[int]], *, side: Side = "right") -> torch.Tensor:
    """Return the attention mask of `pad`, (B, L): 1 for tokens, 0 for padding.

    >>> pad_mask([[5, 6], [7, 8, 9]]).tolist()
    [[1, 1, 0], [1, 1, 1]]
    """
    return pad([[1] * len(row) for row in rows], 0, side=side)


@dataclass(frozen=True, kw_only=True)
class PadRight:
    """A collator that pads every sequence of a feature on the right, regardless of the tokenizer's side.

    It pads by length, not by token: if the padding token is also the end token (GPT-2), the model still
    learns the end. Label positions and logits count from the first token of a feature in every batch.
    Padding on the left would shift them by an amount that the trainer does not keep: it joins the logits
    of batches of different widths by adding -100 on the right.
    """

    pad_token_id: int
    """Fills ``input_ids``."""
    pad_token_type_id: int = 0
    """Fills ``token_type_ids``."""

    side: ClassVar[Side] = "right"

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the batch: sequences as (B, L), numbers as (B,), and ``attention_mask``.

        Raises:
            BadOptions: A column holds sequences, but has no known padding value.
        """
        fill = {
            "input_ids": self.pad_token_id,
            "attention_mask": 0,
            "token_type_ids": self.pad_token_type_id,
            "labels": IGNORE_INDEX,
        }
        batch: dict[str, torch.Tensor] = {}
        for name, first in features[0].items():
            values = [feature[name] for feature in features]
            if not hasattr(first, "__len__"):
                batch[name] = torch.tensor(values)
            elif name in fill:
                batch[name] = pad(values, fill[name], side=self.side)
            else:
                raise BadOptions(
                    f"{type(self).__name__} pads {', '.join(fill)}, not the column {name!r}. Write a collator for it."
                )
        if "attention_mask" not in batch:
            batch["attention_mask"] = pad_mask([feature["input_ids"] for feature in features], side=self.side)
        return batch


class PadLeft(PadRight):
    """The same on the left, for a model whose `padding_side` is the left and whose outputs have no positions."""

    side: ClassVar[Side] = "left"
