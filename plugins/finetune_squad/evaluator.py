"""Logits → answers; answers → exact match and F1, with and without unanswerable questions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from finetune.errors import BadOptions
from finetune.interfaces import Decisions, Evaluator, Limit, Predictions, Record, Row, Tallies
from finetune.kit import check_temperature, ratios
from finetune_squad import error_types, nbest, scores
from finetune_squad.answers import Written, references_of


@dataclass(frozen=True, kw_only=True)
class SquadEvaluator(Evaluator):
    """Finds the best answers in all windows of an example and scores them as the official SQuAD 2.0 script does.

    A question is left unanswered if ``null_odds``, the score of "no answer" less that of the best
    answer, is above a threshold. The threshold is fixed, or tuned on validation. If no candidate is
    valid, the prediction is ``""``, and ``no_candidate`` in the record is true.

    An answer that two overlapping windows find is twice in the n-best list, each time with a share
    of the probability, as in the official format. The ``probability`` of a record is the sum of the
    shares of its place.
    """

    n_best_size: int = 20
    """How many starts and ends of each window, and how many answers of each example, are considered."""
    max_answer_length: int = 30
    """Longest answer that can be predicted, in tokens, both ends included."""
    null_score_diff_threshold: float | None = None
    """Leave a question unanswered if its null odds are above this. None tunes it on the validation
    questions if some of them are unanswerable; it is 0 until then."""
    always_answer: bool | None = None
    """Whether every question gets an answer, as in SQuAD 1.1. None: yes, if no validation question
    is unanswerable; before validation, if none of the given questions is."""
    primary: Literal["f1", "exact"] = "f1"
    """The score that models are chosen by; the threshold is tuned for it."""
    temperature: float | None = None
    """What the scores of an n-best list are divided by before they become probabilities. None: a run fits it on
    validation. 1 leaves the probabilities as they are."""

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        for name in ("n_best_size", "max_answer_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")

    def fit(self, records: Sequence[Record]) -> Self:
        """Return a copy that knows whether questions can be unanswerable and, if so, the threshold."""
        known = [record for record in records if record.get("reference") is not None]
        if not known:
            return self
        always = self._always(records)
        fitted = replace(self, always_answer=always)
        if always or self.null_score_diff_threshold is not None:
            return fitted
        score = scores.f1 if self.primary == "f1" else scores.exact
        odds, right, answerable = [], [], []
        for record in known:
            odds.append(record["null_odds"])
            right.append(float(score(record["best_answer"], record["reference"])))
            answerable.append(bool(record["reference"]))
        best, _ = scores.threshold(odds, right, answerable)
        return replace(fitted, null_score_diff_threshold=best)

    def scales(self) -> dict[str, str]:
        """Return the scales of the scores, and which numbers are counts or thresholds."""
        found: dict[str, str] = {}
        for prefix in ("", "HasAns_", "NoAns_"):
            found |= {f"{prefix}exact": "0 to 100", f"{prefix}f1": "0 to 100", f"{prefix}total": "rows"}
        for name in ("exact", "f1"):
            found |= {f"best_{name}": "0 to 100", f"best_{name}_thresh": "threshold"}
        return found

    def records(self, predictions: Predictions) -> list[Record]:
        """Return the answer to every question, with its place, the n-best list and the odds of "no answer".

        ``prediction`` is ``""`` for "no answer"; then ``start_char`` and ``end_char`` are None.
        ``best_answer`` is the best answer other than "no answer". ``no_candidate`` says whether
        there was no valid one.

        Raises:
            BadOptions: The outputs or the features do not fit the examples.
            TrainingFailed: A logit is not a number.
        """
        rows = list(nbest.rows_of(predictions.examples))
        windows, found, references = self._search(predictions, rows)
        count = len(rows)
        tokens = np.zeros(count, np.int64)
        np.maximum.at(tokens, windows.example, windows.answer_tokens)
        sizes = np.bincount(windows.example, minlength=count)
        answered = self._answered(found, references)
        return _records(rows, references, found, answered, tokens, sizes)

    def _search(
        self, predictions: Predictions, rows: Sequence[Row]
    ) -> tuple[nbest.Windows, nbest.Answers, list[Written | None]]:
        """Return the windows of the examples, the n-best lists, and the right answers where they are known."""
        windows = nbest.windows_of(predictions)
        start_logits, end_logits = predictions.outputs[:2]
        count = len(rows)
        references = [references_of(row) for row in map(predictions.preprocessor.canonical, rows)]
        _check_shapes(windows, start_logits, count)
        found = nbest.search(
            windows,
            start_logits,
            end_logits,
            examples=count,
            n_best_size=self.n_best_size,
            max_answer_length=self.max_answer_length,
            null=not self._always_of(references),
            temperature=self.temperature or 1.0,
        )
        return windows, found, references

    def _always_of(self, references: Sequence[Written | None]) -> bool:
        return self._always([{"reference": answers} for answers in references])

    def _answered(self, found: nbest.Answers, references: Sequence[Written | None]) -> Any:
        """Return which questions get an answer: an array of bool."""
        return (found.best >= 0) & (self._always_of(references) | ~(found.null_odds > self._threshold))

    def decisions(self, predictions: Predictions) -> Decisions | None:
        """Return the n-best list of each question whose right answer is known.

        The right answer need not be in the list, so it is only known whether the prediction is right: whether it is an
        exact match. A list that holds nothing but the prediction decides nothing and is left out.
        """
        questions = list(nbest.rows_of(predictions.examples))
        _, found, references = self._search(predictions, questions)
        owner, column = nbest.listed(found)
        start, end = _places(found, self._answered(found, references))
        shape = len(references), int(column.max(initial=0)) + 1
        table, predicted = np.full(shape, -np.inf), np.zeros(shape, bool)
        table[owner, column] = found.score
        predicted[owner, column] = (found.start_char == start[owner]) & (found.end_char == end[owner])
        others = np.isfinite(table) & ~predicted
        rows = []
        is_right = np.zeros(len(references), bool)
        for row, (example, answers) in enumerate(zip(questions, references, strict=True)):
            if answers is None or not predicted[row].any() or not others[row].any():
                continue
            answer = example["context"][start[row] : end[row]] if start[row] >= 0 else ""
            is_right[row] = bool(scores.exact(answer, [text for text, _ in answers]))
            rows.append(row)
        if not rows:
            return None
        true = np.where(is_right[:, None], predicted, others)
        return Decisions(
            scores=table[rows],
            predicted=predicted[rows],
            true=true[rows],
            rows=np.array(rows, dtype=np.int64),
            one_is_true=False,
        )

    def confidence(self, record: Record) -> float:
        """Return the probability of the prediction, which is an answer or "no answer"."""
        return float(record["probability"])

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return exact match and F1 in percent, over all questions and over those with and without an answer.

        The names are the official script's. ``best_exact`` and ``best_f1`` are what the best
        threshold *for these very records* would give: an upper bound, not a result.
        """
        per_score = _example_scores(records)
        answerable = _answerable(records)
        means = _means("", per_score, np.ones(len(records), bool))
        if answerable.any():
            means |= _means("HasAns_", per_score, answerable)
        if not answerable.all():
            means |= _means("NoAns_", per_score, ~answerable)
        if not answerable.all() and not self._always(records):
            odds = [record["null_odds"] for record in records]
            answers = [record["prediction"] for record in records]
            for name, values in per_score.items():
                chosen, best = scores.official_threshold(odds, values, answerable.tolist(), answers)
                means[f"best_{name}"] = best
                means[f"best_{name}_thresh"] = chosen
        return means

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return exact match and F1 of each question; all questions of a context are resampled together."""
        per_score = _example_scores(records)
        answerable = _answerable(records)
        parts: dict[str, tuple[Any, Any]] = {}
        for prefix, chosen in (("", np.ones(len(records))), ("HasAns_", answerable), ("NoAns_", ~answerable)):
            for name, values in per_score.items():
                parts[f"{prefix}{name}"] = (100.0 * np.array(values) * chosen, chosen)
        return ratios(parts, most=dict.fromkeys(parts, 100.0))

    def baselines(self, predictions: Predictions, *, train: Predictions) -> Mapping[str, list[Record]]:
        """Return the records of two predictors that ignore the question: first sentence, and "no answer".

        The second is left out if every question has an answer.
        """
        first, silent = [], []
        for row in nbest.rows_of(predictions.examples):
            answers = references_of(predictions.preprocessor.canonical(row)) or []
            references = [text for text, _ in answers]
            first.append(_fixed_answer(first_sentence(row["context"]), references))
            silent.append(_fixed_answer("", references))
        if all(record["reference"] for record in silent):
            return {"first sentence": first}
        return {"first sentence": first, "no answer": silent}

    def limits(self, predictions: Predictions, *, generation: Mapping[str, Any]) -> list[Limit]:
        """Return `max_answer_length`, with the tokens of each labelled answer that a window holds."""
        lengths = nbest.answer_lengths(predictions.features)
        return [Limit(option="evaluator.max_answer_length", value=self.max_answer_length, lengths=lengths)]

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return 1 − F1 plus the probability of each wrong answer, and 0 for right ones."""
        losses = []
        for record in records:
            loss = 0.0
            if error_types.error_type(record) != error_types.RIGHT:
                loss = 1 - scores.f1(record["prediction"], record["reference"]) + min(record["probability"], 1.0)
            losses.append(loss)
        return losses

    def slices(self, records: Sequence[Record], examples: Sequence[Row]) -> dict[str, list[str]]:
        """Return question word, answerable or not, length of the answer, number of windows, and place in the text."""
        return error_types.slices(records, examples)

    def highlights(self, record: Record, example: Row) -> dict[str, list[tuple[int, int, str]]]:
        """Return where the predicted answer and the right ones are in the context."""
        right = zip(record.get("reference", ()), record.get("reference_start", ()), strict=False)
        places = [(start, start + len(text), "reference") for text, start in dict.fromkeys(right)]
        if record["start_char"] is not None:
            places.append((record["start_char"], record["end_char"], "prediction"))
        return {"context": places}

    def details(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return the rule for "no answer", how many answers have no candidate or are too long, and the error types.

        ``too_long`` counts answers of more than `max_answer_length` tokens, which can never be
        predicted.
        """
        counts = {"no_candidate": 0, "too_long": 0, "unanswered": 0}
        for record in records:
            counts["no_candidate"] += record["no_candidate"]
            counts["too_long"] += record["answer_tokens"] > self.max_answer_length
            counts["unanswered"] += record["prediction"] == ""
        always = self._always(records)
        threshold = None if always else self._threshold
        errors = error_types.counts(records)
        return {"always_answer": always, "null_score_diff_threshold": threshold, **counts, "errors": errors}

    def files(self, records: Sequence[Record]) -> Mapping[str, Any]:
        """Return the official script's files; null odds only if a question may be left unanswered."""
        names = {"predictions.json": "prediction", "nbest_predictions.json": "nbest"}
        if not self._always(records):
            names["null_odds.json"] = "null_odds"
        return {file: {record["id"]: record[key] for record in records} for file, key in names.items()}

    def _always(self, records: Sequence[Record]) -> bool:
        """Say whether every question gets an answer."""
        if self.always_answer is not None:
            return self.always_answer
        known = [record["reference"] for record in records if record.get("reference") is not None]
        return bool(known) and all(known)

    @property
    def _threshold(self) -> float:
        return self.null_score_diff_threshold or 0.0


def first_sentence(context: str) -> str:
    """Return a text's first sentence, by its punctuation.

    >>> first_sentence("The quay was built in 1702. It stands.")
    'The quay was built in 1702.'
    """
    return re.split(r"(?<=[.!?…])\s", context.strip(), maxsplit=1)[0]


def _fixed_answer(answer: str, references: list[str]) -> Record:
    # The best answer is the prediction, so that no threshold changes it.
    return {"prediction": answer, "best_answer": answer, "null_odds": 0.0, "reference": references}


def _records(
    rows: Sequence[Row],
    references: Sequence[Written | None],
    found: nbest.Answers,
    answered: Any,
    tokens: Any,
    windows: Any,
) -> list[Record]:
    start, end = _places(found, answered)
    # Sum up the shares of all entries of an n-best list that have the place of the prediction.
    owner = np.repeat(np.arange(len(rows)), np.diff(found.pointer))
    same = (found.start_char == start[owner]) & (found.end_char == end[owner])
    shares = np.bincount(owner, weights=np.where(same, found.probability, 0), minlength=len(rows)).tolist()
    score = np.where(answered, nbest.at(found.score, found.best), found.null_score).tolist()
    # Plain lists: reading an element of an array takes ten times as long.
    starts, ends = found.start_char.tolist(), found.end_char.tolist()
    logits = found.start_logit.tolist(), found.end_logit.tolist()
    entries = list(zip(starts, ends, *logits, found.probability.tolist(), strict=True))
    pointer, best, odds = found.pointer.tolist(), found.best.tolist(), found.null_odds.tolist()
    records: list[Record] = []
    for index, (row, is_answered) in enumerate(zip(rows, answered.tolist(), strict=True)):
        context, chosen = row["context"], best[index]
        answer = context[starts[chosen] : ends[chosen]] if chosen >= 0 else ""
        record: Record = {
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
        }
        reference = references[index]
        if reference is not None:
            record["reference"] = [text for text, _ in reference]
            record["reference_start"] = [start for _, start in reference]
        records.append(record)
    return records


def _places(found: nbest.Answers, answered: Any) -> tuple[Any, Any]:
    """Return the first character and the end of each prediction; −1 for "no answer"."""
    start = np.where(answered, nbest.at(found.start_char, found.best), -1)
    return start, np.where(answered, nbest.at(found.end_char, found.best), -1)


def _entry(context: str, start: int, end: int, start_logit: float, end_logit: float, share: float) -> dict[str, Any]:
    text = context[start:end] if start >= 0 else ""
    return {"text": text, "start_logit": start_logit, "end_logit": end_logit, "probability": share}


def _check_shapes(windows: nbest.Windows, logits: Any, examples: int) -> None:
    if len(logits) != len(windows.example):
        raise BadOptions(f"the model returned {len(logits)} rows of logits for {len(windows.example)} windows.")
    without = np.flatnonzero(np.bincount(windows.example, minlength=examples) == 0)
    if len(without):
        raise BadOptions(f"example {int(without[0])} has no window; every example must have its features.")


def _example_scores(records: Sequence[Record]) -> dict[str, list[float]]:
    """Return exact match and F1 of each record."""
    exact, f1 = [], []
    for record in records:
        exact.append(float(scores.exact(record["prediction"], record["reference"])))
        f1.append(scores.f1(record["prediction"], record["reference"]))
    return {"exact": exact, "f1": f1}


def _answerable(records: Sequence[Record]) -> NDArray[np.bool_]:
    """Say for each record whether its question has an answer."""
    return np.array([bool(record["reference"]) for record in records], bool)


def _means(prefix: str, per_score: Mapping[str, Sequence[float]], chosen: NDArray[np.bool_]) -> dict[str, float]:
    """Return the means of the chosen records in percent, and how many there are."""
    count = int(chosen.sum())
    means: dict[str, float] = {}
    for name, values in per_score.items():
        means[f"{prefix}{name}"] = 100.0 * sum(compress(values, chosen)) / max(count, 1)
    return {**means, f"{prefix}total": count}
