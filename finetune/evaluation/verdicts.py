"""What the numbers of a result mean, in words: the same sentences for terminal, report and model card."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from finetune import gguf, kept_layers, limits
from finetune.result import BASE_MODEL

if TYPE_CHECKING:
    from finetune.result import Result
    from finetune.seeds_result import SeedsResult

GAP = 0.05
"""A held-out score that lies further below the train score than this share of it is called
overfitted."""
RISE = 0.05
"""A validation loss that rose by more than this share from its lowest value is called
overfitted."""
FALL = 0.05
"""A training loss that still falls by this share between the last two fifths of a run is called
unfinished, if the fall is also this share of the whole decrease."""
LEAKED = 0.05
"""If train holds more than this share of a split's rows, the split's score is called optimistic."""
NEAR = 0.15
"""A training loss that fell by less than this share of its first value is called near its start, if the head was
random."""
TRAIN_SAMPLE = 500
"""Training examples that are scored: enough to show a gap between train and the held-out splits."""
LEAST_UNITS = 20
"""Verdicts on overfitting and underfitting need at least this many independent rows: an interval from fewer is not
reliable, and five rows that are all right have one of width 0."""
FIFTHS = 5
LEAST_ENTRIES = 10
"""A curve is read only if the log has at least this many losses."""


NO_SCORES = ("total", "count", "tokens", "thresh", "threshold")
"""Last words of the names of values that are no scores: numbers of rows or tokens, and thresholds."""
MICRO = ("precision_micro", "recall_micro", "f1_micro")
"""Averages over all labels together: equal to the accuracy if each row has one label."""


def shown(scores: Mapping[str, float], *, primary: str = "") -> dict[str, float]:
    """Return the scores that tables show: without counts, thresholds, and micro averages that equal the accuracy.

    If each row has one label, precision, recall and F1 of all labels together are the accuracy.

    Args:
        scores: Score → number.
        primary: A score that is always shown.

    >>> list(shown({"accuracy": 0.5, "f1_micro": 0.5, "f1_macro": 0.4, "NoAns_total": 39, "best_f1_thresh": 0.0}))
    ['accuracy', 'f1_macro']
    >>> list(shown({"perplexity": 9.5, "tokens": 4096}))
    ['perplexity']
    """
    micro = [scores[name] for name in MICRO if name in scores]
    repeats = "accuracy" in scores and all(math.isclose(value, scores["accuracy"]) for value in micro)
    found = {}
    for name, value in scores.items():
        plain = name.partition("@")[0]
        is_score = plain.rpartition("_")[2] not in NO_SCORES and not (repeats and plain in MICRO)
        if is_score or name == primary:
            found[name] = value
    return found


def report_split(result: Result | SeedsResult) -> str | None:
    """Return the split whose scores represent the run: `test` if it exists, else `validation`, else None."""
    for split in ("test", "validation"):
        if split in result.scores:
            return split
    return None


def headline(result: Result) -> Iterator[str]:
    """Yield the primary score with its interval, then the comparison with the base model and each baseline."""
    split, name = report_split(result), result.primary
    if split is None and result.adopted_from is not None:
        yield f"Not scored: nothing shows how good the {name} is. Rows with answers can: finetune adopt … --data FILE."
        return
    if split is None:
        yield (
            f"There are no validation or test rows. The {name} was measured on training "
            "rows only, so it is too optimistic. Set dataset.validation_size."
        )
        return
    score = result.scores[split].get(name)
    if score is None:
        yield f"{capitalize(name)} cannot be computed on {split}."
        return
    interval = interval_text(result.intervals.get(split, {}).get(name))
    yield f"{capitalize(name)} {format_score(score)}{interval} on {describe_split(result, split)}."
    yield from comparisons(result, split)


def comparisons(result: Result | SeedsResult, split: str) -> Iterator[str]:
    """Yield how the primary score of a split compares with that of the base model and of each baseline."""
    name = result.primary
    for other, scores in others(result, split).items():
        if name not in scores:
            continue
        difference = result.differences.get(split, {}).get(other, {}).get(name)
        yield _compared(other, scores[name], difference, greater_is_better=result.greater_is_better)


def others(result: Result | SeedsResult, split: str) -> dict[str, Mapping[str, float]]:
    """Return the scores of the base model and of each baseline on a split: name → scores."""
    return {BASE_MODEL: result.base_model_scores.get(split, {}), **result.baselines.get(split, {})}


def describe_split(result: Result | SeedsResult, split: str) -> str:
    """Return the size of a split in words and, if its score is optimistic, the reason."""
    units = result.units.get(split, {})
    size = result.data_report.get(split, {}).get("kept", units.get("size", 0))
    text = f"{size:,} {'row' if size == 1 else 'rows'} of {split}"
    if units.get("column"):
        text += f" ({units['size']:,} different values of {units['column']})"
    if split == "validation" and result.selection_split != split and "test" not in result.scores:
        text += ", because there is no test split"
    leaked = _leaked(result.leakage[split]) if split in result.leakage else 0
    reasons = []
    if leaked > LEAKED * size:
        reasons.append(f"{leaked:,} of these rows are also in train")
    if result.selection_split == split:
        reasons.append("the model was selected on this split")
    return f"{text} (optimistic: {' and '.join(reasons)})" if reasons else text


def _leaked(found: Mapping[str, Any]) -> int:
    return int(found["exact"] + found["normalized"] + (found["near"] or 0))


def verdict(difference: Mapping[str, float], *, greater_is_better: bool) -> str:
    """Return `better`, `worse` or `inconclusive` for a difference with its 95% interval.

    >>> verdict({"value": 0.1, "low": 0.02, "high": 0.2}, greater_is_better=True)
    'better'
    >>> verdict({"value": 0.1, "low": -0.02, "high": 0.2}, greater_is_better=True)
    'inconclusive'
    """
    if difference["low"] <= 0 <= difference["high"]:
        return "inconclusive"
    return "better" if (difference["value"] > 0) == greater_is_better else "worse"


def fit(result: Result) -> Iterator[str]:
    """Yield signs of overfitting and underfitting in the scores and the loss curves."""
    overfitted = [*_gap(result), *_risen(result)]
    stopped = [*early_stop(result), *averaged(result)]
    yield from stopped
    # Training longer makes overfitting worse, so a loss that still falls is reported only without
    # it.
    if overfitted or result.early_stopping.get("stopped"):
        yield from overfitted
    else:
        yield from [*_near_start(result)] or _falling(result)
    split, name = report_split(result), result.primary
    if split is None or name not in result.scores[split] or not _is_enough(result, split):
        return
    for other in result.baselines.get(split, {}):
        difference = result.differences.get(split, {}).get(other, {}).get(name)
        if difference and verdict(difference, greater_is_better=result.greater_is_better) != "better":
            fact = f"on {split}, the {name} is not clearly better than that of the {_named(other)}."
            if overfitted:
                yield f"Not shown to help: {fact} More held-out rows can show more; `finetune check` looks at the data."
                continue
            longer = "Use" if result.early_stopping.get("stopped") else "Train longer, use"
            yield f"Underfitted: {fact} {longer} a higher learning rate, or check the data with `finetune check`."


def early_stop(result: Result) -> Iterator[str]:
    """Yield whether early stopping ended the run, and which weights it has."""
    found = result.early_stopping
    if not found:
        return
    name, best_step, best = found["score"], found["best_step"], found["best"]
    kept = ""
    if best_step is not None and _finite(best) and not result.average:
        kept = f"The weights are those of step {best_step:,} ({name} {format_score(best)} on validation)."
    if not found["stopped"]:
        yield f"Early stopping did not end the run: it made all {found['max_steps']:,} steps. {kept}".strip()
        return
    least = f" by more than {found['threshold']:g}" if found["threshold"] else ""
    times = f"{found['patience']} evaluation{'s' if found['patience'] > 1 else ''}"
    yield (
        f"Stopped early after step {found['step']:,} of {found['max_steps']:,}: {name} did not improve{least} in "
        f"{times}. {kept}".strip()
    )


def origin(result: Result) -> Iterator[str]:
    """Yield of which file and layers the model was made, and from which teacher it learned."""
    for sentence in (*gguf.sentences(result.base.get("gguf", {})), *kept_layers.sentences(result.kept_layers)):
        yield f"{sentence[0].upper()}{sentence[1:]}."
    found = result.teacher
    if not found:
        return
    alpha, path = found["alpha"], str(found["path"])
    name = path.rstrip("/").rpartition("/")[2] if path.startswith("/") else path
    yield (
        f"Knowledge distillation: the teacher is {name} ({found['parameters']:,} parameters), and the loss {alpha:g} × "
        f"the distance to its outputs at temperature {found['temperature']:g} + {1 - alpha:g} × the loss of the task."
    )
    yield f"{seen_by_teacher(found['seen'], result.leakage)}."


def seen_by_teacher(seen: Mapping[str, Any], leakage: Mapping[str, Any]) -> str:
    """Return which held-out rows a teacher was trained on, as a sentence without its period.

    Args:
        seen: As in `Result.teacher`.
        leakage: As in `Result.leakage`: what is said of the training rows of the run itself.
    """
    if "not_known" in seen:
        return (
            f"Nothing shows whether the teacher was trained on held-out rows of this run ({seen['not_known']}); if it "
            "was, the scores are optimistic"
        )
    parts = []
    for split, facts in seen.items():
        if _same_rows(facts) > _same_rows(leakage.get(split, {})):
            parts.append(f"{_same_rows(facts)} of {facts['rows']} rows of {split}")
    if not parts:
        rows = sum(facts["rows"] for facts in seen.values())
        return f"The teacher was not trained on any of the {rows:,} held-out rows that are not in train here, too"
    return (
        f"The teacher was trained on {' and '.join(parts)}, or on near duplicates, so these scores are optimistic. Use "
        "a teacher that was trained on the same split"
    )


def _same_rows(facts: Mapping[str, Any]) -> int:
    """Return how many rows of a split are also in train, in any of the ways that `Result.leakage` counts."""
    return sum(facts.get(name) or 0 for name in ("exact", "normalized", "near"))


def averaged(result: Result) -> Iterator[str]:
    """Yield which checkpoints the weights are the mean of, and what that gave on validation."""
    found = result.average
    if not found:
        return
    name, best, tried = found["score"], format_score(found["best"]), len(found["tried"]) + 1
    if len(found["steps"]) > 1:
        steps = ", ".join(f"{step:,}" for step in found["steps"])
        yield (
            f"The weights are the mean of those of steps {steps}: {name} {format_score(found['value'])} on validation, "
            f"and {best} with the best of them alone. {tried} checkpoints were tried."
        )
        return
    yield (
        f"No mean of checkpoints was better than the best one: the weights are those of step {found['best_step']:,} "
        f"({name} {best} on validation). {tried} checkpoints were tried."
    )


def _gap(result: Result) -> Iterator[str]:
    split, name = report_split(result), result.primary
    train = result.scores.get("train", {}).get(name)
    here = result.scores[split].get(name) if split else None
    bounds = result.intervals.get(split or "", {}).get(name)
    if split is None or train is None or here is None or bounds is None or not _is_enough(result, split):
        return
    gap = (train - here) if result.greater_is_better else (here - train)
    own = bounds["high"] - here if result.greater_is_better else here - bounds["low"]
    if gap > GAP * abs(train) and gap > own * math.sqrt(1 + _size(result, split) / _scored_of_train(result)):
        yield (
            f"Overfitted: {name} is {format_score(train)} on training rows and {format_score(here)} on {split}. More "
            "data, fewer epochs, a lower learning rate, weight decay, or a strategy that trains fewer parameters can "
            "help."
        )


def _risen(result: Result) -> Iterator[str]:
    entries = [entry for entry in result.log if _finite(entry.get("eval_loss"))]
    losses = [entry["eval_loss"] for entry in entries]
    if len(losses) < 2 or losses[-1] <= (1 + RISE) * min(losses) or not _is_enough(result, "validation"):
        return
    lowest, last = entries[losses.index(min(losses))], entries[-1]
    text = (
        f"Overfitted at the end: the validation loss was lowest at step {lowest['step']:,} "
        f"({format_score(min(losses))}) and rose to {format_score(losses[-1])}"
    )
    before: Any = lowest.get(f"eval_{result.primary}")
    after: Any = last.get(f"eval_{result.primary}")
    changed = _finite(before) and _finite(after) and before != after
    if changed and (after > before) == result.greater_is_better:
        # Stopping at the lowest loss would give the worse model.
        yield (
            f"{text}, but {result.primary} improved from {format_score(before)} to {format_score(after)}. The model "
            "makes fewer errors and is more confident in the remaining ones. Select the checkpoint by the score, and "
            "do not trust the probabilities."
        )
    elif result.arguments.get("load_best_model_at_end"):
        yield f"{text}. The run kept the best checkpoint."
    else:
        yield f"{text}. To keep the best checkpoint, set training.load_best_model_at_end: true."


def _size(result: Result, split: str) -> int:
    """Return how many independent rows a split has."""
    units: int | None = result.units.get(split, {}).get("size")
    return int(result.data_report.get(split, {}).get("kept", 0)) if units is None else units


def _scored_of_train(result: Result) -> int:
    """Return how many rows of train were scored: a sample has an error of its own, the larger the fewer rows it has."""
    return max(1, min(TRAIN_SAMPLE, result.data_report.get("train", {}).get("kept", TRAIN_SAMPLE)))


def _is_enough(result: Result, split: str) -> bool:
    """Return whether a split has enough independent rows for a verdict."""
    return _size(result, split) >= LEAST_UNITS


def _near_start(result: Result) -> Iterator[str]:
    trained = [entry["loss"] for entry in result.log if _finite(entry.get("loss"))]
    # A base model that needs no new head can be good from the first step.
    if len(trained) < FIFTHS or not result.newly_initialized or trained[0] <= 0:
        return
    size = len(trained) // FIFTHS
    last = sum(trained[-size:]) / size
    if trained[0] - last < NEAR * trained[0]:
        yield (
            f"Underfitted: the training loss is still near its start, {format_score(trained[0])} at first and "
            f"{format_score(last)} at the end. Use a higher learning rate, or train longer."
        )


def _falling(result: Result) -> Iterator[str]:
    trained = [entry["loss"] for entry in result.log if _finite(entry.get("loss"))]
    if len(trained) < LEAST_ENTRIES:
        return
    size = len(trained) // FIFTHS
    before = sum(trained[-2 * size : -size]) / size
    last = sum(trained[-size:]) / size
    # A fall from 0.03 to 0.02 is a third, but nothing against the fall from 1.6: memorized data
    # ends this way.
    if last < (1 - FALL) * before and before - last > FALL * (max(trained) - last):
        yield (
            f"Not finished: the training loss was still falling at the end, from {format_score(before)} to "
            f"{format_score(last)} over the last two fifths of the run. Train longer, or use a higher learning rate."
        )


def forgetting(result: Result) -> Iterator[str]:
    """Yield how training changed the model's perplexity on general text.

    If that cannot be measured, the reason is a sentence only for a recipe that names another text than the bundled one.
    The result always holds it.
    """
    found = result.forgetting
    if "not_measured" in found:
        if result.recipe.get("general_text", "bundled") not in ("bundled", "none"):
            yield f"Forgetting was not measured: {found['not_measured']}."
        return
    increase = found["increase"]
    before, after = (math.exp(min(found[side], 700)) for side in ("before", "after"))
    text = (
        f"perplexity on general text ({found['objective']}): {format_score(before)} before training, "
        f"{format_score(after)} after (NLL {increase['value']:+.3f} nats per token, 95% interval "
        f"{increase['low']:+.3f} to {increase['high']:+.3f})."
    )
    yield f"Forgot: {text}" if found["forgot"] else capitalize(text)
    if found["before"] > found.get("chance", math.inf):
        yield (
            "The base model is worse than chance on this text, so this does not show what it forgot. Set general_text "
            "to a file of texts that the base model can read."
        )


def calibration(result: Result) -> Iterator[str]:
    """Yield which temperature the probabilities have and why, how far off they are, and what abstaining would give."""
    found, split = result.calibration, report_split(result)
    if not found or split not in found["splits"]:
        return
    measured = found["splits"][split]
    after = _measured(measured["after"]["ece"])
    if found.get("temperature", 1.0) == 1:
        yield (
            f"The probabilities are those of the model, with a temperature of 1. {found['reason']} Their expected "
            f"calibration error on {split} is {after}."
        )
    else:
        source = "set by the recipe" if found["improvement"] is None else f"fitted on {found['rows']:,} validation rows"
        surer = "less sure" if found.get("temperature", 1.0) > 1 else "surer"
        yield (
            f"A temperature of {found['temperature']:.2f}, {source}, makes the probabilities {surer}. Their expected "
            f"calibration error on {split} is {after}; without it, {_measured(measured['before']['ece'])}."
        )
    if split == "validation" and found["improvement"] is not None:
        yield "Validation fitted the temperature, so its errors on other rows can be greater."
    answered = measured.get("answered", ())
    for part in answered:
        if part["coverage"] < 0.85:
            everything = answered[0]
            yield (
                f"Of the {format_percent(part['coverage'], 1)} of {split} with a probability of at least "
                f"{part['probability']:.2f}, {format_percent(part['right'], 1)} are right; of all rows, "
                f"{format_percent(everything['right'], 1)}."
            )
            return


def _measured(found: Mapping[str, float]) -> str:
    """Return a number with its interval."""
    return f"{format_score(found['value'])}{interval_text(found if 'low' in found else None)}"


def leaks(leakage: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield a sentence for each split with rows that train also holds, or in which near duplicates were not searched.

    >>> found = {"rows": 90, "exact": 2, "normalized": 0, "near": 1, "columns": ["context"], "pairs": []}
    >>> list(leaks({"test": found}))
    ['3 of 90 rows of test are also in train, compared by context: 2 exact, 1 near duplicate.']
    """
    for split, found in leakage.items():
        total, near = _leaked(found), found["near"] or 0
        if total:
            kinds = []
            if found["exact"]:
                kinds.append(f"{found['exact']:,} exact")
            if found["normalized"]:
                kinds.append(f"{found['normalized']:,} equal except for case and punctuation")
            if near:
                kinds.append(f"{near:,} near duplicate{'' if near == 1 else 's'}")
            columns = " and ".join(found["columns"])
            verb = "is" if total == 1 else "are"
            yield (
                f"{total:,} of {found['rows']:,} rows of {split} {verb} also in train, compared by {columns}: "
                f"{', '.join(kinds)}."
            )
        if found["near"] is None:
            yield (
                f"Near duplicates between {split} and train were not searched: there are too many rows or too much "
                "text."
            )


