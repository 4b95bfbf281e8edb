"""What the numbers of a result mean, in words: for a terminal, a report and a card alike."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetune.result import Result

GAP = 0.05
"""Share of the train score by which a held-out score must lie below it to be called overfitted."""
RISE = 0.05
"""Share by which the validation loss must have risen from its lowest to be called overfitted."""
FALL = 0.05
"""Share by which the training loss must still fall from one fifth of a run to the next to be called unfinished, and
its share of all that the loss has fallen."""
LEAKED = 0.05
"""Share of a split's rows that train holds too from which its score is said to flatter."""
FIFTHS = 5
LEAST_ENTRIES = 10
"""Logged losses from which a curve is read."""


def report_split(result: Result) -> str | None:
    """Return the split whose scores stand for the run: `test` where there is one, else `validation`, else None."""
    return next((split for split in ("test", "validation") if split in result.scores), None)


def headline(result: Result) -> Iterator[str]:
    """Yield the primary score with its interval, and how it stands to the base model and to each baseline."""
    split, name = report_split(result), result.primary
    if split is None:
        yield f"Nothing was held out, so the {name} of train alone is known, and it flatters."
        return
    score = result.scores[split].get(name)
    if score is None:
        yield f"{name} cannot be computed on {split}."
        return
    yield f"{name} {format_score(score)}{_interval(result.intervals.get(split, {}).get(name))} on {describe_split(result, split)}."
    others = {"base_model": result.base_model_scores.get(split, {}), **result.baselines.get(split, {})}
    for other, scores in others.items():
        if name in scores:
            difference = result.differences.get(split, {}).get(other, {}).get(name)
            yield f"{_named(other)}: {format_score(scores[name])}{_change(difference, result)}."


def describe_split(result: Result, split: str) -> str:
    """Return what a split is, in words: how many rows or units, and why its score flatters, if it does."""
    units = result.units.get(split, {})
    size = result.data_report.get(split, {}).get("kept", units.get("size", 0))
    told = f"{size:,} rows of {split}"
    if units.get("column"):
        told += f" ({units['size']:,} different {units['column']}s)"
    if split == "validation" and result.selection_split != split and "test" not in result.scores:
        told += ", used for selection (no test was held out)"
    leaked = _leaked(result.leakage[split]) if split in result.leakage else 0
    why = [f"of which {leaked:,} are in train too"] if leaked > LEAKED * size else []
    why += ["by which the model was chosen"] if result.selection_split == split else []
    return f"{told}, {' and '.join(why)}: it flatters" if why else told


def _leaked(found: Mapping[str, Any]) -> int:
    return int(found["exact"] + found["normalized"] + (found["near"] or 0))


def verdict(difference: Mapping[str, float], *, greater_is_better: bool) -> str:
    """Return `better`, `worse` or `inconclusive` of a difference with its interval.

    >>> better({"value": 0.1, "low": 0.02, "high": 0.2}, greater_is_better=True)
    'better'
    >>> better({"value": 0.1, "low": -0.02, "high": 0.2}, greater_is_better=True)
    'inconclusive'
    """
    if difference["low"] <= 0 <= difference["high"]:
        return "inconclusive"
    return "better" if (difference["value"] > 0) == greater_is_better else "worse"


def fit(result: Result) -> Iterator[str]:
    """Yield what the scores and the curves say of over- and underfitting; nothing where they say neither."""
    overfitted = [*_gap(result), *_risen(result)]
    # More of what overfits is no cure: a loss that still falls is told of where nothing is overfitted.
    yield from overfitted or _falling(result)
    split, name = report_split(result), result.primary
    if split and name in result.scores[split]:
        for other in result.baselines.get(split, {}):
            difference = result.differences.get(split, {}).get(other, {}).get(name)
            if difference and verdict(difference, greater_is_better=result.greater_is_better) != "better":
                yield (
                    f"Underfitted: by {name}, {split} does not show it to be better than "
                    f"{_named(other).lower()}, which needs no model."
                )


def _gap(result: Result) -> Iterator[str]:
    split, name = report_split(result), result.primary
    train = result.scores.get("train", {}).get(name)
    here = result.scores[split].get(name) if split else None
    if split is None or train is None or here is None:
        return
    bounds = result.intervals.get(split, {}).get(name, {"low": here, "high": here})
    gap = (train - here) if result.greater_is_better else (here - train)
    outside = train > bounds["high"] if result.greater_is_better else train < bounds["low"]
    if outside and gap > GAP * abs(train):
        yield (
            f"Overfitted: {name} is {format_score(train)} on rows it learned from and {format_score(here)} on {split}. More "
            "data, fewer epochs, a lower learning rate, weight decay or a strategy that moves less would help."
        )


def _risen(result: Result) -> Iterator[str]:
    seen = [entry for entry in result.log if _finite(entry.get("eval_loss"))]
    losses = [entry["eval_loss"] for entry in seen]
    if len(losses) < 2 or losses[-1] <= (1 + RISE) * min(losses):
        return
    lowest, last = seen[losses.index(min(losses))], seen[-1]
    name = f"eval_{result.primary}"
    scores = [entry[name] for entry in (lowest, last) if _finite(entry.get(name))]
    told = (
        f"Overfitted in the end: the loss on validation was lowest at step {lowest['step']:,} ({format_score(min(losses))}) "
        f"and rose to {format_score(losses[-1])}"
    )
    if len(scores) == 2 and scores[0] != scores[1] and (scores[1] > scores[0]) == result.greater_is_better:
        # Who stopped there would have the worse model.
        yield (
            f"{told}, while {result.primary} became better, from {format_score(scores[0])} to {format_score(scores[1])}: it errs "
            "less, and is the surer of what errors are left. Choose by the score, and do not trust how sure it is."
        )
    elif result.arguments.get("load_best_model_at_end"):
        yield f"{told}. The best checkpoint was kept."
    else:
        yield f"{told}. Stop there: training.load_best_model_at_end: true."


