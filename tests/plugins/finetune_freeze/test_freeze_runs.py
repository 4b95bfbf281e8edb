"""Which layers train, when and at which rate; and a run killed in the middle of a stage resumes with the same bits."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import toy
from safetensors.torch import load_file

import finetune
from finetune import recipe as recipes
from finetune.errors import BadOptions
from finetune.result import Result

GROUPS = {
    "head": "classifier.*", "block 1": "bert.encoder.layer.1.*", "block 0": "bert.encoder.layer.0.*",
    "embeddings": "bert.embeddings.*",
}  # fmt: skip
ROWS = {"train": toy.rows(48, seed=1), "validation": toy.rows(12, seed=2)}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.base(tmp_path_factory.mktemp("base") / "bert", hidden_dropout_prob=0.1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("data")
    for split, rows in ROWS.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {split: str(folder / f"{split}.jsonl") for split in ROWS}


def train(base: Path, data: Any, output: Path, strategy: Any, **training: Any) -> Result:
    """Train with a checkpoint after every step, and weight decay enough to be seen."""
    options = {
        "max_steps": 8, "per_device_train_batch_size": 4, "learning_rate": 1e-3, "lr_scheduler_type": "constant",
        "weight_decay": 0.1, "save_strategy": "steps", "save_steps": 1, "save_total_limit": 100, "logging_steps": 1,
    }  # fmt: skip
    return finetune.train(
        task="toy:TASK", model=str(base), dataset=data, strategy=strategy, output=str(output), score_base_model=False,
        training={**options, **training},
    )  # fmt: skip


def moved(run: Path, base: Path) -> dict[str, list[int]]:
    """Return the steps that moved each group: those after which any of its weights has other bits than before."""
    checkpoints = sorted(run.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    states = [load_file(path / "model.safetensors") for path in (base, *checkpoints)]
    steps: dict[str, list[int]] = {}
    for group, pattern in GROUPS.items():
        names = [name for name in states[1] if fnmatchcase(name, pattern) and name in states[0]]
        pairs = enumerate(pairwise(states))
        steps[group] = [step for step, (a, b) in pairs if any(not torch.equal(a[name], b[name]) for name in names)]
    return steps


def same(a: Path, b: Path) -> bool:
    one, two = (load_file(path / "model.safetensors") for path in (a, b))
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


@pytest.fixture(scope="module")
def gradual(base: Path, data: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one run in four stages of two steps."""
    output = tmp_path_factory.mktemp("gradual") / "run"
    train(base, data, output, {"name": "gradual", "layer_decay": 0.5})
    return output


def test_a_layer_keeps_its_bits_until_its_stage_and_moves_at_every_step_from_then_on(gradual: Path, base: Path) -> None:
    steps = moved(gradual, base)
    assert steps["block 1"] == list(range(2, 8))
    assert steps["block 0"] == list(range(4, 8))
    assert steps["embeddings"] == list(range(6, 8))


def test_what_was_newly_initialized_trains_from_the_first_step(gradual: Path) -> None:
    result = Result.load(gradual)
    assert result.newly_initialized == ["bert.pooler.dense", "classifier"]
    states = [load_file(gradual / f"checkpoint-{step}" / "model.safetensors") for step in (1, 2)]
    for name in ("bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias"):
        assert not torch.equal(states[0][name], states[1][name])


def test_the_record_names_the_groups_and_counts_all_that_will_train(gradual: Path) -> None:
    result = Result.load(gradual)
    assert result.trainable_parameters == result.total_parameters
    assert result.notes == [
        "order of unfreezing: head → bert.encoder.layer.1 → bert.encoder.layer.0 → embeddings",
        "learning rates: head × 1; bert.encoder.layer.1 × 0.5; bert.encoder.layer.0 × 0.25; embeddings × 0.125",
    ]


@pytest.mark.parametrize("step", [3, 4])
def test_a_run_resumed_within_a_stage_or_between_two_ends_with_the_same_bits(
    step: int, gradual: Path, tmp_path: Path
) -> None:
    # as a crash after this step would leave it
    output = tmp_path / "run"
    shutil.copytree(gradual, output)
    for name in ("result.json", "model.safetensors", "predictions.jsonl"):
        (output / name).unlink()
    for later in range(step + 1, 9):
        shutil.rmtree(output / f"checkpoint-{later}")
    written = {**recipes.to_mapping(recipes.read(gradual / "recipe.yaml")), "output": str(output)}
    assert finetune.train(**written, resume=True).resumed_from == f"checkpoint-{step}"
    assert same(gradual, output)
    assert not same(gradual, gradual / "checkpoint-7")  # a control that the comparison can fail


