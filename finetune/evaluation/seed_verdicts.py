"""What the numbers of several seeds mean, in words: the same sentences for terminal, report and model card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from finetune.evaluation import crossed, verdicts
from finetune.evaluation.verdicts import capitalize, format_score, interval_text
from finetune.seeds_result import SeedsResult

ENOUGH_SEEDS = 3
"""With fewer seeds, the interval holds the true mean in fewer than 19 of 20 cases if seeds matter more than rows."""
SMALL_SHARE = 0.2
"""If one of the two explains less than this share of the variance, more of the other makes the mean more certain."""


def all_verdicts(result: SeedsResult) -> list[str]:
    """Return everything a reader must know before trusting the mean, the score first."""
    return [*headline(result), *between_seeds(result), *verdicts.leaks(result.leakage)]


def headline(result: SeedsResult) -> Iterator[str]:
    """Yield the mean of the primary score with its interval, then the comparison with the base model and baselines."""
    split, name, count = verdicts.report_split(result), result.primary, len(result.seeds)
    if split is None:
        yield (
            f"There are no validation or test rows. The {name} was measured on training rows only, so it is too "
            "optimistic. Set dataset.validation_size."
        )
        return
    if name not in result.scores[split]:
        yield f"{capitalize(name)} cannot be computed on {split} for every seed."
        return
    bounds = interval_text(result.intervals.get(split, {}).get(name))
    yield (
        f"{capitalize(name)} {format_score(result.scores[split][name])}{bounds}, the mean of {count} seeds, on "
        f"{verdicts.describe_split(result, split)}."
    )
    yield from verdicts.comparisons(result, split)


def between_seeds(result: SeedsResult) -> Iterator[str]:
    """Yield how far the primary score varies between the seeds and between rows, and what so few seeds can say."""
    split, name, count = verdicts.report_split(result), result.primary, len(result.seeds)
    if split is None or name not in result.scores[split]:
        return
    values, deviation = result.seed_scores[split][name], result.deviations[split][name]
    if deviation == 0:
        yield f"All {count} seeds have the same {name}."
        return
    yield (
        f"Between the seeds, {name} goes from {format_score(min(values))} to {format_score(max(values))}; the standard "
        f"deviation is {format_score(deviation)}."
    )
    rows = result.row_intervals.get(split, {}).get(name)
    seeds = result.seed_intervals.get(split, {}).get(name)
    if rows and seeds:
        yield (
            f"Other rows alone would give a mean{_from(rows)}, other seeds alone one{_from(seeds)} (95% intervals). "
            "The interval of the mean counts both."
        )
    yield from _shares(result, split)
    wide = crossed.deviation_interval(deviation, count)
    yield (
        f"{count} seeds say little about how far seeds vary: a true standard deviation between "
        f"{format_score(wide.low)} and {format_score(wide.high)} fits them (95% interval, for normal scores)."
    )
    if count < ENOUGH_SEEDS:
        yield (
            "With two seeds, the interval of the mean is too narrow if the seed matters more than the rows. Use three "
            "or more."
        )


def _from(bounds: Mapping[str, float]) -> str:
    return f" from {format_score(bounds['low'])} to {format_score(bounds['high'])}"


def _shares(result: SeedsResult, split: str) -> Iterator[str]:
    """Yield how much of the variance of the mean rows and seeds explain, and what would make the mean more certain."""
    parts = result.variances.get(split, {}).get(result.primary)
    if not parts or parts["rows"] + parts["seeds"] <= 0:
        return
    total = parts["rows"] + parts["seeds"]
    share = parts["seeds"] / total
    if share == 0:
        yield "The seeds differ no more than so few rows explain. More rows would make the mean more certain."
        return
    text = f"Rows explain {1 - share:.0%} of the variance of the mean, seeds {share:.0%}"
    more = "more rows or more seeds"
    if share < SMALL_SHARE:
        more = "more rows"
    elif share > 1 - SMALL_SHARE:
        more = "more seeds"
    yield f"{text}: {more} would make it more certain."
