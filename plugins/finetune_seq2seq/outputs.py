"""What evaluators read from predictions: texts, and what was measured beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune.errors import BadData, BadOptions, TrainingFailed
from finetune.interfaces import Predictions, Record
from finetune_seq2seq.preprocessor import Seq2SeqPreprocessor


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One example and what was written for it."""

    source: Any
    target: Any
    """A text, several, or None."""
    record: Record
    """What every task that writes says of it."""


def pairs(predictions: Predictions) -> list[Pair]:
    """Return the examples with their records: ``prediction``, its number of ``tokens``, whether it is ``at_limit``.

    Where there are targets, ``reference`` holds them, and ``loss`` and ``target_tokens`` what the model makes of their
    tokens.

    Raises:
        BadOptions: The preprocessor makes no pairs.
        TrainingFailed: A loss is not finite.
    """
    preprocessor = predictions.preprocessor
    if not isinstance(preprocessor, Seq2SeqPreprocessor):
        raise BadOptions(
            f"{type(preprocessor).__name__} is no finetune_seq2seq.preprocessor.Seq2SeqPreprocessor; name another evaluator."
        )
    ids, at_limit, *measured = (np.asarray(part) for part in predictions.outputs)
    texts, tokens = written(ids, predictions.tokenizer)
    if measured:
        _refuse_infinite(measured[0])
    found = []
    for number, row in enumerate(predictions.examples):
        source, target = preprocessor.pair(row)
        record = {"prediction": texts[number], "tokens": tokens[number], "at_limit": bool(at_limit[number])}
        if target is not None:
            record["reference"] = list(target) if isinstance(target, list | tuple) else target
        if measured:
            record |= {"loss": float(measured[0][number]), "target_tokens": int(measured[1][number])}
        found.append(Pair(source=source, target=target, record=record))
    return found


def written(ids: Any, tokenizer: Any) -> tuple[list[str], list[int]]:
    """Return the texts of ids (N, L), special tokens left out, and how many tokens of text each has.

    ``-100``, with which shorter batches are padded, never reaches the tokenizer, which would overflow
    (transformers#10046).
    """
    safe = np.where(ids < 0, tokenizer.pad_token_id, ids)
    texts = tokenizer.batch_decode(safe.tolist(), skip_special_tokens=True)
    lengths = (~np.isin(safe, tokenizer.all_special_ids)).sum(axis=1)
    return [text.strip() for text in texts], lengths.tolist()


def shared_scores(records: Sequence[Record]) -> dict[str, float]:
    """Return what can be said of any texts written, and of the targets as the model sees them.

    ``length`` is the mean number of tokens of text, ``at_limit`` the share of texts as long as they may be, most of
    them cut; ``loss`` is the cross entropy of a target token in nats, over all tokens alike, and ``perplexity`` its
    exponential.
    """
    if not records:
        raise BadData("there is no example with a target to score.")
    scores = {
        "length": sum(record["tokens"] for record in records) / len(records),
        "at_limit": sum(record["at_limit"] for record in records) / len(records),
    }
    if all("loss" in record for record in records):
        loss = sum(record["loss"] for record in records) / sum(record["target_tokens"] for record in records)
        scores |= {"loss": loss, "perplexity": math.exp(min(loss, 700.0))}  # beyond, a double is infinite
    return scores


def shared_sums(records: Sequence[Record]) -> tuple[dict[str, tuple[Any, Any]], dict[str, Any]]:
    """Return what `shared_scores` are made of, above and below the line, and what is made of the quotients."""
    ones = np.ones(len(records))
    parts = {name: (np.array([record[key] for record in records], dtype=np.float64), ones)
             for name, key in (("length", "tokens"), ("at_limit", "at_limit"))}  # fmt: skip
    if not all("loss" in record for record in records):
        return parts, {}
    loss, tokens = (np.array([record[name] for record in records]) for name in ("loss", "target_tokens"))
    both = {"loss": (loss, tokens), "perplexity": (loss, tokens)}
    return {**parts, **both}, {"perplexity": lambda surprise: np.exp(np.minimum(surprise, 700.0))}


def written_slices(records: Sequence[Record]) -> dict[str, list[str]]:
    """Return whether each text is longer or shorter than its reference, in words, and whether it ended by itself."""
    ratios = [
        len(record["prediction"].split()) / max(len(several[0].split()), 1)
        for record, several in zip(records, references(records), strict=True)
    ]
    names = ["under 0.8" if ratio < 0.8 else "over 1.25" if ratio > 1.25 else "0.8 to 1.25" for ratio in ratios]
    ends = ["cut at the limit" if record["at_limit"] else "ended by itself" for record in records]
    return {"words written for each word of the reference": names, "end": ends}


def references(records: Sequence[Record]) -> list[list[str]]:
    """Return the references of each record, one or several."""
    return [
        list(record["reference"]) if isinstance(record["reference"], list | tuple) else [record["reference"]]
        for record in records
    ]


def _refuse_infinite(losses: Any) -> None:
    bad = np.flatnonzero(~np.isfinite(losses))
    if len(bad):
        raise TrainingFailed(
            f"the loss of {len(bad):,} of {len(losses):,} targets is not finite, first of example {bad[0]}. The "
            "training has diverged: lower learning_rate."
        )
