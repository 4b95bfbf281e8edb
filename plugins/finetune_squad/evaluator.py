"""Logits → answers, answers → exact match and F1, with and without unanswerable questions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np

from finetune.errors import BadOptions
from finetune.interfaces import Evaluator, Predictions, Record, Row, Tallies
from finetune.kit import ratios
from finetune_squad import errors, nbest, scores
from finetune_squad.answers import answers_of, references_of


@dataclass(frozen=True, kw_only=True)
class SquadEvaluator(Evaluator):
    """Finds the best answers in all windows of an example and scores them as the official SQuAD 2.0 script does.

    A question is left unanswered when ``null_odds``, the score of "no answer" less that of the best answer, is above
    a threshold: fixed, or tuned on validation. Nothing is made up: where no candidate is valid, the prediction is
    ``""`` and the record says so.

    An answer that two overlapping windows find stands twice in the n-best list, each with a share of the probability,
    as in the official form; a record's own ``probability`` is the sum of the shares of its place.
    """

    n_best_size: int = 20
    """How many starts and ends of each window, and how many answers of each example, are looked at."""
    max_answer_length: int = 30
    """Longest answer that can be predicted, in tokens, both ends included."""
    null_score_diff_threshold: float | None = None
    """Leave a question unanswered when its null odds are above this. None tunes it on the validation questions, where
    some are unanswerable; 0 until then."""
    always_answer: bool | None = None
    """Whether every question gets an answer, as in SQuAD 1.1. None: if no validation question is unanswerable; until
    that is known, if none of the questions at hand is."""
    primary: Literal["f1", "exact"] = "f1"
    """Which score stands for the others, and is tuned for."""

    def __post_init__(self) -> None:
        for name in ("n_best_size", "max_answer_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")

    def fit(self, records: Sequence[Record]) -> Self:
        """Return a copy that knows whether questions can be unanswerable and, if so, from what odds on."""
        known = [record for record in records if record.get("reference") is not None]
        if not known:
            return self
        always = self._always(records)
        fitted = replace(self, always_answer=always)
        if always or self.null_score_diff_threshold is not None:
            return fitted
        score = scores.f1 if self.primary == "f1" else scores.exact
        found, _ = scores.threshold(
            [record["null_odds"] for record in known],
            [float(score(record["best_answer"], record["reference"])) for record in known],
            [bool(record["reference"]) for record in known],
        )
        return replace(fitted, null_score_diff_threshold=found)

    def records(self, predictions: Predictions) -> list[Record]:
        """Return the answer to every question, with its place, its rivals and the odds against it.

        ``prediction`` is ``""`` for "no answer", and then ``start_char`` and ``end_char`` are None; ``best_answer`` is
        what would be answered if there must be an answer. ``no_candidate`` says that there was none to choose from.
        """
        windows = nbest.windows_of(predictions.features)
        start_logits, end_logits = predictions.outputs[:2]
        count = len(predictions.examples)
        references = [references_of(row) for row in predictions.examples]
        always = self._always([{"reference": each} for each in references])
        _check(windows, start_logits, count)
        found = nbest.search(
            windows,
            start_logits,
            end_logits,
            examples=count,
            n_best_size=self.n_best_size,
            max_answer_length=self.max_answer_length,
            null=not always,
        )
        answered = (found.best >= 0) & (always | ~(found.null_odds > self._threshold))
        tokens = np.zeros(count, np.int64)
        np.maximum.at(tokens, windows.example, windows.answer_tokens)
        sizes = np.bincount(windows.example, minlength=count)
        return _records(predictions.examples, references, found, answered, tokens, sizes)

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return exact match and F1 in percent, over all questions and over those with and without an answer.

        The names are the official script's. ``best_exact`` and ``best_f1`` are what the best threshold *for these very
        records* would give: an oracle, no result.
        """
        exact = [float(scores.exact(record["prediction"], record["reference"])) for record in records]
        f1 = [scores.f1(record["prediction"], record["reference"]) for record in records]
        answerable = [bool(record["reference"]) for record in records]
        found = _means("", exact, f1)
        for prefix, wanted in (("HasAns_", True), ("NoAns_", False)):
            if wanted in answerable:
                found |= _means(prefix, *(_those(each, answerable, wanted) for each in (exact, f1)))
        if False in answerable and not self._always(records):
            odds, texts = [record["null_odds"] for record in records], [record["prediction"] for record in records]
            for name, each in (("exact", exact), ("f1", f1)):
                chosen, best = scores.official_threshold(odds, each, answerable, texts)
                found |= {f"best_{name}": best, f"best_{name}_thresh": chosen}
        return found

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return exact match and F1 of each question; all questions of a context are drawn together."""
        exact = np.array([scores.exact(record["prediction"], record["reference"]) for record in records])
        f1 = np.array([scores.f1(record["prediction"], record["reference"]) for record in records])
        answerable = np.array([bool(record["reference"]) for record in records])
        parts: dict[str, tuple[Any, Any]] = {}
        for prefix, chosen in (("", np.ones(len(records))), ("HasAns_", answerable), ("NoAns_", ~answerable)):
            parts |= {
                f"{prefix}{name}": (100.0 * each * chosen, chosen) for name, each in (("exact", exact), ("f1", f1))
            }
        return ratios(parts, most=dict.fromkeys(parts, 100.0))

    def baselines(self, predictions: Predictions, *, train: Predictions) -> Mapping[str, list[Record]]:
        """Return what answers without a look at the question: the context's first sentence, or always "no answer"."""
        rows = predictions.examples
        wanted = [references_of(row) or [] for row in rows]
        found = {
            "first sentence": [
                _said(first_sentence(row["context"]), each) for row, each in zip(rows, wanted, strict=True)
            ]
        }
        if not all(wanted):
            found["no answer"] = [_said("", each) for each in wanted]
        return found

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return for each wrong answer what it lacks of F1, and how sure the model was of it."""
        return [
            0.0 if kind == errors.RIGHT
            else 1 - scores.f1(record["prediction"], record["reference"]) + min(record["probability"], 1.0)
            for kind, record in zip(map(errors.kind, records), records, strict=True)
        ]  # fmt: skip

    def slices(self, records: Sequence[Record], examples: Sequence[Row]) -> dict[str, list[str]]:
        """Tell apart question words, answerable or not, lengths of answers, numbers of windows, places in the text."""
        return errors.slices(records, examples)

    def highlights(self, record: Record, example: Row) -> dict[str, list[tuple[int, int, str]]]:
        """Mark the predicted answer in the context, and the right ones."""
        right = answers_of(example, flat="answers" not in example) or []
        found = [(start, start + len(text), "reference") for text, start in dict.fromkeys(right)]
        if record["start_char"] is not None:
            found.append((record["start_char"], record["end_char"], "prediction"))
        return {"context": found}

    def details(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return the rule that was applied, and how often it could not do well.

        ``too_long`` counts answers of more than `max_answer_length` tokens, which can never be predicted.
        """
        always = self._always(records)
        return {
            "always_answer": always,
            "null_score_diff_threshold": None if always else self._threshold,
            "no_candidate": sum(record["no_candidate"] for record in records),
            "too_long": sum(record["answer_tokens"] > self.max_answer_length for record in records),
            "unanswered": sum(record["prediction"] == "" for record in records),
            "errors": errors.counts(records),
        }

    def files(self, records: Sequence[Record]) -> Mapping[str, Any]:
        """Return the official script's files; null odds only where a question may be left unanswered."""
        made = {
            "predictions.json": {record["id"]: record["prediction"] for record in records},
            "nbest_predictions.json": {record["id"]: record["nbest"] for record in records},
        }
        if not self._always(records):
            made["null_odds.json"] = {record["id"]: record["null_odds"] for record in records}
        return made

    def _always(self, records: Sequence[Record]) -> bool:
        if self.always_answer is not None:
            return self.always_answer
        known = [record["reference"] for record in records if record.get("reference") is not None]
        return bool(known) and all(known)

    @property
    def _threshold(self) -> float:
        return self.null_score_diff_threshold or 0.0


