"""The report of a run and the comparison of runs, as HTML pages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from finetune import recipe as recipes
from finetune.characters import visible
from finetune.evaluation import verdicts
from finetune.report import charts
from finetune.result import Result, write_atomically

if TYPE_CHECKING:
    from finetune.evaluation.comparison import Comparison

REPORT = "report.html"
ONE_LINE = 200
"""A JSON value with at most this many characters is shown on one line."""
_DRAWN = {"confusion_matrix", "labels", "support", "calibration"}
"""Details that the report shows in a table or chart; it shows the others as JSON."""


def write(result: Result, directory: Path) -> Path:
    """Write the report of a run into its folder, and return its path."""
    path = directory / REPORT
    write_atomically(path, page(result))
    return path


def page(result: Result) -> str:
    """Return the report of a run as one HTML file."""
    split = verdicts.report_split(result)
    details = result.details.get(split, {}) if split else {}
    calibrated = details.get("calibration")
    no_charts = charts.missing()
    return (
        _templates()
        .get_template("report.html")
        .render(
            result=result,
            split=split,
            sentences=list(verdicts.headline(result)),
            warnings=[
                *verdicts.beyond_limits(result),
                *verdicts.fit(result),
                *verdicts.leaks(result.leakage),
                *verdicts.weak_slices(result),
            ],
            forgetting=list(verdicts.forgetting(result)),
            scores=list(_scores(result)),
            no_charts=no_charts,
            losses=None if no_charts else charts.losses(result.log),
            confusion=_confusion(details),
            calibration=charts.calibration(calibrated["bins"]) if calibrated and not no_charts else None,
            ece=calibrated["ece"] if calibrated else None,
            details={name: value for name, value in details.items() if name not in _DRAWN},
            worst=[_split_texts(error) for error in result.worst.get(split, ())] if split else [],
            data_report=_data_report(result),
            recipe=recipes.dump(dict(result.recipe)),
            seconds=sum(phase.seconds for phase in result.phases),
        )
    )


def comparison_page(found: Comparison) -> str:
    """Return a comparison of runs as one HTML file."""
    return _templates().get_template("comparison.html").render(found=found)


@cache
def _templates() -> Environment:
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
        "pretty": _pretty,
        "share": verdicts.format_percent,
        "span": _span,
    }
    environment.filters |= filters
    return environment


def _visible(value: Any) -> Any:
    """Return what a template prints, without unseen characters; markup of ours as it is."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _scores(result: Result) -> Iterator[Mapping[str, Any]]:
    """Yield a table row for each score of each split: its value and interval, and those of base model and baselines."""
    for split, scores in result.scores.items():
        others = verdicts.others(result, split)
        for name, value in scores.items():
            yield {
                "split": split,
                "name": name,
                "value": value,
                "interval": result.intervals.get(split, {}).get(name),
                "others": {other: found.get(name) for other, found in others.items() if found},
                "primary": name == result.primary,
            }


def _confusion(details: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the rows of the confusion matrix with the shade of each cell; None without one, or with many classes."""
    matrix, labels = details.get("confusion_matrix"), details.get("labels")
    if not isinstance(labels, list) or len(labels) > charts.MOST_LABELS:
        return None
    if not isinstance(matrix, list) or not _is_square(matrix, len(labels)):
        return None
    rows = []
    for reference, counts in enumerate(matrix):
        total = max(sum(counts), 1)
        cells = []
        for prediction, count in enumerate(counts):
            cells.append({"count": count, "share": count / total, "right": reference == prediction})
        rows.append((labels[reference], cells))
    return {"labels": labels, "rows": rows}


def _is_square(matrix: list[Any], size: int) -> bool:
    """Return whether a matrix of counts has a row and a column for each label; an evaluator can mean another thing."""
    if not matrix or len(matrix) != size:
        return False
    for row in matrix:
        if not isinstance(row, list) or len(row) != size or not all(isinstance(count, int) for count in row):
            return False
    return True


def _data_report(result: Result) -> Mapping[str, Any]:
    report = result.data_report
    kinds = dict.fromkeys(kind for counts in report.values() for kind in counts)
    rows = [(kind, [counts.get(kind, 0) for counts in report.values()]) for kind in kinds]
    return {"splits": list(report), "rows": rows}


def _split_texts(error: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an error with the texts of its example split at the highlights, under ``columns``."""
    columns = {}
    for name, value in error["example"].items():
        if isinstance(value, str):
            columns[name] = segments(value, error["highlights"].get(name, ()))
        else:
            columns[name] = [(_pretty(value), "")]
    return {**error, "columns": columns}


def segments(text: str, highlights: Sequence[Sequence[Any]]) -> list[tuple[str, str]]:
    """Return a text in segments, each with the kinds of the highlights that cover it.

    >>> segments("the old pier", [[4, 12, "prediction"], [8, 12, "reference"]])
    [('the ', ''), ('old ', 'prediction'), ('pier', 'prediction reference')]
    """
    edges = {0, len(text)}
    for start, end, _ in highlights:
        edges |= {min(max(start, 0), len(text)), min(max(end, 0), len(text))}
    found = []
    for start, end in pairwise(sorted(edges)):
        kinds = dict.fromkeys(kind for first, last, kind in highlights if first <= start and end <= last)
        found.append((text[start:end], " ".join(kinds)))
    return found


def _pretty(value: Any) -> str:
    """Return a value as text: a list of texts on one line, other values as JSON, on one line if it is short.

    >>> _pretty(["the pier", "pier"]), _pretty({"text": ["pier"], "answer_start": [4]})
    ('the pier · pier', '{"text": ["pier"], "answer_start": [4]}')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return " · ".join(value)
    line = json.dumps(value, ensure_ascii=False)
    return line if len(line) <= ONE_LINE else json.dumps(value, ensure_ascii=False, indent=1)


def _span(bounds: Mapping[str, float] | None) -> str:
    return f"{verdicts.format_score(bounds['low'])} to {verdicts.format_score(bounds['high'])}" if bounds else ""
