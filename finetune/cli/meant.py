"""Answer a call that takes one thing for another with what was meant: a data file for a recipe, a run for a recipe."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping
from pathlib import Path

from finetune.errors import BadOptions, BadRecipe, did_you_mean

RESULT = "result.json"
RECIPE = "recipe.yaml"
_RECIPES = (".yaml", ".yml")
_DATA = (
    ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".txt", ".conll", ".conllu", ".gz", ".xlsx",
    ".zip",
)  # fmt: skip

HABITS: Mapping[str, str] = {
    "epochs": "training.num_train_epochs",
    "num-epochs": "training.num_train_epochs",
    "lr": "training.learning_rate",
    "batch-size": "training.per_device_train_batch_size",
    "train-batch-size": "training.per_device_train_batch_size",
    "steps": "training.max_steps",
    "warmup-ratio": "training.warmup_steps",  # a share below 1 is the ratio
    "output-dir": "output",
    "output": "output",
    "model-name-or-path": "model",
    "model-name": "model",
    "base-model": "model",
    "max-length": "preprocessor.max_length",
    "max-seq-length": "preprocessor.max_length",
    "dataset-name": "dataset.path",
    "train-file": "dataset.path",
    "validation-file": "dataset.path.validation",
    "data-path": "dataset.path",
}
"""Options of other tools, without dashes → the key of a recipe with the same meaning."""


def is_run(path: str | Path) -> bool:
    """Return whether a folder is that of a run."""
    return (Path(path) / RESULT).is_file() or ((Path(path) / RECIPE).is_file() and Path(path).is_dir())


def is_data(path: str | Path) -> bool:
    """Return whether a path is that of a file with data, or of a folder with such files."""
    path = Path(path)
    if path.is_dir():
        if (path / "config.json").is_file():  # a model
            return False
        return any(child.name.lower().endswith(_DATA) and child.name != RESULT for child in path.iterdir())
    return path.name.lower().endswith(_DATA)


def recipe_file(path: str, *, command: str) -> str:
    """Return the path of a recipe, with ``~`` replaced.

    Args:
        path: What the user gave.
        command: Name of the command, for the message.

    Raises:
        BadRecipe: It is a run, or data.
    """
    expanded = Path(path).expanduser()
    shown = shlex.quote(path)
    if expanded.is_dir() and is_run(expanded):
        recipe = shlex.quote(str(Path(path) / RECIPE))
        raise BadRecipe(f"{path!r} is the folder of a run, not a recipe. Its recipe: finetune {command} {recipe}.")
    if is_data(expanded) and (expanded.exists() or expanded.suffix.lower() not in _RECIPES):
        way = f"Make one: finetune init --data {shown} > {RECIPE}."
        if command in ("check", "plan", "train"):
            way = (
                f"Write: finetune {command} --data {shown}. Or make a recipe: finetune init --data {shown} > {RECIPE}."
            )
        raise BadRecipe(f"{path!r} is data, not a recipe. {way}")
    if expanded.is_dir():
        raise BadRecipe(f"{path!r} is a folder, not a recipe. Give the path of its file, such as {path}/{RECIPE}.")
    return str(expanded)


def run_folder(path: str, *, command: str) -> str:
    """Return the path of a run's folder, with ``~`` replaced.

    Args:
        path: What the user gave.
        command: Name of the command, for the message.

    Raises:
        BadOptions: It is a recipe, data, or another file.
    """
    expanded = Path(path).expanduser() if path else Path(path)
    if not expanded.is_file() or expanded.suffix.lower() == ".gguf":  # a model in one file
        return str(expanded) if path else path
    shown = shlex.quote(path)
    if expanded.parent != Path() and is_run(expanded.parent):
        folder = shlex.quote(str(Path(path).parent))
        raise BadOptions(f"{path!r} is a file of a run. Give its folder: finetune {command} {folder}.")
    if expanded.suffix.lower() in _RECIPES:
        raise BadOptions(
            f"{path!r} is a recipe, not a run. Train first: finetune train {shown}. Its `output` is the run."
        )
    if is_data(expanded):
        ways = {"predict": f"finetune predict RUN {shown}", "evaluate": f"finetune evaluate RUN --data {shown}"}
        way = f" The run comes first: {ways[command]}." if command in ways else ""
        raise BadOptions(f"{path!r} is data, not a run.{way}")
    raise BadOptions(f"{path!r} is a file, not the folder of a run. A run is the `output` of a recipe.")


def require_task(task: str | None) -> None:
    """Refuse data, a recipe or a run where the name of a task is expected.

    Raises:
        BadOptions: It is one of these.
    """
    if not task or ":" in task or not (Path(task).expanduser().exists() or is_data(task)):
        return
    if is_run(Path(task).expanduser()):
        raise BadOptions(f"{task!r} is the folder of a run, not a task. Its recipe is {Path(task) / RECIPE}.")
    if Path(task).suffix.lower() in _RECIPES:
        raise BadOptions(f"{task!r} is a recipe already. Check it: finetune check {shlex.quote(task)}.")
    if is_data(Path(task).expanduser()):
        raise BadOptions(f"{task!r} is data, not a task. Write: finetune init --data {shlex.quote(task)}.")


def option(name: str, value: str | None, *, known: Collection[str]) -> BadOptions:
    """Return the error for an unknown option of a command that takes a recipe.

    Args:
        name: The option, with its dashes.
        value: What follows it.
        known: The options of the command.
    """
    plain = name.lstrip("-").replace("_", "-").casefold()
    key = HABITS.get(plain) or _key_of(name.lstrip("-").replace("-", "_"))
    if key and f"--{plain}" not in known:
        shown = "…" if value is None or value.startswith("-") else value
        return BadOptions(f"no such option {name}. In a recipe it is {key}; on the command line: {key}={shown}.")
    return BadOptions(
        f"no such option {name}.{did_you_mean(name, known)} Keys of the recipe are written without dashes: "
        "training.num_train_epochs=3."
    )


def _key_of(name: str) -> str:
    """Return the key of a recipe with a name: of its top, or an option of the trainer; an empty text for none."""
    from dataclasses import fields

    from transformers import TrainingArguments

    from finetune.recipe import Recipe

    if name in {field.name for field in fields(Recipe)}:
        return name
    return f"training.{name}" if name in {field.name for field in fields(TrainingArguments)} else ""
