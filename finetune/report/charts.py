"""Pictures as SVG that takes its colours from the page, so that it is right in light and in dark."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from markupsafe import Markup

from finetune.evaluation.verdicts import format_score
from finetune.plugins import describe_missing, not_installed

_INK, _FIRST, _SECOND, _FAINT = "#010203", "#010204", "#010205", "#010206"
_COLOURS = {_INK: "currentColor", _FIRST: "var(--first)", _SECOND: "var(--second)", _FAINT: "var(--line)"}
"""Placeholder colours in a drawing → colours of the page."""
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": _INK,
    "text.parse_math": False,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": _FAINT,
    "grid.linewidth": 0.6,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}
SIZE = (4.6, 2.7)
"""Width and height of a chart in inches: on a phone, which is as wide, its text keeps its size."""
_HEAD = re.compile(r"\A.*?(?=<svg)", re.DOTALL)
_TAG = re.compile(r"<svg[^>]*>")
_SIZE = re.compile(r' (?:width|height)="[^"]*"')
_ID = re.compile(r' id="([^"]*)"')
_FONT = re.compile(r"font-family: [^;\"]*;?")
LIBRARIES = {"matplotlib": "finetune-kit[report]"}
"""What drawing needs: module → what `pip install` takes."""
MOST_LABELS = 30
"""Classes up to which a confusion matrix is drawn."""
TITLES = {"loss": "Loss", "learning_rate": "Learning rate", "grad_norm": "Gradient norm"}
"""Curves that every trainer logs → their titles."""
_NO_CURVE = re.compile(r"^(epoch|step|total_flos|num_tokens|num_input_tokens_seen|train_.*|.*runtime|.*_per_second)$")
"""Keys of the log that are no curve: time, counters and the totals of the last entry."""


def missing() -> str:
    """Return why no chart can be drawn here, and what to install; an empty text if charts can be drawn."""
    lacking = not_installed(LIBRARIES)
    return f"There are no charts: drawing {describe_missing(lacking)}" if lacking else ""


def curves(log: Sequence[Mapping[str, Any]], *, primary: str) -> list[tuple[str, Markup]]:
    """Draw what the trainer logged over the steps, each with its title: the loss, the primary score, the rest.

    Numbers of train and validation of the same name share a chart. What was logged once is not drawn.
    """
    names: dict[str, None] = dict.fromkeys(("loss", primary, "learning_rate", "grad_norm"))
    for entry in log:
        names |= dict.fromkeys(key.removeprefix("eval_") for key in entry)
    found = []
    for name in names:
        if _NO_CURVE.match(name):
            continue
        lines = {"train": _points(log, name), "validation": _points(log, f"eval_{name}")}
        of_a_class = "/" in name and not lines["train"]
        lines = {side: points for side, points in lines.items() if points}
        if lines and max(map(len, lines.values())) > 1 and not of_a_class:
            title = TITLES.get(name, name.replace("_", " "))
            found.append((title, _curve(title, lines)))
    return found


def losses(log: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Draw the losses of train and validation over the steps; None if fewer than two were logged."""
    return next((svg for title, svg in curves(log, primary="loss") if title == TITLES["loss"]), None)


def _points(log: Sequence[Mapping[str, Any]], key: str) -> list[tuple[int, float]]:
    points = []
    for entry in log:
        value = entry.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            points.append((entry["step"], float(value)))
    return points


def _curve(title: str, lines: Mapping[str, list[tuple[int, float]]]) -> Markup:
    spoken = []
    for side, points in lines.items():
        (first, start), (last, end) = points[0], points[-1]
        spoken.append(f"{side} from {format_score(start)} at step {first} to {format_score(end)} at step {last}")
    with _figure(f"{title} by step: {'; '.join(spoken)}.", *SIZE) as drawing:
        for side, points in lines.items():
            colour = _FIRST if side == "train" else _SECOND
            marker = "o" if len(points) < 30 else None
            style = "-" if side == "train" else "--"
            steps, values = zip(*points, strict=True)
            drawing.axes.plot(steps, values, style, color=colour, label=side, marker=marker, markersize=3.5)
        drawing.axes.set(xlabel="step")
        drawing.axes.xaxis.get_major_locator().set_params(integer=True, nbins=6)
        drawing.axes.yaxis.get_major_locator().set_params(nbins=5)
        if set(lines) != {"train"}:
            drawing.axes.legend(fontsize=10)
    return drawing.svg


def calibration(bins: Sequence[Mapping[str, Any]], before: Sequence[Mapping[str, Any]] | None = None) -> Markup:
    """Draw how often predictions of a probability are right; a larger point stands for more predictions.

    Args:
        bins: Predictions of about the same probability.
        before: The same without the temperature; None if there is none.
    """
    spoken = [f"{part['confidence']:.2f}: {part['accuracy']:.2f}" for part in bins]
    with _figure(f"Share right by predicted probability. {'; '.join(spoken)}.", 4.6, 3.4) as drawing:
        drawing.axes.plot([0, 1], [0, 1], color=_SECOND, linestyle="--", linewidth=1.2, label="perfect")
        confidence = [part["confidence"] for part in bins]
        accuracy = [part["accuracy"] for part in bins]
        most = max((part.get("size", 1) for part in bins), default=1)
        sizes = [25 + 150 * part.get("size", 1) / most for part in bins]
        if before is not None:
            places = [[part[name] for part in before] for name in ("confidence", "accuracy")]
            drawing.axes.plot(*places, color=_SECOND, marker="x", linewidth=1.2, label="without the temperature")
        drawing.axes.plot(confidence, accuracy, color=_FIRST)
        drawing.axes.scatter(confidence, accuracy, s=sizes, color=_FIRST, label="this model", zorder=3)
        drawing.axes.set(xlim=(0, 1.03), ylim=(0, 1.05), xlabel="predicted probability", ylabel="share right")
        drawing.axes.legend(fontsize=10, loc="upper left")
    return drawing.svg


@contextmanager
def _figure(spoken: str, width: float, height: float) -> Iterator[_Drawing]:
    # Not pyplot: it keeps figures, and would use the user's backend and settings.
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # a matplotlibrc in the current folder can come from somebody else, and can start LaTeX
    settings = {name: value for name, value in matplotlib.rcParamsDefault.items() if not name.startswith("backend")}
    # The salt makes the ids of different charts on one page differ.
    with matplotlib.rc_context({**settings, **_STYLE, "svg.hashsalt": spoken}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        drawing = _Drawing(figure.subplots())
        yield drawing
        drawing.axes.patch.set_alpha(0)
        figure.patch.set_alpha(0)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    drawing.svg = _themed(file.getvalue(), spoken)


class _Drawing:
    def __init__(self, axes: Any) -> None:
        self.axes = axes
        self.svg = Markup("")


def _themed(svg: str, spoken: str) -> Markup:
    """Return a drawing for a page: without the XML header, in the colours, font and width of the page, with a label."""
    svg = _HEAD.sub("", svg)
    svg = _TAG.sub(lambda found: _SIZE.sub("", found.group()), svg, count=1)
    for stand_in, colour in _COLOURS.items():
        svg = svg.replace(stand_in, colour)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = _FONT.sub("", svg)
    # Names of groups, such as `axes_1`, are the same in each drawing; an id must be unique in a page.
    svg = _ID.sub(lambda found: found.group() if f"#{found[1]}" in svg else "", svg)
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{Markup.escape(spoken)}"', 1))
