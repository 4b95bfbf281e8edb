"""`batch: auto`: the largest batch for which the memory is enough, chosen before the first step and recorded."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import toy
from hypothesis import given
from hypothesis import strategies as st
from transformers import Trainer, TrainingArguments

import finetune
from finetune import failures
from finetune import plan as plans
from finetune import recipe as recipes
from finetune.data.preparation import prepare
from finetune.errors import BadCheckpoint, BadOptions, BadRecipe, Interrupted, OutOfMemory
from finetune.planning import batch_size, machine
from finetune.planning.computed import compute
from finetune.plugins import discover
from finetune.progress import Reporter
from finetune.recipe import schema
from finetune.result import Result
from finetune.training import auto_batch

GIB = 2**30


def content(base: Path, output: Path, **training: Any) -> dict[str, Any]:
    """Return a recipe whose steps take 8 rows, with dropout, so that random numbers matter."""
    options = {"max_steps": 4, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "logging_steps": 1}
    return toy.recipe(base, output, training={**options, **training})


def full_for(monkeypatch: pytest.MonkeyPatch, *, more_than: int, stops_at: int = 0) -> list[int]:
    """Let each batch with more rows than this run out of memory; return the list that gets the rows of each batch."""
    sizes: list[int] = []
    real = Trainer.training_step

    def step(self: Any, model: Any, inputs: Any, *rest: Any) -> Any:
        rows = len(inputs["input_ids"])
        sizes.append(rows)
        if len(sizes) == stops_at:
            raise failures.Stopped(signal.SIGTERM)
        if rows > more_than:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        return real(self, model, inputs, *rest)

    monkeypatch.setattr(Trainer, "training_step", step)
    return sizes


def chosen_in(run: Path) -> tuple[int, int, Any]:
    training = recipes.read(run / "recipe.yaml").training
    return training[auto_batch.SIZE], training[auto_batch.ACCUMULATED], training.get(auto_batch.OPTION)


def trace(run: Path) -> tuple[bytes, Any]:
    """Return the weights, and what was logged of the training without its times."""
    log = [
        {name: entry[name] for name in ("loss", "grad_norm", "learning_rate", "step") if name in entry}
        for entry in Result.load(run).log
    ]
    return (run / "model.safetensors").read_bytes(), log


@pytest.fixture(scope="module")
def chosen_run(toy_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run of `batch: auto` in which 8 rows are too many, so that it takes 4 and accumulates."""
    run = tmp_path_factory.mktemp("auto") / "run"
    with pytest.MonkeyPatch.context() as patch:
        sizes = full_for(patch, more_than=4)
        finetune.train(**content(toy_base, run, batch="auto", save_strategy="steps", save_steps=2))
    trial, steps = 2 * 2, 4 * 2
    assert sizes == [8] + [4] * (trial + steps)
    return run


def test_a_batch_that_runs_out_of_memory_takes_the_next_smaller_divisor_and_says_so(chosen_run: Path) -> None:
    assert chosen_in(chosen_run) == (4, 2, None)
    note = Result.load(chosen_run).notes[0]
    start = "batch: auto: per_device_train_batch_size 4 × gradient_accumulation_steps 2 = 8 rows a step: a trial with"
    assert note.startswith(start)
    assert note.endswith("; 8 was tried: CUDA out of memory. Tried to allocate 20.00 MiB")


def test_a_run_that_chooses_equals_the_run_that_states_the_numbers(
    chosen_run: Path, toy_base: Path, tmp_path: Path
) -> None:
    stated = tmp_path / "stated"
    finetune.train(**content(toy_base, stated, save_strategy="steps", save_steps=2))
    assert trace(chosen_run) == trace(stated)
    mine, theirs = (recipes.to_mapping(recipes.read(run / "recipe.yaml")) for run in (chosen_run, stated))
    assert {**mine, "output": ""} == {**theirs, "output": ""}