@pytest.mark.parametrize("checkpointing", [None, False, True])
def test_stages_in_epochs_hold_under_accumulation_and_activation_checkpointing(
    checkpointing: bool | None, base: Path, data: Any, tmp_path: Path
) -> None:
    # six steps an epoch; a frozen embedding's output needs no gradient, which reentrant checkpointing would choke on
    more: dict[str, Any] = {"max_steps": -1, "num_train_epochs": 2, "gradient_accumulation_steps": 2}
    if checkpointing is not None:
        more |= {"activation_checkpointing": True, "activation_checkpointing_kwargs": {"use_reentrant": checkpointing}}
    train(base, data, tmp_path / "run", {"name": "gradual", "interval": 0.5}, **more)
    steps = moved(tmp_path / "run", base)
    assert [steps[name] for name in ("block 1", "block 0", "embeddings")] == [
        list(range(3, 12)), list(range(6, 12)), list(range(9, 12))
    ]  # fmt: skip


def test_stages_in_steps_and_embeddings_that_never_train(base: Path, data: Any, tmp_path: Path) -> None:
    strategy = {"name": "gradual", "interval": 1, "interval_unit": "steps", "embeddings": "never", "initial_groups": 2}
    result = train(base, data, tmp_path / "run", strategy, max_steps=3)
    steps = moved(tmp_path / "run", base)
    assert [steps[name] for name in ("block 1", "block 0", "embeddings")] == [[0, 1, 2], [1, 2], []]
    embeddings = load_file(base / "model.safetensors").items()
    frozen = sum(t.numel() for name, t in embeddings if fnmatchcase(name, GROUPS["embeddings"]))
    assert result.trainable_parameters == result.total_parameters - frozen


def test_embeddings_can_train_from_the_first_step(base: Path, data: Any, tmp_path: Path) -> None:
    train(base, data, tmp_path / "run", {"name": "gradual", "embeddings": "always"}, max_steps=3)
    steps = moved(tmp_path / "run", base)
    assert [steps[name] for name in ("block 1", "block 0", "embeddings")] == [[1, 2], [2], [0, 1, 2]]


def test_a_schedule_that_leaves_some_layers_frozen_is_refused(base: Path, data: Any, tmp_path: Path) -> None:
    message = (
        r"last of 4 stages would begin at step 36, and training ends at step 24. .*never train: bert.*0; embeddings"
    )
    with pytest.raises(BadOptions, match=message):
        train(base, data, tmp_path / "run", {"name": "gradual", "interval": 1}, max_steps=-1, num_train_epochs=2)
    assert not list((tmp_path / "run").glob("checkpoint-*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"interval": 0}, "interval=0.0 must be more than 0"),
        ({"interval": 1.5, "interval_unit": "steps"}, "whole number of steps"),
        ({"interval_unit": "steps"}, "interval_unit=steps needs interval"),
        ({"initial_groups": 0}, "initial_groups=0 must be at least 1"),
        (
            {"initial_groups": 5},
            r"initial_groups=5, and there are 4 groups .*: head; bert\.encoder\.layer\.1; .*; embeddings",
        ),
        ({"layer_decay": 1.1}, "layer_decay=1.1 must be more than 0 and at most 1"),
        ({"groups": ["*.layer.*"]}, "no group matches bert.embeddings"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    options: dict[str, Any], message: str, base: Path, data: Any, tmp_path: Path
) -> None:
    with pytest.raises(BadOptions, match=message):
        train(base, data, tmp_path / "run", {"name": "gradual", **options})


def test_a_low_layer_moves_less_when_rates_decay(base: Path, data: Any, tmp_path: Path) -> None:
    # Adam's first step is as long as the rate, whatever the gradient's size
    decay = 0.5
    train(base, data, tmp_path / "run", {"name": "discriminative", "layer_decay": decay}, max_steps=1, weight_decay=0.0)
    before, after = (load_file(path / "model.safetensors") for path in (base, tmp_path / "run"))
    for depth, group in enumerate(("head", "block 1", "block 0", "embeddings")):
        names = [name for name in after if fnmatchcase(name, GROUPS[group]) and name in before]
        furthest = [float((after[name] - before[name]).abs().max()) for name in names]
        assert group == "head" or max(furthest) == pytest.approx(1e-3 * decay**depth, rel=1e-3)


def test_two_processes_unfreeze_as_one_does(base: Path, tmp_path: Path) -> None:
    # what no process uses must get no gradient at all: one of zeros would let weight decay move it
    script = Path(__file__).with_name("two_processes.py")
    finished = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", str(script),
         str(base), str(tmp_path)],
        capture_output=True, text=True, timeout=240, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-3000:]
    steps = moved(tmp_path, base)
    assert [steps[name] for name in ("block 1", "block 0", "embeddings")] == [[1, 2, 3], [2, 3], [3]]
