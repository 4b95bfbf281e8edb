"""Prompts and completions → token ids, and the tokens that the loss sees."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntFlag
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from finetune.interfaces import IGNORE_INDEX
from finetune_trl.chat import templates
from finetune_trl.chat.messages import ASSISTANT, Message, are_messages, is_trained
from finetune_trl.chat.rows import PromptCompletion
from finetune_trl.chat.tokens import common_prefix, encode_prompts, encode_texts
from finetune_trl.chat.turns import Answer, TurnFinder

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
    REWRITTEN = 32
    """The template writes an earlier turn of the assistant in another way than a last one, and this is trained."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """One row as the model takes it, before it is cut to `max_length`."""

    ids: list[int]
    labels: list[int]
    """The ids, with `IGNORE_INDEX` where nothing is learned."""
    prompt_ids: list[int]
    """What the model reads when it is to answer."""
    issues: RowIssue


def label(
    rows: Sequence[PromptCompletion],
    tokenizer: PreTrainedTokenizerBase,
    *,
    loss_on: LossOn,
    template_options: Mapping[str, Any] = {},
) -> list[Labelled]:
    """Return rows as the model takes them; all have completions, and all are texts or all are messages."""
    if any(are_messages(row.prompt) for row in rows):
        return _label_dialogues(rows, tokenizer, loss_on=loss_on, template_options=template_options)
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
    rows: Sequence[PromptCompletion],
    tokenizer: PreTrainedTokenizerBase,
    *,
    loss_on: LossOn,
    template_options: Mapping[str, Any],
) -> list[Labelled]:
    """Label messages, as the chat template writes them."""
    ends = templates.end_ids(tokenizer)
    training = templates.training_template(tokenizer)
    finder = TurnFinder(tokenizer)
    dialogues = [[*_messages(row.prompt), *_messages(row.completion)] for row in rows]
    inputs = [templates.TemplateInputs(tools=row.tools, options=template_options) for row in rows]
    rendered = []
    for dialogue, more in zip(dialogues, inputs, strict=True):
        rendered.append(templates.render_dialogue(tokenizer, dialogue, inputs=more, training=training))
    encoded = templates.encode(tokenizer, [each.text for each in rendered])
    all_prompt_ids = encode_prompts([row.prompt for row in rows], tokenizer, inputs)
    labelled = []
    for number, row in enumerate(rows):
        dialogue, (ids, offsets) = dialogues[number], encoded[number]
        prompt_ids = all_prompt_ids[number]
        start = common_prefix(prompt_ids, ids)
        issues = RowIssue.NONE if start == len(prompt_ids) else RowIssue.NOT_A_PREFIX
        answers = partial(finder.find, dialogue, rendered[number], inputs[number])
        choice = _choose(dialogue, rendered[number], answers, loss_on=loss_on, prompt=len(_messages(row.prompt)))
        issues |= choice.issues
        if choice.learned is not None:
            labels = _label_within(choice.learned, ids, offsets)
        else:
            labels = [IGNORE_INDEX] * (0 if loss_on == "all" else start) + ids[0 if loss_on == "all" else start :]
        for place, token in enumerate(_label_within(choice.left_out, ids, offsets)):
            if token != IGNORE_INDEX:
                labels[place] = IGNORE_INDEX
        if sum(label in ends for label in labels) < choice.answers:
            issues |= RowIssue.END_OUTSIDE_LOSS
        if templates.has_marks(rendered[number].text):
            issues |= RowIssue.CONTROL_TOKENS
        if _has_double_bos(ids, tokenizer):
            issues |= RowIssue.DOUBLE_BOS
        labelled.append(Labelled(ids=ids, labels=labels, prompt_ids=prompt_ids, issues=issues))
    return labelled


@dataclass(frozen=True, kw_only=True)
class _Choice:
    """What is trained of a dialogue."""

    answers: int
    """How many turns of the assistant are trained."""
    learned: list[tuple[int, int]] | None = None
    """The trained characters; None for all of them, or all that follow the prompt."""
    left_out: list[tuple[int, int]] = field(default_factory=list)
    """Characters that are not trained, whatever `learned` says."""
    issues: RowIssue = RowIssue.NONE


def _choose(
    dialogue: Sequence[Message],
    rendered: templates.Rendered,
    find_answers: Callable[[], Sequence[Answer]],
    *,
    loss_on: LossOn,
    prompt: int,
) -> _Choice:
    """Choose what is trained of a dialogue whose first messages are the prompt.

    A turn whose weight is 0 is never trained. The completion is trained as a whole, with what the template writes after
    it, unless other roles speak in it too: then the turns of the assistant alone are trained.
    """
    first = prompt if loss_on == "completion" else 0
    turns = [number for number, message in enumerate(dialogue) if message["role"] == ASSISTANT and number >= first]
    trained = {number for number in turns if is_trained(dialogue[number])}
    has_weights = len(trained) < len(turns)
    if loss_on == "all" and not has_weights:
        return _Choice(answers=len(turns))
    if loss_on == "completion" and not has_weights and len(turns) == len(dialogue) - prompt:
        return _Choice(answers=len(turns))
    if loss_on == "assistant" and not has_weights and rendered.spans is not None:
        return _Choice(answers=len(turns), learned=rendered.spans)
    learned: list[tuple[int, int]] = []
    left_out: list[tuple[int, int]] = []
    issues = RowIssue.NONE
    for answer in find_answers():
        if answer.message not in trained:
            left_out += answer.spans
            continue
        learned += answer.spans
        if not answer.follows_prompt:
            issues |= RowIssue.NOT_A_PREFIX
        if answer.is_rewritten:
            issues |= RowIssue.REWRITTEN
    if loss_on == "all":
        return _Choice(answers=len(trained), left_out=left_out)
    return _Choice(answers=len(trained), learned=learned, issues=issues)


_THINKING = ("enable_thinking", "thinking")
"""Arguments with which chat templates switch thoughts on and off."""
_SHOWN = 24
"""Characters that a message shows of a text."""


def explain_other_prompt(
    row: PromptCompletion, tokenizer: PreTrainedTokenizerBase, *, loss_on: LossOn, template_options: Mapping[str, Any]
) -> str:
    """Return how the text before an answer differs from the prompt that prediction gives, and what removes it.

    What it advises is tried with the row.

    Args:
        row: Messages with the issue `RowIssue.NOT_A_PREFIX`.
        tokenizer: Holds the template.
        loss_on: The option of the preprocessor.
        template_options: Keyword arguments of the template.
    """
    difference = _difference(row, tokenizer, loss_on=loss_on, template_options=template_options)

    def helps(loss_on: LossOn, options: Mapping[str, Any]) -> bool:
        (labelled,) = label([row], tokenizer, loss_on=loss_on, template_options=options)
        return not labelled.issues & RowIssue.NOT_A_PREFIX

    template = str(tokenizer.get_chat_template(tools=row.tools))
    for name in _THINKING:
        if re.search(rf"\b{name}\b", template) and helps(loss_on, {**template_options, name: False}):
            return f"{difference} Set preprocessor.chat_template_kwargs: {{{name}: false}}."
    if loss_on != "completion" and helps("completion", template_options):
        return f"{difference} Set preprocessor.loss_on: completion, which trains the last turn alone."
    return f"{difference} Set preprocessor.chat_template to a copy of the template that writes the same in both places."


def _difference(
    row: PromptCompletion, tokenizer: PreTrainedTokenizerBase, *, loss_on: LossOn, template_options: Mapping[str, Any]
) -> str:
    """Return the first place where the text before a trained answer differs from the prompt alone."""
    inputs = templates.TemplateInputs(tools=row.tools, options=template_options)
    prompt = _messages(row.prompt)
    dialogue = [*prompt, *_messages(row.completion)]
    text = templates.render(tokenizer, dialogue, inputs=inputs)
    first = len(prompt) if loss_on == "completion" else 0
    for turn in range(first, len(dialogue)):
        if dialogue[turn]["role"] != ASSISTANT:
            continue
        before = templates.render(tokenizer, dialogue[:turn], inputs=inputs, add_generation_prompt=True)
        if not text.startswith(before):
            same = common_prefix(before, text)
            asked, learned = before[same : same + _SHOWN], text[same : same + _SHOWN]
            return (
                f"At turn {turn + 1} of the first of them, prediction reads {asked!r} after "
                f"{text[max(same - _SHOWN, 0) : same]!r}, and training {learned!r}."
            )
    return "The last token of the prompt changes with the answer."


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
