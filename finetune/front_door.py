"""From the Python objects that `finetune.train` takes to a recipe, and to what no recipe can hold."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, DatasetDict, IterableDataset, IterableDatasetDict
from transformers import (
    AutoTokenizer,
    EarlyStoppingCallback,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainingArguments,
)

from finetune import processes
from finetune.data.sources import ROLES
from finetune.errors import BadData, BadOptions, BadRecipe, OutputExists
from finetune.folder import file_sha256
from finetune.interfaces import Columns, Evaluator, Preprocessor, Strategy, Task
from finetune.models import absolute, suppress_output
from finetune.plugins import Plugins, class_path, resolve
from finetune.python_objects import ROWS, name_of
from finetune.recipe import Choice, Source, options
from finetune.result import json_problem, to_json
from finetune.training import early_stopping
from finetune.user_code import first_line

KINDS: Mapping[str, type] = {"strategy": Strategy, "preprocessor": Preprocessor, "evaluator": Evaluator}
"""Sections of a recipe that can be given as an object → its class."""

SET_BY_TRANSFORMERS = frozenset({"do_train", "do_eval", "do_predict", "output_dir", "seed"})
"""Fields of `TrainingArguments` that are no options here: nothing reads the first three, and the others are keys of the
recipe."""

_UNSAVED = ("_name_or_path", "transformers_version", "architectures")
"""Entries of a configuration that say who wrote it."""


# Rows


def splits_of(dataset: Any) -> dict[str, Any] | None:
    """Return split → rows of a data set in memory; None for a path, files or a section of a recipe.

    Args:
        dataset: A `datasets.Dataset`, a data frame, a table, an iterable of rows, or a mapping from split to these.

    Raises:
        BadRecipe: It is something else.
    """
    if dataset is None or isinstance(dataset, str | os.PathLike | Source):
        return None
    if isinstance(dataset, Mapping):
        return _splits_of_mapping(dataset)
    return {"train": rows_of(dataset, where="dataset")}


def dataset_section(dataset: Any) -> tuple[Any, dict[str, Any] | None]:
    """Return the ``dataset`` section of a recipe, and split → rows if the data set is in memory.

    Args:
        dataset: What `train` takes: also a section whose path is a data set in memory.

    Raises:
        BadRecipe: It is something else, or a key of the section has no effect on rows in memory.
    """
    section: dict[str, Any] = {}
    if isinstance(dataset, Mapping) and "path" in dataset:
        section, inside = dict(dataset), dataset["path"]
        rows = splits_of(inside)
    else:
        rows = splits_of(dataset)
    if rows is None:
        return dataset, None
    for key in ("format", "name", "revision", "options", "encoding", "streaming", "shuffle_buffer", "mixture"):
        if section.get(key):
            raise BadRecipe(f"dataset.{key}: has no effect on rows in memory. Leave it out.")
    return {**section, "path": ROWS}, rows


def _splits_of_mapping(dataset: Mapping[str, Any]) -> dict[str, Any] | None:
    is_section = set(dataset) <= {each.name for each in dataclasses.fields(Source)}
    if not isinstance(dataset, DatasetDict | IterableDatasetDict):
        if not dataset or is_section:
            return None
        if not set(dataset) & set(ROLES) and all(_is_column(value) for value in dataset.values()):
            return {"train": Dataset.from_dict(dict(dataset))}
        if all(_is_files(value) for value in dataset.values()):
            return None
    return {str(split): rows_of(rows, where=f"dataset[{split!r}]") for split, rows in dataset.items()}


def _is_files(value: Any) -> bool:
    parts = value if isinstance(value, list | tuple) and value else [value]
    return all(isinstance(part, str | os.PathLike) for part in parts)


def _is_column(value: Any) -> bool:
    """Return whether a value is a list of values, and not of rows."""
    return isinstance(value, list | tuple) and not any(isinstance(each, Mapping) for each in value)


def rows_of(rows: Any, *, where: str) -> Any:
    """Return rows as a `Dataset` or an iterable of mappings.

    Args:
        rows: A `Dataset`, a data frame of pandas or polars, a table of pyarrow, or an iterable of mappings.
        where: The argument, for messages.

    Raises:
        BadRecipe: It is something else.
    """
    if isinstance(rows, Dataset | IterableDataset):
        return rows.with_format(None)  # a format or a transform would hide columns, or give tensors
    library = type(rows).__module__.partition(".")[0]
    if library == "pandas" and hasattr(rows, "to_dict") and hasattr(rows, "columns"):
        try:
            return Dataset.from_pandas(rows, preserve_index=False)
        except (ValueError, TypeError):  # of pyarrow: a column has values of several types, which a check names
            return rows.to_dict("records")
    if hasattr(rows, "to_arrow") and hasattr(rows, "columns"):
        rows = rows.to_arrow()
    if type(rows).__module__.startswith("pyarrow") and hasattr(rows, "schema"):
        return Dataset(rows)
    is_sequence = hasattr(rows, "__getitem__") and hasattr(rows, "__len__")  # as torch's data sets are
    is_rows = (isinstance(rows, Iterable) or is_sequence) and library != "pandas"
    if isinstance(rows, str | bytes | Mapping) or not is_rows:
        raise BadRecipe(
            f"{where}: {_described(rows)} holds no rows. Give a Dataset, a DataFrame, a list of mappings such as "
            "[{'text': …, 'label': …}], or split → one of these."
        )
    if isinstance(rows, list | tuple):
        for number, row in enumerate(rows):
            if not isinstance(row, Mapping):
                raise BadRecipe(
                    f"{where}: row {number} is {_described(row)}. Give each row as a mapping of columns to values: "
                    "{'text': …, 'label': …}."
                )
    return rows


def require_text(splits: Mapping[str, Any], needs: Columns, columns: Mapping[str, str]) -> None:
    """Check that rows are not tokenized already.

    Args:
        splits: Split → rows.
        needs: The columns that the task reads.
        columns: Name in the rows → name for the task.

    Raises:
        BadRecipe: They hold ``input_ids`` and lack a column of the task.
    """
    for split, rows in splits.items():
        names = _columns_of(rows)
        ours = {columns.get(name, name) for name in names}
        missing = [name for name in needs.required if name not in ours]
        if "input_ids" in names and missing:
            raise BadRecipe(
                f"dataset: the rows of {split} are tokenized already ('input_ids'). Give the texts, in the column "
                f"{missing[0]!r}: finetune tokenizes them, and counts what is cut off."
            )


def _columns_of(rows: Any) -> set[str]:
    """Return the columns of rows, as far as they show without being read: those of a list are those of its first."""
    if isinstance(rows, list | tuple):
        return set(rows[0]) if rows else set()
    return set(getattr(rows, "column_names", None) or ())


def renames_of(columns: Mapping[str, str], splits: Mapping[str, Any]) -> dict[str, str]:
    """Return the renames of a run that rows need: they can have the names of its data, or those of the task already.

    Args:
        columns: Name in the data of the run → name for the task.
        splits: Split → rows.
    """
    names: set[str] = set().union(*map(_columns_of, splits.values()))
    return {theirs: ours for theirs, ours in columns.items() if theirs in names or ours not in names}


def examples_of(given: Any, needs: Columns) -> Any:
    """Return what `FineTuned.predict` takes as rows; texts become rows if the task reads one text.

    Args:
        given: A text, a mapping, a `Dataset`, a data frame, or an iterable of texts or mappings.
        needs: The columns that the task reads.

    Raises:
        BadData: It is something else, or the task reads more than a text.
    """
    if isinstance(given, str):
        return {_only_text(needs): given}
    if isinstance(given, Mapping):
        return given
    if isinstance(given, Iterable) and not hasattr(given, "columns") and not isinstance(given, bytes | Dataset):
        given = [{_only_text(needs): each} if isinstance(each, str) else each for each in given]
    try:
        return rows_of(given, where="predict")
    except BadRecipe as error:
        raise BadData(str(error)) from error


def _only_text(needs: Columns) -> str:
    """Return the one column that a task reads.

    Raises:
        BadData: It reads several.
    """
    if len(needs.required) == 1:
        return needs.required[0]
    reads = " and ".join(needs.required) or " or ".join(needs.inputs)
    keywords = ", ".join(f"{name}=…" for name in needs.required or needs.inputs)
    raise BadData(f"predict: this task reads {reads}, so a text alone does not say which. Write {keywords}.")


def _described(value: Any) -> str:
    """Return a value in a few words: a text as it is, and anything else by its class."""
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else f"{value[:60]}…")
    name = type(value).__name__
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


# Names


def section_of(section: str, given: Any, plugins: Plugins) -> Any:
    """Return a strategy, preprocessor or evaluator as its section of a recipe; anything else as it is.

    Raises:
        BadRecipe: It is a class, an object of another kind, or one that a recipe cannot describe.
    """
    if given is None or isinstance(given, str | Mapping | Choice):
        return given
    kind = KINDS[section]
    if isinstance(given, type):
        raise BadRecipe(f"{section}: {given.__name__} is a class. Make an object of it: {given.__name__}(…).")
    if not isinstance(given, kind):
        raise BadRecipe(
            f"{section}: {_described(given)} is no {kind.__name__} of finetune. Give a name of `finetune list`, a "
            "mapping such as {'name': 'lora', 'r': 8}, or an object of such a class."
        )
    chosen = options.as_options(given)
    if problem := json_problem(chosen):
        raise BadRecipe(
            f"{section}: the options of this {type(given).__name__} cannot be written into recipe.yaml: {problem}. Use "
            "text, numbers, lists and mappings of text."
        )
    return {"name": _class_name(section, type(given), plugins), **json.loads(to_json(chosen))}


def _class_name(section: str, cls: type, plugins: Plugins) -> str:
    """Return how a recipe names a class: its name in a plugin, else its place in Python."""
    path = class_path(cls)
    hook = "strategies" if section == "strategy" else f"{section}s"
    package = cls.__module__.partition(".")[0]
    for name, target in plugins.catalogues[hook].available.items():
        if str(target).partition(":")[0].partition(".")[0] == package and resolve(target) is cls:
            return name
    if "<locals>" in path:
        raise BadRecipe(
            f"{section}: {cls.__name__} is defined inside a function, so a run cannot find it again. Define it at the "
            "top of a module."
        )
    return path


def task_name(task: Task, plugins: Plugins) -> str:
    """Return how a recipe names a task.

    Raises:
        BadRecipe: No plugin and no imported module holds it.
    """
    for name, known in plugins.catalogues["tasks"].available.items():
        if known is task:
            return name
    for module in list(sys.modules.values()):
        for attribute, value in list(vars(module).items()) if inspect.ismodule(module) else ():
            if value is task:
                return f"{module.__name__}:{attribute}"
    raise BadRecipe(
        "task: this Task is in no module, and a run must find it again by its name. Assign it to a name at the top of "
        "a module, and give it or that name: 'my_module:TASK'."
    )


def metric_names(metrics: Any) -> tuple[list[str], dict[str, Callable[..., Any]]]:
    """Return the metrics that a recipe can name, and the functions that it cannot, by a name.

    Raises:
        BadRecipe: One is neither a name nor a function.
    """
    names: list[str] = []
    functions: dict[str, Callable[..., Any]] = {}
    for given in [metrics] if isinstance(metrics, str) or callable(metrics) else metrics:
        if isinstance(given, str):
            names.append(given)
        elif not callable(given):
            raise BadRecipe(f"metrics: {_described(given)} is neither a name nor a function from records to scores.")
        elif (path := import_path(given)) is not None:
            names.append(path)
        else:
            name = name_of(given)
            functions[name if name not in functions else f"{name}_{len(functions)}"] = given
    return names, functions


def import_path(function: Any) -> str | None:
    """Return ``"module:name"`` of a function that can be imported by it; None for another one."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if module is None or module == "__main__" or "." in name or not name.isidentifier():
        return None
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None
    return f"{module}:{name}" if found is function else None