def beyond_limits(result: Result) -> Iterator[str]:
    """Yield how many answers of each split an option of the recipe makes impossible."""
    yield from limits.sentences(result.limits)


def weak_slices(result: Result) -> Iterator[str]:
    """Yield the slices of the report split whose whole interval is worse than the score of all rows."""
    split = report_split(result)
    whole = result.scores[split].get(result.primary) if split else None
    if split is None or whole is None:
        return
    for by, slices in result.slices.get(split, {}).items():
        for part in slices:
            if "low" not in part or part["size"] < LEAST_UNITS:
                continue
            weak = part["high"] < whole if result.greater_is_better else part["low"] > whole
            if weak:
                yield (
                    f"{by} = {part['value']}: {result.primary} {format_score(part['score'])}{interval_text(part)} on "
                    f"{part['size']:,} rows; {format_score(whole)} on all rows."
                )


def all_verdicts(result: Result) -> list[str]:
    """Return everything a reader must know before trusting the model, the score first."""
    groups: Sequence[Iterator[str]] = (
        headline(result),
        beyond_limits(result),
        fit(result),
        forgetting(result),
        leaks(result.leakage),
    )
    return [sentence for group in groups for sentence in group]


def format_score(value: float) -> str:
    """Return a score for people: three decimals below 10, two below 1,000, none above.

    >>> format_score(0.84063), format_score(66.5512), format_score(50050.2)
    ('0.841', '66.55', '50,050')
    """
    size = abs(value)
    if size < 10:
        return f"{value:.3f}"
    return f"{value:.2f}" if size < 1000 else f"{value:,.0f}"


