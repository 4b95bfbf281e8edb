"""A killed run is resumed, and ends as if it had never been stopped; the campaign sees one that does not."""

from __future__ import annotations

import json
from pathlib import Path

import kills
import pytest
import small

RESULT = {"scores": {"f1": 1.0}, "steps": 6, "notes": []}


def test_killed_runs_end_as_if_they_had_never_been_stopped(tmp_path: Path) -> None:
    found = kills.measure(kills=1, seed=3, folder=tmp_path, kinds=["full"], steps=5)
    assert found.kills >= 1 and found.problems == [], found
    assert found.equal == found.runs == found.resumed + found.started_again + found.finished, found


@pytest.mark.parametrize("harm", ["model.safetensors", "predictions.jsonl", "result.json"])
def test_a_run_that_ends_otherwise_is_seen(harm: str, tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        for file in ("model.safetensors", "predictions.jsonl"):
            (tmp_path / name / file).write_text("content")
        (tmp_path / name / "result.json").write_text(json.dumps(RESULT))
    whole, figures = kills.Straight(tmp_path / "one", frozenset(), 0, 0), kills.Figures(0)
    kills.compare(tmp_path / "other", whole, "equal", figures)
    assert figures.equal == 1 and figures.problems == []
    changed = json.dumps({**RESULT, "steps": 7}) if harm == "result.json" else "other content"
    (tmp_path / "other" / harm).write_text(changed)
    kills.compare(tmp_path / "other", whole, "harmed", figures)
    assert figures.equal == 1 and len(figures.problems) == 1
    (tmp_path / "other" / "torn-checkpoint-3").mkdir()
    (tmp_path / "temporary" / "finetune-data-x1").mkdir(parents=True)
    whole = kills.Straight(whole.run, frozenset(small.files(whole.run)), 0, 0)
    kills.count_leftovers(tmp_path / "other", tmp_path / "temporary", whole, figures.leftovers)
    assert figures.leftovers == {"torn-checkpoint-": 1, "temporary folder: finetune-data-": 1}