# The trainer


def training_section(given: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a ``training`` section, and the keys of a recipe that `TrainingArguments` also sets: output and seed.

    Args:
        given: A mapping, or an object of `TrainingArguments`. Of an object, the options that differ from the defaults
            of its class count; the others have the defaults of finetune.

    Raises:
        BadRecipe: It is something else.
    """
    if isinstance(given, Mapping):
        return dict(given), {}
    if isinstance(given, type) or not isinstance(given, TrainingArguments):
        raise BadRecipe(
            f"training: {_described(given)} is neither a mapping such as {{'num_train_epochs': 3}} nor "
            "TrainingArguments(…)."
        )
    default = type(given)()
    section: dict[str, Any] = {}
    for field in dataclasses.fields(given):
        if not field.init or field.name in SET_BY_TRANSFORMERS:
            continue
        value = getattr(given, field.name)
        if value != getattr(default, field.name):
            section[field.name] = _plain_option(value)
    keys: dict[str, Any] = {}
    if given.output_dir != default.output_dir:
        keys["output"] = given.output_dir
    if given.seed != default.seed:
        keys["seed"] = given.seed
    return section, keys


def _plain_option(value: Any) -> Any:
    """Return the value of an option as a recipe can hold it."""
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, list | tuple):
        return [_plain_option(each) for each in value]
    return value


def without_paths(value: Any) -> Any:
    """Return a value of a recipe with text for every `Path`."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {name: without_paths(each) for name, each in value.items()}
    return [without_paths(each) for each in value] if isinstance(value, list) else value


def trainer_callbacks(given: Any) -> tuple[list[TrainerCallback], dict[str, Any]]:
    """Return callbacks as objects, and the training options that stand for `EarlyStoppingCallback`.

    Raises:
        BadRecipe: One is no callback.
    """
    callbacks: list[TrainerCallback] = []
    section: dict[str, Any] = {}
    for each in [given] if isinstance(given, TrainerCallback | type) else given:
        made = each() if isinstance(each, type) and issubclass(each, TrainerCallback) else each
        if isinstance(made, EarlyStoppingCallback):
            section[early_stopping.PATIENCE] = made.early_stopping_patience
            if made.early_stopping_threshold:
                section[early_stopping.THRESHOLD] = made.early_stopping_threshold
        elif isinstance(made, TrainerCallback):
            callbacks.append(made)
        else:
            raise BadRecipe(
                f"callbacks: {_described(made)} is no transformers.TrainerCallback. Write a subclass of it, with a "
                "method such as on_log."
            )
    return callbacks, section


def require_callable(argument: str, given: Any) -> None:
    """Check an argument that has to be a function.

    Raises:
        BadOptions: It is something else.
    """
    if given is not None and not callable(given):
        raise BadOptions(f"{argument}: {_described(given)} is no function.")


# Loaded models


def model_section(
    model: Any, tokenizer: Any, *, output: str | Path | None, overwrite: bool, resume: bool
) -> tuple[Any, list[str]]:
    """Return the ``model`` section of a recipe for a model and a tokenizer, and notes about what was written.

    A loaded model whose weights are those of the folder or id that it names becomes that name. Any other is saved next
    to the run folder, because a run reads its base model again: for the scores before training, and for adapters.

    Args:
        model: Anything that `train` takes as a model.
        tokenizer: A tokenizer, a path or an id; None for that of the model.
        output: The run folder; None if nothing names it.
        overwrite: Whether to replace what an earlier run saved there.
        resume: Whether the run continues.

    Raises:
        BadRecipe: A model or tokenizer is of a kind that cannot be saved and read again.
        OutputExists: Another model is saved there.
    """
    notes: list[str] = []
    section = _model_mapping(model)
    inner = section.get("tokenizer")
    if tokenizer is not None and inner is not None:
        raise BadRecipe("tokenizer: it is also in `model`. Give it once.")
    tokenizer = inner if tokenizer is None else tokenizer
    path = section.get("path")
    if output is None and (isinstance(path, PreTrainedModel) or isinstance(tokenizer, PreTrainedTokenizerBase)):
        raise BadRecipe("output: name the folder of the run. What is loaded is saved next to it.")
    place = Path(str(output))
    new = overwrite or not place.exists()
    if isinstance(path, PreTrainedModel):
        _refuse_in_several_processes("model")
        unchanged = _same_as_named(path)
        if unchanged is not None:
            section |= unchanged
        else:
            if tokenizer is None:
                tokenizer = _tokenizer_named_by(path)
            folder = Path(f"{place}-base")
            _save(path, folder, what="model", replaces=new, resume=resume)
            section["path"] = str(folder)
            notes.append(
                f"the loaded model was saved in {str(folder)!r}, from where the run reads it. Keep the folder: an "
                "adapter needs it, and so does a run that continues"
            )
    if isinstance(tokenizer, PreTrainedTokenizerBase):
        _refuse_in_several_processes("tokenizer")
        folder = Path(f"{place}-tokenizer")
        _save(tokenizer, folder, what="tokenizer", replaces=new, resume=resume)
        tokenizer = str(folder)
        notes.append(f"the tokenizer was saved in {tokenizer!r}, from where the run reads it")
    if tokenizer is not None and not isinstance(tokenizer, str | os.PathLike):
        raise BadRecipe(f"tokenizer: {_described(tokenizer)} is no tokenizer of transformers. Give one, or its name.")
    if tokenizer is not None:
        section["tokenizer"] = str(tokenizer)
    return section, notes


def holds_objects(model: Any, tokenizer: Any) -> bool:
    """Return whether `model_section` has something to do for a model and a tokenizer."""
    if tokenizer is not None:
        return True
    if isinstance(model, Mapping):
        plain = (str, os.PathLike, type(None))
        return not all(isinstance(model.get(name), plain) for name in ("path", "tokenizer"))
    is_plain = isinstance(model, str | os.PathLike | type(None)) or dataclasses.is_dataclass(model)
    return not is_plain


def _model_mapping(model: Any) -> dict[str, Any]:
    """Return a model as a section, in which the path can be a loaded model.

    Raises:
        BadRecipe: It is of a kind that cannot be trained.
    """
    if model is None:
        raise BadRecipe("tokenizer: it needs a model. Give that too: model='…'.")
    if dataclasses.is_dataclass(model) and not isinstance(model, type):
        return dataclasses.asdict(model)
    section = dict(model) if isinstance(model, Mapping) else {"path": model}
    path = section.get("path")
    if isinstance(path, str | os.PathLike):
        section["path"] = str(path)
        return section
    if path is None:
        raise BadRecipe("model: the section has no path. Write model={'path': '…', 'tokenizer': …}.")
    if hasattr(path, "merge_and_unload") or getattr(path, "peft_config", None):
        raise BadRecipe(
            "model: this model has an adapter of PEFT already. Merge it first, with merge_and_unload(); or give the "
            "base model and strategy={'name': 'lora', …}."
        )
    if not isinstance(path, PreTrainedModel):
        raise BadRecipe(
            f"model: {_described(path)} is no model of transformers. Give a name, a folder, or what from_pretrained "
            "returns."
        )
    if getattr(path, "hf_quantizer", None) is not None or getattr(path, "is_quantized", False):
        raise BadRecipe(
            "model: this model is quantized, and cannot be saved and read again as it is. Give its name, and "
            "strategy='qlora'."
        )
    return section


def _refuse_in_several_processes(argument: str) -> None:
    if processes.count() > 1:
        raise BadRecipe(
            f"{argument}: a loaded object cannot be given to several processes. Save it with save_pretrained, and give "
            "the folder."
        )


def _same_as_named(model: PreTrainedModel) -> dict[str, Any] | None:
    """Return the path from which a loaded model can be loaded again as it is; None if it cannot."""
    name = model.config.name_or_path
    if not name:
        return None
    load: Any = type(model).from_pretrained  # upstream's type does not know that it can return two objects
    try:
        with suppress_output():
            again, info = load(name, output_loading_info=True, local_files_only=True, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, ImportError, AttributeError):  # it is not there, or not as it was
        return None
    if info["missing_keys"] or info.get("mismatched_keys") or _settings(again) != _settings(model):
        return None  # a head that was made at random is in no file
    saved = again.state_dict()
    for key, tensor in model.state_dict().items():
        other = saved.get(key)
        same = other is not None and other.dtype == tensor.dtype and torch.equal(other, tensor.to(other.device))
        if not same:
            return None
    return {"path": absolute(name)}


def _settings(model: PreTrainedModel) -> dict[str, Any]:
    return {key: value for key, value in model.config.to_dict().items() if key not in _UNSAVED}


def _tokenizer_named_by(model: PreTrainedModel) -> str:
    """Return the name of a model whose tokenizer is there.

    Raises:
        BadRecipe: There is none.
    """
    name = model.config.name_or_path
    try:
        if not name:
            raise OSError("the model has no name")
        AutoTokenizer.from_pretrained(name, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise BadRecipe(
            f"tokenizer: give that of the loaded model, tokenizer=…, because none is found ({first_line(error)})."
        ) from error
    return absolute(name)


def _save(built: Any, folder: Path, *, what: str, replaces: bool, resume: bool) -> None:
    """Save a model or a tokenizer in a folder, unless the folder holds it already.

    Raises:
        OutputExists: The folder holds another one, or something else.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        made = Path(scratch) / folder.name
        with suppress_output():
            built.save_pretrained(made)
        if folder.exists():
            if _contents(made) == _contents(folder):
                return
            if resume or not replaces:
                why = "so the run cannot continue with it" if resume else "set overwrite=True, or name another output"
                raise OutputExists(f"{what}: {str(folder)!r} holds another {what}; {why}.")
            if not (folder / "config.json").is_file() and not (folder / "tokenizer_config.json").is_file():
                raise OutputExists(f"{what}: {str(folder)!r} is in the way. Move it, or name another output.")
            shutil.rmtree(folder)
        made.rename(folder)


def _contents(folder: Path) -> dict[str, str]:
    if not folder.is_dir():
        return {}
    return {str(path.relative_to(folder)): file_sha256(path) for path in folder.rglob("*") if path.is_file()}


__all__ = [
    "dataset_section",
    "examples_of",
    "holds_objects",
    "metric_names",
    "model_section",
    "renames_of",
    "require_callable",
    "require_text",
    "rows_of",
    "section_of",
    "splits_of",
    "task_name",
    "trainer_callbacks",
    "training_section",
]
