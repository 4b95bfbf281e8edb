"""`report.html` of a study: one file for light, dark and phone, like the report of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune.kit import AxisPoint, axis_panel, dump_yaml, render_page, write_atomically
from finetune_tune import charts, summary
from finetune_tune.conclusion import Claim, Conclusion
from finetune_tune.study import BEST, Study
from finetune_tune.trial import Trial

REPORT = "report.html"


def write(study: Study, conclusion: Conclusion) -> Path:
    """Write the report of a study into its folder, and return its path."""
    path = study.output / REPORT
    write_atomically(path, page(study, conclusion))
    return path


def page(study: Study, conclusion: Conclusion) -> str:
    """Return the report of a study as one HTML file."""
    trials, settings, parameters = study.trials.all(), study.settings, study.space.parameters
    panels = _panels(conclusion.claim)
    return render_page(
        Path(__file__).parent,
        REPORT,
        settings=settings,
        trials=trials,
        parameters=parameters,
        conclusion=conclusion,
        sentences=list(summary.sentences(conclusion, trials, settings)),
        rows=_rows(trials, study),
        rungs=charts.rungs(trials, settings, winner=conclusion.winner),
        values=charts.values(trials, parameters, settings, winner=conclusion.winner),
        importance=dict(conclusion.importance),
        scores=panels.get("scores"),
        difference=panels.get("difference"),
        source=study.space.source,
        space=dump_yaml({"search": dict(study.space.section)}, flow=True),
        best=(study.output / BEST).read_text(encoding="utf-8"),
    )


def _rows(trials: Sequence[Trial], study: Study) -> list[dict[str, Any]]:
    rows = []
    for trial in summary.best_first(trials, study.settings):
        values = " ".join(f"{key}={summary.short(value)}" for key, value in trial.chosen.items())
        rows.append({"trial": trial, "shown": values})
    return rows


def _panels(claim: Claim | None) -> dict[str, Any]:
    if claim is None:
        return {}
    points = []
    for name, scores in (("winner", claim.winner), ("as written", claim.as_written)):
        for seed, score in zip(claim.seeds, scores, strict=True):
            points.append(AxisPoint(name=f"{name}, seed {seed}", value=score, tone="main" if name == "winner" else ""))
    tone = {"better": "good", "worse": "bad"}.get(claim.verdict, "")
    difference = AxisPoint(
        name=claim.verdict, value=claim.difference, bounds={"low": claim.low, "high": claim.high}, tone=tone
    )
    return {"scores": axis_panel(points), "difference": axis_panel([difference], mark=0.0, differences=True)}
