"""A signal leaves a checkpoint of a whole step; the campaign sees an exit code or a checkpoint that is wrong."""

from __future__ import annotations

import signal
from pathlib import Path

import command
import signals
from transformers import TrainerState

from finetune.training import checkpoints


def test_a_run_that_a_signal_stopped_is_resumed_equal_to_the_bit(tmp_path: Path) -> None:
    found = signals.measure(trials=1, seed=1, folder=tmp_path, kinds=["full"], moments=["saving"], steps=6)
    assert found.problems == [] and found.equal == found.trials == found.at_a_step == 1, found


def test_a_run_that_stops_otherwise_is_seen(tmp_path: Path) -> None:
    figures, number = signals.Figures(1), signal.SIGTERM
    said = "error: stopped by SIGTERM at step 3 of 6; checkpoint-3 is saved. Continue with: finetune train a --resume\n"
    right = command.Ended(exit_code=143, output=said)
    assert "checkpoint-3" in signals.look(tmp_path, right, number, figures), "there is no checkpoint"
    folder = tmp_path / "checkpoint-3"
    folder.mkdir()
    for step, problem in ((2, "is that of step 2"), (3, "")):
        TrainerState(global_step=step).save_to_json(str(folder / checkpoints.TRAINER_STATE))
        checkpoints.seal(folder, identity=checkpoints.Identity({}, {}), step=3)
        assert problem in signals.look(tmp_path, right, number, figures)
    assert figures.at_a_step == 1
    for code, output, problem in (
        (1, said, "another exit code"),
        (130, said, "another exit code"),
        (-15, said, "another exit code"),
        (143, command.TRACEBACK, "a traceback"),
    ):
        assert signals.look(tmp_path, command.Ended(exit_code=code, output=output), number, figures) == problem
