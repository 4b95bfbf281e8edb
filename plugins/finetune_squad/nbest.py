"""Logits → the best answers of every example, searched in all windows at once.

This is the published search (`postprocess_qa_predictions` of transformers' examples) in numpy. It
takes the n best starts and ends of each window, and every pair of them that is in the context, in
order and not too long. It keeps the n best pairs of an example over its windows, and the lowest "no
answer" score of its windows. Scores are sums of float32, as there.

The published search leaves ties to chance. Here, of equal logits the later token ranks first; of
equal scores the earlier window, then the better start, then the better end. Padding is never a
candidate, so that predictions do not depend on how windows were batched. A pair without a visible
character is not a candidate either.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from numpy.typing import NDArray

from finetune.errors import TrainingFailed
from finetune.interfaces import Predictions, Row
from finetune.kit import require_key
from finetune_squad.spans import Ints, pointer_of

Floats = NDArray[np.float32]
NEEDED = ("example", "input_ids", "context_first_token", "null_token", "start_chars", "end_chars")
LABELS = ("start_positions", "end_positions")
CHUNK = 2048
"""Windows searched at a time: 400 pairs each, in several arrays, take about 30 MB."""


@dataclass(frozen=True, kw_only=True)
class Windows:
    """What the search needs to know of W windows, in the order of their examples."""

    example: Ints
    """Index of each window's example.  # (W,)"""
    length: Ints
    """Tokens of each window, without padding.  # (W,)"""
    context_first_token: Ints
    null_token: Ints
    answer_tokens: Ints
    """Tokens of the labelled answer; 0 if there is none, or none is known.  # (W,)"""
    pointer: Ints
    """Where each window's context tokens begin in the two arrays below.  # (W + 1,)"""
    start_chars: Ints
    end_chars: Ints


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The n-best lists of E examples, best first: that of example ``e`` is ``[pointer[e] : pointer[e + 1]]``.

    "No answer" is in it as characters −1 to −1, after candidates with the same score. If it is not
    among the n best, it is added at the end, so that a list can hold n + 1.
    """

    pointer: Ints
    start_char: Ints
    end_char: Ints
    start_logit: Floats
    end_logit: Floats
    score: Floats
    probability: Any
    """Softmax of the scores of a list, divided by the temperature."""
    best: Ints
    """Index of each example's best answer other than "no answer"; −1 if there is none.  # (E,)"""
    null_score: Floats
    """Score of "no answer": the least of all windows.  # (E,)"""
    null_odds: Floats
    """That score less the best answer's, in float32: (null − start) − end; the score itself if there is none."""


def search(
    windows: Windows,
    start_logits: Any,
    end_logits: Any,
    *,
    examples: int,
    n_best_size: int,
    max_answer_length: int,
    null: bool = True,
    temperature: float = 1.0,
) -> Answers:
    """Return the n best answers of every example.

    Args:
        windows: The windows.
        start_logits: One row per window, at least as wide as it is long; the rest is padding.  #
            (W, L)
        end_logits: The same for ends.
        examples: How many there are; each has at least one window.
        n_best_size: How many starts, ends and answers are kept.
        max_answer_length: Longest answer, in tokens, both ends included.
        null: Whether "no answer" is among the answers.
        temperature: What scores are divided by before they become probabilities.

    Raises:
        TrainingFailed: A logit is not a number.
    """
    starts, ends = _masked(start_logits, windows.length), _masked(end_logits, windows.length)
    nothing = _null(windows, starts, ends, examples)
    parts = list(_pairs(windows, starts, ends, n_best_size=n_best_size, max_answer_length=max_answer_length))
    if null:  # after all windows, so that it is last among equal scores
        parts.append((np.arange(examples), *[np.full(examples, -1)] * 2, *nothing, nothing[0] + nothing[1]))
    example, start_char, end_char, start_logit, end_logit, score = map(np.concatenate, zip(*parts, strict=True))
    order = np.lexsort((-score, example))  # Stable: ties keep the order of window, start rank, end rank.
    counts = np.bincount(example, minlength=examples)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    order = order[(rank < n_best_size) | (start_char[order] < 0)]
    example, score = example[order], score[order]
    pointer = np.searchsorted(example, np.arange(examples + 1))
    best = _first(start_char[order] >= 0, example, pointer)
    total = nothing[0] + nothing[1]
    start_logit, end_logit = start_logit[order], end_logit[order]
    return Answers(
        pointer=pointer,
        start_char=start_char[order],
        end_char=end_char[order],
        start_logit=start_logit,
        end_logit=end_logit,
        score=score,
        probability=_softmax(np.divide(score, temperature, dtype=np.float32), example, pointer),
        best=best,
        null_score=total,
        null_odds=(total - at(start_logit, best)) - at(end_logit, best),
    )


