"""The report of several seeds, as an HTML page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from finetune import recipe as recipes
from finetune.evaluation import seed_verdicts, verdicts
from finetune.report import axes, facts
from finetune.report.page import REPORT, data_report, differences, headline, templates
from finetune.result import RECIPE, RESULT, write_atomically
from finetune.seeds_result import SeedsResult


def write(result: SeedsResult, directory: Path) -> Path:
    """Write the report of several seeds into their folder, and return its path."""
    path = directory / REPORT
    write_atomically(path, render(result))
    return path


def render(result: SeedsResult, *, links: str = "") -> str:
    """Return the report of several seeds as one HTML file.

    Args:
        result: The result of the seeds.
        links: Path from the page to their folder; empty if the page is in it. See `finetune.report.path_to`.
    """
    split = verdicts.report_split(result)
    known = split is not None and result.primary in result.scores[split]
    start = f"{links}/" if links else "./"
    return (
        templates()
        .get_template("seeds.html")
        .render(
            result=result,
            trained=recipes.as_trained(result.recipe),
            split=split,
            name=PurePosixPath(str(result.recipe.get("output") or "")).name,
            headline=_headline(result, split) if known and split else None,
            sentences=list(seed_verdicts.headline(result)),
            between=list(seed_verdicts.between_seeds(result)),
            warnings=list(verdicts.leaks(result.leakage)),
            seeds=_panel_of_seeds(result, split) if known and split else None,
            differences=differences(result, split) if split else None,
            scores=[_scores(result, each) for each in sorted(result.scores, key=lambda each: each != split)],
            runs=_runs(result, split if known else None, start),
            files=[(f"{start}{name}", name) for name in (RECIPE, RESULT, facts.CARD)],
            data_report=data_report(result),
            recipe=recipes.dump(dict(result.recipe)),
        )
    )


def _headline(result: SeedsResult, split: str) -> Mapping[str, Any]:
    """Return the mean of the primary score, and a panel with its three intervals, the base model and the baselines."""
    name = result.primary
    value, both = result.scores[split][name], result.intervals[split].get(name)
    points = [axes.Point(name="rows and seeds", value=value, bounds=both, tone="main")]
    for title, bounds in (("rows alone", result.row_intervals), ("seeds alone", result.seed_intervals)):
        if name in bounds.get(split, {}):
            points.append(axes.Point(name=title, value=value, bounds=bounds[split][name]))
    return {**headline(result, split, points), "deviation": result.deviations[split][name]}


def _panel_of_seeds(result: SeedsResult, split: str) -> Mapping[str, Any] | None:
    """Return a panel with the primary score of each seed, and a line at their mean."""
    values = zip(result.seeds, result.seed_scores[split][result.primary], strict=True)
    points = [axes.Point(name=f"seed {seed}", value=value) for seed, value in values]
    interval = result.intervals[split].get(result.primary, {})
    return axes.panel(points, mark=result.scores[split][result.primary], ends=interval.values())


def _scores(result: SeedsResult, split: str) -> Mapping[str, Any]:
    """Return the table of a split: each score with its mean, deviation and interval, and its value with each seed."""
    rows = []
    shown = verdicts.shown(result.scores[split], primary=result.primary)
    for name in sorted(shown, key=lambda each: each != result.primary):
        if facts.scale_of(result, name) in facts.NOT_SCORES:
            continue
        rows.append(
            {
                "name": name,
                "scale": facts.scale_of(result, name),
                "primary": name == result.primary,
                "mean": result.scores[split][name],
                "deviation": result.deviations[split][name],
                "interval": result.intervals.get(split, {}).get(name),
                "values": result.seed_scores[split][name],
            }
        )
    return {"split": split, "rows": rows, "has_intervals": split in result.intervals}


def _runs(result: SeedsResult, split: str | None, start: str) -> list[Mapping[str, Any]]:
    """Return a line for each run: its seed, score and cost, and the link to its report."""
    lines: list[Mapping[str, Any]] = []
    for number, (seed, run) in enumerate(zip(result.seeds, result.runs, strict=True)):
        score = result.seed_scores[split][result.primary][number] if split else None
        lines.append(
            {
                "seed": seed,
                "run": run,
                "href": f"{start}{run}/{REPORT}",
                "score": score,
                "steps": result.steps[number],
                "seconds": result.training_seconds[number],
            }
        )
    return lines
