"""The pages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from finetune import recipe as recipes
from finetune.evaluation import verdicts
from finetune.report import charts
from finetune.result import Result, write_atomically

if TYPE_CHECKING:
    from finetune.evaluation.comparison import Comparison

REPORT = "report.html"
ONE_LINE = 200
"""Most characters of JSON that stand on one line."""
_DRAWN = {"confusion_matrix", "labels", "support", "calibration"}
"""Details that are shown as more than their JSON."""


def write(result: Result, directory: Path) -> Path:
    """Write the report of a run into its folder, and return where it is."""
    path = directory / REPORT
    write_atomically(path, page(result))
    return path


def page(result: Result) -> str:
    """Return the report of a run as one HTML file."""
    split = verdicts.report_split(result)
    details = result.details.get(split, {}) if split else {}
    calibrated = details.get("calibration")
    return (
        _templates()
        .get_template("report.html")
        .render(
            result=result,
            split=split,
            sentences=list(verdicts.headline(result)),
            warnings=[*verdicts.fit(result), *verdicts.leaks(result.leakage), *verdicts.weak_slices(result)],
            forgetting=list(verdicts.forgetting(result)),
            scores=list(_scores(result)),
            losses=charts.losses(result.log),
            confusion=_confusion(details),
            calibration=charts.calibration(calibrated["bins"]) if calibrated else None,
            ece=calibrated["ece"] if calibrated else None,
            details={name: value for name, value in details.items() if name not in _DRAWN},
            worst=[_shown(error) for error in result.worst.get(split, ())] if split else [],
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
    made = Environment(
        loader=PackageLoader("finetune.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    filters: dict[str, Any] = {
        "number": verdicts.format_score,
        "pretty": _pretty,
        "share": verdicts.format_percent,
        "span": _span,
    }
    made.filters |= filters
    return made


def _scores(result: Result) -> Iterator[Mapping[str, Any]]:
    """Yield a row for each score of a held-out split: trained with its interval, base model, baselines."""
    for split, scores in result.scores.items():
        others = {"base_model": result.base_model_scores.get(split, {}), **result.baselines.get(split, {})}
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
    """Return the confusion matrix with how dark each cell is, where there is one of few enough classes."""
    matrix, labels = details.get("confusion_matrix"), details.get("labels")
    if not isinstance(matrix, list) or not labels or len(labels) > charts.MOST_LABELS:
        return None
    rows = [
        [
            {"count": count, "share": count / max(sum(row), 1), "right": row_at == column}
            for column, count in enumerate(row)
        ]
        for row_at, row in enumerate(matrix)
    ]
    return {"labels": labels, "rows": list(zip(labels, rows, strict=True))}


def _data_report(result: Result) -> Mapping[str, Any]:
    splits = list(result.data_report)
    kinds = dict.fromkeys(kind for counts in result.data_report.values() for kind in counts)
    return {
        "splits": splits,
        "rows": [(kind, [result.data_report[split].get(kind, 0) for split in splits]) for kind in kinds],
    }


def _shown(error: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an error with the marked parts of its texts apart."""
    marks = error.get("marks", {})
    columns = {
        name: segments(value, marks.get(name, ())) if isinstance(value, str) else [(_pretty(value), "")]
        for name, value in error["example"].items()
    }
    return {**error, "columns": columns}


def segments(text: str, marks: Sequence[Sequence[Any]]) -> list[tuple[str, str]]:
    """Return a text in pieces, each with the kinds of the marks that cover it.

    >>> segments("the old pier", [[4, 12, "prediction"], [8, 12, "reference"]])
    [('the ', ''), ('old ', 'prediction'), ('pier', 'prediction reference')]
    """
    edges = sorted({0, len(text), *(min(max(edge, 0), len(text)) for mark in marks for edge in mark[:2])})
    pieces = []
    for start, end in pairwise(edges):
        kinds = dict.fromkeys(kind for first, last, kind in marks if first <= start and end <= last)
        pieces.append((text[start:end], " ".join(kinds)))
    return pieces


def _pretty(value: Any) -> str:
    """Return a value as text: several texts one after the other, what is short on one line.

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