def listed(answers: Answers) -> tuple[Ints, Ints]:
    """Return the row and the column of each entry in a table with a row for each list."""
    sizes = np.diff(answers.pointer)
    owner = np.repeat(np.arange(len(sizes)), sizes)
    return owner, np.arange(len(owner)) - answers.pointer[owner]


def at(values: Any, indices: Ints) -> Any:
    """Return the values at indices, and 0 at −1."""
    return np.append(values, values.dtype.type(0))[indices]


def _masked(logits: Any, length: Ints) -> Floats:
    """Return logits in float32 with −inf for padding, so that it is never among the best."""
    array = np.array(logits, np.float32)
    padding = np.arange(array.shape[1]) >= length[:, None]
    bad = np.isnan(array) & ~padding
    if bad.any():
        raise TrainingFailed(
            f"the model returned NaN for window {int(np.argmax(bad.any(1)))}. Its training diverged: lower "
            "training.learning_rate."
        )
    array[padding] = -np.inf
    return array


def top(values: Floats, count: int) -> Ints:
    """Return the positions of the greatest values of each row, greatest first; of equal values, the later first.

    >>> top(np.array([[1.0, 3.0, 1.0]], np.float32), 2).tolist()
    [[1, 2]]
    """
    # One 64-bit key per value: the value above, its position below. No two keys are equal, so that the fast and
    # unstable `np.partition` gives one order, the same on every machine.
    bits = (values + np.float32(0)).view(np.int32)  # −0.0 + 0 is 0.0: the two are equal and must tie
    # The bits of positive floats sort like integers; those of negative ones in reverse, until all but the sign flip.
    ordered = np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits)
    keys = (ordered.astype(np.int64) << 32) | np.arange(values.shape[1])
    count = min(count, values.shape[1])
    best = np.partition(keys, values.shape[1] - count, axis=1)[:, values.shape[1] - count :] if count else keys[:, :0]
    return np.sort(best, axis=1)[:, ::-1] & 0xFFFFFFFF


def _pairs(
    windows: Windows, starts: Floats, ends: Floats, *, n_best_size: int, max_answer_length: int
) -> Iterator[tuple[Any, ...]]:
    """Yield each chunk's best pairs of every window: example, characters, logits, score; in order of rank."""
    lengths = np.diff(windows.pointer)
    for chunk in range(0, max(len(starts), 1), CHUNK):
        part = slice(chunk, chunk + CHUNK)
        first, width = windows.context_first_token[part, None], lengths[part, None]
        start, end = top(starts[part], n_best_size), top(ends[part], n_best_size)
        start_logit = np.take_along_axis(starts[part], start, 1)
        end_logit = np.take_along_axis(ends[part], end, 1)
        start, end = start - first, end - first  # from here on counted from the context's first token
        # Every pair of a start and an end at once: axes are window, start rank, end rank. `np.nonzero` lists those that
        # fit in this order, which is the order of ties; all later sorts are stable and keep it.
        fits = ((start >= 0) & (start < width))[:, :, None] & ((end >= 0) & (end < width))[:, None, :]
        span = end[:, None, :] - start[:, :, None]
        fits &= (span >= 0) & (span < max_answer_length)
        window, a, b = np.nonzero(fits)
        base = windows.pointer[part][window]
        start_char = windows.start_chars[base + start[window, a]]
        end_char = windows.end_chars[base + end[window, b]]
        score = start_logit[window, a] + end_logit[window, b]
        kept = _best(window, score, start_char < end_char, n_best_size)
        window, a, b = window[kept], a[kept], b[kept]
        chars, logits = (start_char[kept], end_char[kept]), (start_logit[window, a], end_logit[window, b])
        yield windows.example[part][window], *chars, *logits, score[kept]


def _best(window: Ints, score: Floats, valid: Any, count: int) -> Ints:
    """Return the indices of each window's best pairs; an example cannot keep more of them."""
    indices = np.flatnonzero(valid)
    order = indices[np.lexsort((-score[indices], window[indices]))]
    counts = np.bincount(window[order])
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept: Ints = order[rank < count]
    return kept


def _null(windows: Windows, starts: Floats, ends: Floats, examples: int) -> tuple[Floats, Floats]:
    """Return the logits of "no answer" of each example: the first window where their sum is lowest."""
    rows = np.arange(len(starts))
    start, end = starts[rows, windows.null_token], ends[rows, windows.null_token]
    order = np.lexsort((start + end, windows.example))
    chosen = order[np.searchsorted(windows.example[order], np.arange(examples))]
    return start[chosen], end[chosen]


