"""Prompts and answers → token ids, as TRL makes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from finetune.errors import Incompatible
from finetune.kit import pad, pad_mask
from finetune_trl.chat import templates
from finetune_trl.chat.messages import are_messages

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

UNUSED_TOKENS = ("<pad>", "<|pad|>", "<|padding|>", "<|finetune_right_pad_id|>", "<|fim_pad|>", "[PAD]", "<PAD>")
"""Names under which vocabularies keep a token for padding, though the tokenizer does not declare it."""


def ensure_pad_token(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Give a tokenizer a padding token if it has none, in place; say whether it is the end-of-sequence token.

    If it is, nothing is lost: the collators of this plugin recognize padding by length, not by id, so the end of a text
    stays in the loss. (Where padding is masked by id, such a model never learns to stop.)

    Raises:
        Incompatible: There is no token to pad with.
    """
    if tokenizer.pad_token is None:
        known = tokenizer.get_vocab()
        unused = next((token for token in UNUSED_TOKENS if token in known), None)
        if unused is None and tokenizer.eos_token is None:
            raise Incompatible(
                f"the tokenizer ({type(tokenizer).__name__}) has neither a padding nor an end-of-sequence token. Save "
                "a copy of it that has one, and name the copy under model.tokenizer."
            )
        tokenizer.pad_token = unused or tokenizer.eos_token
    return bool(tokenizer.pad_token_id == tokenizer.eos_token_id)


def encode_prompts(
    prompts: Sequence[Any],
    tokenizer: PreTrainedTokenizerBase,
    inputs: Sequence[templates.TemplateInputs] | None = None,
) -> list[list[int]]:
    """Return the ids of prompts that the model continues, all texts or all messages.

    Args:
        prompts: Texts or lists of messages.
        tokenizer: Its template writes messages.
        inputs: What the template gets besides the messages of each prompt.

    An end-of-sequence token that the tokenizer adds is removed: the model would take it for the end of the text.
    """
    if not any(map(are_messages, prompts)):
        return encode_texts(["" if prompt is None else str(prompt) for prompt in prompts], tokenizer)
    texts = []
    for number, prompt in enumerate(prompts):
        messages = prompt if are_messages(prompt) else []
        more = inputs[number] if inputs else templates.NO_INPUTS
        texts.append(templates.render(tokenizer, messages, inputs=more, add_generation_prompt=True))
    return [ids for ids, _ in templates.encode(tokenizer, texts)]


def encode_texts(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Return the ids of texts with the token that the tokenizer begins them with, without the one that it ends with."""
    if not texts:
        return []
    adds_end = tokenizer("a").input_ids[-1:] == [tokenizer.eos_token_id]
    encoded: list[list[int]] = tokenizer(list(texts), verbose=False)["input_ids"]
    return [ids[:-1] for ids in encoded] if adds_end else encoded


def encode_prompt(
    prompt: Any, tokenizer: PreTrainedTokenizerBase, inputs: templates.TemplateInputs = templates.NO_INPUTS
) -> list[int]:
    """Return the ids of a prompt, up to where the answer begins; a text keeps the end that the tokenizer adds."""
    if are_messages(prompt):
        return templates.encode_messages(tokenizer, prompt, inputs=inputs, add_generation_prompt=True)
    return list(tokenizer(prompt, verbose=False)["input_ids"])


def encode_with_answer(
    prompt: Any,
    answer: Any,
    tokenizer: PreTrainedTokenizerBase,
    inputs: templates.TemplateInputs = templates.NO_INPUTS,
) -> list[int]:
    """Return the ids of a prompt and its answer.

    Text ends with the end-of-sequence token; of messages, the chat template decides.

    Raises:
        Incompatible: The tokenizer has no such token, so a model could not learn where to stop.
    """
    if are_messages(answer):
        return templates.encode_messages(tokenizer, [*prompt, *answer], inputs=inputs)
    end = tokenizer.eos_token
    if end is None:
        raise Incompatible(
            f"the tokenizer ({type(tokenizer).__name__}) has no end-of-sequence token to end an answer with. Save a "
            "copy of it with `tokenizer.eos_token` set to a token that it has, and name it under model.tokenizer."
        )
    text = prompt + answer
    return list(tokenizer(text if text.endswith(end) else text + end, verbose=False)["input_ids"])


def split_answers(prompt: Sequence[int], wholes: Sequence[Sequence[int]]) -> tuple[list[int], list[list[int]], bool]:
    """Split prompt and answers where the tokens begin to differ.

    A token that covers the end of the prompt and the start of the answer belongs to the answer, as in TRL:

    >>> split_answers([1, 5], [[1, 5, 8, 2], [1, 7, 2]])
    ([1], [[5, 8, 2], [7, 2]], True)

    Args:
        prompt: Ids of the prompt.
        wholes: Ids of the prompt with each of its answers.

    Returns:
        The ids of the prompt, those of each answer, and whether the prompt lost tokens to the answers.
    """
    length = min(common_prefix(prompt, whole) for whole in wholes)
    return list(prompt[:length]), [list(whole[length:]) for whole in wholes], length < len(prompt)


def common_prefix(one: Sequence[object], other: Sequence[object]) -> int:
    """Return how many items two sequences begin with in common.

    >>> common_prefix("harbour", "hardly")
    3
    """
    for place, (mine, theirs) in enumerate(zip(one, other, strict=False)):
        if mine != theirs:
            return place
    return min(len(one), len(other))


def pad_prompts(prompts: Sequence[Sequence[int]], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Return ids of prompts as a batch to continue, padded on the left: ``input_ids``, ``attention_mask``, (B, L)."""
    return {
        "input_ids": pad(prompts, pad_token_id, side="left"),
        "attention_mask": pad_mask(prompts, side="left"),
    }
