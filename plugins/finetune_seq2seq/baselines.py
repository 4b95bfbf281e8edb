"""Baselines that need no model: what a trained model should beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from finetune.interfaces import Predictions, Record
from finetune_seq2seq.outputs import GeneratedExample, generated_examples
from finetune_seq2seq.sentences import sentences, turns


def baseline_records(examples: Sequence[GeneratedExample], texts: Sequence[str]) -> list[Record]:
    """Return the records of a baseline that writes these texts; lengths are in words, and nothing is truncated."""
    records = []
    for example, text in zip(examples, texts, strict=True):
        record = {"prediction": text, "tokens": len(text.split()), "at_limit": False}
        records.append({**record, "reference": example.record["reference"]})
    return records


def from_sources(examples: Sequence[GeneratedExample], write: Callable[[str], str]) -> list[Record]:
    """Return the records of a baseline that makes its text of the source."""
    return baseline_records(examples, [write(str(example.source)) for example in examples])


def records_with(predictions: Predictions, field: str, write: Callable[[str], str]) -> list[Record]:
    """Return the records of predictions; a record with a reference gets, as a field, the text of a baseline."""
    records = []
    for example in generated_examples(predictions):
        record = dict(example.record)
        if example.target is not None:
            record[field] = write(str(example.source))
        records.append(record)
    return records


def lead_3(document: str) -> str:
    """Return the first three sentences of a document, or the first three turns of a dialogue.

    >>> lead_3("One came. Two came. Three came. Four did not.")
    'One came. Two came. Three came.'

    Source: See et al. 2017, section 5; for dialogues Gliwa et al. 2019 (SAMSum).
    """
    dialogue = turns(document)
    return "\n".join(dialogue[:3]) if dialogue else " ".join(sentences(document)[:3])


def copy(source: str) -> str:
    """Return the source as its own translation."""
    return source
