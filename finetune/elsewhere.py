"""Trained models that no run of finetune made: a folder of transformers, an adapter of PEFT, or an id of the Hub."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import transformers
from safetensors import safe_open

from finetune import base as bases
from finetune import gguf, models
from finetune import plan as plans
from finetune import recipe as recipes
from finetune.errors import BadOptions, BadRecipe, FinetuneError, Incompatible, listed
from finetune.interfaces import Strategy, Task
from finetune.plan import Plan
from finetune.plugins import Plugins, class_path
from finetune.python_objects import ROWS
from finetune.recipe import Model
from finetune.recipe import options as object_options
from finetune.result import RECIPE, RESULT, Result, bare
from finetune.user_code import first_line

ADAPTER_WEIGHTS = "adapter_model.safetensors"
CONFIG = "config.json"
_HEADS = ("classifier", "score", "classifier.out_proj", "classification_head.out_proj", "qa_outputs")
"""Last layers of heads, by whose size an adapter shows how many labels it has."""
_PREFIX = "base_model.model."
"""Begins the names of all weights in an adapter of PEFT."""


@dataclass(frozen=True, kw_only=True)
class WholeModel(Strategy):
    """Loads a model that another program trained and saved whole; it trains nothing."""

    def prepare(self, model: Any, task: Task, *, newly_initialized: Collection[str] = ()) -> Any:
        """Refuse to train.

        Raises:
            Incompatible: Always: the class only says how the model is loaded.
        """
        raise Incompatible(
            "strategy: this folder describes a model that another program trained. To train it further, write a recipe "
            "whose model.path names the folder, with a strategy such as full."
        )


@dataclass(frozen=True, kw_only=True)
class Found:
    """A trained model, with all that its files say, and without its weights."""

    plan: Plan
    result: Result
    tokenizer: Any
    adapter: Path | None
    """The folder of the adapter, if the model is a base model with one."""


def is_one(place: str | Path) -> bool:
    """Return whether a place holds a model or an adapter, and no run.

    A place that does not exist can still be a model: an id of the Hub, or a folder in an installed package.
    """
    folder = Path(place).expanduser()
    if gguf.is_one(str(place)):
        return not folder.is_dir()
    if not folder.exists():
        return not str(place).startswith(("/", ".", "~"))
    holds_one = any((folder / name).is_file() for name in (CONFIG, bases.ADAPTER))
    is_run = any(os.path.lexists(folder / name) for name in (RECIPE, RESULT))  # also one with damaged files
    return not is_run and (holds_one or bool(checkpoints(folder)))


def find(
    place: str | Path,
    *,
    task: str | None,
    base: str | None = None,
    columns: Mapping[str, str] = {},
    sections: Mapping[str, Mapping[str, Any]] = {},
    plugins: Plugins,
) -> Found:
    """Find out what a trained model does, from its own files.

    Args:
        place: A folder with a model or an adapter, ``package:name/folder``, or an id of the Hub.
        task: Name of the task; None for the one that the files name.
        base: Folder or Hub id of the base model of an adapter; None for the one that the adapter names.
        columns: Name of a column in the rows → name that the task uses.
        sections: Options of ``preprocessor`` and ``evaluator``, as in a recipe.
        plugins: Where names are looked up.

    Raises:
        BadRecipe: There is no such model, or its files do not say enough.
        BadOptions: An option is unknown.
        Incompatible: The model was not trained for the task.
    """
    place, adapter = str(place), None
    folder = Path(place).expanduser()
    _refuse_checkpoints(folder)
    if not folder.is_dir() and task is None and ":" not in place and not gguf.is_one(place):
        raise BadRecipe(
            f"there is no folder {place!r}. For a model of the Hub with this name, say what it does: --task (in "
            "Python: task=…)."
        )
    model, strategy = Model(path=place), {"name": class_path(WholeModel)}
    if (folder / bases.ADAPTER).is_file():
        adapter = folder
        settings = read_json(folder / bases.ADAPTER)
        strategy = _strategy_for(settings, folder, plugins)
        model = _base_of(settings, folder, base)
    config = _config(plans.without_schemes(model, plugins), adapter)
    sections = {section: dict(given) for section, given in sections.items() if given}
    recipe = {
        "task": task or _task_of(config, adapter, place, plugins),
        "model": {"path": model.path, "revision": model.revision},
        "dataset": {"path": ROWS, "columns": dict(columns)},
        "strategy": strategy,
        "output": place,
        **sections,
    }
    plan = plans.make(recipes.from_mapping(recipe), plugins, for_training=False)
    if base is not None and adapter is None and not plan.task.compares_with_base:
        raise BadOptions(f"--base names the base model of an adapter, and {place!r} holds a whole model. Leave it out.")
    _require_head(config, plan, adapter)
    tokenizer = _tokenizer(plan.model, adapter)
    preprocessor = plan.preprocessor.for_model(config, tokenizer)
    given = sections.get("preprocessor", {})
    kept = {name: getattr(plan.preprocessor, name) for name in given if name != "name"}
    plan = replace(plan, preprocessor=replace(preprocessor, **kept) if kept else preprocessor)  # type: ignore[type-var]
    described = bases.describe(plan.model)
    if adapter is not None:
        described |= bases.describe_saved(adapter)
    result = bare(
        recipe=plan.resolved(),
        preprocessor=object_options.describe(plan.preprocessor),
        evaluator=object_options.describe(plan.evaluator),
        primary=plan.evaluator.primary,
        greater_is_better=plan.evaluator.greater_is_better,
        directory=place,
        base=described,
        notes=_notes(plan, adapter, asked=task is not None),
    )
    return Found(plan=plan, result=result, tokenizer=tokenizer, adapter=adapter)


def load(plan: Plan, adapter: Path | None, tokenizer: Any) -> Any:
    """Load the weights of a model that `find` found.

    Raises:
        Incompatible: A part of the model that the task needs has no trained weights.
        BadRecipe: The files cannot be loaded.
    """
    cls = getattr(transformers, plan.task.model_class)
    if adapter is None:
        loaded = models.load(plan.model, cls, plan.strategy.load_options())
        missing, model = sorted(loaded.newly_initialized), loaded.model
    else:
        reporting = _Reporting(cls)
        own = {**plan.preprocessor.model_options(), **plan.strategy.load_options()}
        try:
            model = plan.strategy.load(
                adapter,
                model_class=reporting,
                base=models.locate(plan.model),
                options=models.from_pretrained_options(plan.model, own),
            )
        except OSError as error:
            raise bases.not_found(plan.model, error) from error
        with safe_open(adapter / ADAPTER_WEIGHTS, framework="pt") as file:
            saved = set(file.keys())
        uncovered = (name for name in reporting.missing if f"{_PREFIX}{name}" not in saved)
        missing = sorted({name.rpartition(".")[0] for name in uncovered})
    if missing:
        raise Incompatible(
            f"model: {plan.recipe.output!r} has no trained weights of {listed(missing)}, which the task "
            f"{plan.recipe.task} needs. It is a pretrained model that was not trained for this task, or for another "
            "one. Train it first: finetune init --data FILE."
        )
    models.set_pad_token(model, tokenizer)
    return model


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints that `transformers.Trainer` wrote into a folder, in the order of their steps."""
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdecimal()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("checkpoint-")))


