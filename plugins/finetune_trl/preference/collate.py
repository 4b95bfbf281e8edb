"""Features → a padded batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.utils.rnn import pad_sequence

PROMPT_IDS, CHOSEN_IDS, REJECTED_IDS, COMPLETION_IDS = "prompt_ids", "chosen_ids", "rejected_ids", "completion_ids"
LABEL = "label"
"""Feature columns, by TRL's names."""
Features = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class PadPairs:
    """Puts the chosen answers of a batch above the rejected ones, each after its prompt, padded on the right.

    Prompts without answers are padded on the left, for the model to go on from.
    """

    pad_token_id: int

    def __call__(self, features: Features) -> dict[str, torch.Tensor]:
        """Return ``input_ids``, ``attention_mask`` and ``completion_mask``, each (2B, L); or the first two, (B, L)."""
        if CHOSEN_IDS not in features[0]:
            return padded_prompts(features, self.pad_token_id)
        rows = [(row[PROMPT_IDS], row[side]) for side in (CHOSEN_IDS, REJECTED_IDS) for row in features]
        return padded_answers(rows, self.pad_token_id)


@dataclass(frozen=True, kw_only=True)
class PadWhole:
    """Puts the chosen answers of a batch above the rejected ones, prompts included, padded on the right."""

    pad_token_id: int

    def __call__(self, features: Features) -> dict[str, Any]:
        """Return ``input_ids`` and ``attention_mask``, (2B, L); of single answers (B, L), marked as not ``paired``."""
        paired = CHOSEN_IDS in features[0]
        sides = (CHOSEN_IDS, REJECTED_IDS) if paired else (COMPLETION_IDS,)
        rows = [row[side] for side in sides for row in features]
        batch = {
            "input_ids": padded(rows, self.pad_token_id),
            "attention_mask": padded([[1] * len(row) for row in rows], 0),
        }
        return batch if paired else {**batch, "paired": False}


@dataclass(frozen=True, kw_only=True)
class PadKTO:
    """Puts answers after their prompts, padded on the right; and once more, each after the prompt of the next row.

    What the model thinks of answers that belong elsewhere estimates how far it has moved from the reference. TRL pairs
    them when it prepares the data; here it is done batch by batch, so that evaluation may come in any order.

    Source: Ethayarajh et al. 2024, "KTO: Model Alignment as Prospect Theoretic Optimization", §4.1.
    """

    pad_token_id: int
    max_length: int
    spare: Sequence[int] = ()
    """An answer of another row, for a batch of one: its own would make the estimate the reward itself."""

    def __call__(self, features: Features) -> dict[str, torch.Tensor]:
        """Return what TRL's collator does: three tables of answers, three called ``KL_…``, and ``label``."""
        if COMPLETION_IDS not in features[0]:
            return padded_prompts(features, self.pad_token_id)
        prompts, answers = ([row[name] for row in features] for name in (PROMPT_IDS, COMPLETION_IDS))
        shifted = [answers[-1], *answers[:-1]] if len(answers) > 1 or not self.spare else [list(self.spare)]
        elsewhere = [
            (prompt, answer[: max(self.max_length - len(prompt), 0)])
            for prompt, answer in zip(prompts, shifted, strict=True)
        ]
        matched = padded_answers(list(zip(prompts, answers, strict=True)), self.pad_token_id)
        mismatched = padded_answers(elsewhere, self.pad_token_id)
        return {
            **matched,
            **{f"KL_{name}": tensor for name, tensor in mismatched.items()},
            LABEL: torch.tensor([row[LABEL] for row in features]),
        }


def padded_answers(rows: Sequence[tuple[list[int], list[int]]], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Return prompts with their answers as a batch; ``completion_mask`` is 1 on the answers."""
    return {
        "input_ids": padded([[*prompt, *answer] for prompt, answer in rows], pad_token_id),
        "attention_mask": padded([[1] * (len(prompt) + len(answer)) for prompt, answer in rows], 0),
        "completion_mask": padded([[0] * len(prompt) + [1] * len(answer) for prompt, answer in rows], 0),
    }


def padded_prompts(features: Features, pad_token_id: int) -> dict[str, torch.Tensor]:
    """Return prompts as a batch, padded on the left."""
    ids = [row[PROMPT_IDS] for row in features]
    return {
        "input_ids": padded(ids, pad_token_id, side="left"),
        "attention_mask": padded([[1] * len(row) for row in ids], 0, side="left"),
    }


def padded(rows: Sequence[Sequence[int]], value: int, *, side: str = "right") -> torch.Tensor:
    """Return rows of different lengths as one table, filled up with a value."""
    tensors = [torch.tensor(row, dtype=torch.int64) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=value, padding_side=side)
