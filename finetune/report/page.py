"""The report of a run and the comparison of runs, as HTML pages."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PackageLoader, StrictUndefined
from markupsafe import Markup

from finetune import recipe as recipes
from finetune.characters import visible
from finetune.evaluation import verdicts
from finetune.report import axes, charts, examples, facts
from finetune.result import BASE_MODEL, Result, write_atomically

if TYPE_CHECKING:
    from finetune.evaluation.comparison import Comparison
    from finetune.seeds_result import SeedsResult

REPORT = "report.html"
FIRST_CURVES = 4
"""Curves that are shown at once; the others are folded."""
MOST_CURVES = 24
"""Most curves that are drawn."""
MOST_TALL = 6
"""Classes up to which the labels above a confusion matrix are horizontal, if they are short."""
_DRAWN = {"confusion_matrix", "labels", "support", "calibration"}
"""Details that the report shows in a table or chart; it shows the others as JSON."""


def write(result: Result, directory: Path) -> Path:
    """Write the report of a run into its folder, and return its path."""
    path = directory / REPORT
    write_atomically(path, page(result))
    return path


def page(result: Result, *, links: str = "") -> str:
    """Return the report of a run as one HTML file.

    Args:
        result: The result of the run.
        links: Path from the page to the run folder; empty if the page is in it. See `path_to`.
    """
    split = verdicts.report_split(result)
    details = result.details.get(split, {}) if split else {}
    no_charts = charts.missing()
    curves = [] if no_charts else charts.curves(result.log, primary=result.primary)[:MOST_CURVES]
    calibrated = _calibrated(result, split, details)
    calibration = None
    if calibrated and not no_charts:
        calibration = charts.calibration(calibrated["bins"], calibrated["bins_before"])
    return (
        templates()
        .get_template("report.html")
        .render(
            result=result,
            trained=recipes.as_trained(result.recipe),
            split=split,
            name=facts.name_of(result),
            started=facts.started(result),
            headline=_headline(result, split) if split and result.primary in result.scores[split] else None,
            sentences=list(verdicts.headline(result)),
            warnings=[
                *verdicts.beyond_limits(result),
                *verdicts.fit(result),
                *verdicts.leaks(result.leakage),
                *verdicts.weak_slices(result),
            ],
            forgetting=list(verdicts.forgetting(result)),
            hyper_parameters=list(facts.hyper_parameters(result)),
            files=facts.files(links),
            scores=[_scores(result, each) for each in _in_order(result, split)],
            differences=differences(result, split) if split else None,
            no_charts=no_charts,
            curves=curves[:FIRST_CURVES],
            more_curves=curves[FIRST_CURVES:],
            confusion=_confusion(details),
            calibration=calibration,
            calibrated=calibrated,
            slices=_slices(result, split) if split else [],
            details={name: value for name, value in details.items() if name not in _DRAWN},
            worst=[examples.view(error, split=split) for error in result.worst.get(split, ())] if split else [],
            data_report=data_report(result),
            recipe=recipes.dump(dict(result.recipe)),
            longest=max((phase.seconds for phase in result.phases), default=0.0) or 1.0,
        )
    )


CALIBRATION = {
    "ece": "expected calibration error",
    "brier": "Brier score",
    "nll": "negative log-likelihood",
}
"""Score of probabilities → its name in a report."""


def _calibrated(result: Result, split: str | None, details: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how good the probabilities of a split are; None if nothing is known of them."""
    found = result.calibration.get("splits", {}).get(split)
    if found is None:
        known = details.get("calibration")  # of a run without a temperature, or of another evaluator
        if not known:
            return None
        sentences = [f"The expected calibration error is {verdicts.format_score(known['ece'])}."]
        return {"sentences": sentences, "bins": known["bins"], "bins_before": None, "rows": [], "answered": []}
    changed = result.calibration.get("temperature", 1) != 1
    rows = []
    for name, title in CALIBRATION.items():
        values = {"before": found["before"][name], "after": found["after"][name]}
        rows.append({"title": title, **(values if changed else {"after": values["after"]})})
    return {
        "sentences": list(verdicts.calibration(result)),
        "bins": found["after"]["bins"],
        "bins_before": found["before"]["bins"] if changed else None,
        "rows": rows,
        "answered": found.get("answered", []),
    }


def path_to(directory: Path, page: Path) -> str:
    """Return the path from a page to a run folder, as `page` takes it; empty if the page is in the folder."""
    found = Path(os.path.relpath(directory, page.parent)).as_posix()
    return "" if found == "." else found