def test_a_resumed_run_takes_the_recorded_numbers_and_tries_nothing(
    chosen_run: Path, toy_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    given = content(toy_base, run, batch="auto", save_strategy="steps", save_steps=2)
    calls = 1 + 2 * 2 + 5  # the trial of 8 rows, that of 4, and the first batch of the third step
    with monkeypatch.context() as patch:
        full_for(patch, more_than=4, stops_at=calls)
        with pytest.raises(Interrupted):
            finetune.train(**given)
    sizes = full_for(monkeypatch, more_than=4)
    monkeypatch.setattr(machine, "free_memory", lambda: 1)  # another machine
    result = finetune.train(**given, resume=True)
    assert result.resumed_from == "checkpoint-2"
    assert sizes == [4] * 4
    assert trace(run)[0] == trace(chosen_run)[0]
    assert "as this run has chosen at its start" in result.notes[0]


def prepared(base: Path, output: Path, **training: Any) -> Any:
    options = content(base, output, batch="auto", **training)
    rows = options.pop("dataset")
    recipe = recipes.parse({**options, "dataset": "unused"})
    return prepare(plans.make(recipe, discover()), rows=rows)


def test_on_a_cpu_the_stated_memory_limits_the_batch(
    toy_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready = prepared(toy_base, tmp_path / "run")
    tried: list[int] = []
    real = batch_size._try

    def spy(*args: Any, size: int, **more: Any) -> Any:
        tried.append(size)
        return real(*args, size=size, **more)

    monkeypatch.setattr(batch_size, "_try", spy)
    needs = batch_size._computed(ready, [8, 4, 2, 1], rows=8, room=0)
    assert sorted(needs.values(), reverse=True) == list(needs.values())  # a larger batch needs more
    monkeypatch.setattr(machine.Peak, "bytes", lambda self: 0)
    monkeypatch.setattr(machine, "free_memory", lambda: int(needs[2] / batch_size.SHARE) + 1)
    choice = batch_size.choose(ready, Reporter())
    assert (choice.size, tried) == (2, [2])  # what is computed to be too large is not tried
    assert "; 4 needs" in choice.why


def test_a_trial_that_takes_more_than_the_limit_takes_the_next_smaller_divisor(
    toy_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ready, taken = prepared(toy_base, tmp_path / "run"), iter([3 * GIB, 2 * GIB, GIB])
    monkeypatch.setattr(machine, "free_memory", lambda: 2 * GIB)
    monkeypatch.setattr(machine.Peak, "bytes", lambda self: next(taken))
    choice = batch_size.choose(ready, Reporter())
    assert choice.size == 2
    assert choice.why.endswith(
        "took 1.00 GiB of 2.00 GiB free; 4 was tried: it took 2.00 GiB, and 1.80 GiB may be taken"
    )


def test_a_machine_without_memory_for_one_row_says_what_to_change(
    toy_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "free_memory", lambda: 2**10)
    with pytest.raises(
        OutOfMemory, match=r"not enough for one row of \d+ tokens: .*1 needs .*Lower the preprocessor's"
    ):
        finetune.train(**content(toy_base, tmp_path / "run", batch="auto"))
    assert not (tmp_path / "run").exists()


def test_another_error_of_a_trial_is_raised(toy_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Trainer, "training_step", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        batch_size.choose(prepared(toy_base, tmp_path / "run"), Reporter())


def test_a_finished_run_is_recognised_by_its_rows_of_a_step(chosen_run: Path, toy_base: Path, tmp_path: Path) -> None:
    plan = prepared(toy_base, chosen_run).plan
    assert auto_batch.recorded(chosen_run, rows=8) == 4
    assert auto_batch.recorded(chosen_run, rows=16) is None
    assert auto_batch.recorded(tmp_path, rows=8) is None
    assert plan.recipe.training["batch"] == "auto"


def test_another_number_of_rows_is_a_change_on_resume(
    chosen_run: Path, toy_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(chosen_run, tmp_path / "run"))
    (run / "result.json").unlink()
    given = content(toy_base, run, batch="auto", gradient_accumulation_steps=4, save_strategy="steps", save_steps=2)
    with pytest.raises(BadCheckpoint, match=r"per_device_train_batch_size: 4 then, 16 now"):
        finetune.train(**given, resume=True)


def test_a_plan_for_a_gpu_names_the_batch_that_fits(toy_base: Path, tmp_path: Path) -> None:
    found = compute(prepared(toy_base, tmp_path / "run"), gpu="t4-16gb")
    assert (found.rows, found.fits) == (8, True)
    assert found.notes[0].startswith("batch: auto would take per_device_train_batch_size 8 × gradient_acc")


@given(st.integers(1, 300))
def test_the_sizes_divide_the_rows_of_a_step(rows: int) -> None:
    found = auto_batch.sizes(rows)
    assert found[0] == rows
    assert found[-1] == 1
    assert found == sorted(set(found), reverse=True)
    for size in found:
        training = auto_batch.divided({"batch": "auto"}, size=size, rows=rows)
        assert auto_batch.rows_of_a_step(training) == rows
        assert not auto_batch.is_on(training)


@pytest.mark.parametrize(
    ("training", "problem"),
    [
        ({"batch": 8}, "'batch': Input should be 'auto', not 8"),
        ({"batch": "auto", "fsdp": True}, "cannot try weights that are divided among several processes"),
        ({"auto_find_batch_size": True}, "write batch: auto, which chooses before the first step"),
    ],
)
def test_what_cannot_be_is_refused_with_advice(training: Any, problem: str, toy_base: Path, tmp_path: Path) -> None:
    with pytest.raises(BadOptions, match=problem):
        finetune.train(**content(toy_base, tmp_path / "run", **training))


def test_a_stream_is_refused(toy_base: Path, tmp_path: Path) -> None:
    rows = tmp_path / "train.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in toy.rows(8)))
    given = content(toy_base, tmp_path / "run", batch="auto")
    given["dataset"] = {"path": {"train": str(rows)}, "streaming": True}
    with pytest.raises(BadRecipe, match="those of a stream are not known before they are read"):
        finetune.train(**given)


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadOptions, match="chooses for one process, and 2 train together"):
        auto_batch.refuse_processes(2)


def test_the_schema_knows_the_option() -> None:
    described = schema._training(TrainingArguments)["properties"]["batch"]
    assert described["anyOf"][0] == {"const": "auto", "type": "string"}
    assert described["description"].startswith("auto: before the first step")


# --- memory of the machine


def test_the_limits_of_control_groups_count(tmp_path: Path) -> None:
    inner = tmp_path / "user" / "job"
    inner.mkdir(parents=True)
    for folder, limit, used in ((tmp_path / "user", str(8 * GIB), 6 * GIB), (inner, "max", GIB)):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
    (tmp_path / "user" / "memory.stat").write_text(f"anon 5\ninactive_file {GIB}\n")
    assert machine.left_by_groups("0::/user/job\n", root=tmp_path) == [3 * GIB]


def test_the_limits_of_control_groups_of_version_1_count(tmp_path: Path) -> None:
    inside = tmp_path / "memory"  # a container sees its own group at the root, and the path of the host
    inside.mkdir()
    (inside / "memory.limit_in_bytes").write_text(f"{4 * GIB}\n")
    (inside / "memory.usage_in_bytes").write_text(f"{GIB}\n")
    groups = "8:blkio:/\n4:memory:/docker/abc\n"
    assert machine.left_by_groups(groups, root=tmp_path) == [3 * GIB]


def test_free_memory_is_part_of_the_machine() -> None:
    import psutil

    assert 0 < machine.free_memory() <= psutil.virtual_memory().total


def test_the_peak_is_what_was_taken_since_and_given_back() -> None:
    peak = machine.Peak()
    if peak.before is None:
        pytest.skip("this system does not let a process reset its high-water mark")
    block = b"x" * (64 * 2**20)
    del block
    assert 60 * 2**20 < (peak.bytes() or 0) < 100 * 2**20  # the system counts in steps of some pages
