"""What evaluators read from predictions: generated texts, and what was measured with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune.errors import BadData, TrainingFailed
from finetune.interfaces import Limit, Predictions, Preprocessor, Record, Row
from finetune.kit import require_key
from finetune_seq2seq.preprocessor import TARGET_LOST

MAX_LOSS = 700.0
"""Greatest loss whose exponential we compute: above it, a float is infinite."""


@dataclass(frozen=True, kw_only=True)
class GeneratedExample:
    """One example and the text that was generated for it."""

    source: Any
    target: Any
    """A text, several, or None."""
    record: Record
    """The part of the record that all tasks with generated text share."""


def generated_examples(predictions: Predictions) -> list[GeneratedExample]:
    """Return the examples with their records: ``prediction``, its number of ``tokens``, whether it is ``at_limit``.

    If there are targets, ``reference`` holds them, and ``loss`` and ``target_tokens`` the sum of
    the losses of their tokens and how many tokens there are.

    Raises:
        BadOptions: The preprocessor gives no sources, or no targets although its features had
            labels.
        TrainingFailed: A loss is not finite.
    """
    ids, at_limit, *measured = (np.asarray(part) for part in predictions.outputs)
    texts, tokens = decode(ids, predictions.tokenizer)
    if measured:
        _check_finite(measured[0])
    examples = []
    for number, row in enumerate(predictions.examples):
        source, target = source_and_target(predictions.preprocessor, row, labelled=bool(measured))
        record: Record = {
            "prediction": texts[number],
            "tokens": tokens[number],
            "at_limit": bool(at_limit[number]),
        }
        if target is not None:
            record["reference"] = list(target) if isinstance(target, list | tuple) else target
        if measured:
            record |= {"loss": float(measured[0][number]), "target_tokens": int(measured[1][number])}
        examples.append(GeneratedExample(source=source, target=target, record=record))
    return examples


def target_limits(predictions: Predictions, generation: Mapping[str, Any]) -> list[Limit]:
    """Return how many tokens can be written for a source, with the tokens of each target.

    Special tokens count, as in `max_target_length`, so that a text of the greatest length still ends with its end
    token. Features without labels, or of a preprocessor that does not count what it cuts, give no limit.

    Args:
        predictions: Features with labels, and the number of tokens that each target lost.
        generation: The recipe's ``generation`` section.
    """
    features: Any = predictions.features
    if not {"labels", TARGET_LOST} <= set(features.column_names):
        return []
    lengths = []
    for labels, lost in zip(features["labels"], features[TARGET_LOST], strict=True):
        lengths.append(len(labels) + lost)
    for option, extra in (("max_new_tokens", 0), ("max_length", 1)):  # max_length counts the decoder's first token
        value = generation.get(option)
        if isinstance(value, int):
            return [Limit(option=f"generation.{option}", value=value, lengths=[extra + each for each in lengths])]
    longest = predictions.preprocessor.trainer_options().get("max_target_length")
    return [] if longest is None else [Limit(option="preprocessor.max_target_length", value=longest, lengths=lengths)]


def source_and_target(preprocessor: Preprocessor, example: Row, *, labelled: bool) -> tuple[Any, Any]:
    """Return the source and the target of an example, whatever columns the data has.

    Args:
        preprocessor: Its `canonical` gives ``source`` and ``target``.
        example: A row of the data.
        labelled: Whether there must be a target; otherwise it is None if it is missing.

    Raises:
        BadOptions: The preprocessor does not give them.
    """
    row = preprocessor.canonical(example)
    remedy = "Return both 'source' and 'target' there, or choose another evaluator."
    source = require_key(row, "source", preprocessor, method="canonical()", remedy=remedy)
    if labelled:
        require_key(row, "target", preprocessor, method="canonical()", remedy=remedy)
    return source, row.get("target")


def decode(ids: Any, tokenizer: Any) -> tuple[list[str], list[int]]:
    """Return the texts of ids (N, L), without special tokens, and how many tokens of text each has.

    ``-100``, which pads shorter batches, never reaches the tokenizer, where it would overflow
    (transformers#10046).
    """
    safe = np.where(ids < 0, tokenizer.pad_token_id, ids)
    texts = tokenizer.batch_decode(safe.tolist(), skip_special_tokens=True)
    lengths = (~np.isin(safe, tokenizer.all_special_ids)).sum(axis=1)
    return list(map(str.strip, texts)), lengths.tolist()


def column(records: Sequence[Record], name: str) -> Any:
    """Return one number of each record as an array of floats, (N,)."""
    return np.array([record[name] for record in records], dtype=np.float64)


SHARED_SCALES = {"length": "mean, in tokens", "at_limit": "0 to 1", "loss": "nats per token", "perplexity": "1 or more"}
"""The scales of `shared_scores`."""


def shared_scores(records: Sequence[Record]) -> dict[str, float]:
    """Return the scores of any generated text, and of the model's loss on the targets.

    ``length`` is the mean number of tokens of text. ``at_limit`` is the share of texts that are as
    long as the limit allows, most of them truncated. ``loss`` is the mean cross entropy of the
    target tokens in nats, over all tokens alike, and ``perplexity`` its exponential.
    """
    if not records:
        raise BadData("there is no example with a target to score.")
    quotients, functions = shared_quotients(records)
    scores = {}
    for name, (above, below) in quotients.items():
        quotient = above.sum() / below.sum()
        scores[name] = float(functions[name](quotient) if name in functions else quotient)
    return scores


def shared_quotients(records: Sequence[Record]) -> tuple[dict[str, tuple[Any, Any]], dict[str, Any]]:
    """Return numerators and denominators of `shared_scores` for each record, and functions of their quotients."""
    ones = np.ones(len(records))
    quotients = {"length": (column(records, "tokens"), ones), "at_limit": (column(records, "at_limit"), ones)}
    if not all("loss" in record for record in records):
        return quotients, {}
    loss = (column(records, "loss"), column(records, "target_tokens"))
    return {**quotients, "loss": loss, "perplexity": loss}, {"perplexity": _exponential}


def _exponential(loss: Any) -> Any:
    return np.exp(np.minimum(loss, MAX_LOSS))


def length_slices(records: Sequence[Record]) -> dict[str, list[str]]:
    """Return whether each text is longer or shorter than its reference, in words, and whether it ended by itself."""
    lengths, ends = [], []
    for record, targets in zip(records, references(records), strict=True):
        ratio = len(record["prediction"].split()) / max(len(targets[0].split()), 1)
        if ratio < 0.8:
            lengths.append("under 0.8")
        else:
            lengths.append("over 1.25" if ratio > 1.25 else "0.8 to 1.25")
        ends.append("cut at the limit" if record["at_limit"] else "ended by itself")
    return {"words written for each word of the reference": lengths, "end": ends}


def references(records: Sequence[Record]) -> list[list[str]]:
    """Return the references of each record, one or several."""
    found = []
    for record in records:
        reference = record["reference"]
        found.append(list(reference) if isinstance(reference, list | tuple) else [reference])
    return found


def _check_finite(losses: Any) -> None:
    infinite = np.flatnonzero(~np.isfinite(losses))
    if len(infinite):
        raise TrainingFailed(
            f"the loss of {len(infinite):,} of {len(losses):,} targets is not finite, first in example {infinite[0]}. "
            "The training has diverged: lower learning_rate."
        )
