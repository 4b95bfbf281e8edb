"""Prompts and completions → token ids, and the tokens that the loss sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING, Any, Literal

from finetune.interfaces import IGNORE_INDEX
from finetune_trl.chat import templates
from finetune_trl.chat.messages import ASSISTANT, Message, are_messages
from finetune_trl.chat.rows import PromptCompletion
from finetune_trl.chat.tokens import common_prefix, encode_prompts, encode_texts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LossOn = Literal["completion", "assistant", "all"]


class RowIssue(IntFlag):
    """Issues of a row, in the column `issues` of its feature."""

    NONE = 0
    NOT_A_PREFIX = 1
    """The tokens before the answer differ from those of the prompt alone, which prediction gives the model."""
    END_OUTSIDE_LOSS = 2
    """The token that ends a turn of the assistant is not trained, so the model does not learn to stop."""
    DOUBLE_BOS = 4
    """The row begins with two begin-of-sequence tokens."""
    CONTROL_TOKENS = 8
    """A text of the data holds the text of a control token."""
    PADDED_WITH_EOS = 16
    """Padding and the end of a sequence are one token; they are distinguished by length."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """One row as the model takes it, before it is cut to `max_length`."""

    ids: list[int]
    labels: list[int]
    """The ids, with `IGNORE_INDEX` where nothing is learned."""
    prompt_ids: list[int]
    """What the model reads when it is to answer."""
    issues: RowIssue


def label(rows: Sequence[PromptCompletion], tokenizer: PreTrainedTokenizerBase, *, loss_on: LossOn) -> list[Labelled]:
    """Return rows as the model takes them; all have completions, and all are texts or all are messages."""
    if any(are_messages(row.prompt) for row in rows):
        return _label_dialogues(rows, tokenizer, loss_on=loss_on)
    return _label_texts(rows, tokenizer, loss_on=loss_on)


def _label_texts(
    rows: Sequence[PromptCompletion], tokenizer: PreTrainedTokenizerBase, *, loss_on: LossOn
) -> list[Labelled]:
    """Label plain texts, which begin as the tokenizer begins them and end with the end-of-sequence token."""
    control = templates.control_tokens(tokenizer)
    texts = ["" if row.prompt is None else str(row.prompt) for row in rows]
    all_prompt_ids = encode_texts(texts, tokenizer)
    texts = [f"{text}{row.completion}" for text, row in zip(texts, rows, strict=True)]
    all_ids = encode_texts(texts, tokenizer)
    labelled = []
    for row, text, prompt_ids, ids in zip(rows, texts, all_prompt_ids, all_ids, strict=True):
        issues = RowIssue.NONE
        start = common_prefix(prompt_ids, ids)
        if row.prompt is None:
            start, prompt_ids = 0, []
        elif start < len(prompt_ids):
            issues |= RowIssue.NOT_A_PREFIX
        if loss_on == "all":
            start = 0
        end = tokenizer.eos_token_id
        if end is None:
            issues |= RowIssue.END_OUTSIDE_LOSS
        elif ids[-1:] != [end]:
            ids = [*ids, end]
        text = text.removesuffix(tokenizer.eos_token or "\0")
        if any(token in text for token in control):
            issues |= RowIssue.CONTROL_TOKENS
        if _has_double_bos(ids, tokenizer):
            issues |= RowIssue.DOUBLE_BOS
        labels = [IGNORE_INDEX] * start + ids[start:]
        labelled.append(Labelled(ids=ids, labels=labels, prompt_ids=prompt_ids, issues=issues))
    return labelled


def _label_dialogues(
    rows: Sequence[PromptCompletion], tokenizer: PreTrainedTokenizerBase, *, loss_on: LossOn
) -> list[Labelled]:
    """Label messages, as the chat template writes them."""
    end = templates.end_of_turn(tokenizer)
    has_blocks = templates.has_generation_blocks(tokenizer)
    dialogues = [[*_messages(row.prompt), *_messages(row.completion)] for row in rows]
    rendered = [templates.render_with_spans(tokenizer, dialogue) for dialogue in dialogues]
    encoded = templates.encode(tokenizer, [text for text, _ in rendered])
    all_prompt_ids = encode_prompts([row.prompt for row in rows], tokenizer)
    labelled = []
    for number, row in enumerate(rows):
        dialogue, (text, spans), (ids, offsets) = dialogues[number], rendered[number], encoded[number]
        prompt_ids = all_prompt_ids[number]
        start = common_prefix(prompt_ids, ids)
        issues = RowIssue.NONE if start == len(prompt_ids) else RowIssue.NOT_A_PREFIX
        trained_messages = dialogue
        if loss_on == "completion":
            trained_messages = _messages(row.completion)
            labels = [IGNORE_INDEX] * start + ids[start:]
        elif loss_on == "assistant":
            if not has_blocks:
                spans, certain = assistant_spans(dialogue, text, tokenizer)
                issues |= RowIssue.NONE if certain else RowIssue.NOT_A_PREFIX
            labels = _label_within(spans, ids, offsets)
        else:
            labels = list(ids)
        answers = sum(message["role"] == ASSISTANT for message in trained_messages)
        if end is None or labels.count(end) < answers:
            issues |= RowIssue.END_OUTSIDE_LOSS
        if templates.has_marks(text):
            issues |= RowIssue.CONTROL_TOKENS
        if _has_double_bos(ids, tokenizer):
            issues |= RowIssue.DOUBLE_BOS
        labelled.append(Labelled(ids=ids, labels=labels, prompt_ids=prompt_ids, issues=issues))
    return labelled


def assistant_spans(
    dialogue: Sequence[Message], text: str, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[tuple[int, int]], bool]:
    """Return the characters of the assistant's turns in a rendered dialogue, and whether they are certain.

    This is for templates without generation blocks. Two texts are rendered for each turn: the dialogue before it with
    the words that open an answer, and the dialogue up to the end of the turn. The turn is the difference. It is certain
    if the whole text begins with both; a template that writes earlier turns in another way than the last breaks this.
    """
    spans, certain = [], True
    for number, message in enumerate(dialogue):
        if message["role"] != ASSISTANT:
            continue
        before = templates.render(tokenizer, dialogue[:number], add_generation_prompt=True)
        up_to = templates.render(tokenizer, dialogue[: number + 1])
        certain = certain and text.startswith(before) and text.startswith(up_to)
        start, stop = common_prefix(before, text), common_prefix(up_to, text)
        if start < stop:
            spans.append((start, stop))
    return spans, certain


def _label_within(spans: Sequence[tuple[int, int]], ids: list[int], offsets: Sequence[tuple[int, int]]) -> list[int]:
    """Return the ids of tokens that cover any character of the spans, which ascend; `IGNORE_INDEX` elsewhere.

    A token without width, as some tokenizers make of white space, counts if it lies inside a span.
    """
    labels = [IGNORE_INDEX] * len(ids)
    waiting = iter(spans)
    span = next(waiting, None)
    for place, (begin, end) in enumerate(offsets):
        while span is not None and span[1] <= begin:
            span = next(waiting, None)
        if span is not None and begin < span[1] and end > span[0]:
            labels[place] = ids[place]
    return labels


def _has_double_bos(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> bool:
    bos = tokenizer.bos_token_id
    return bos is not None and ids[:2] == [bos, bos]


def _messages(part: Any) -> list[Message]:
    return part if isinstance(part, list) else []
