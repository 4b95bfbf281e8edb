"""How a decoder goes on with a prompt: options, ends, and the ids that it writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from finetune.errors import BadOptions
from finetune.interfaces import IGNORE_INDEX

GENERATION_DEFAULTS: Mapping[str, Any] = {"max_new_tokens": 64, "do_sample": False}
"""Unlike upstream's, they give the same text twice; upstream's own limit is 20 tokens, prompt included."""


def generation_options(
    model: Any, tokenizer: Any, given: Mapping[str, Any], *, ends: Sequence[int | None] = ()
) -> dict[str, Any]:
    """Return the options of ``generate``: ours, the tokens that begin, end and pad a text, and what is given.

    Args:
        model: Without the trainer's wrapper; its own ends count.
        tokenizer: Its end counts too.
        given: The recipe's ``generation`` section.
        ends: Further tokens that end a text, such as a chat's end of turn.

    Raises:
        BadOptions: The limit counts the prompt, or several texts are wanted for one.
    """
    if "max_length" in given:
        raise BadOptions("generation: 'max_length' counts the prompt as well. Set max_new_tokens.")
    if given.get("num_return_sequences", 1) != 1:
        raise BadOptions("generation: 'num_return_sequences' must be 1: one example has one record.")
    own = model.generation_config
    theirs = own.eos_token_id if isinstance(own.eos_token_id, list) else [own.eos_token_id]
    found = {end for end in (*theirs, tokenizer.eos_token_id, *ends) if end is not None}
    return {
        **GENERATION_DEFAULTS,
        "bos_token_id": own.bos_token_id,
        "eos_token_id": sorted(found) or None,
        "pad_token_id": tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
        **given,
    }


def max_prompt_length(model: Any, wanted: Mapping[str, Any]) -> int | None:
    """Return how many tokens a prompt may have, so that all that is to be written finds positions; None for any number.

    Raises:
        BadOptions: What is to be written leaves no room.
    """
    positions: int | None = getattr(model.config, "max_position_embeddings", None)
    if positions is None:
        return None
    if wanted["max_new_tokens"] >= positions:
        raise BadOptions(
            f"generation: max_new_tokens is {wanted['max_new_tokens']:,}, and the model has {positions:,} positions, "
            f"prompt included. Set it to {positions // 2:,} or less."
        )
    return int(positions - wanted["max_new_tokens"])


def generate(model: Any, inputs: Mapping[str, torch.Tensor], wanted: Mapping[str, Any]) -> torch.Tensor:
    """Return the ids that a model writes after a batch of prompts padded on the left, (B, T)."""
    with torch.no_grad():
        ids: torch.Tensor = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            generation_config=GenerationConfig(**wanted),
        )
    return ids[:, inputs["input_ids"].shape[1] :]


def mask_after_eos(
    ids: torch.Tensor, ends: Sequence[int] | None, *, keep_end: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return generated ids with `IGNORE_INDEX` from their end on, (B, T), and whether each ended by itself, (B,).

    >>> ids, ended = mask_after_eos(torch.tensor([[5, 2, 2], [5, 6, 7]]), [2])
    >>> ids.tolist(), ended.tolist()
    ([[5, -100, -100], [5, 6, 7]], [True, False])

    Args:
        ids: As `generate` returns them.
        ends: Tokens that end a text.
        keep_end: Whether the first end itself is kept.
    """
    at_end = torch.isin(ids, torch.tensor(ends or [], device=ids.device))
    ends_before = at_end.cumsum(1) - (at_end.long() if keep_end else 0)
    return ids.masked_fill(ends_before > 0, IGNORE_INDEX), at_end.any(dim=1)
