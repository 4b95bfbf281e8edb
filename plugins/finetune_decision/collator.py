"""Features → one padded batch, and the loss of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from finetune.interfaces import IGNORE_INDEX
from finetune.kit import PadRight, batch_share, logits_of, pad

OPTION_IDS = "option_ids"
"""Feature and column of a batch: the token of each option's label."""
NO_OPTION = -1
"""Fills `OPTION_IDS` of a question with fewer options."""


@dataclass(frozen=True, kw_only=True)
class PadDecisions:
    """A collator that pads prompts on the right, and the tokens of the options with `NO_OPTION`."""

    pad: PadRight

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return ``input_ids`` and ``attention_mask``, (B, L), ``option_ids``, (B, C), and ``labels``, (B, 2).

        The second label is the position of the right option. The first is ignored: transformers counts the labels of a
        causal model from the second on.
        """
        batch = self.pad([{"input_ids": feature["input_ids"]} for feature in features])
        batch[OPTION_IDS] = pad([feature[OPTION_IDS] for feature in features], NO_OPTION)
        if "labels" in features[0]:
            batch["labels"] = torch.tensor([[IGNORE_INDEX, feature["labels"]] for feature in features])
        return batch


def option_logits(logits: torch.Tensor, attention_mask: torch.Tensor, option_ids: torch.Tensor) -> torch.Tensor:
    """Return the logit of each option's label after the last token of each prompt, (B, C); −inf for no option.

    This is what `pipeline("decision")` reads of a model without a decision head: the logits of the label tokens at
    ``marks - 1``, where a prompt without marks has its mark after its last token. Source: transformers 5.23,
    ``DecisionPipeline._forward`` in ``pipelines/decision.py``.

    Args:
        logits: Outputs of the model, (B, K, V): those of all positions, or of the last ones. Outputs of virtual tokens
            can come before them.
        attention_mask: (B, L), 1 for the tokens of the prompts, which begin at the first position.
        option_ids: (B, C).
    """
    lengths = attention_mask.sum(dim=1)
    from_end = (
        lengths - 1 - attention_mask.shape[1]
    )  # negative: counted from the end, so what comes before is no matter
    rows = torch.arange(len(logits), device=logits.device)
    answers = logits[rows, from_end].float()  # (B, V)
    found = answers.gather(1, option_ids.clamp(min=0))
    return found.masked_fill(option_ids == NO_OPTION, -torch.inf)


def cross_entropy(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
    """Return the cross entropy over the options, as this batch's share of the ``num_items_in_batch`` questions.

    The softmax is over the labels of the allowed answers alone, as in the pipeline. What the model would write
    otherwise has no part in the loss.
    """
    logits, right = logits_of(outputs), labels[:, -1]
    total = functional.cross_entropy(logits, right, reduction="sum")
    return batch_share(total, len(right) if num_items_in_batch is None else num_items_in_batch)
