"""Features of preference learning → a padded batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from finetune.kit import pad, pad_mask
from finetune_trl.chat.columns import MARGIN
from finetune_trl.chat.tokens import pad_prompts

PROMPT_IDS, CHOSEN_IDS, REJECTED_IDS, COMPLETION_IDS = "prompt_ids", "chosen_ids", "rejected_ids", "completion_ids"
LABEL = "label"
"""Feature columns, by TRL's names."""
Features = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class PadPairs:
    """Stacks the chosen answers of a batch on the rejected ones, each after its prompt, padded on the right.

    Prompts without answers are padded on the left, to be continued.
    """

    pad_token_id: int

    def __call__(self, features: Features) -> dict[str, torch.Tensor]:
        """Return ``input_ids``, ``attention_mask`` and ``completion_mask``, each (2B, L); of prompts two, (B, L)."""
        prompts = [row[PROMPT_IDS] for row in features]
        if CHOSEN_IDS not in features[0]:
            return pad_prompts(prompts, self.pad_token_id)
        answers = [row[CHOSEN_IDS] for row in features] + [row[REJECTED_IDS] for row in features]
        return pad_answers([*prompts, *prompts], answers, self.pad_token_id)


@dataclass(frozen=True, kw_only=True)
class PadWhole:
    """Stacks the chosen answers of a batch on the rejected ones, prompts included, padded on the right."""

    pad_token_id: int

    def __call__(self, features: Features) -> dict[str, Any]:
        """Return ``input_ids`` and ``attention_mask``, (2B, L), and ``margin``, (B,), if rows have one.

        Of single answers, these are (B, L), and marked as not ``paired``.
        """
        if CHOSEN_IDS not in features[0]:
            return {**self._pad([row[COMPLETION_IDS] for row in features]), "paired": False}
        batch: dict[str, Any] = self._pad(
            [row[CHOSEN_IDS] for row in features] + [row[REJECTED_IDS] for row in features]
        )
        if MARGIN in features[0]:
            batch[MARGIN] = torch.tensor([row[MARGIN] for row in features])
        return batch

    def _pad(self, ids: Sequence[Sequence[int]]) -> dict[str, Any]:
        return {"input_ids": pad(ids, self.pad_token_id), "attention_mask": pad_mask(ids)}


@dataclass(frozen=True, kw_only=True)
class PadKTO:
    """Pads answers after their prompts on the right, and each answer once more after the prompt of the next row.

    The log-probabilities of these mismatched answers estimate how far the model has moved from the reference. TRL pairs
    them when it prepares the data; here each batch pairs its own, so that evaluation may come in any order.

    Source: Ethayarajh et al. 2024, "KTO: Model Alignment as Prospect Theoretic Optimization", §4.1.
    """

    pad_token_id: int
    max_length: int
    spare: Sequence[int] = ()
    """An answer of another row, for a batch of one row: with its own answer, the estimate would be the reward."""

    def __call__(self, features: Features) -> dict[str, torch.Tensor]:
        """Return what TRL's collator does: three tables of answers, three called ``KL_…``, and ``label``."""
        prompts = [row[PROMPT_IDS] for row in features]
        if COMPLETION_IDS not in features[0]:
            return pad_prompts(prompts, self.pad_token_id)
        answers = [row[COMPLETION_IDS] for row in features]
        batch = pad_answers(prompts, answers, self.pad_token_id)
        mismatched = pad_answers(prompts, self._mismatch(prompts, answers), self.pad_token_id)
        for name, tensor in mismatched.items():
            batch[f"KL_{name}"] = tensor
        batch[LABEL] = torch.tensor([row[LABEL] for row in features])
        return batch

    def _mismatch(self, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> list[Sequence[int]]:
        """Return for each prompt the answer of the row before, cut to the room that the prompt leaves."""
        others = [self.spare] if len(answers) == 1 and self.spare else [answers[-1], *answers[:-1]]
        cut = []
        for prompt, answer in zip(prompts, others, strict=True):
            cut.append(answer[: max(self.max_length - len(prompt), 0)])
        return cut


def pad_answers(
    prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]], pad_token_id: int
) -> dict[str, torch.Tensor]:
    """Return prompts with their answers as a batch: ids, attention mask, and ``completion_mask``, 1 on the answers."""
    ids, completion_mask = [], []
    for prompt, answer in zip(prompts, answers, strict=True):
        ids.append([*prompt, *answer])
        completion_mask.append([0] * len(prompt) + [1] * len(answer))
    return {
        "input_ids": pad(ids, pad_token_id),
        "attention_mask": pad_mask(ids),
        "completion_mask": pad(completion_mask, 0),
    }