def _first(is_chosen: Any, example: Ints, pointer: Ints) -> Ints:
    """Return the index of each example's first chosen entry, or −1."""
    indices = np.flatnonzero(is_chosen)
    place = np.searchsorted(example[indices], np.arange(len(pointer) - 1))
    found = np.append(indices, -1)[place]
    return np.where((found >= 0) & (found < pointer[1:]), found, -1)


def _softmax(score: Floats, example: Ints, pointer: Ints) -> Any:
    """Return the softmax of each list; its first score is its greatest.

    >>> _softmax(np.float32([2, 2, 5]), np.array([0, 0, 1]), np.array([0, 2, 3])).tolist()
    [0.5, 0.5, 1.0]
    """
    power = np.exp(score - score[pointer[example]]) if len(score) else score
    return power / np.bincount(example, weights=power, minlength=len(pointer) - 1)[example]


def windows_of(predictions: Predictions) -> Windows:
    """Return what the search needs of the features, which are rows or a `datasets.Dataset`.

    Raises:
        BadOptions: A column is missing.
    """
    columns = _columns(predictions.features)
    remedy = "Return this column for every window, as SquadPreprocessor does, or choose another evaluator."
    for name in NEEDED:
        require_key(columns, name, predictions.preprocessor, method="features()", remedy=remedy)
    example, null = _ints(columns["example"]), _ints(columns["null_token"])
    labels = [_ints(columns[name]) for name in LABELS if name in columns]
    answer = labels[1] - labels[0] + 1 if labels else np.zeros_like(example)
    return Windows(
        example=example,
        length=_lengths(columns["input_ids"]),
        context_first_token=_ints(columns["context_first_token"]),
        null_token=null,
        answer_tokens=np.where(labels[0] == null, 0, answer) if labels else answer,
        pointer=pointer_of(_lengths(columns["start_chars"]).tolist()),
        start_chars=_joined(columns["start_chars"]),
        end_chars=_joined(columns["end_chars"]),
    )


def answer_lengths(features: Any) -> list[int]:
    """Return the tokens of each example's labelled answer; examples without one, or without labels, are left out.

    Args:
        features: The windows, as a `datasets.Dataset`.
    """
    needed = ("example", "null_token", *LABELS)
    if not set(needed) <= set(features.column_names):
        return []
    columns = features.select_columns(list(needed)).with_format("numpy")[:]
    start, end = columns["start_positions"], columns["end_positions"]
    has_answer = np.flatnonzero(start != columns["null_token"])
    # An answer in the overlap of two windows has the same tokens in both.
    _, first = np.unique(columns["example"][has_answer], return_index=True)
    chosen = has_answer[first]
    lengths: list[int] = (end[chosen] - start[chosen] + 1).tolist()
    return lengths


def _columns(rows: Any) -> Mapping[str, Any]:
    """Return what the search needs of features by column: arrays of Arrow for a data set, else lists."""
    if isinstance(rows, Dataset):
        names = [name for name in (*NEEDED, *LABELS) if name in rows.column_names]
        table = rows.select_columns(names).with_format("arrow")[:]
        return {name: table.column(name).combine_chunks() for name in names}
    everything: Any = rows[:]
    return {name: [row[name] for row in everything] for name in (everything[0] if everything else NEEDED)}


def _ints(column: Any) -> Ints:
    """Return a column of numbers."""
    values = column.to_numpy(zero_copy_only=False) if isinstance(column, pa.Array) else column
    return np.asarray(values, np.int64)


def _lengths(column: Any) -> Ints:
    """Return the length of each list of a column."""
    if isinstance(column, pa.Array):
        return _ints(pc.list_value_length(column))
    return np.array([len(each) for each in column], np.int64)


def _joined(column: Any) -> Ints:
    """Return the numbers of all lists of a column."""
    if isinstance(column, pa.Array):
        return _ints(column.flatten())
    return np.concatenate([np.zeros(0, np.int64), *(np.asarray(each, np.int64) for each in column)])


def rows_of(examples: Any) -> Iterator[Row]:
    """Yield the rows of examples in order; those of a data set are read in blocks.

    A data set reads a row alone in some 100 µs.
    """
    if not isinstance(examples, Dataset):
        yield from examples
        return
    for start in range(0, len(examples), CHUNK):
        block = examples[start : start + CHUNK]
        for values in zip(*block.values(), strict=True):
            yield dict(zip(block, values, strict=True))
