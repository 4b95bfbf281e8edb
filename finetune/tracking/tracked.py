"""What a tracker gets of a finished run: numbers, texts and files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from finetune.evaluation import verdicts
from finetune.report.page import REPORT
from finetune.result import RECIPE, Result
from finetune.secrets import redacted


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """A finished run as a tracker can store it; credentials are taken out of the texts."""

    numbers: Mapping[str, float]
    """Name → a finite number: ``final/test/accuracy``, the ends of its 95 % interval ``final/test/accuracy/low`` and
    ``…/high``, ``base_model/test/accuracy``, and ``difference/test/base_model/accuracy`` with its interval."""
    texts: Mapping[str, str]
    """Name → text: the ``verdicts``, and ``fingerprint/train``, the SHA-256 of the rows of a split."""
    files: tuple[Path, ...]
    """The report and the recipe."""
    step: int
    """The last step of the run."""


def tracked(result: Result, directory: Path) -> Tracked:
    """Return what a tracker stores of a finished run.

    Args:
        result: The result of the run.
        directory: The run folder.
    """
    numbers: dict[str, float] = {}
    for split, scores in result.scores.items():
        for name, value in scores.items():
            numbers[f"final/{split}/{name}"] = value
        for name, bounds in result.intervals.get(split, {}).items():
            numbers[f"final/{split}/{name}/low"] = bounds["low"]
            numbers[f"final/{split}/{name}/high"] = bounds["high"]
        for other, differences in result.differences.get(split, {}).items():
            for name, difference in differences.items():
                place = f"difference/{split}/{other}/{name}"
                numbers[place] = difference["value"]
                numbers[f"{place}/low"], numbers[f"{place}/high"] = difference["low"], difference["high"]
    for split, scores in result.base_model_scores.items():
        for name, value in scores.items():
            numbers[f"base_model/{split}/{name}"] = value
    texts = {"verdicts": "\n".join(verdicts.all_verdicts(result))}
    for split, digest in result.fingerprints.items():
        texts[f"fingerprint/{split}"] = digest
    files = [directory / name for name in (REPORT, RECIPE)]
    return Tracked(
        numbers={name: float(value) for name, value in numbers.items() if math.isfinite(value)},
        texts={name: redacted(text) for name, text in texts.items()},
        files=tuple(path for path in files if path.is_file()),
        step=result.steps,
    )
