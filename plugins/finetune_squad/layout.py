"""The windows of a batch and their tokens: computed by arithmetic, or made by the tokenizer itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, compress, pairwise
from typing import Any, NamedTuple

import numpy as np

from finetune.errors import BadData, Incompatible
from finetune_squad.spans import Ints, Tokens, has_surrogate, pointer_of, tokens_of
from finetune_squad.template import Template, null_position, template_of


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Length and overlap of windows."""

    max_length: int
    stride: int
    name: Callable[[int], str]
    """Returns the name of an example of the batch, for messages."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The windows of a batch of examples, in order; W windows over T texts."""

    example: Ints
    """The example of the batch that each window belongs to.  # (W,)"""
    text: Ints
    """Which text of `tokens` is its context.  # (W,)"""
    begin: Ints
    """Its first token of the context …  # (W,)"""
    stop: Ints
    """… and one past its last.  # (W,)"""
    context_first_token: Ints
    """Where the context begins in the window; the window's end if the context has no tokens.  # (W,)"""
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

    The same ids and windows as ``tokenizer(question, context, truncation="only_second",
    max_length=…, stride=…, return_overflowing_tokens=True)``, several times faster: each distinct
    text is tokenised once.

    Raises:
        BadData: A question leaves no room for a window of its context.
        Incompatible: The tokenizer keeps no offsets.
    """
    if not tokenizer.is_fast:
        raise Incompatible(
            f"extractive question answering needs the characters of every token, and {type(tokenizer).__name__} does "
            "not keep them. Use a model with a fast tokenizer (one with a file tokenizer.json)."
        )
    template = template_of(tokenizer)
    if template is None:
        return by_overflow(tokenizer, questions, contexts, shape)
    return by_template(template, tokenizer, questions, contexts, shape)


def by_template(
    template: Template, tokenizer: Any, questions: Sequence[str], contexts: Sequence[str], shape: Shape
) -> Layout:
    """Tokenize each distinct text once and compute the places of the windows."""
    question, distinct_questions = _distinct(questions)
    context, distinct_contexts = _distinct(contexts)
    encodings = encode_without_specials(tokenizer, distinct_questions, offsets=False)
    question_pointer, question_ids = _flat([encoding.ids for encoding in encodings])
    encodings = encode_without_specials(tokenizer, distinct_contexts)
    context_ids = [encoding.ids for encoding in encodings]
    tokens = tokens_of(distinct_contexts, context_ids, [encoding.offsets for encoding in encodings])
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

    The source is one array: the special tokens of the three parts, all questions, all contexts. A
    window is five slices of it: special tokens, question, special tokens, part of a context,
    special tokens. `spread` turns the start and the length of all slices into one index array, so
    that one look-up fills all windows, without a loop over them.
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
    """Let the tokenizer make the windows; for tokenizers whose way to join two texts follows no plain pattern."""
    ids: list[list[int]] = []
    context_types, offsets, rooms = [], [], []
    for number, pair in enumerate(encode_pairs(tokenizer, questions, contexts)):
        in_context = [owner == 1 for owner in pair.sequence_ids]
        _refuse_special_tokens(tokenizer, pair, (questions[number], contexts[number]), shape.name(number))
        ids.append(list(compress(pair.ids, in_context)))
        context_types.append(list(compress(pair.type_ids, in_context)))
        offsets.append(list(compress(pair.offsets, in_context)))
        rooms.append(shape.max_length - in_context.count(False))
    tokens = tokens_of(contexts, ids, offsets)
    room, length = np.array(rooms, np.int64), np.diff(tokens.pointer)
    refuse_long_questions(room, length, shape)
    example, begin, stop = _windows(room, length, shape.stride, leftward=tokenizer.truncation_side == "left")
    windows = encode_pairs(tokenizer, questions, contexts, shape=shape)
    firsts, nulls, sizes = [], [], []
    for window in windows:
        owners = window.sequence_ids
        firsts.append(owners.index(1) if 1 in owners else len(owners))
        nulls.append(null_position(tokenizer, window.ids, [owner is None for owner in owners]))
        sizes.append(owners.count(1))
    if sizes != (stop - begin).tolist():
        raise Incompatible(
            f"{type(tokenizer).__name__} does not cut a long context into windows of max_length={shape.max_length} "
            f"tokens that overlap by stride={shape.stride}; its windows cannot be labelled. Use another tokenizer."
        )
    pointer, input_ids = _flat([window.ids for window in windows])
    first = np.array(firsts, np.int64)
    types = _flat([window.type_ids for window in windows])[1]
    # In every window but an example's first, the tokenizers library gives the context type 1, whatever the template
    # says; RoBERTa-like models have no type 1.
    right_types = _flat(context_types)[1]
    in_windows = spread(pointer[:-1] + first, stop - begin)
    types[in_windows] = right_types[spread(tokens.pointer[example] + begin, stop - begin)]
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
        tokens=tokens,
    )


class Encoded(NamedTuple):
    """The tokens of a text, without special tokens."""

    ids: list[int]
    offsets: list[tuple[int, int]]
    """The characters of each token; empty unless asked for."""


def encode_without_specials(tokenizer: Any, texts: Sequence[str], *, offsets: bool = True) -> list[Encoded]:
    """Return the tokens of texts; a special token that is written in a text becomes plain text.

    It calls the tokenizer's backend directly, which is a third faster.

    Raises:
        BadData: A text holds half of a surrogate pair.
    """
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()  # what the last call of the tokenizer set
    backend.no_padding()
    encode = backend.encode_batch if offsets else backend.encode_batch_fast

    def encoded(parts: Sequence[str]) -> list[Encoded]:
        made = encode(list(parts), add_special_tokens=False)
        return [Encoded(encoding.ids, encoding.offsets if offsets else []) for encoding in made]

    names = special_tokens(tokenizer)
    written = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True)))) if names else None
    with _explain_surrogates(texts), _special_tokens_are_text(backend):
        found = encoded(texts)
        for number, text in enumerate(texts):
            if written is not None and written.search(text) and not set(names.values()).isdisjoint(found[number].ids):
                found[number] = _encode_in_parts(text, written, encoded)
    return found


def special_tokens(tokenizer: Any) -> dict[str, int]:
    """Return the special tokens of a tokenizer with their ids, except the unknown token."""
    names = {}
    for number, token in tokenizer.added_tokens_decoder.items():
        if token.special and number != tokenizer.unk_token_id:
            names[token.content] = number
    return names


@contextmanager
def _special_tokens_are_text(backend: Any) -> Iterator[None]:
    before = backend.encode_special_tokens
    backend.encode_special_tokens = True
    try:
        yield
    finally:
        backend.encode_special_tokens = before


def _encode_in_parts(text: str, written: re.Pattern[str], encoded: Callable[[Sequence[str]], list[Encoded]]) -> Encoded:
    """Return the tokens of a text after splitting each special token in it behind its first character.

    ``encode_special_tokens`` is not enough for Unigram vocabularies such as XLM-R's: ``</s>`` is an entry of the
    vocabulary, and the most likely segmentation of its spelling. Seen with tokenizers 0.23.
    """
    starts = [0, *(match.start() + 1 for match in written.finditer(text))]
    parts = [text[start:stop] for start, stop in pairwise([*starts, len(text)])]
    joined = Encoded([], [])
    for start, part in zip(starts, encoded(parts), strict=True):
        joined.ids.extend(part.ids)
        joined.offsets.extend((begin + start, end + start) for begin, end in part.offsets)
    return joined


def encode_pairs(
    tokenizer: Any, questions: Sequence[str], contexts: Sequence[str], *, shape: Shape | None = None
) -> list[Any]:
    """Return the encodings of pairs; with a shape, of every window of every pair."""
    if not questions:
        return []
    options: dict[str, Any] = {"truncation": False, "verbose": False, "split_special_tokens": True}
    if shape is not None:
        options |= {"truncation": "only_second", "max_length": shape.max_length, "stride": shape.stride}
        options |= {"return_overflowing_tokens": True}
    with _explain_surrogates((*questions, *contexts)):
        encodings: list[Any] = tokenizer(list(questions), list(contexts), **options).encodings
    return encodings


def _refuse_special_tokens(tokenizer: Any, pair: Any, texts: tuple[str, str], name: str) -> None:
    """Refuse a special token that is written in a question or a context, and is not read as text."""
    for token, number in special_tokens(tokenizer).items():
        if not any(token in text for text in texts):
            continue
        owners = [owner for found, owner in zip(pair.ids, pair.sequence_ids, strict=True) if found == number]
        if any(owner is not None for owner in owners):
            raise BadData(
                f"the question or the context of {name} contains {token!r}, and {type(tokenizer).__name__} always "
                "reads it as a special token. Remove it from the text."
            )


@contextmanager
def _explain_surrogates(texts: Sequence[str]) -> Iterator[None]:
    """Name the text with half of a surrogate pair, where the tokenizer's error does not."""
    try:
        yield
    except TypeError as error:  # "TextEncodeInput must be Union[…]", without the text
        for text in texts:
            if has_surrogate(text):
                raise BadData(
                    f"{text[:80]!r} holds half of a surrogate pair, which no tokenizer reads. "
                    "Correct the encoding of the text."
                ) from error
        raise


