"""Small runs that write down which rows the model sees at each step, and that end at a chosen moment."""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))

import command
import toy

from finetune import recipe as recipes
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer

ROWS = 26
"""Rows of train: with batches of four, the last batch of an epoch is smaller."""


def write_recipe(folder: Path, output: Path, training: Mapping[str, Any], **changes: Any) -> Path:
    """Write the recipe of a run of the toy task, with its base model and data, and return its path.

    Args:
        folder: Holds the base model and the data.
        output: The run folder.
        training: Training options.
        **changes: Other sections of the recipe.
    """
    base = folder / "base"
    if not base.exists():
        toy.base(base, hidden_dropout_prob=0.1)
    return _write(output, toy.recipe(base, output), folder, toy.rows(ROWS + 4, seed=3), training, changes)


def write_packed_recipe(folder: Path, output: Path, training: Mapping[str, Any], **changes: Any) -> Path:
    """Write the recipe of an SFT run with several rows in one sequence."""
    base = folder / "llama"
    if not base.exists():
        tiny_model("llama", tokenizer("llama", vocab_size=400), base, model_class="AutoModelForCausalLM")
    rows = []
    for number in range(ROWS * 2 + 4):
        rows.append(
            {"prompt": f"Who is {'very ' * (number % 4)}old, {number}?", "completion": " I," * (1 + number % 5)}
        )
    content = {"task": "sft", "model": str(base), "strategy": "full", "output": str(output),
               "preprocessor": {"packing": True, "max_length": 96}, "training": {"learning_rate": 1e-3}}  # fmt: skip
    return _write(output, content, folder, rows, training, changes)


def _write(
    output: Path,
    content: dict[str, Any],
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    training: Mapping[str, Any],
    changes: Mapping[str, Any],
) -> Path:
    dataset = {}
    for split, part in (("train", rows[4:]), ("test", rows[:4])):
        path = folder / f"{content['task'].replace(':', '-')}-{split}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
        dataset[split] = str(path)
    options = {"per_device_train_batch_size": 4, "save_strategy": "steps", "save_steps": 1, "logging_steps": 1,
               "eval_strategy": "no", "lr_scheduler_type": "constant"}  # fmt: skip
    content |= {"dataset": dataset, "score_base_model": False, "general_text": "none", **changes}
    content["training"] = {**content["training"], **options, **training}
    path = output.with_suffix(".yaml")
    path.write_text(recipes.dump(content), encoding="utf-8")
    return path


def train(
    recipe: Path, *, seen: Path, resume: bool = False, before: Callable[[], None] | None = None, **environment: str
) -> command.Ended:
    """Train, or resume, in a process of its own.

    Args:
        recipe: The recipe.
        seen: Where the process writes which rows the model sees.
        resume: Whether to resume.
        before: Prepares a fault.
        **environment: More variables.
    """
    prepare = functools.partial(watch, str(seen), before)
    flags = ["--resume"] if resume else []
    return command.call(["train", str(recipe), "--quiet", *flags], before=prepare, environment=environment)


def watch(seen: str, before: Callable[[], None] | None) -> None:
    """Write a line for each batch of training: the step, and a digest of each row."""
    from finetune.training.trainer import PatchedTrainer

    training_step = PatchedTrainer.training_step

    def watched(trainer: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        rows = _digests(inputs, trainer.processing_class.pad_token_id)
        line = {"process": os.getpid(), "step": trainer.state.global_step + 1, "rows": rows}
        with open(seen, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return training_step(trainer, model, inputs, *args, **kwargs)

    PatchedTrainer.training_step = watched  # type: ignore[method-assign]
    if before is not None:
        before()


def _digests(inputs: Mapping[str, Any], padding: int) -> list[str]:
    digests = []
    for row in inputs["input_ids"]:
        ids = [number for number in row.tolist() if number != padding]
        digests.append(hashlib.sha256(repr(ids).encode()).hexdigest()[:12])
    return digests


def rows_by_step(seen: Path) -> dict[int, list[list[str]]]:
    """Return which rows each step saw, batch by batch; of a step that was made again, what it saw last."""
    found: dict[int, list[list[str]]] = {}
    previous = None
    for line in seen.read_text(encoding="utf-8").splitlines():
        content = json.loads(line)
        step = content["step"]
        if (content["process"], step) != previous:
            found[step] = []
        previous = (content["process"], step)
        found[step].append(content["rows"])
    return found


def weights(run: Path) -> dict[str, str]:
    """Return the SHA-256 of what a run saved and predicted, by file."""
    found = {}
    for path in sorted(run.glob("*")):
        if path.suffix == ".safetensors" or path.name == "predictions.jsonl":
            found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def end_process(module: str, name: str, signal_number: int, call: int = 1) -> None:
    """Send a signal to this process when it calls a function, before the function does anything.

    Args:
        module: Where the function is looked up; ``module:Class`` for a method.
        name: The function.
        signal_number: Which signal.
        call: At which call, from 1.
    """
    where, _, cls = module.partition(":")
    owner: Any = importlib.import_module(where)
    owner = getattr(owner, cls) if cls else owner
    function, calls = getattr(owner, name), iter(range(1, 10**9))

    def ending(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == call:
            os.kill(os.getpid(), signal_number)
        return function(*args, **kwargs)

    setattr(owner, name, ending)
