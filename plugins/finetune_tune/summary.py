"""What a study found, in sentences and rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from finetune.kit import verdicts
from finetune_tune.conclusion import Conclusion
from finetune_tune.trial import Settings, Trial


def best_first(trials: Sequence[Trial], settings: Settings) -> list[Trial]:
    """Return the trials, those that came farthest first, and of these the best first."""

    def key(trial: Trial) -> tuple[int, float, int]:
        score = trial.score
        return -len(trial.rungs), -settings.sign * score if score is not None else 0.0, trial.number

    return sorted(trials, key=key)


def rows(trials: Sequence[Trial], settings: Settings) -> list[list[object]]:
    """Return a row for each trial, the best first: number, score, rungs, state and values."""
    found: list[list[object]] = []
    for trial in best_first(trials, settings):
        score = "" if trial.score is None else verdicts.format_score(trial.score)
        values = " ".join(f"{name}={short(value)}" for name, value in trial.chosen.items())
        rung = f"{len(trial.rungs)} of {len(settings.shares)}"
        found.append([trial.number, score, rung, trial.state, values])
    return found


def short(value: object) -> str:
    """Return a value as it is shown: numbers with three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def sentences(found: Conclusion, trials: Sequence[Trial], settings: Settings) -> Iterator[str]:
    """Yield what a study found, the most important first."""
    yield from _claim(found, settings)
    yield from _optimism(found, trials, settings)
    yield from _not_worse(found)
    if found.importance:
        shares = [f"{key} {value:.0%}" for key, value in found.importance.items()]
        yield f"What the scores at the first rung depend on (PED-ANOVA): {', '.join(shares)}."
    if found.full_steps:
        text = (
            f"The trials made {found.steps:,} steps; without pauses they would have made {found.full_steps:,} "
            f"({found.steps / found.full_steps:.0%})."
        )
        if found.repeated:
            text += f" {found.repeated:,} of the steps were repeated when the study was continued."
        yield text
    failed = [trial for trial in trials if trial.state == "failed"]
    for trial in failed:
        yield f"Trial {trial.number} failed: {trial.reason}"
    for trial in trials:
        if trial.state == "incompatible":
            yield f"Trial {trial.number} cannot be combined: {trial.reason}"


def _claim(found: Conclusion, settings: Settings) -> Iterator[str]:
    claim = found.claim
    if claim is None:
        yield (
            f"Trial {found.winner} has the best {settings.primary} on validation, "
            f"{verdicts.format_score(found.score)}. It was not compared with the recipe as it is written on test, so "
            "this says nothing about other rows."
        )
        return
    seeds = "1 new seed" if len(claim.seeds) == 1 else f"{len(claim.seeds)} new seeds"
    means = [sum(values) / len(values) for values in (claim.winner, claim.as_written)]
    spans = f"{verdicts.signed(claim.low)} to {verdicts.signed(claim.high)}"
    scores = f"{verdicts.format_score(means[0])} against {verdicts.format_score(means[1])}"
    where = f"on {claim.rows:,} rows of test that no trial has read, with {seeds}"
    change = f"{settings.primary} {scores}, a difference of {verdicts.signed(claim.difference)} (95% interval {spans})"
    says = f"Trial {found.winner} is {claim.verdict} than the recipe as it is written"
    if claim.verdict == "inconclusive":
        says = f"It is not clear whether trial {found.winner} is better than the recipe as it is written"
    yield f"{says}: {change} {where}."
    if len(claim.seeds) == 1:
        yield "One seed does not show how much the difference depends on the seed. Use --seeds 3."
    if found.earlier:
        yield (
            f"Before the study was continued, {_named(found.earlier)} won and was scored on the same rows of test. "
            "Each further look at test makes a false claim more probable."
        )


def _optimism(found: Conclusion, trials: Sequence[Trial], settings: Settings) -> Iterator[str]:
    scored = sum(bool(trial.rungs) for trial in trials)
    if found.optimism is None or found.optimism_if_equal is None or scored < 2:
        return
    direction = "high" if settings.greater_is_better else "low"
    yield (
        f"The score of the winner on validation is {verdicts.format_score(found.score)}. The best of {scored} trials "
        f"on {found.rows:,} rows is expected to look too {direction} by "
        f"{bias(found.optimism, found.optimism_if_equal)}. Do not report it."
    )


def bias(expected: float, if_equal: float) -> str:
    """Return a selection bias in words, also one that is smaller than what is shown.

    >>> bias(0.012, 0.034)
    '0.012, and by 0.034 if all were equally good'
    >>> bias(0.0001, 0.034)
    'less than 0.001, and by 0.034 if all were equally good'
    >>> bias(0.0001, 0.0004)
    'less than 0.001, even if all were equally good'
    """
    shown, shown_if_equal = _magnitude(expected), _magnitude(if_equal)
    if shown == shown_if_equal == _LESS:
        return f"{_LESS}, even if all were equally good"
    return f"{shown}, and by {shown_if_equal} if all were equally good"


_LESS = "less than 0.001"


def _magnitude(value: float) -> str:
    shown = verdicts.format_score(value)
    return _LESS if shown == verdicts.format_score(0.0) else shown


def _not_worse(found: Conclusion) -> Iterator[str]:
    if found.not_worse:
        yield f"Validation does not distinguish the winner from {_named(found.not_worse)}."
    if found.not_continued:
        verb = "was" if len(found.not_continued) == 1 else "were"
        yield (
            f"{_named(found.not_continued).capitalize()} {verb} not continued, and not distinguished from the winner "
            "after the same share of the steps."
        )


def _named(numbers: Sequence[int]) -> str:
    """Return trials in words.

    >>> _named([3]), _named([3, 7])
    ('trial 3', 'trials 3, 7')
    """
    return f"trial{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers))}"