def refuse_long_questions(room: Ints, length: Ints, shape: Shape) -> None:
    """Refuse questions that leave no room for a window, by name.

    In the tokenizer, such a question is a Rust panic, which ``except Exception`` does not catch.
    """
    long = np.flatnonzero((length > room) & (room <= shape.stride))
    if len(long):
        others = f" and {len(long) - 1} more" if len(long) > 1 else ""
        raise BadData(
            f"the question of {shape.name(int(long[0]))}{others} leaves {max(int(room[long[0]]), 0)} of "
            f"max_length={shape.max_length} tokens for the context, but neighbouring windows share "
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

    ``stride`` is the overlap of neighbours, as tokenizers mean it; BERT's ``doc_stride`` was the
    step.
    """
    step = np.maximum(room - stride, 1)
    count = np.where(length <= room, 1, 1 + -(-(length - room) // step))
    example = np.repeat(np.arange(len(length)), count)
    offset = (np.arange(len(example)) - np.repeat(np.cumsum(count) - count, count)) * step[example]
    if leftward:  # With truncation_side="left", the tokenizer counts windows from the end.
        stop = length[example] - offset
        return example, np.maximum(stop - room[example], 0), stop
    return example, offset, np.minimum(offset + room[example], length[example])


def _types(template: Template, questions: int, contexts: int) -> Ints:
    """Return the token types of the one array that `_segments` describes."""
    before, question, between, context, after = template.types
    texts = [np.full(questions, question), np.full(contexts, context)]
    return np.concatenate([np.array([*before, *between, *after], np.int64), *texts])


def _distinct(texts: Sequence[str]) -> tuple[Ints, list[str]]:
    """Return the index of each text among the distinct ones, and those."""
    number: dict[str, int] = {}
    index = np.fromiter((number.setdefault(text, len(number)) for text in texts), np.int64, len(texts))
    return index, list(number)


def _flat(rows: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    """Return where each row begins in one array, and the array: the rows end to end."""
    pointer = pointer_of(list(map(len, rows)))
    return pointer, np.fromiter(chain.from_iterable(rows), np.int64, int(pointer[-1]))
