"""A saved run gives the same outputs wherever it lies; the campaign sees other outputs, labels, ids and modes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import save_load


def test_a_run_is_the_same_wherever_it_lies(tmp_path: Path) -> None:
    found = save_load.measure(folder=tmp_path, tasks=["token-classification"], strategies=["LoRA"])
    assert found.problems == []
    assert (found.runs, found.loads, found.equal, found.merged) == (1, 3, 3, 1)
    assert found.files == found.modes > 20


@pytest.mark.parametrize("other", ["outputs", "labels", "ids"])
def test_another_model_is_seen(other: str) -> None:
    loaded = {"outputs": {"output 0": np.zeros(3)}, "labels": {0: "a"}, "ids": [[1, 2]]}
    figures = save_load.Figures()
    save_load.look([loaded], loaded, "run", figures)
    assert figures.equal == 1 and figures.problems == []
    changes = {"outputs": {"output 0": np.array([0, 0, 1e-9])}, "labels": {0: "b"}, "ids": [[1, 3]]}
    save_load.look([{**loaded, other: changes[other]}], loaded, "run", figures)
    assert figures.equal == 1 and len(figures.problems) == 1


def test_a_mode_that_does_not_follow_the_umask_is_seen(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir(mode=0o755)
    run.chmod(0o755)
    (run / "model.safetensors").touch()
    (run / "model.safetensors").chmod(0o600)
    figures = save_load.Figures()
    save_load.check_modes(run, "run", 0o022, figures)
    assert (figures.files, figures.modes, len(figures.problems)) == (2, 1, 1)
