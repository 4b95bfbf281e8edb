"""Text that a tokenizer cannot write: the share of unknown tokens, and the characters that they stand for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from finetune.interfaces import Finding, Preprocessor, Task

INPUT, TARGET, BYTES = "unknown_tokens", "unknown_target_tokens", "byte_tokens"
"""Counts of the data report: unknown tokens of inputs and of targets, and tokens of inputs that are a single byte."""
WARNING, ERROR = 0.02, 0.5
"""Share of unknown tokens in a column from which there is a warning, and an error."""
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_ROWS = 500
"""Rows of a split in which the columns with unknown tokens are searched."""
_LISTED = 12


def unknown_id(tokenizer: Any) -> int | None:
    """Return the id of the unknown token; None if it has another role too, as in byte-level vocabularies.

    >>> from finetune.testing.tokenizers import tokenizer
    >>> unknown_id(tokenizer("bert")), unknown_id(tokenizer("gpt2"))
    (3, None)
    """
    token = tokenizer.unk_token_id
    others = {tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.sep_token_id}
    return None if token is None or token in others else int(token)


def byte_ids(tokenizer: Any) -> list[int]:
    """Return the ids of the tokens that stand for one byte, into which some tokenizers split unknown characters."""
    try:
        number = tokenizer.convert_tokens_to_ids("<0x41>")
    except ValueError:  # CANINE's tokens are single characters
        return []
    if number in (None, tokenizer.unk_token_id):
        return []
    return [number for token, number in tokenizer.get_vocab().items() if _BYTE.fullmatch(token)]


def counts(features: Dataset, tokenizer: Any, task: Task) -> dict[str, int]:
    """Return how many tokens of the features are unknown or single bytes, without the counts that are 0."""
    unknown = unknown_id(tokenizer)
    found = {BYTES: _occurrences(features, "input_ids", byte_ids(tokenizer))}
    if unknown is not None:
        found[INPUT] = _occurrences(features, "input_ids", [unknown])
        if task.generates and "labels" in features.column_names:
            found[TARGET] = _occurrences(features, "labels", [unknown])
    return {name: count for name, count in found.items() if count}


def _occurrences(features: Dataset, column: str, ids: Sequence[int]) -> int:
    """Return how often some ids occur in a column of lists, however deep they are nested."""
    if not ids or column not in features.column_names:
        return 0
    count = 0
    for block in features.with_format("arrow").iter(1000):
        values = block.column(column).combine_chunks()
        while pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
            values = values.flatten()
        if pa.types.is_integer(values.type):
            count += int(np.isin(values.to_numpy(zero_copy_only=False), ids).sum())
    return count


def check(
    examples: Dataset, counted: Mapping[str, int], *, preprocessor: Preprocessor, tokenizer: Any, split: str
) -> Iterator[Finding]:
    """Yield a finding for each column of a split with many unknown tokens, or with any in what a model writes.

    Args:
        examples: The examples of the split.
        counted: The counts of its features.
        preprocessor: Names the columns.
        tokenizer: The tokenizer of the model.
        split: Name of the split.
    """
    unknown = unknown_id(tokenizer)
    if unknown is None or not (counted.get(INPUT) or counted.get(TARGET)):
        return
    needs = preprocessor.needs()
    targets = (*needs.answers, *needs.optional_answers) if counted.get(TARGET) else ()
    step = max(len(examples) // _ROWS, 1)
    read = {*needs.optional} & {*needs.answers}  # a text that is learned as a whole, in language modelling
    for column in dict.fromkeys((*needs.required, *needs.consistent, *sorted(read), *targets)):
        if column not in examples.column_names:
            continue
        texts = [value for value in examples[::step][column] if isinstance(value, str)]
        if texts:
            yield from _check_column(texts, column, tokenizer, unknown, split=split, is_written=column in targets)


def _check_column(
    texts: Sequence[str], column: str, tokenizer: Any, unknown: int, *, split: str, is_written: bool
) -> Iterator[Finding]:
    encoded = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    tokens = sum(map(len, encoded))
    strange = [text for text, ids in zip(texts, encoded, strict=True) if unknown in ids]
    share = sum(ids.count(unknown) for ids in encoded) / max(tokens, 1)
    if not strange or (share < WARNING and not is_written):
        return
    letters = _unknown_letters(strange, tokenizer, unknown)
    consequence = "The model can never write them" if is_written else "The model cannot tell them apart"
    named = f"{consequence}: {letters}" if letters else consequence
    yield Finding(
        code="unknown-tokens", level="error" if share >= ERROR else "warning", split=split, column=column,
        value=strange[0], message=f"{share:.1%} of the tokens are {tokenizer.unk_token}. {named}.",
        fix="Choose a model for this language, or replace these characters.",
    )  # fmt: skip


def _unknown_letters(texts: Sequence[str], tokenizer: Any, unknown: int) -> str:
    """Return the most frequent characters that are unknown by themselves, as a message lists them."""
    uses = Counter(letter for text in texts for letter in set(text))
    letters = [letter for letter, _ in uses.most_common()]
    ids = tokenizer(letters, add_special_tokens=False, verbose=False)["input_ids"]
    found = [letter for letter, own in zip(letters, ids, strict=True) if unknown in own]
    shown = " ".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in found[:_LISTED])
    return shown + (f" … ({len(found):,} characters)" if len(found) > _LISTED else "")
