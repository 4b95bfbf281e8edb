"""The pictures of a study, as places in percent of a field; the page draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from finetune.kit import Parameter, axis_ticks
from finetune_tune.trial import Settings, Trial

ROOM = 0.06
"""Share of an axis that stays free at each end."""
TONES = {"complete": "good", "dropped": "bad", "failed": "bad"}
"""State of a trial → how its line looks; the winner is ``main``, the others are faint."""


def tone_of(trial: Trial, winner: int) -> str:
    """Return how the line of a trial looks."""
    return "main" if trial.number == winner else TONES.get(trial.state, "")


def rungs(trials: Sequence[Trial], settings: Settings, *, winner: int) -> dict[str, Any] | None:
    """Return the picture of the scores at each rung: a line for each trial; None without a score."""
    scores = [rung.score for trial in trials for rung in trial.rungs]
    if not scores:
        return None
    low, high = _ends(scores)
    places = [round(100 * (number + 0.5) / len(settings.shares), 2) for number in range(len(settings.shares))]
    lines = []
    for trial in _behind_first(trials, winner):
        points = [(place, _at(rung.score, low, high)) for place, rung in zip(places, trial.rungs, strict=False)]
        if points:
            lines.append({"points": points, "tone": tone_of(trial, winner), "trial": trial.number})
    shares = [f"{share:.0%} of the steps" for share in settings.shares]
    return {
        "lines": lines,
        "columns": [{"at": place, "name": name} for place, name in zip(places, shares, strict=True)],
        "ticks": [{"at": _at(number, low, high), "text": text} for number, text in axis_ticks(low, high)],
    }


def values(
    trials: Sequence[Trial], space: Sequence[Parameter], settings: Settings, *, winner: int
) -> dict[str, Any] | None:
    """Return the parallel coordinates: an axis for each searched key, and one for the score at the last rung."""
    scored = [trial for trial in trials if trial.rungs]
    if not scored:
        return None
    names = [parameter.key for parameter in space]
    places = [round(100 * (number + 0.5) / (len(names) + 1), 2) for number in range(len(names) + 1)]
    scores = [trial.rungs[-1].score for trial in scored]
    low, high = _ends(scores)
    lines = []
    for trial in _behind_first(scored, winner):
        points = []
        for place, parameter in zip(places, space, strict=False):
            if parameter.key in trial.chosen:
                points.append((place, _place(parameter, trial.chosen[parameter.key])))
        points.append((places[-1], _at(trial.rungs[-1].score, low, high)))
        lines.append({"points": points, "tone": tone_of(trial, winner), "trial": trial.number})
    columns = [_axis(parameter, place) for parameter, place in zip(space, places, strict=False)]
    ticks = [{"at": _at(number, low, high), "text": text} for number, text in axis_ticks(low, high)]
    columns.append({"at": places[-1], "name": settings.primary, "ticks": ticks})
    return {"lines": lines, "columns": columns}


def _behind_first(trials: Sequence[Trial], winner: int) -> list[Trial]:
    """Return the trials so that those which matter most are drawn last, over the others."""
    order = {"": 0, "bad": 1, "good": 2, "main": 3}
    return sorted(trials, key=lambda trial: order[tone_of(trial, winner)])


def _axis(parameter: Parameter, place: float) -> dict[str, Any]:
    ends = parameter.ends()
    ticks = [{"at": _place(parameter, end), "text": f"{end:g}" if not parameter.values else str(end)} for end in ends]
    return {"at": place, "name": parameter.key, "ticks": ticks}


def _place(parameter: Parameter, value: Any) -> float:
    """Return where a value is on the axis of its key, in percent from the top."""
    if parameter.values:
        count = len(parameter.values)
        return round(100 - 100 * (parameter.labels.index(str(value)) + 0.5) / count, 2)
    low, high, number = parameter.low, parameter.high, float(value)
    if parameter.log:
        low, high, number = math.log(low), math.log(high), math.log(number)
    return _at(number, *_ends([low, high]))


def _ends(numbers: Sequence[float]) -> tuple[float, float]:
    low, high = min(numbers), max(numbers)
    room = (high - low) * ROOM or max(abs(high), 1.0) * ROOM
    return low - room, high + room


def _at(number: float, low: float, high: float) -> float:
    return round(100 - 100 * (number - low) / (high - low), 2)