def _falling(result: Result) -> Iterator[str]:
    trained = [entry["loss"] for entry in result.log if _finite(entry.get("loss"))]
    if len(trained) >= LEAST_ENTRIES:
        size = len(trained) // FIFTHS
        before, last = (sum(part) / len(part) for part in (trained[-2 * size : -size], trained[-size:]))
        # From 0.03 to 0.02 is a third less, and nothing beside the way from 1.6: what is learned by heart ends so.
        if last < (1 - FALL) * before and before - last > FALL * (max(trained) - last):
            yield (
                f"Not finished: the training loss still fell at the end, from {format_score(before)} to {format_score(last)} in "
                "the last two fifths of the run. Train longer, or with a higher learning rate."
            )


def forgetting(result: Result) -> Iterator[str]:
    """Yield what became of the model's surprise at general text."""
    found = result.forgetting
    if "why_not" in found:
        yield f"Forgetting was not measured: {found['why_not']}."
        return
    growth = found["growth"]
    change = f"{growth['value']:+.3f} nats a token, 95 % interval {growth['low']:+.3f} to {growth['high']:+.3f}"
    before, after = (math.exp(min(found[side], 700)) for side in ("before", "after"))
    told = f"surprise at general text ({found['objective']}): perplexity {format_score(before)} before, {format_score(after)} after"
    yield f"{'Forgot: ' if found['forgot'] else ''}{told} ({change})."
    if found["before"] > found.get("guessing", math.inf):
        yield (
            "The base itself is worse than guessing at that text, so this says nothing of what it knew. Name a file of "
            "texts that it can read: general_text."
        )


def leaks(leakage: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a sentence for each split of which train holds some rows, and for each where nobody looked for near ones.

    >>> found = {"rows": 90, "exact": 2, "normalized": 0, "near": 1, "columns": ["context"], "pairs": []}
    >>> list(leaks({"test": found}))
    ['3 of 90 rows of test are in train too, by context: 2 word for word, 1 nearly.']
    """
    for split, found in leakage.items():
        kinds = {"word for word": found["exact"], "but for case and punctuation": found["normalized"],
                 "nearly": found["near"] or 0}  # fmt: skip
        if total := _leaked(found):
            told = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
            by = " and ".join(found["columns"])
            verb = "is" if total == 1 else "are"
            yield f"{total:,} of {found['rows']:,} rows of {split} {verb} in train too, by {by}: {told}."
        if found["near"] is None:
            yield f"{split} was not searched for rows that are nearly in train: there is too much to look through."


def weak_slices(result: Result) -> Iterator[str]:
    """Yield the parts of the held-out split whose interval lies wholly on the bad side of the whole's score."""
    split = report_split(result)
    whole = result.scores[split].get(result.primary) if split else None
    if split is None or whole is None:
        return
    for by, parts in result.slices.get(split, {}).items():
        for part in parts:
            if "low" not in part:
                continue
            bad = part["high"] < whole if result.greater_is_better else part["low"] > whole
            if bad:
                yield (
                    f"{by} = {part['value']}: {result.primary} {format_score(part['score'])}{_interval(part)} on "
                    f"{part['size']:,} rows, against {format_score(whole)} on all."
                )


def all_verdicts(result: Result) -> list[str]:
    """Return all that must be known before a model is trusted, the score first."""
    parts: Sequence[Iterator[str]] = (headline(result), fit(result), forgetting(result), leaks(result.leakage))
    return [sentence for part in parts for sentence in part]


def format_score(value: float) -> str:
    """Return a score as people read it: three digits after the point below 10, two below 1,000.

    >>> number(0.84063), number(66.5512), number(50050.2)
    ('0.841', '66.55', '50,050')
    """
    size = abs(value)
    return f"{value:.3f}" if size < 10 else f"{value:.2f}" if size < 1000 else f"{value:,.0f}"


def format_percent(part: float, whole: float) -> str:
    """Return a share in percent: two digits after the point, or as many as a small one needs to be told from none.

    >>> share(1, 3), share(770, 22_713_986), share(0, 9)
    ('33.33%', '0.0034%', '0.00%')
    """
    percent = 100 * part / max(whole, 1)
    return f"{percent:.2g}%" if 0 < percent < 0.01 else f"{percent:.2f}%"


def _named(other: str) -> str:
    return "The base model" if other == "base_model" else f"The baseline “{other}”"


def _interval(bounds: Mapping[str, float] | None) -> str:
    return f" (95 % interval {format_score(bounds['low'])} to {format_score(bounds['high'])})" if bounds else ""


def _change(difference: Mapping[str, float] | None, result: Result) -> str:
    if difference is None:
        return ""
    found = verdict(difference, greater_is_better=result.greater_is_better)
    value, low, high = (_signed(difference[name]) for name in ("value", "low", "high"))
    return f"; trained − this = {value} ({low} to {high}): {found}"


def _signed(value: float) -> str:
    return ("+" if value >= 0 else "−") + format_score(abs(value))


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