def format_percent(part: float, whole: float) -> str:
    """Return a share in percent: two decimals, or two significant digits if it would otherwise read 0.00%.

    >>> format_percent(1, 3), format_percent(770, 22_713_986), format_percent(0, 9)
    ('33.33%', '0.0034%', '0.00%')
    """
    percent = 100 * part / max(whole, 1)
    return f"{percent:.2g}%" if 0 < percent < 0.01 else f"{percent:.2f}%"


def _named(other: str) -> str:
    return "base model" if other == BASE_MODEL else f"baseline “{other}”"


def capitalize(text: str) -> str:
    """Return a text that begins with a capital letter."""
    return text[:1].upper() + text[1:]


def interval_text(bounds: Mapping[str, float] | None) -> str:
    """Return an interval in parentheses, with a space before it; an empty text for none."""
    return f" (95% interval {format_score(bounds['low'])} to {format_score(bounds['high'])})" if bounds else ""


def _compared(other: str, score: float, difference: Mapping[str, float] | None, *, greater_is_better: bool) -> str:
    """Return how a score compares with that of the base model or a baseline.

    >>> _compared("majority", 0.24, {"value": 0.6, "low": 0.51, "high": 0.68}, greater_is_better=True)
    'Better than the baseline “majority” (0.240) by 0.600 (95% interval 0.510 to 0.680).'
    >>> _compared(BASE_MODEL, 3.1, {"value": -0.5, "low": -0.75, "high": -0.25}, greater_is_better=False)
    'Better than the base model (3.100) by 0.500 (95% interval 0.250 to 0.750).'
    >>> _compared(BASE_MODEL, 0.9, {"value": -0.01, "low": -0.03, "high": 0.01}, greater_is_better=True)
    'Not clearly better or worse than the base model (0.900): difference −0.010 (95% interval −0.030 to +0.010).'
    """
    if difference is None:
        return f"{capitalize(_named(other))}: {format_score(score)}."
    than = f"than the {_named(other)} ({format_score(score)})"
    found = verdict(difference, greater_is_better=greater_is_better)
    if found == "inconclusive":
        value, low, high = (signed(difference[name]) for name in ("value", "low", "high"))
        return f"Not clearly better or worse {than}: difference {value} (95% interval {low} to {high})."
    least, most = sorted(abs(difference[name]) for name in ("low", "high"))
    by = format_score(abs(difference["value"]))
    return f"{capitalize(found)} {than} by {by}{interval_text({'low': least, 'high': most})}."


def signed(value: float) -> str:
    """Return a difference as text, with its sign.

    >>> signed(0.7), signed(-12.345)
    ('+0.700', '−12.35')
    """
    return ("+" if value >= 0 else "−") + format_score(abs(value))


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