def first_sentence(context: str) -> str:
    """Return a text's first sentence, as far as punctuation tells.

    >>> first_sentence("The quay was built in 1702. It stands.")
    'The quay was built in 1702.'
    """
    return re.split(r"(?<=[.!?…])\s", context.strip(), maxsplit=1)[0]


def _said(answer: str, reference: list[str]) -> Record:
    # Sure of it: no threshold makes another answer of it.
    return {"prediction": answer, "best_answer": answer, "null_odds": 0.0, "reference": reference}


def _records(
    rows: Sequence[Row],
    references: Sequence[list[str] | None],
    found: nbest.Answers,
    answered: Any,
    tokens: Any,
    windows: Any,
) -> list[Record]:
    place = [np.where(answered, nbest.at(each, found.best), -1) for each in (found.start_char, found.end_char)]
    owner = np.repeat(np.arange(len(rows)), np.diff(found.pointer))
    same = (found.start_char == place[0][owner]) & (found.end_char == place[1][owner])
    shares = np.bincount(owner, weights=np.where(same, found.probability, 0), minlength=len(rows)).tolist()
    score = np.where(answered, nbest.at(found.score, found.best), found.null_score).tolist()
    # Plain lists: an element of an array costs ten times one of a list.
    starts, ends = found.start_char.tolist(), found.end_char.tolist()
    entries = list(
        zip(starts, ends, *(e.tolist() for e in (found.start_logit, found.end_logit, found.probability)), strict=True)
    )
    pointer, best, odds = found.pointer.tolist(), found.best.tolist(), found.null_odds.tolist()
    records: list[Record] = []
    for index, (row, is_answered) in enumerate(zip(rows, answered.tolist(), strict=True)):
        context, chosen = row["context"], best[index]
        answer = context[starts[chosen] : ends[chosen]] if chosen >= 0 else ""
        reference = references[index]
        records.append(
            {
                "id": str(index if row.get("id") in (None, "") else row["id"]),
                "prediction": answer if is_answered else "",
                "start_char": starts[chosen] if is_answered else None,
                "end_char": ends[chosen] if is_answered else None,
                "score": score[index],
                "probability": shares[index],
                "null_odds": odds[index],
                "no_candidate": chosen < 0,
                "best_answer": answer,
                "answer_tokens": int(tokens[index]),
                "windows": int(windows[index]),
                "nbest": [_entry(context, *entry) for entry in entries[pointer[index] : pointer[index + 1]]],
                **({} if reference is None else {"reference": reference}),
            }
        )
    return records


def _entry(context: str, start: int, end: int, start_logit: float, end_logit: float, share: float) -> dict[str, Any]:
    text = context[start:end] if start >= 0 else ""
    return {"text": text, "start_logit": start_logit, "end_logit": end_logit, "probability": share}


def _check(windows: nbest.Windows, logits: Any, examples: int) -> None:
    if len(logits) != len(windows.example):
        raise BadOptions(f"the model returned {len(logits)} rows of logits for {len(windows.example)} windows.")
    without = np.flatnonzero(np.bincount(windows.example, minlength=examples) == 0)
    if len(without):
        raise BadOptions(f"example {int(without[0])} has no window; every example must have its features.")


def _those(values: Sequence[float], answerable: Sequence[bool], wanted: bool) -> list[float]:
    return [value for value, has in zip(values, answerable, strict=True) if has == wanted]


def _means(prefix: str, exact: Sequence[float], f1: Sequence[float]) -> dict[str, float]:
    count = len(exact)
    return {
        f"{prefix}exact": 100.0 * sum(exact) / max(count, 1),
        f"{prefix}f1": 100.0 * sum(f1) / max(count, 1),
        f"{prefix}total": count,
    }
