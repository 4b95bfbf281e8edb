"""Pictures as SVG that takes its colours from the page, so that it is right in light and in dark."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from markupsafe import Markup

from finetune.plugins import describe_missing, not_installed

_INK, _FIRST, _SECOND, _FAINT = "#010203", "#010204", "#010205", "#010206"
_COLOURS = {_INK: "currentColor", _FIRST: "var(--first)", _SECOND: "var(--second)", _FAINT: "var(--line)"}
"""Placeholder colours in a drawing → colours of the page."""
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "finetune",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": _INK,
    "text.parse_math": False,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
}
_HEAD = re.compile(r"\A.*?(?=<svg)", re.DOTALL)
_TAG = re.compile(r"<svg[^>]*>")
_SIZE = re.compile(r' (?:width|height)="[^"]*"')
LIBRARIES = {"matplotlib": "finetune-kit[report]"}
"""What drawing needs: module → what `pip install` takes."""
MOST_LABELS = 30
"""Classes up to which a confusion matrix is drawn."""


def missing() -> str:
    """Return why no chart can be drawn here, and what to install; an empty text if charts can be drawn."""
    lacking = not_installed(LIBRARIES)
    return f"There are no charts: drawing {describe_missing(lacking)}" if lacking else ""


def losses(log: Sequence[Mapping[str, Any]]) -> Markup | None:
    """Draw the losses of train and validation over the steps; None if fewer than two were logged."""
    curves = {
        name: [(entry["step"], entry[key]) for entry in log if isinstance(entry.get(key), int | float)]
        for name, key in (("train", "loss"), ("validation", "eval_loss"))
    }
    if max(map(len, curves.values())) < 2:
        return None
    with _figure("Loss by step", 6.4, 2.8) as drawing:
        for (name, points), colour in zip(curves.items(), (_FIRST, _SECOND), strict=True):
            if points:
                marker = "o" if len(points) < 30 else None
                drawing.axes.plot(*zip(*points, strict=True), color=colour, label=name, marker=marker, markersize=3)
        drawing.axes.set(xlabel="step", ylabel="loss")
        drawing.axes.legend()
    return drawing.svg


def calibration(bins: Sequence[Mapping[str, Any]]) -> Markup:
    """Draw how often predictions of a probability are right."""
    with _figure("Reliability: share right by probability", 3.4, 3.2) as drawing:
        drawing.axes.plot([0, 1], [0, 1], color=_FAINT, linestyle="--")
        drawing.axes.plot(
            [part["confidence"] for part in bins], [part["accuracy"] for part in bins], color=_FIRST, marker="o"
        )
        drawing.axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xlabel="probability", ylabel="share right")
    return drawing.svg


@contextmanager
def _figure(title: str, width: float, height: float) -> Iterator[_Drawing]:
    # Not pyplot: it keeps figures, and would use the user's backend and settings.
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # a matplotlibrc in the current folder can come from somebody else, and can start LaTeX
    settings = {name: value for name, value in matplotlib.rcParamsDefault.items() if not name.startswith("backend")}
    with matplotlib.rc_context({**settings, **_STYLE}):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        drawing = _Drawing(figure.subplots())
        yield drawing
        drawing.axes.patch.set_alpha(0)
        figure.patch.set_alpha(0)
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    drawing.svg = _themed(file.getvalue(), title)


class _Drawing:
    def __init__(self, axes: Any) -> None:
        self.axes = axes
        self.svg = Markup("")


def _themed(svg: str, title: str) -> Markup:
    """Return a drawing for a page: without the XML header, in the colours and width of the page, with a label."""
    svg = _HEAD.sub("", svg)
    svg = _TAG.sub(lambda found: _SIZE.sub("", found.group()), svg, count=1)
    for stand_in, colour in _COLOURS.items():
        svg = svg.replace(stand_in, colour)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{Markup.escape(title)}"', 1))
