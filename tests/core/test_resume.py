"""A run that was killed continues as if it had not been, from each of its checkpoints, and cleans up after itself."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainerState

import finetune
from finetune import cleaning, failures
from finetune import folder as run_folder
from finetune import result as results
from finetune import run as runs
from finetune.errors import BadCheckpoint, Incompatible
from finetune.result import Result
from finetune.training import checkpoints
from finetune.training.callbacks import StopOnSignal
from finetune.training.trainer import PatchedTrainer
from finetune_freeze.full import FullStrategy

STEPS = {"save_strategy": "steps", "save_steps": 1, "logging_steps": 1, "save_total_limit": 99}
EVALUATED = {**STEPS, "eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True}


class Killed(BaseException):
    """Ends a run as a kill does: nothing of finetune handles it."""


@dataclass(frozen=True, kw_only=True)
class StopsEarly(FullStrategy):
    """Stops when the scores of validation have not improved three times."""

    def callbacks(self) -> list[Any]:
        return [EarlyStoppingCallback(early_stopping_patience=3)]


@dataclass(frozen=True, kw_only=True)
class StopsAtFour(FullStrategy):
    """Stops after step 4, for a reason that only the callback knows."""

    def callbacks(self) -> list[Any]:
        return [StopAtFour()]


class StopAtFour(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = state.global_step == 4 or control.should_training_stop


def train(base: Path, output: Path, *, resume: bool = False, **changes: Any) -> Result:
    return finetune.train(**toy.recipe(base, output, score_base_model=False, **changes), resume=resume)


def cut(run: Path, output: Path, *, after: int) -> Path:
    """Return a copy of a run as if it had been killed after a checkpoint."""
    shutil.copytree(run, output)
    (output / "result.json").unlink()
    (output / "model.safetensors").unlink()
    for checkpoint in output.glob("checkpoint-*"):
        if int(checkpoint.name.rpartition("-")[2]) > after:
            shutil.rmtree(checkpoint)
    return output


LOGGED = ("step", "loss", "grad_norm", "learning_rate", "train_loss")
"""What a log says of the losses; the rest is time, and what an evaluation says."""


def differences(run: Path, straight: Result, other: Path, resumed: Result) -> list[str]:
    """Return what is not equal to the bit."""
    ones, others = (load_file(folder / "model.safetensors") for folder in (run, other))
    found = [name for name in ones if not torch.equal(ones[name], others[name])]
    for name in ("steps", "scores", "early_stopping"):
        if getattr(straight, name) != getattr(resumed, name):
            found.append(f"{name}: {getattr(straight, name)} and {getattr(resumed, name)}")
    kept = [
        [{name: entry[name] for name in LOGGED if name in entry} for entry in each.log] for each in (straight, resumed)
    ]
    found += [f"log: {one} and {other}" for one, other in zip(*kept, strict=True) if one != other]
    logs = [[entry for entry in result.log if "eval_loss" in entry] for result in (straight, resumed)]
    keys = [[(entry["step"], entry["eval_accuracy"]) for entry in log] for log in logs]
    return found + ([f"evaluations: {keys}"] if keys[0] != keys[1] else [])


CASES: dict[str, tuple[dict[str, Any], list[int]]] = {
    "early stop": ({"strategy": "test_resume:StopsEarly", "training": {**EVALUATED, "max_steps": 12}}, [3, -1]),
    "early stop of the recipe": ({"training": {**EVALUATED, "max_steps": 12, "early_stopping_patience": 3}}, [3, -1]),
    "own stop": ({"strategy": "test_resume:StopsAtFour", "training": {**STEPS, "max_steps": 6}}, [4]),
    "best": ({"training": {**EVALUATED, "max_steps": 7, "eval_on_start": True}}, [5]),
    "plateau": ({"training": {**EVALUATED, "max_steps": 6, "lr_scheduler_type": "reduce_lr_on_plateau",
                              "lr_scheduler_kwargs": {"patience": 0}}}, [3]),
    "by length": ({"training": {**STEPS, "train_sampling_strategy": "group_by_length", "num_train_epochs": 3,
                                "max_steps": -1, "gradient_accumulation_steps": 2}}, [4, 8]),
    "rebalanced": ({"training": {**STEPS, "train_sampling_strategy": "batch_rebalance", "max_steps": 9}}, [7]),
    "between two log entries": ({"training": {**STEPS, "max_steps": 11, "logging_steps": 4}}, [2, 4, 7, 10]),
    "before the log of an epoch": ({"training": {**STEPS, "max_steps": -1, "num_train_epochs": 2,
                                                 "logging_strategy": "epoch"}}, [3, -1]),
    "unseeded": ({"training": {**STEPS, "max_steps": 9, "accelerator_config": {"use_seedable_sampler": False}}}, [7]),
}  # fmt: skip
"""Changes of the recipe, and the steps after which it is killed; -1 for its last."""


@pytest.mark.parametrize("name", CASES)
def test_a_run_continues_as_if_it_had_not_been_killed(name: str, toy_base: Path, tmp_path: Path) -> None:
    changes, steps = CASES[name]
    straight = train(toy_base, tmp_path / "straight", **changes)
    assert "stop" not in name or straight.steps < changes["training"]["max_steps"]
    for step in steps:
        step = straight.steps if step == -1 else step
        other = cut(tmp_path / "straight", tmp_path / f"after {step}", after=step)
        resumed = train(toy_base, other, resume=True, **changes)
        assert resumed.resumed_from == f"checkpoint-{step}"
        assert not differences(tmp_path / "straight", straight, other, resumed), f"killed after step {step}"
        lines = [json.loads(line) for line in (other / "log.jsonl").read_text().splitlines()]
        assert lines == [{key: entry[key] for key in line} for line, entry in zip(lines, resumed.log, strict=True)]
        repeated = [(line["step"], *sorted(line)) for line in lines if line["step"]]
        assert len(set(repeated)) == len(repeated), "a line stands twice"


def kill_in(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, when: Callable[..., bool]) -> None:
    """Let a function kill the run, if its arguments meet a condition."""
    function = getattr(owner, name)

    def killing(*args: Any, **kwargs: Any) -> Any:
        if when(*args):
            raise Killed
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, killing)


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_evaluation_that_was_killed_at_the_end_of_an_epoch_is_made_on_resume(
    epoch: int, toy_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal at the last step of an epoch saves before the evaluation of the epoch; also if it is the last epoch."""
    training = {"num_train_epochs": 2, "max_steps": -1, "save_strategy": "epoch", "eval_strategy": "epoch",
                "load_best_model_at_end": True, "logging_steps": 1}  # fmt: skip
    straight = train(toy_base, tmp_path / "straight", training=training)
    step = 6 * epoch
    stopped = tmp_path / "stopped"

    def signal_now(self: Any, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_save = state.global_step == step or control.should_save

    with monkeypatch.context() as patch:
        patch.setattr(StopOnSignal, "on_step_end", signal_now)
        kill_in(patch, PatchedTrainer, "evaluate", lambda trainer, *_: (
            trainer.is_in_train and trainer.state.global_step == step))  # fmt: skip
        with pytest.raises(Killed):
            train(toy_base, stopped, training=training)
    assert (stopped / f"checkpoint-{step}" / "manifest.json").is_file()
    resumed = train(toy_base, stopped, resume=True, training=training)
    assert resumed.resumed_from == f"checkpoint-{step}"
    assert not differences(tmp_path / "straight", straight, stopped, resumed)


@pytest.fixture(scope="module")
def best_run(toy_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """Make a run whose best checkpoint is not its last."""
    folder = tmp_path_factory.mktemp("best") / "run"
    result = train(toy_base, folder, training={**EVALUATED, "max_steps": 6})
    state = json.loads((folder / "checkpoint-6" / "trainer_state.json").read_text())
    assert state["best_global_step"] < 6 and result.steps == 6
    return folder, result


def test_a_run_that_was_moved_takes_its_own_best_checkpoint(
    toy_base: Path, best_run: tuple[Path, Result], tmp_path: Path
) -> None:
    folder, straight = best_run
    moved = cut(folder, tmp_path / "moved", after=5)
    hidden = folder.rename(folder.with_name("elsewhere"))  # where the run was, there is nothing
    try:
        resumed = train(toy_base, moved, resume=True, training={**EVALUATED, "max_steps": 6})
        assert not differences(hidden, straight, moved, resumed)
    finally:
        hidden.rename(folder)


def test_a_best_checkpoint_that_is_gone_or_damaged_is_noticed(
    toy_base: Path, best_run: tuple[Path, Result], tmp_path: Path
) -> None:
    folder, _ = best_run
    state = json.loads((folder / "checkpoint-6" / "trainer_state.json").read_text())
    best = f"checkpoint-{state['best_global_step']}"
    for number, harm in enumerate((shutil.rmtree, lambda path: (path / "model.safetensors").write_bytes(b"x"))):
        other = cut(folder, tmp_path / str(number), after=5)
        harm(other / best)  # type: ignore[operator]
        identity = checkpoints.Identity({"training.load_best_model_at_end": True}, {})
        before = sorted(path.name for path in other.iterdir())
        if state["best_global_step"] > 1:  # there is a checkpoint from before the best one
            found, notes = checkpoints.newest(other, identity, accept_changes=True)
            assert int(found.name.rpartition("-")[2]) < state["best_global_step"]
            assert any(best in note for note in notes)
            continue
        with pytest.raises(BadCheckpoint, match=best):
            checkpoints.newest(other, identity, accept_changes=True)
        assert sorted(path.name for path in other.iterdir()) == before, "a folder without a valid checkpoint stays"


def test_what_a_killed_run_leaves_is_removed(toy_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, training = tmp_path / "run", {**STEPS, "max_steps": 5, "save_total_limit": 2}
    with monkeypatch.context() as patch:  # killed before the manifest of checkpoint-4
        kill_in(patch, checkpoints, "write_atomically", lambda path, _: path.parent.name == "checkpoint-4")
        with pytest.raises(Killed):
            train(toy_base, output, training=training)
    assert sorted(path.name for path in output.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-3", "checkpoint-4"]
    for name in ("invalid-checkpoint-1", "torn-checkpoint-1.2", ".deleted-checkpoint-1"):
        shutil.copytree(output / "checkpoint-2", output / name)
    (output / ".recipe.yaml.123.scratch").write_text("half")
    for name in ("checkpoint-2", "checkpoint-4"):
        (output / name / ".manifest.json.123.scratch").write_text("half")
    damaged = toy.copy_checkpoint(output / "checkpoint-3", 5)
    (damaged / "optimizer.pt").write_bytes(b"x")
    with monkeypatch.context() as patch:  # killed again, right after the resume
        kill_in(patch, run_folder, "create", lambda *_: True)
        with pytest.raises(Killed):
            train(toy_base, output, resume=True, training=training)
    names = {path.name for path in output.iterdir() if "checkpoint" in path.name}
    assert names == {"checkpoint-2", "checkpoint-3", "invalid-checkpoint-5"}
    assert not list(output.rglob(".*.scratch"))
    result = train(toy_base, output, resume=True, training=training)
    assert any(note.startswith("removed what an earlier start of this run left: invalid-checkpoint-5 (")
               for note in result.notes)  # fmt: skip
    assert {path.name for path in output.iterdir() if "checkpoint" in path.name} == {"checkpoint-4", "checkpoint-5"}


def test_a_checkpoint_is_known_from_its_first_file_and_while_it_is_deleted(
    toy_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, training = tmp_path / "run", {**STEPS, "max_steps": 5, "save_total_limit": 2}
    save = Trainer.save_model

    def write_readme(self: Any, output_dir: str | None = None, _internal_call: bool = False) -> None:
        if str(output_dir).endswith("checkpoint-4"):
            (Path(str(output_dir)) / "README.md").write_text("PEFT writes it first")
            raise Killed
        save(self, output_dir, _internal_call)

    def half(path: Path, **_: Any) -> None:
        (Path(path) / ".unfinished").unlink()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save_model", write_readme)
        with pytest.raises(Killed):
            train(toy_base, output, training=training)
    assert {path.name for path in (output / "checkpoint-4").iterdir()} == {".unfinished", "README.md"}
    with monkeypatch.context() as patch:  # killed again, while it deletes this checkpoint
        patch.setattr(shutil, "rmtree", half)
        with pytest.raises(Killed):
            train(toy_base, output, resume=True, training=training)
    train(toy_base, output, resume=True, training=training)
    assert {path.name for path in output.iterdir() if "checkpoint" in path.name} == {"checkpoint-4", "checkpoint-5"}
    assert not list(output.rglob(".unfinished"))


def test_a_file_that_could_not_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kill_in(monkeypatch, os, "fsync", lambda _: True)
    with pytest.raises(Killed):
        results.write_atomically(tmp_path / "x.json", "{}")
    assert not list(tmp_path.iterdir())


def test_old_checkpoints_are_deleted_by_their_steps_not_by_their_times(tmp_path: Path) -> None:
    for step in (5, 10, 20, 30, 40):
        (tmp_path / f"checkpoint-{step}").mkdir()
        os.utime(tmp_path / f"checkpoint-{step}", (1e9 - step * 100, 1e9 - step * 100))  # a copy in another order
    checkpoints.delete_old(tmp_path, limit=3, keep=("checkpoint-40", "checkpoint-5"))
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-5", "checkpoint-30", "checkpoint-40"}
    for limit in (None, 0, -1, 9):
        checkpoints.delete_old(tmp_path, limit=limit, keep=("checkpoint-40",))
        assert len(list(tmp_path.iterdir())) == 3
    checkpoints.delete_old(tmp_path, limit=1, keep=("checkpoint-40", "checkpoint-5"))
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-5", "checkpoint-40"}


def test_another_evaluation_is_another_run_where_scores_choose_the_weights(
    toy_base: Path, best_run: tuple[Path, Result], tmp_path: Path
) -> None:
    other = cut(best_run[0], tmp_path / "other", after=4)
    changed = {**EVALUATED, "max_steps": 6, "per_device_eval_batch_size": 3}
    with pytest.raises(BadCheckpoint, match=r"training\.per_device_eval_batch_size: None then, 3 now"):
        train(toy_base, other, resume=True, training=changed)
    follows = SimpleNamespace(arguments={"lr_scheduler_type": "greedy"}, callbacks=[])
    stops = SimpleNamespace(arguments={}, callbacks=[EarlyStoppingCallback()])
    plain = SimpleNamespace(arguments={"lr_scheduler_type": "linear"}, callbacks=[StopOnSignal()])
    assert [runs.scores_choose_weights(job) for job in (follows, stops, plain)] == [True, True, False]


def test_other_saves_take_effect_on_resume(toy_base: Path, tmp_path: Path) -> None:
    train(toy_base, tmp_path / "run", training={**STEPS, "max_steps": 6})
    other = cut(tmp_path / "run", tmp_path / "other", after=1)
    train(toy_base, other, resume=True, training={**STEPS, "max_steps": 6, "save_steps": 3})
    assert {path.name for path in other.glob("checkpoint-*")} == {"checkpoint-1", "checkpoint-3", "checkpoint-6"}


def test_a_child_of_a_killed_run_does_not_keep_its_folder_locked(tmp_path: Path) -> None:
    """The workers of a data loader live for seconds after a kill, and the run must be resumed at once."""
    ready = os.pipe()
    run = os.fork()
    if run == 0:
        try:
            with run_folder.lock(tmp_path / "run"):
                worker = os.fork()
                if worker == 0:
                    signal.pause()
                os.write(ready[1], f"{worker}\n".encode())
                os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    child = int(os.read(ready[0], 20))
    try:
        os.waitpid(run, 0)
        with run_folder.lock(tmp_path / "run"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        for end in ready:
            os.close(end)


OWN = ("checkpoint-1", "checkpoint-2", "checkpoint-3", "checkpoint-10")
FOREIGN = ("checkpoint-before-2", "checkpoint-good-9", "checkpoint-007", "checkpoint-٣", "checkpoint--4",
           "checkpoint-5", "checkpoint-12", "Checkpoint-3", "checkpoint-4.bak", "my-checkpoint-4",
           "checkpoint-")  # fmt: skip
HOLDS = ("notes", "copy", "model")


@settings(max_examples=60)
@given(
    own=st.sets(st.sampled_from(OWN)),
    foreign=st.dictionaries(st.sampled_from(FOREIGN), st.sampled_from(HOLDS)),
    torn=st.booleans(),
    limit=st.integers(1, 3),
)
def test_no_folder_of_the_user_is_taken_for_a_checkpoint(
    tmp_path_factory: pytest.TempPathFactory, own: set[str], foreign: dict[str, str], torn: bool, limit: int
) -> None:
    place, identity = tmp_path_factory.mktemp("property"), checkpoints.Identity({}, {})
    run, outside = place / "run", place / "checkpoint-2"
    for directory in [*(run / name for name in own), outside]:
        step = int(directory.name.rpartition("-")[2])
        directory.mkdir(parents=True)
        (directory / "trainer_state.json").write_text(json.dumps({"best_model_checkpoint": None, "global_step": step}))
        checkpoints.seal(directory, identity=identity, step=step)
    run.mkdir(exist_ok=True)
    for name, holds in foreign.items():
        if holds == "copy":
            shutil.copytree(outside, run / name)
            continue
        is_checkpoint_name = name in {"checkpoint-5", "checkpoint-12"}
        (run / name).mkdir()
        file = "notes.txt" if holds == "notes" or is_checkpoint_name else "model.safetensors"
        (run / name / file).write_text("own")
    if torn:
        (run / "checkpoint-11").mkdir()
        (run / "checkpoint-11" / "model.safetensors").write_text("half")
    newest = max((int(name.rpartition("-")[2]) for name in own), default=None)
    assert failures.newest_checkpoint(run) == (None if newest is None else f"checkpoint-{newest}")
    if newest is None:
        with pytest.raises(BadCheckpoint, match="no checkpoint to resume from"):
            checkpoints.newest(run, identity)
    else:
        found, notes = checkpoints.newest(run, identity)
        assert found.name == f"checkpoint-{newest}"
        assert not (run / "checkpoint-11").exists()
        checkpoints.delete_old(run, limit=limit, keep=(found.name,))
        ordered = sorted(own, key=lambda name: int(name.rpartition("-")[2]))
        assert own & {path.name for path in run.iterdir()} == set(ordered[-limit:])
    for name in foreign:
        later = newest is not None and name in {"checkpoint-5", "checkpoint-12"} and int(name[11:]) > newest
        assert any((run / (f"kept-{name}" if later else name)).iterdir())
        assert not later or any(f"{name} is kept-{name} now" in note for note in notes)
    shutil.rmtree(place)


def made_checkpoint(place: Path, state: Any) -> Path:
    """Make a small checkpoint of step 2, whose digests fit."""
    place.mkdir(parents=True)
    (place / "trainer_state.json").write_text(json.dumps(state))
    checkpoints.seal(place, identity=checkpoints.Identity({}, {}), step=2)
    return place


GOOD_STATE: dict[str, Any] = {"best_model_checkpoint": None, "global_step": 2}


def test_a_copy_of_a_checkpoint_under_another_name_is_not_resumed_from(tmp_path: Path) -> None:
    checkpoints.verify(made_checkpoint(tmp_path / "checkpoint-2", GOOD_STATE))
    copy = shutil.copytree(tmp_path / "checkpoint-2", tmp_path / "checkpoint-9")
    with pytest.raises(BadCheckpoint, match="checkpoint-9 has another name than the run gave it: checkpoint-2"):
        checkpoints.verify(copy)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
STATE_KEYS = [field.name for field in fields(TrainerState)]


@settings(max_examples=300)
@given(
    changes=st.dictionaries(st.sampled_from([*STATE_KEYS, "x"]), VALUES, min_size=1, max_size=2) | VALUES,
    keys=st.lists(st.sampled_from(["format", "step", "files", "identity", "circumstances"]), max_size=1),
    value=VALUES,
    is_dropped=st.booleans(),
)
def test_any_content_of_the_json_files_of_a_checkpoint_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: Any, keys: list[str], value: Any, is_dropped: bool
) -> None:
    state = {**GOOD_STATE, **changes} if isinstance(changes, dict) and changes.keys() <= {*STATE_KEYS, "x"} else changes
    run = tmp_path_factory.mktemp("property")
    directory = made_checkpoint(run / "checkpoint-2", state)
    path = directory / checkpoints.MANIFEST
    manifest = json.loads(path.read_text())
    for key in keys:
        manifest[key] = value
        if is_dropped:
            del manifest[key]
    path.write_text(json.dumps({**manifest, checkpoints.OWN: checkpoints._own_digest(manifest)}))
    for name, text in (("recipe.yaml", ""), ("log.jsonl", "")):
        (run / name).write_text(text)
    try:
        checkpoints.verify_with_best(directory)
    except BadCheckpoint:
        with pytest.raises(BadCheckpoint, match="no checkpoint to resume from"):
            checkpoints.newest(run, checkpoints.Identity({}, {}))
    except Incompatible:
        assert keys == ["format"]
    else:
        assert isinstance(state, dict) and "x" not in state
        read = TrainerState.load_from_json(str(directory / "trainer_state.json"))
        assert read.global_step == 2
        checkpoints.best_of(directory)
    with suppress(Incompatible):
        cleaning.clean(run)
        cleaning.clean(run, everything=True)
    shutil.rmtree(run)


@pytest.mark.parametrize("value", [[], "x", {"A": 1}, {"A": [1]}, {"A": {"args": 1}}, {"A": {"attributes": []}}])
def test_odd_states_of_callbacks_are_refused(value: Any, tmp_path: Path) -> None:
    directory = made_checkpoint(tmp_path / "checkpoint-2", {**GOOD_STATE, "stateful_callbacks": value})
    with pytest.raises(BadCheckpoint, match=r"no valid trainer_state\.json"):
        checkpoints.verify(directory)
