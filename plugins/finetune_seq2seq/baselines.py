"""What can be written without any model: what a trained one must beat."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from finetune.interfaces import Record
from finetune_seq2seq.outputs import Pair
from finetune_seq2seq.sentences import sentences, turns


def as_written(pairs: Sequence[Pair], write: Callable[[str], str]) -> list[Record]:
    """Return the records of whoever writes without a model; lengths are in words, and nothing is cut."""
    texts = [write(str(pair.source)) for pair in pairs]
    return [
        {"prediction": text, "tokens": len(text.split()), "at_limit": False, "reference": pair.record["reference"]}
        for text, pair in zip(texts, pairs, strict=True)
    ]


def lead_3(document: str) -> str:
    """Return the first three sentences of a document, or the first three turns of a dialogue.

    >>> lead_3("One came. Two came. Three came. Four did not.")
    'One came. Two came. Three came.'

    Source: See et al. 2017, section 5; for dialogues Gliwa et al. 2019 (SAMSum).
    """
    spoken = turns(document)
    return "\n".join(spoken[:3]) if spoken else " ".join(sentences(document)[:3])


def copy(source: str) -> str:
    """Return the source as its own translation."""
    return source
