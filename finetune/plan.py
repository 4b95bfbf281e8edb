"""From a recipe to its plan: look up every name and build every object, without data or weights."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from finetune import models, python_objects, secrets, trust
from finetune.errors import BadRecipe, FinetuneError, Incompatible, did_you_mean
from finetune.interfaces import Evaluator, Preprocessor, Record, Strategy, Task
from finetune.plugins import Plugins, class_path, resolve
from finetune.python_objects import PythonObjects
from finetune.recipe import Choice, Model, Recipe, options, to_mapping
from finetune.training import auto_batch, averaging, early_stopping, sharding_options
from finetune.training.arguments import check_arguments, check_generation, check_installed, check_streaming

T = TypeVar("T")

Metric = Callable[[typing.Sequence[Record]], Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A recipe with the objects that it names."""

    recipe: Recipe
    model: Model
    """The model of the recipe; if its path is a scheme of a plugin, the path is the folder that the
    plugin returned."""
    task: Task
    preprocessor: Preprocessor
    strategy: Strategy
    evaluator: Evaluator
    metrics: Mapping[str, Metric]
    plugins: Plugins
    objects: PythonObjects = python_objects.NONE
    """What the run was given in Python and no recipe can hold."""

    def resolved(self, training: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the recipe as plain mappings with every option, including defaults.

        Args:
            training: Training options; None for those of the recipe.
        """
        content = to_mapping(self.recipe)
        for section, built in (("preprocessor", self.preprocessor), ("evaluator", self.evaluator)):
            name = (content[section] or {}).get("name") or getattr(self.task, section)
            content[section] = {"name": name, **options.as_options(built)}
        content["strategy"] = {"name": self.recipe.strategy.name, **options.as_options(self.strategy)}
        content["training"] = dict(self.recipe.training if training is None else training)
        return content


def make(
    recipe: Recipe, plugins: Plugins, *, for_training: bool = True, objects: PythonObjects = python_objects.NONE
) -> Plan:
    """Look up every name of a recipe, and build every object.

    Args:
        recipe: What to do.
        plugins: Where names are looked up.
        for_training: Whether the recipe will be trained. A finished run may not need the base model, nor the
            libraries of training options.
        objects: What the run is given in Python and no recipe can hold.

    Raises:
        FinetuneError: There is one problem.
        BadRecipe: There are several problems; the message has one line for each.
    """
    secrets.refuse(to_mapping(recipe))
    if for_training:
        python_objects.require(recipe, objects)
    problems: list[FinetuneError] = []

    def attempt(build: Callable[[], T]) -> T | None:
        try:
            return build()
        except FinetuneError as error:
            problems.append(error)
            return None

    task = attempt(lambda: plugins.find("tasks", recipe.task))
    strategy = attempt(lambda: _chosen(plugins, "strategies", recipe.strategy, Strategy))
    if strategy is not None:
        attempt(lambda: sharding_options.refuse(recipe.training, strategy))
        attempt(lambda: _check_layers(recipe, strategy))
    metrics = attempt(lambda: find_metrics(recipe, plugins))
    teacher = recipe.teacher
    if for_training and teacher is not None:
        attempt(lambda: _check_teacher(teacher.path))
    model = attempt(lambda: _model(recipe.model, plugins, check=for_training))
    preprocessor = evaluator = None
    if task is not None:
        if not isinstance(task, Task):
            raise BadRecipe(f"task: {recipe.task!r} is a {type(task).__name__}. It must be a finetune.interfaces.Task.")
        preprocessor = attempt(
            lambda: _chosen(plugins, "preprocessors", recipe.preprocessor, Preprocessor, task.preprocessor)
        )
        attempt(lambda: _check_model_class(task, recipe.task))
        evaluator = attempt(lambda: _chosen(plugins, "evaluators", recipe.evaluator, Evaluator, task.evaluator))
        attempt(lambda: _check_training(task, recipe, installed=for_training))
        attempt(lambda: check_generation(task, recipe))
        if recipe.dataset.streaming and for_training:
            attempt(lambda: check_streaming(task, recipe))
            for built in (preprocessor, strategy):
                if built is not None:
                    attempt(built.check_streaming)
    if problems:
        if len(problems) == 1:
            raise problems[0]
        raise BadRecipe("\n".join(str(problem) for problem in problems)) from problems[0]
    assert task and strategy and preprocessor and evaluator and model and metrics is not None
    return Plan(
        recipe=recipe,
        model=model,
        task=task,
        preprocessor=preprocessor,
        strategy=strategy,
        evaluator=evaluator,
        metrics={**metrics, **objects.metrics},
        plugins=plugins,
        objects=objects,
    )


def _check_model_class(task: Task, name: str) -> None:
    """Check that transformers has the task's model class.

    Raises:
        BadRecipe: It has none of that name.
    """
    import transformers

    if not hasattr(transformers, task.model_class):
        autos = [known for known in dir(transformers) if known.startswith("AutoModel")]
        raise BadRecipe(
            f"task: {name!r} names the model class {task.model_class!r}, which transformers does not have."
            f"{did_you_mean(task.model_class, autos)}"
        )


def _check_layers(recipe: Recipe, strategy: Strategy) -> None:
    """Check that a smaller model is saved whole.

    Raises:
        Incompatible: The strategy saves an adapter alone, which would be loaded into the whole base model.
    """
    if recipe.model.layers is not None and strategy.loads_base():
        raise Incompatible(
            f"model.layers: the strategy {recipe.strategy.name!r} saves its own weights alone, for a base model that "
            "no folder holds. Train the smaller model with a strategy that saves the whole model, such as full."
        )


def _check_teacher(path: str) -> None:
    """Check that the folder of a teacher exists; an id of the Hub is left to transformers.

    Raises:
        BadRecipe: It does not.
    """
    if path.startswith(("/", ".", "~")) and not Path(path).expanduser().is_dir():
        raise BadRecipe(f"teacher: {path!r} is not a folder. Name a finished run, or another trained model.")


def _check_training(task: Task, recipe: Recipe, *, installed: bool) -> None:
    """Check the training options of a recipe, and the libraries that they need if wanted."""
    training = recipe.training
    check_arguments(resolve(task.arguments), training)
    auto_batch.check(training, task, streaming=recipe.dataset.streaming)
    early_stopping.check(training, task.training)
    averaging.check(training)
    if task.check_training is not None:
        resolve(task.check_training)(task, training)
    if installed:
        check_installed(training)


def find_metrics(recipe: Recipe, plugins: Plugins) -> dict[str, Metric]:
    """Return the metrics that a recipe names: name → function.

    Raises:
        FinetuneError: A metric does not exist, or is not a function.
    """
    return {name: _metric(name, plugins) for name in recipe.metrics}


def _metric(name: str, plugins: Plugins) -> Metric:
    """Return a metric; if its name begins with a scheme, the plugin of the scheme makes it from the rest."""
    catalogue = plugins.catalogues["metrics"]
    targets = catalogue.targets
    scheme, colon, rest = name.partition(":")
    if colon and f"{scheme}:" in targets:
        trust.require(name, where="metrics")  # the rest can name code, too
        made: Metric = catalogue.load(f"{scheme}:")(rest)
        return made
    found = plugins.find("metrics", name)
    if isinstance(found, type) or not callable(found):
        schemes = ", ".join(f"{known}{name}" for known in sorted(targets) if known.endswith(":"))
        raise BadRecipe(
            f"metrics: {name!r} is {found!r}. It must be a function from records to {{name: score}}."
            + (f" If a scheme takes it, write: {schemes}." if schemes else "")
        )
    function: Metric = found
    return function


def _chosen(plugins: Plugins, hook: str, choice: Choice | None, base: Any, default: str = "") -> Any:
    """Build the object that a recipe names, or the default of the task, from its options."""
    choice = choice or Choice(name="")
    section = plugins.catalogues[hook].kind
    cls = plugins.find(hook, choice.name) if choice.name else resolve(default)
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise BadRecipe(f"{section}: {choice.name or default!r} is {cls!r}. It must be a subclass of {base.__name__}.")
    trust.allow(class_path(cls))  # a plugin provides it, or the user named it
    return options.build(cls, choice.options, where=section)


def _model(model: Model, plugins: Plugins, *, check: bool) -> Model:
    """Return a model with folders in place of the schemes of plugins, after the checks of `models.check` if wanted.

    Raises:
        BadRecipe: No plugin provides the scheme of a path, or a check fails.
    """
    model = without_schemes(model, plugins)
    if check:
        models.check(model)
    return model


def without_schemes(model: Model, plugins: Plugins) -> Model:
    """Return a model with folders in place of the schemes of plugins.

    Raises:
        BadRecipe: No plugin provides the scheme of a path.
    """
    model = dataclasses.replace(model, path=_without_scheme(model.path, plugins, section="model"))
    if model.tokenizer is not None:
        tokenizer = _without_scheme(model.tokenizer, plugins, section="model.tokenizer")
        model = dataclasses.replace(model, tokenizer=tokenizer)
    return model


def _without_scheme(path: str, plugins: Plugins, *, section: str) -> str:
    """Return the folder that a plugin returns for `scheme:rest`, or the path itself if it has no scheme.

    Raises:
        BadRecipe: No plugin provides the scheme.
    """
    scheme, colon, rest = path.partition(":")
    if not colon or f"{scheme}:" == models.PACKAGE:
        return path
    schemes = plugins.catalogues["models"].targets
    if scheme not in schemes:
        known = ["package", *schemes]
        raise BadRecipe(
            f"{section}: no plugin provides the scheme {scheme!r} of {path!r}.{did_you_mean(scheme, known)} "
            f"Installed: {', '.join(known)}."
        )
    return str(plugins.find("models", scheme)(rest))