def comparison_page(found: Comparison) -> str:
    """Return a comparison of runs as one HTML file."""
    runs = found.runs
    names = _short_names([run.run for run in runs])
    scores = [
        axes.Point(name=name, value=run.score, bounds=run.interval, tone="main" if run.verdict == "first" else "")
        for name, run in zip(names, runs, strict=True)
    ]
    tones = {"better": "good", "worse": "bad"}
    differences = [
        axes.Point(name=name, value=run.difference["value"], bounds=run.difference, tone=tones.get(run.verdict, ""))
        for name, run in zip(names, runs, strict=True)
        if run.difference
    ]
    return (
        templates()
        .get_template("comparison.html")
        .render(
            found=found,
            names=names,
            several=any(len(run.seeds) > 1 for run in runs),
            sentences=list(_comparison_sentences(found, names)),
            scores=axes.panel(scores),
            differences=axes.panel(differences, mark=0.0, differences=True),
        )
    )


def render_page(folder: Path, template: str, **values: Any) -> str:
    """Return a page of a plugin, in the style of the reports.

    Args:
        folder: Where the template is. It can extend ``base.html`` and import ``parts.html``.
        template: Its name.
        **values: What it shows; text is escaped.
    """
    loader = ChoiceLoader([FileSystemLoader(folder), PackageLoader("finetune.report", ".")])
    return templates().overlay(loader=loader).get_template(template).render(**values)


def _short_names(paths: list[str]) -> list[str]:
    """Return the last part of each path, or the whole paths if two parts are equal.

    >>> _short_names(["runs/full", "runs/lora"]), _short_names(["a/run", "b/run"])
    (['full', 'lora'], ['a/run', 'b/run'])
    """
    names = [Path(path).name or path for path in paths]
    return names if len(set(names)) == len(names) else paths


def _comparison_sentences(found: Comparison, names: list[str]) -> Iterator[tuple[str, str]]:
    """Yield what the comparison says of each run but the first: its verdict, and a sentence."""
    first = names[0]
    for name, run in list(zip(names, found.runs, strict=True))[1:]:
        if run.difference is None:
            yield run.verdict, f"{name} cannot be compared with {first}."
            continue
        size = verdicts.format_score(abs(run.difference["value"]))
        more = "higher" if run.difference["value"] > 0 else "lower"
        span = f"{verdicts.signed(run.difference['low'])} to {verdicts.signed(run.difference['high'])}"
        by = f"{size} {more}" if size != verdicts.format_score(0.0) else "equal"
        change = f"its {found.primary} is {by} (95% interval of the difference {span})"
        basis = f" {run.basis}" if run.basis else ""
        if run.verdict == "inconclusive":
            why = f"{change}, and this interval contains 0"
            yield run.verdict, f"It is not clear whether {name} is better or worse than {first}: {why}.{basis}"
        else:
            yield run.verdict, f"{name} is {run.verdict} than {first}: {change}.{basis}"


