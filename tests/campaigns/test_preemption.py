"""A job that Slurm stops goes back into the queue and ends equal to the bit; the campaign sees a job that does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import clusters
import preemption
import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of base, data and the run that is never stopped."""
    return tmp_path_factory.mktemp("preemption")


def test_a_job_that_is_stopped_at_its_time_limit_goes_on_equal_to_the_bit(folder: Path) -> None:
    found = preemption.measure(trials=2, seed=1, folder=folder, stops=["time limit", "cancel"], steps=8)
    assert found.problems == []
    assert found.saved == found.trials == 2
    assert found.requeued == found.equal == found.cancelled == 1


def by_srun(script: str) -> str:
    return script.replace('scancel --signal=TERM "$SLURM_JOB_ID"', "kill -TERM $!")


def without_resuming(script: str) -> str:
    return script.replace("    --auto-resume\n", "")


@pytest.mark.parametrize(
    ("change", "problem"),
    [(by_srun, "not stopped by SIGTERM"), (without_resuming, "the second start failed")],
    ids=["SIGTERM to srun", "no --auto-resume"],
)
def test_a_job_file_with_a_fault_is_seen(change: Callable[[str], str], problem: str, folder: Path) -> None:
    found = preemption.measure(trials=1, seed=1, folder=folder, stops=["time limit"], steps=8, change=change)
    assert len(found.problems) == 1 and problem in found.problems[0]


def test_a_job_without_the_requeue_option_is_not_started_again(tmp_path: Path) -> None:
    ended = clusters.Ended(
        codes=[1], tasks=[143], output="checkpoint-3 is saved. Continue with: finetune train run --resume"
    )
    figures = preemption.Figures(1)
    assert preemption.look(ended, tmp_path, tmp_path, "preemption", figures) == "the job has 1 starts"
    ended.codes.append(0)
    assert preemption.look(ended, tmp_path, tmp_path, "cancel", figures) == "a job that was cancelled started again"


@pytest.mark.slow
def test_a_job_of_submitit_goes_on_equal_to_the_bit(tmp_path: Path) -> None:
    found = preemption.measure_submitit(trials=1, seed=1, folder=tmp_path)
    assert found.problems == []
    assert found.saved == found.requeued == found.equal == found.trials == 1
