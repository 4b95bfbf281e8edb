"""Features of supervised fine-tuning → a padded batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune.interfaces import IGNORE_INDEX
from finetune.kit import pad, pad_mask
from finetune_trl.chat.tokens import pad_prompts

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class PadLabelled:
    """Pads sequences to train or score on the right, and prompts to answer on the left.

    >>> batch = PadLabelled(pad_token_id=0)([{"input_ids": [5, 6], "labels": [-100, 6], "prompt_ids": [5]},
    ...                                      {"input_ids": [7, 8, 9], "labels": [-100, -100, 9], "prompt_ids": [7, 8]}])
    >>> batch["labels"].tolist(), batch["prompt_ids"].tolist()
    ([[-100, 6, -100], [-100, -100, 9]], [[0, 5], [7, 8]])
    """

    pad_token_id: int

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return a batch; rows without labels are prompts themselves.

        A packed sequence has positions instead of a mask: the model makes a mask of the places where they restart at 0.
        """
        ids = [row["input_ids"] for row in rows]
        if "labels" not in rows[0]:
            return pad_prompts(ids, self.pad_token_id)
        batch = {
            "input_ids": pad(ids, self.pad_token_id),
            "labels": pad([row["labels"] for row in rows], IGNORE_INDEX),
        }
        if "position_ids" in rows[0]:
            batch["position_ids"] = pad([row["position_ids"] for row in rows], 0)
        else:
            batch["attention_mask"] = pad_mask(ids)
        if "prompt_ids" in rows[0]:
            prompts = pad_prompts([row["prompt_ids"] for row in rows], self.pad_token_id)
            batch["prompt_ids"], batch["prompt_mask"] = prompts["input_ids"], prompts["attention_mask"]
        return batch
