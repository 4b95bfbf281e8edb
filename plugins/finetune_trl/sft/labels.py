"""Prompts and completions → token ids, and which of them the loss sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import TYPE_CHECKING, Literal

from finetune.interfaces import IGNORE_INDEX
from finetune_trl.chat import templates
from finetune_trl.chat.messages import ASSISTANT, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LossOn = Literal["completion", "assistant", "all"]


class TurnStatus(IntFlag):
    """What became of a row, in the column `fate` of its feature."""

    FINE = 0
    NOT_A_PREFIX = 1
    """What the model reads before its answer is not what it will read when it is asked."""
    END_OUTSIDE_LOSS = 2
    """The token that ends a turn of the assistant is not trained, so the model does not learn to stop."""
    DOUBLE_BOS = 4
    """Two begin-of-sequence tokens."""
    CONTROL_TOKENS = 8
    """Somebody's words hold the text of a control token."""
    PADDED_WITH_EOS = 16
    """Padding and the end of a sequence are one token; they are told apart by lengths."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What is asked and what is answered: two texts, or two lists of messages."""

    prompt: str | list[Message]
    completion: str | list[Message] | None = None
    """None where the answer is not known."""
    continues: bool = False
    """Whether the completion is a text by itself, and nothing is asked."""


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """One row as the model takes it, whole."""

    ids: list[int]
    labels: list[int]
    """The ids, with `IGNORE_INDEX` where nothing is learned."""
    prompt: list[int]
    """What the model reads when it is asked."""
    fate: TurnStatus


def prompts(pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Return what the model reads when it is asked."""
    if any(isinstance(pair.prompt, list) for pair in pairs):
        texts = [templates.render(tokenizer, _messages(pair.prompt), add_generation_prompt=True) for pair in pairs]
        return [ids for ids, _ in templates.encode(tokenizer, texts)]
    return _opened([str(pair.prompt) for pair in pairs], tokenizer)


def label(pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase, *, loss_on: LossOn) -> list[Labelled]:
    """Return rows of one kind, all with completions, as the model takes them."""
    if any(isinstance(pair.prompt, list) for pair in pairs):
        return _dialogues(pairs, tokenizer, loss_on=loss_on)
    return _texts(pairs, tokenizer, loss_on=loss_on)


def _texts(pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase, *, loss_on: LossOn) -> list[Labelled]:
    """Plain texts, begun as the tokenizer begins them and ended with the end-of-sequence token."""
    asked = _opened([str(pair.prompt) for pair in pairs], tokenizer)
    whole = _opened([f"{pair.prompt}{pair.completion}" for pair in pairs], tokenizer)
    made = []
    for pair, before, ids in zip(pairs, asked, whole, strict=True):
        end = tokenizer.eos_token_id
        if end is not None and ids[-1:] != [end]:
            ids = [*ids, end]
        start = 0 if pair.continues or loss_on == "all" else common_prefix(before, ids)
        fate = (
            TurnStatus.FINE if pair.continues or common_prefix(before, ids) == len(before) else TurnStatus.NOT_A_PREFIX
        )
        if end is None:
            fate |= TurnStatus.END_OUTSIDE_LOSS
        said = f"{pair.prompt}{pair.completion}".removesuffix(tokenizer.eos_token or "\0")
        if any(token in said for token in templates.control_tokens(tokenizer)):
            fate |= TurnStatus.CONTROL_TOKENS
        labels = [IGNORE_INDEX] * start + ids[start:]
        fate |= _doubled(ids, tokenizer)
        made.append(Labelled(ids=ids, labels=labels, prompt=[] if pair.continues else before, fate=fate))
    return made


def _opened(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Encode texts as the tokenizer begins them; an end that it adds by itself is taken off again."""
    added = tokenizer("a").input_ids[-1:] == [tokenizer.eos_token_id]
    found: list[list[int]] = tokenizer(texts, verbose=False)["input_ids"] if texts else []
    return [ids[:-1] if added else ids for ids in found]


def _dialogues(pairs: Sequence[Pair], tokenizer: PreTrainedTokenizerBase, *, loss_on: LossOn) -> list[Labelled]:
    """Messages, as the chat template writes them."""
    dialogues = [[*_messages(pair.prompt), *_messages(pair.completion)] for pair in pairs]
    rendered = [templates.render_with_answers(tokenizer, dialogue) for dialogue in dialogues]
    encoded = templates.encode(tokenizer, [text for text, _ in rendered])
    asked, end, marked = prompts(pairs, tokenizer), templates.end_of_turn(tokenizer), templates.marks_answers(tokenizer)
    made = []
    for pair, dialogue, (text, spans), (ids, offsets), before in zip(
        pairs, dialogues, rendered, encoded, asked, strict=True
    ):
        start = common_prefix(before, ids)
        fate = TurnStatus.FINE if start == len(before) else TurnStatus.NOT_A_PREFIX
        answers = dialogue
        if loss_on == "completion":
            answers = _messages(pair.completion)
            labels = [IGNORE_INDEX] * start + ids[start:]
        elif loss_on == "assistant":
            if not marked:
                spans, holds = turns(dialogue, text, tokenizer)
                fate |= TurnStatus.FINE if holds else TurnStatus.NOT_A_PREFIX
            labels = _within(spans, ids, offsets)
        else:
            labels = list(ids)
        wanted = sum(message["role"] == ASSISTANT for message in answers)
        if end is None or labels.count(end) < wanted:
            fate |= TurnStatus.END_OUTSIDE_LOSS
        if templates.holds_marks(text):
            fate |= TurnStatus.CONTROL_TOKENS
        made.append(Labelled(ids=ids, labels=labels, prompt=before, fate=fate | _doubled(ids, tokenizer)))
    return made


def turns(
    dialogue: Sequence[Message], text: str, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[tuple[int, int]], bool]:
    """Return where the assistant's turns stand in a rendered dialogue, and whether that is sure.

    For templates that do not mark them: a dialogue up to a turn, and up to the one before with the words that open an
    answer, are rendered; what lies between is the turn. That is sure where both begin the whole text, which a template
    may spoil that writes earlier turns in another way than the last.
    """
    spans, holds = [], True
    for number, message in enumerate(dialogue):
        if message["role"] != ASSISTANT:
            continue
        before = templates.render(tokenizer, dialogue[:number], add_generation_prompt=True)
        upto = templates.render(tokenizer, dialogue[: number + 1])
        holds = holds and text.startswith(before) and text.startswith(upto)
        start, stop = common_prefix(before, text), common_prefix(upto, text)
        if start < stop:
            spans.append((start, stop))
    return spans, holds


def common_prefix(one: Sequence[object], other: Sequence[object]) -> int:
    """Return how many items two sequences begin with in common.

    >>> common_prefix("harbour", "hardly")
    3
    """
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (mine, theirs) in pairs if mine != theirs), min(len(one), len(other)))


def _within(spans: Sequence[tuple[int, int]], ids: list[int], offsets: Sequence[tuple[int, int]]) -> list[int]:
    """Return the ids of tokens that stand for any character of the spans, which ascend.

    A token of white space, which some tokenizers give no width, counts where it stands inside.
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


def _doubled(ids: list[int], tokenizer: PreTrainedTokenizerBase) -> TurnStatus:
    begin = tokenizer.bos_token_id
    return TurnStatus.DOUBLE_BOS if begin is not None and ids[:2] == [begin, begin] else TurnStatus.FINE


def _messages(part: str | list[Message] | None) -> list[Message]:
    return part if isinstance(part, list) else []
