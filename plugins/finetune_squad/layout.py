"""Where the windows of a batch lie and what stands in them: by arithmetic, or as the tokenizer itself makes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune.errors import BadData, Incompatible
from finetune_squad.spans import Ints, Tokens, tokens_of
from finetune_squad.template import Template, null_position, template_of


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How long windows are and how much they share."""

    max_length: int
    stride: int
    name: Callable[[int], str]
    """How a message calls an example of the batch."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The windows of a batch of examples, in order; W windows over T texts."""

    example: Ints
    """Which example of the batch each window is of.  # (W,)"""
    text: Ints
    """Which text of `tokens` is its context.  # (W,)"""
    begin: Ints
    """Its first token of the context …  # (W,)"""
    stop: Ints
    """… and one past its last.  # (W,)"""
    context_first_token: Ints
    """Where the context begins in the window; the window's end, where the context has no tokens.  # (W,)"""
    null_token: Ints
    """Where "no answer" points in the window.  # (W,)"""
    pointer: Ints
    """Where each window begins in the two arrays below.  # (W + 1,)"""
    input_ids: Ints
    token_type_ids: Ints
    tokens: Tokens
    """The contexts."""


def layout(tokenizer: Any, questions: Sequence[str], contexts: Sequence[str], shape: Shape) -> Layout:
    """Lay out the windows of question-context pairs, exactly as the tokenizer would.

    The same ids and windows as ``tokenizer(question, context, truncation="only_second", max_length=…, stride=…,
    return_overflowing_tokens=True)``, several times faster: each distinct text is tokenised once.

    Raises:
        BadData: A question leaves no room for a window of its context.
        Incompatible: The tokenizer keeps no offsets.
    """
    if not tokenizer.is_fast:
        raise Incompatible(
            f"extractive question answering needs the characters of every token, and {type(tokenizer).__name__} does "
            "not keep them. Use a model that has a fast tokenizer (a tokenizer.json)."
        )
    template = template_of(tokenizer)
    if template is None:
        return by_overflow(tokenizer, questions, contexts, shape)
    return by_template(template, tokenizer, questions, contexts, shape)


def by_template(
    template: Template, tokenizer: Any, questions: Sequence[str], contexts: Sequence[str], shape: Shape
) -> Layout:
    """Tokenise each distinct text once and place the windows by arithmetic."""
    question, asked = _distinct(questions)
    context, told = _distinct(contexts)
    question_pointer, question_ids = _flat([encoding.ids for encoding in alone(tokenizer, asked, offsets=False)])
    encodings = alone(tokenizer, told)
    tokens = tokens_of(told, [each.ids for each in encodings], [each.offsets for each in encodings])
    room = shape.max_length - template.size - np.diff(question_pointer)[question]
    length = np.diff(tokens.pointer)[context]
    refuse_long_questions(room, length, shape)
    example, begin, stop = _windows(room, length, shape.stride, leftward=tokenizer.truncation_side == "left")
    index, ends = _segments(
        template, question_pointer, question[example], tokens.pointer[context[example]], begin, stop
    )
    part, offset = template.null
    return Layout(
        example=example,
        text=context[example],
        begin=begin,
        stop=stop,
        context_first_token=np.where(stop > begin, ends[:, 2], ends[:, 4]),
        null_token=ends[:, 2 * part] - len(template.specials[part]) + offset,
        pointer=np.concatenate([[0], np.cumsum(ends[:, 4])]),
        input_ids=np.concatenate([*template.specials, question_ids, tokens.ids]).astype(np.int64)[index],
        token_type_ids=_types(template, len(question_ids), len(tokens.ids))[index],
        tokens=tokens,
    )


def _segments(
    template: Template, question_pointer: Ints, question: Ints, base: Ints, begin: Ints, stop: Ints
) -> tuple[Ints, Ints]:
    """Return where every token of every window comes from, and where each window's five segments end in it.

    The source is one array: the special tokens of the three parts, all questions, all contexts.
    """
    sizes = [len(part) for part in template.specials]
    texts = template.size + int(question_pointer[-1])
    zero = np.zeros_like(question)
    starts = [
        zero,
        template.size + question_pointer[question],
        zero + sizes[0],
        texts + base + begin,
        zero + sizes[0] + sizes[1],
    ]
    lengths = np.stack(
        [zero + sizes[0], np.diff(question_pointer)[question], zero + sizes[1], stop - begin, zero + sizes[2]], axis=1
    )
    return spread(np.stack(starts, axis=1).ravel(), lengths.ravel()), np.cumsum(lengths, axis=1)