@cache
def templates() -> Environment:
    """Return the templates of the pages."""
    environment = Environment(
        loader=PackageLoader("finetune.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {
        "number": verdicts.format_score,
        "signed": verdicts.signed,
        "pretty": examples.pretty,
        "share": verdicts.format_percent,
        "span": _span,
    }
    environment.filters |= filters
    return environment


def _visible(value: Any) -> Any:
    """Return what a template prints, without unseen characters; markup of ours as it is."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def named(other: str) -> str:
    """Return what a page calls the base model or a baseline."""
    return "base model" if other == BASE_MODEL else f"baseline: {other}"


def _headline(result: Result, split: str) -> Mapping[str, Any]:
    """Return the headline of a run."""
    bounds = result.intervals.get(split, {}).get(result.primary)
    value = result.scores[split][result.primary]
    return headline(result, split, [axes.Point(name="fine-tuned", value=value, bounds=bounds, tone="main")])


def headline(result: Result | SeedsResult, split: str, points: Sequence[axes.Point]) -> Mapping[str, Any]:
    """Return the primary score with its scale, and a panel with those of the base model and of each baseline.

    Args:
        result: The result; it has the primary score.
        split: The split that represents it.
        points: What the panel shows of the score, before the others.
    """
    name, shown = result.primary, list(points)
    for other, scores in verdicts.others(result, split).items():
        if name in scores:
            shown.append(axes.Point(name=named(other), value=scores[name]))
    return {
        "value": result.scores[split][name],
        "bounds": result.intervals.get(split, {}).get(name),
        "panel": axes.panel(shown),
        "scale": facts.scale_of(result, name),
        "size": result.data_report.get(split, {}).get("kept", result.units.get(split, {}).get("size", 0)),
    }


def _in_order(result: Result, split: str | None) -> list[str]:
    """Return the splits, the one that represents the run first."""
    return sorted(result.scores, key=lambda each: each != split)


def _scores(result: Result, split: str) -> dict[str, Any]:
    """Return the tables of a split: its scores with those of base model and baselines, its classes, and its counts."""
    kinds = facts.split_scores(result, split)
    others = {other: scores for other, scores in verdicts.others(result, split).items() if scores}
    bounds = result.intervals.get(split, {})
    rows = []
    for name in kinds["scores"]:
        rows.append(
            {
                "name": name,
                "value": result.scores[split][name],
                "scale": facts.scale_of(result, name),
                "interval": bounds.get(name),
                "others": {named(other): scores.get(name) for other, scores in others.items()},
                "primary": name == result.primary,
            }
        )
    counts = [(name, result.scores[split][name], facts.scale_of(result, name)) for name in kinds["counts"]]
    other_names = [named(other) for other in others]
    classes = _classes(result, split, kinds["classes"])
    return {"split": split, "rows": rows, "others": other_names, "counts": counts, "classes": classes}


def _classes(result: Result, split: str, names: list[str]) -> Mapping[str, Any] | None:
    """Return the table of the scores that belong to one class, with the rows of each class if they are known."""
    if not names:
        return None
    kinds = list(dict.fromkeys(name.partition("/")[0] for name in names))
    labels = list(dict.fromkeys(name.partition("/")[2] for name in names))
    support = result.details.get(split, {}).get("support")
    counts = support if isinstance(support, Mapping) else {}
    rows = []
    for label in labels:
        values = [result.scores[split].get(f"{kind}/{label}") for kind in kinds]
        interval = result.intervals.get(split, {}).get(f"{kinds[0]}/{label}")
        rows.append({"label": label, "rows": counts.get(label), "values": values, "interval": interval})
    has_intervals = any(row["interval"] for row in rows)
    return {"kinds": kinds, "rows": rows, "has_rows": bool(counts), "has_intervals": has_intervals}


def differences(result: Result | SeedsResult, split: str) -> Mapping[str, Any] | None:
    """Return a panel with the paired difference of the primary score from the base model and from each baseline."""
    points = []
    for other, found in result.differences.get(split, {}).items():
        difference = found.get(result.primary)
        if difference:
            verdict = verdicts.verdict(difference, greater_is_better=result.greater_is_better)
            tone = {"better": "good", "worse": "bad"}.get(verdict, "")
            name = f"{verdict}: {named(other)}" if verdict == "inconclusive" else f"{verdict} than {named(other)}"
            points.append(axes.Point(name=name, value=difference["value"], bounds=difference, tone=tone))
    return axes.panel(points, mark=0.0, differences=True)


def _slices(result: Result, split: str) -> list[tuple[str, Any]]:
    """Return a panel for each slicing of a split, all with the same axis, and with a line at the score of all rows."""
    whole = result.scores[split].get(result.primary)
    slicings: dict[str, list[axes.Point]] = {}
    for by, parts in result.slices.get(split, {}).items():
        slicings[by] = []
        for part in parts:
            bounds = {"low": part["low"], "high": part["high"]} if "low" in part else None
            slicings[by].append(
                axes.Point(name=str(part["value"]), value=part["score"], bounds=bounds, size=part["size"])
            )
    ends = [number for points in slicings.values() for number in axes.ends_of(points)]
    panels = [(by, axes.panel(points, mark=whole, ends=ends)) for by, points in slicings.items()]
    return [(by, panel) for by, panel in panels if panel]


def _confusion(details: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the rows of the confusion matrix with the shade of each cell; None without one, or with many classes."""
    matrix, labels = details.get("confusion_matrix"), details.get("labels")
    if not isinstance(labels, list) or len(labels) > charts.MOST_LABELS:
        return None
    if not isinstance(matrix, list) or not _is_square(matrix, len(labels)):
        return None
    rows, wrong = [], []
    for reference, counts in enumerate(matrix):
        total = max(sum(counts), 1)
        cells = []
        for prediction, count in enumerate(counts):
            cells.append({"count": count, "share": count / total, "right": reference == prediction})
            if count and reference != prediction:
                wrong.append((count, labels[reference], labels[prediction]))
        rows.append((labels[reference], cells))
    tall = len(labels) > MOST_TALL or sum(len(str(label)) for label in labels) > 30
    most = sorted(wrong, key=lambda each: -each[0])[:5]
    return {"labels": labels, "rows": rows, "tall": tall, "most": most}


def _is_square(matrix: list[Any], size: int) -> bool:
    """Return whether a matrix of counts has a row and a column for each label; an evaluator can mean another thing."""
    if not matrix or len(matrix) != size:
        return False
    for row in matrix:
        if not isinstance(row, list) or len(row) != size or not all(isinstance(count, int) for count in row):
            return False
    return True


def data_report(result: Result | SeedsResult) -> Mapping[str, Any]:
    """Return the table of the counts of rows, features and tokens."""
    report = result.data_report
    kinds = dict.fromkeys(kind for counts in report.values() for kind in counts)
    rows = [(kind, [counts.get(kind, 0) for counts in report.values()]) for kind in kinds]
    return {"splits": list(report), "rows": [row for row in rows if any(row[1])]}


def _span(bounds: Mapping[str, float] | None) -> str:
    return axes.span((bounds["low"], bounds["high"])) if bounds else ""