def _refuse_checkpoints(folder: Path) -> None:
    """Check that a folder holds a model itself, and not checkpoints alone.

    Raises:
        BadRecipe: It does not.
    """
    found = checkpoints(folder)
    if found and not any((folder / name).is_file() for name in (CONFIG, bases.ADAPTER)):
        names = listed([path.name for path in found])
        raise BadRecipe(f"{str(folder)!r} holds no model itself, but checkpoints: {names}. Name one: {found[-1]}.")


class _Reporting:
    """Stands for a class of transformers, and notes which weights the files lacked."""

    def __init__(self, cls: Any) -> None:
        self.cls = cls
        self.missing: set[str] = set()

    def from_pretrained(self, path: Any, **arguments: Any) -> Any:
        loaded, info = self.cls.from_pretrained(path, output_loading_info=True, **arguments)
        self.missing = {*info["missing_keys"], *(key for key, *_ in info.get("mismatched_keys", ()))}
        return loaded


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        BadRecipe: It holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadRecipe(f"{str(path)!r} cannot be read: {first_line(error)}.") from error
    if not isinstance(content, dict):
        raise BadRecipe(f"{str(path)!r} holds no settings. Restore the file as it was written.")
    return content


def _strategy_for(settings: Mapping[str, Any], folder: Path, plugins: Plugins) -> dict[str, Any]:
    """Return the strategy that loads an adapter, as its section of a recipe."""
    for name in sorted(plugins.catalogues["strategies"].available):
        cls = plugins.find("strategies", name)
        options = cls.for_adapter(settings) if isinstance(cls, type) and issubclass(cls, Strategy) else None
        if options is not None:
            return {"name": name, **options}
    kind = settings.get("peft_type")
    raise Incompatible(
        f"{str(folder)!r} holds an adapter of the kind {kind!r}, and no installed strategy loads it. Adapters of PEFT "
        "need finetune-kit[peft]; the page “PEFT's types” has those that are known."
    )


def _base_of(settings: Mapping[str, Any], folder: Path, base: str | None) -> Model:
    """Return the base model of an adapter."""
    named = base or settings.get("base_model_name_or_path")
    if not isinstance(named, str) or not named:
        raise BadRecipe(f"the adapter in {str(folder)!r} does not name its base model. Name it with --base.")
    if base is None and named.startswith("/") and not Path(named).is_dir():
        raise BadRecipe(
            f"the base model of the adapter in {str(folder)!r} was in {named!r}, which does not exist here. Name its "
            "place with --base."
        )
    revision = settings.get("revision") if base is None else None
    return Model(path=named, revision=revision if isinstance(revision, str) else None)


