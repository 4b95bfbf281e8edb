"""Prompts and answers → token ids, as TRL makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from finetune.errors import Incompatible
from finetune_trl.chat import messages as chat
from finetune_trl.chat import templates
from finetune_trl.sft.labels import Pair as Asked
from finetune_trl.sft.labels import common_prefix
from finetune_trl.sft.labels import prompts as asked

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def asked_ids(prompts: Sequence[Any], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Return the ids of prompts that the model is to go on from: without an end that the tokenizer adds."""
    return asked([Asked(prompt=prompt) for prompt in prompts], tokenizer)


def prompt_ids(prompt: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids of a prompt, up to where the answer begins."""
    if chat.are_messages(prompt):
        return templates.ids_of(tokenizer, prompt, add_generation_prompt=True)
    return list(tokenizer(prompt, verbose=False)["input_ids"])


def whole_ids(prompt: Any, answer: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the ids of a prompt and its answer; text ends with the end-of-sequence token, as a template sees to.

    Raises:
        Incompatible: The tokenizer has no such token, so a model could not learn where to stop.
    """
    if chat.are_messages(answer):
        return templates.ids_of(tokenizer, [*prompt, *answer])
    end = tokenizer.eos_token
    if end is None:
        raise Incompatible(
            f"the tokenizer ({type(tokenizer).__name__}) has no end-of-sequence token to end an answer with. Save a "
            "copy of it with `tokenizer.eos_token` set to a token that it has, and name it under model.tokenizer."
        )
    text = prompt + answer
    return list(tokenizer(text if text.endswith(end) else text + end, verbose=False)["input_ids"])


def answers_after(prompt: Sequence[int], wholes: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]], bool]:
    """Part prompt and answers where the tokens begin to differ; say whether the prompt lost tokens by it.

    Tokens that straddle the border belong to the answer, as in TRL:

    >>> answers_after([1, 5], [[1, 5, 8, 2], [1, 7, 2]])
    ([1], [[5, 8, 2], [7, 2]], True)
    """
    length = min(common_prefix(prompt, whole) for whole in wholes)
    return list(prompt[:length]), [list(whole[length:]) for whole in wholes], length < len(prompt)