def by_overflow(tokenizer: Any, questions: Sequence[str], contexts: Sequence[str], shape: Shape) -> Layout:
    """Let the tokenizer make the windows; for tokenizers that join two texts in their own way."""
    pairs = joined(tokenizer, questions, contexts)
    owners = [each.sequence_ids for each in pairs]
    length = np.array([owner.count(1) for owner in owners], np.int64)
    room = np.array([shape.max_length - len(owner) + owner.count(1) for owner in owners], np.int64)
    refuse_long_questions(room, length, shape)
    example, begin, stop = _windows(room, length, shape.stride, leftward=tokenizer.truncation_side == "left")
    windows = joined(tokenizer, questions, contexts, shape=shape)
    held = [each.sequence_ids for each in windows]
    if [owner.count(1) for owner in held] != (stop - begin).tolist():
        raise Incompatible(
            f"{type(tokenizer).__name__} does not cut a long context into windows of max_length={shape.max_length} "
            f"tokens that overlap by stride={shape.stride}; its windows cannot be labelled. Use another tokenizer."
        )
    told = [[place for place, owner in enumerate(each) if owner == 1] for each in owners]
    specials = [[owner is None for owner in each] for each in held]
    nulls = [null_position(tokenizer, each.ids, special) for each, special in zip(windows, specials, strict=True)]
    pointer, input_ids = _flat([each.ids for each in windows])
    first = np.array([owner.index(1) if 1 in owner else len(owner) for owner in held], np.int64)
    types = _flat([each.type_ids for each in windows])[1]
    # In every window but an example's first, the tokenizers library gives the context type 1, whatever the template
    # says; RoBERTa-like models have no type 1.
    told_pointer, told_types = _flat([[each.type_ids[p] for p in ps] for each, ps in zip(pairs, told, strict=True)])
    types[spread(pointer[:-1] + first, stop - begin)] = told_types[spread(told_pointer[example] + begin, stop - begin)]
    return Layout(
        example=example,
        text=example,
        begin=begin,
        stop=stop,
        context_first_token=first,
        null_token=np.array(nulls, np.int64),
        pointer=pointer,
        input_ids=input_ids,
        token_type_ids=types,
        tokens=tokens_of(
            contexts,
            [[each.ids[place] for place in places] for each, places in zip(pairs, told, strict=True)],
            [[each.offsets[place] for place in places] for each, places in zip(pairs, told, strict=True)],
        ),
    )


def alone(tokenizer: Any, texts: Sequence[str], *, offsets: bool = True) -> list[Any]:
    """Return the encodings of texts without special tokens, by the tokenizer's backend itself: a third faster.

    Raises:
        BadData: A text holds half a surrogate pair, which is no character.
    """
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()  # what the last call of the tokenizer left behind
    backend.no_padding()
    with _whole_characters(texts):
        encode = backend.encode_batch if offsets else backend.encode_batch_fast
        found: list[Any] = encode(list(texts), add_special_tokens=False)
    return found


def joined(
    tokenizer: Any, questions: Sequence[str], contexts: Sequence[str], *, shape: Shape | None = None
) -> list[Any]:
    """Return the encodings of pairs; with a shape, of every window of every pair."""
    if not questions:
        return []
    options: dict[str, Any] = {"truncation": False, "verbose": False}
    if shape is not None:
        options |= {"truncation": "only_second", "max_length": shape.max_length, "stride": shape.stride}
        options |= {"return_overflowing_tokens": True}
    with _whole_characters((*questions, *contexts)):
        found: list[Any] = tokenizer(list(questions), list(contexts), **options).encodings
    return found


@contextmanager
def _whole_characters(texts: Sequence[str]) -> Iterator[None]:
    try:
        yield
    except TypeError as error:  # "TextEncodeInput must be Union[…]", whichever text it was
        for text in texts:
            if any("\ud800" <= character <= "\udfff" for character in text):
                raise BadData(f"{text[:80]!r} holds half a surrogate pair, which no tokenizer can read.") from error
        raise


def refuse_long_questions(room: Ints, length: Ints, shape: Shape) -> None:
    """Refuse questions that leave no room for a window, by name.

    Asked of the tokenizer, such a question is a Rust panic, which ``except Exception`` does not catch.
    """
    long = np.flatnonzero((length > room) & (room <= shape.stride))
    if len(long):
        others = f" and {len(long) - 1} more" if len(long) > 1 else ""
        raise BadData(
            f"the question of {shape.name(int(long[0]))}{others} leaves {max(int(room[long[0]]), 0)} of "
            f"max_length={shape.max_length} tokens for the context, and neighbouring windows are to share "
            f"stride={shape.stride}. Raise max_length, lower stride, or set max_question_length to cut such questions."
        )


def spread(starts: Ints, lengths: Ints) -> Ints:
    """Return the indices of segments, end to end.

    >>> spread(np.array([5, 0]), np.array([2, 3])).tolist()
    [5, 6, 0, 1, 2]
    """
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))


def _windows(room: Ints, length: Ints, stride: int, *, leftward: bool) -> tuple[Ints, Ints, Ints]:
    """Return the example of every window and the context tokens it holds.

    ``stride`` is the overlap of neighbours, as tokenizers mean it; BERT's ``doc_stride`` was the step.
    """
    step = np.maximum(room - stride, 1)
    count = np.where(length <= room, 1, 1 + -(-(length - room) // step))
    example = np.repeat(np.arange(len(length)), count)
    offset = (np.arange(len(example)) - np.repeat(np.cumsum(count) - count, count)) * step[example]
    if leftward:  # truncation_side="left": the tokenizer counts windows from the end
        stop = length[example] - offset
        return example, np.maximum(stop - room[example], 0), stop
    return example, offset, np.minimum(offset + room[example], length[example])


def _types(template: Template, questions: int, contexts: int) -> Ints:
    before, question, between, context, after = template.types
    texts = [np.full(questions, question), np.full(contexts, context)]
    return np.concatenate([np.array([*before, *between, *after], np.int64), *texts])


def _distinct(texts: Sequence[str]) -> tuple[Ints, list[str]]:
    number: dict[str, int] = {}
    index = np.fromiter((number.setdefault(text, len(number)) for text in texts), np.int64, len(texts))
    return index, list(number)


def _flat(rows: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    pointer = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    return pointer, np.fromiter((token for row in rows for token in row), np.int64, int(pointer[-1]))
