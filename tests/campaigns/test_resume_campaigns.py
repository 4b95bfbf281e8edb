"""The campaigns about resumed and repeated runs, with few trials; and each notices its planted fault."""

from __future__ import annotations

import signal
from pathlib import Path

import after_last_step
import data_order
import determinism
import pytest


def test_a_resumed_run_sees_the_rows_that_a_run_without_a_stop_sees(tmp_path: Path) -> None:
    figures = data_order.measure(trials=1, seed=2, folder=tmp_path, kinds=("grouped by length",))
    assert not figures.differences and not figures.repeated
    assert figures.kills == 2 and figures.steps == 9
    (tmp_path / "control").mkdir()
    control = data_order.measure(
        trials=1, seed=2, folder=tmp_path / "control", kinds=("shuffled",), fault=data_order.skip_nothing
    )
    assert control.differences and control.repeated


def test_a_run_that_is_stopped_after_its_last_step_makes_none_more(tmp_path: Path) -> None:
    cells = [("inside an epoch", "after the checkpoint", signal.SIGTERM), ("inside an epoch", "save", signal.SIGKILL)]
    figures = after_last_step.measure_cells(cells, folder=tmp_path)
    assert not figures.problems and figures.equal == figures.stops == 2
    (tmp_path / "control").mkdir()
    control = after_last_step.control(tmp_path / "control")
    assert control.problems == ["inside an epoch, SIGKILL at save: 11 steps recorded and 11 made, of 10"]


@pytest.mark.slow
def test_processes_that_differ_in_what_must_not_matter_write_equal_weights(tmp_path: Path) -> None:
    worlds = {name: determinism.WORLDS[name] for name in ("plain", "Turkish, Kathmandu")}
    figures = determinism.measure(tmp_path, worlds=worlds)
    assert figures.runs == 2 and not figures.different
    (tmp_path / "control").mkdir()
    assert determinism.control(tmp_path / "control").different