def _config(model: Model, adapter: Path | None) -> Any:
    """Return the configuration of a model; for an adapter with a head of its own, with as many labels as it has."""
    located = models.locate(model)
    try:
        with models.suppress_output():
            config = models.config_of(model)
    except (OSError, ValueError) as error:
        why = first_line(error).rstrip(".")
        raise BadRecipe(
            f"no model can be loaded from {located!r}: {why}. A model is a folder with {CONFIG} and weights as "
            "safetensors, or an id of the Hub."
        ) from error
    labels = None if adapter is None else _labels_of_head(adapter)
    if labels is not None and labels != config.num_labels:
        config.num_labels = labels  # names them LABEL_0 and so on
    return config


def _labels_of_head(adapter: Path) -> int | None:
    """Return how many outputs the head has that is saved with an adapter; None if there is none."""
    try:
        with safe_open(adapter / ADAPTER_WEIGHTS, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118, the file is no mapping
                if name.removeprefix(_PREFIX).removesuffix(".weight") in _HEADS:
                    return int(file.get_slice(name).get_shape()[0])
    except (OSError, ValueError) as error:
        raise BadRecipe(f"{str(adapter / ADAPTER_WEIGHTS)!r} cannot be read: {first_line(error)}.") from error
    return None


def _task_of(config: Any, adapter: Path | None, place: str, plugins: Plugins) -> str:
    """Return the one task that the files of a model name.

    Raises:
        BadRecipe: They name none, or several.
    """
    tasks = {name: plugins.find("tasks", name) for name in sorted(plugins.catalogues["tasks"].available)}
    if adapter is not None:
        kind = read_json(adapter / bases.ADAPTER).get("task_type")
        what = f"{bases.ADAPTER} has task_type {kind!r}"
        fitting = {name: task for name, task in tasks.items() if kind is not None and task.peft_type == kind}
    else:
        architecture = next(iter(config.architectures or ()), None)
        what = f"{CONFIG} names the class {architecture!r}" if architecture else f"{CONFIG} names no class"
        fitting = {name: task for name, task in tasks.items() if _has_class(config, architecture, task)}
    kind = config.problem_type or ("regression" if config.num_labels == 1 else "single_label_classification")
    own = [name for name, task in fitting.items() if task.problem_type == kind]
    if len(fitting) == 1 or len(own) == 1:
        return (own or list(fitting))[0]
    if not fitting:
        known = f"The tasks are {listed(list(tasks), most=len(tasks))}."
        raise BadRecipe(f"{place!r} does not say what it was trained for: {what}. Name the task with --task. {known}")
    raise BadRecipe(f"{place!r} can be used for several tasks: {what}. Name one with --task: {listed(list(fitting))}.")


def _has_class(config: Any, architecture: str | None, task: Task) -> bool:
    """Return whether a model was saved as the class that a task loads."""
    mapping = getattr(getattr(transformers, task.model_class, None), "_model_mapping", None)
    if architecture is None or mapping is None or type(config) not in mapping:
        return False
    found = mapping[type(config)]
    classes = found if isinstance(found, list | tuple) else [found]
    return architecture in [cls.__name__ for cls in classes]


def _require_head(config: Any, plan: Plan, adapter: Path | None) -> None:
    """Check that the configuration names the class that the task loads, if it names one.

    Raises:
        Incompatible: It names another, so the head would have random weights.
    """
    architecture = next(iter(config.architectures or ()), None)
    if adapter is not None or architecture is None or _has_class(config, architecture, plan.task):
        return
    raise Incompatible(
        f"model: {plan.recipe.output!r} was saved as {architecture}, so it has no trained head for "
        f"{plan.recipe.task}, which loads {plan.task.model_class}. Train it first: finetune init --data FILE."
    )


def _tokenizer(model: Model, adapter: Path | None) -> Any:
    """Load the tokenizer that was saved with an adapter, or else that of the model."""
    if adapter is not None and any((adapter / name).is_file() for name in bases.TOKENIZER[:2]):
        model = replace(model, tokenizer=str(adapter))
    try:
        with models.suppress_output():
            return models.tokenizer(model)
    except FinetuneError as error:
        raise BadRecipe(f"{error} A model needs its tokenizer: save it into the same folder.") from error


def _notes(plan: Plan, adapter: Path | None, *, asked: bool) -> list[str]:
    """Return what a user must know who takes the model for a run."""
    notes = ["no run of finetune made this model: its training data, its scores and its label order were not checked"]
    if gguf.is_one(plan.model.path):
        notes += gguf.sentences(gguf.record(Path(models.locate(plan.model))))
    if not asked:
        notes.append(f"the task is {plan.recipe.task}, as the files of the model say")
    labels = getattr(plan.preprocessor, "labels", None)
    if labels:
        notes.append(f"labels, in the order of their ids: {listed(list(labels))}")
        if all(name == f"LABEL_{number}" for number, name in enumerate(labels)):
            notes.append(
                "the model does not name its labels, so they are called LABEL_0, LABEL_1 and so on; name them with "
                "preprocessor.labels"
            )
    if adapter is not None:
        notes.append(f"its base model is {plan.model.path}, as the adapter says; nothing shows whether it has changed")
    return notes


__all__ = ["Found", "WholeModel", "checkpoints", "find", "is_one", "load", "read_json"]
