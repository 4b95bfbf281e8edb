"""Text generation with a decoder: options, prompt lengths and the generated ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import GenerationConfig

from finetune.errors import BadOptions
from finetune.interfaces import IGNORE_INDEX

GENERATION_DEFAULTS: Mapping[str, Any] = {"max_new_tokens": 64, "do_sample": False}
"""Unlike upstream's defaults, they give the same text twice; upstream's limit is 20 tokens including
the prompt."""


def generation_options(
    model: Any, tokenizer: Any, given: Mapping[str, Any], *, ends: Sequence[int | None] = ()
) -> dict[str, Any]:
    """Return the options of ``generate``: the defaults, the special tokens, and the given options.

    Args:
        model: The model without the wrapper of the trainer; its end tokens are used.
        tokenizer: Its end token is used too.
        given: The recipe's ``generation`` section.
        ends: More tokens that end a text, such as the end of a turn in a chat.

    Raises:
        BadOptions: The limit includes the prompt, or more than one text per prompt is requested.
    """
    if "max_length" in given:
        raise BadOptions("generation: 'max_length' includes the prompt. Set max_new_tokens instead.")
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
    """Return the most tokens that a prompt can have if the model has positions for ``max_new_tokens`` more.

    It is None if the model has no limit.

    Raises:
        BadOptions: ``max_new_tokens`` leaves no position for a prompt.
    """
    positions: int | None = getattr(model.config, "max_position_embeddings", None)
    if positions is None:
        return None
    if wanted["max_new_tokens"] >= positions:
        raise BadOptions(
            f"generation: max_new_tokens is {wanted['max_new_tokens']:,}, but the model has {positions:,} positions "
            f"for prompt and text. Set it to {positions // 2:,} or less."
        )
    return int(positions - wanted["max_new_tokens"])


def generate(model: Any, inputs: Mapping[str, torch.Tensor], wanted: Mapping[str, Any]) -> torch.Tensor:
    """Return the ids that a model generates after a batch of prompts, (B, T).

    If padding changes what the model computes, prompts of one length are continued at a time, without padding. In
    transformers 5.23 that holds for models that count positions from the padding on: CTRL, OpenAI's GPT, and the
    decoders of BART, Pegasus and their like.

    Args:
        model: A decoder.
        inputs: ``input_ids`` and ``attention_mask``, padded on the left.
        wanted: What `generation_options` returns.
    """
    lengths = inputs["attention_mask"].sum(1)
    if not _padding_counts(model, inputs, lengths, wanted):
        whole: torch.Tensor = _generate(model, inputs, wanted).sequences
        return whole[:, inputs["input_ids"].shape[1] :]
    written: dict[int, torch.Tensor] = {}
    for length in sorted(set(lengths.tolist())):
        rows = (lengths == length).nonzero()[:, 0]
        group = {name: tensor[rows, -length:] for name, tensor in inputs.items()}
        written.update(zip(rows.tolist(), _generate(model, group, wanted).sequences[:, length:], strict=True))
    ids = lengths.new_full((len(lengths), max(map(len, written.values()))), wanted["pad_token_id"])
    for row, text in written.items():
        ids[row, : len(text)] = text
    return ids


def _generate(model: Any, inputs: Mapping[str, torch.Tensor], wanted: Mapping[str, Any], **more: Any) -> Any:
    config = GenerationConfig(**{**wanted, "return_dict_in_generate": True, **more})  # type: ignore[no-untyped-call]
    with torch.no_grad():
        return model.generate(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], generation_config=config
        )


def _padding_counts(
    model: Any, inputs: Mapping[str, torch.Tensor], lengths: torch.Tensor, wanted: Mapping[str, Any]
) -> bool:
    """Return whether the first token after the shortest prompt has other logits in the batch than alone."""
    row, length = int(lengths.argmin()), int(lengths.min())
    if length == inputs["input_ids"].shape[1]:
        return False
    ends = {name: wanted[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    alone = {name: tensor[row : row + 1, -length:] for name, tensor in inputs.items()}
    first, second = (
        _generate(model, batch, ends, max_new_tokens=1, do_sample=False, output_logits=True).logits[0][number].float()
        for batch, number in ((inputs, row), (alone, 0))
    )
    # other shapes are summed in another order
    tolerance = torch.finfo(model.dtype).eps ** 0.5 * second.abs().max()
    return bool((first - second).abs().max() > tolerance)


def mask_after_eos(
    ids: torch.Tensor, ends: Sequence[int] | None, *, keep_end: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return generated ids with `IGNORE_INDEX` after their end, (B, T), and whether each text has an end, (B,).

    >>> ids, ended = mask_after_eos(torch.tensor([[5, 2, 2], [5, 6, 7]]), [2])
    >>> ids.tolist(), ended.tolist()
    ([[5, -100, -100], [5, 6, 7]], [True, False])

    Args:
        ids: As `generate` returns them.
        ends: Tokens that end a text.
        keep_end: Whether to keep the first end token.
    """
    at_end = torch.isin(ids, torch.tensor(ends or [], device=ids.device))
    ends_before = at_end.cumsum(1) - (at_end.long() if keep_end else 0)
    return ids.masked_fill(ends_before > 0, IGNORE_INDEX), at_end.any(dim=1)
