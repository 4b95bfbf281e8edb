"""Rows of different lengths in one batch: what stands in the gaps, and on which side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils.rnn import pad_sequence

from finetune.errors import Incompatible
from finetune.interfaces import IGNORE_INDEX

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

UNUSED = ("<pad>", "<|pad|>", "<|padding|>", "<|finetune_right_pad_id|>", "<|fim_pad|>", "[PAD]", "<PAD>")
"""Names under which vocabularies keep a token for padding, though the tokenizer does not say so."""


def ensure_pad(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Give a tokenizer a padding token if it has none, in place; say whether it is the end-of-sequence token.

    That is harmless here: what is padding is told by lengths, never by id, so the end stays in the loss. (Where padding
    is masked by id, a model with one token for both never learns to stop.)

    Raises:
        Incompatible: There is no token to pad with.
    """
    if tokenizer.pad_token is None:
        known = tokenizer.get_vocab()
        unused = next((token for token in UNUSED if token in known), None)
        if unused is None and tokenizer.eos_token is None:
            raise Incompatible(
                f"the tokenizer ({type(tokenizer).__name__}) has neither a padding nor an end-of-sequence token. Save "
                "a copy of it that has, and name the copy under model.tokenizer."
            )
        tokenizer.pad_token = unused or tokenizer.eos_token
    return bool(tokenizer.pad_token_id == tokenizer.eos_token_id)


class PadSequences:
    """Pads what the model reads on the right, and prompts to write after on the left.

    >>> batch = PadSequences(0)([{"input_ids": [5, 6], "labels": [-100, 6], "prompt_ids": [5]},
    ...                          {"input_ids": [7, 8, 9], "labels": [-100, -100, 9], "prompt_ids": [7, 8]}])
    >>> batch["labels"].tolist(), batch["prompt_ids"].tolist()
    ([[-100, 6, -100], [-100, -100, 9]], [[0, 5], [7, 8]])
    """

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return a batch; rows without labels are prompts themselves.

        Packed sequences have positions instead of a mask: from where these begin anew, the model makes one itself.
        """
        ids = [row["input_ids"] for row in rows]
        side = "right" if "labels" in rows[0] else "left"
        batch = {
            "input_ids": self._pad(ids, self.pad_token_id, side=side),
            "attention_mask": self._mask(ids, side=side),
        }
        if "position_ids" in rows[0]:
            del batch["attention_mask"]
            batch["position_ids"] = self._pad([row["position_ids"] for row in rows], 0)
        if "labels" in rows[0]:
            batch["labels"] = self._pad([row["labels"] for row in rows], IGNORE_INDEX)
        if "prompt_ids" in rows[0]:
            prompts = [row["prompt_ids"] for row in rows]
            batch["prompt_ids"] = self._pad(prompts, self.pad_token_id, side="left")
            batch["prompt_mask"] = self._mask(prompts, side="left")
        return batch

    def _pad(self, values: Sequence[Sequence[int]], value: int, *, side: str = "right") -> torch.Tensor:
        tensors = [torch.tensor(row, dtype=torch.long) for row in values]
        return pad_sequence(tensors, batch_first=True, padding_value=value, padding_side=side)

    def _mask(self, values: Sequence[Sequence[int]], *, side: str = "right") -> torch.Tensor:
        return self._pad([[1] * len(row) for row in values], 0, side=side)
