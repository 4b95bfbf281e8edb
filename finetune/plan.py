"""Names → built objects: everything that can be known before data and weights are touched."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from finetune import models, options
from finetune.errors import BadOptions, BadRecipe, FinetuneError, did_you_mean
from finetune.interfaces import Evaluator, Preprocessor, Record, Strategy, Task
from finetune.plugins import Plugins, resolve
from finetune.recipe import Choice, Model, Recipe, to_mapping

T = TypeVar("T")

Metric = Callable[[typing.Sequence[Record]], Mapping[str, float]]

OURS: Mapping[str, str] = {
    "output_dir": "it is the recipe's `output`",
    "seed": "it is the recipe's `seed`",
    "resume_from_checkpoint": "use `finetune train --resume`",
    "push_to_hub": "a run is never pushed while it trains",
    "hub_token": "a token in the arguments ends up, readable, in every checkpoint; set HF_TOKEN",
    "hub_model_id": "a run is never pushed while it trains",
    "generation_config": "how text is written stands in the recipe's `generation`",
    "generation_max_length": "it is the recipe's `generation.max_length`",
    "generation_num_beams": "it is the recipe's `generation.num_beams`",
}
"""Training arguments that a recipe may not set, and why."""

REMOVED: Mapping[str, str] = {
    "warmup_ratio": "write warmup_steps; below 1 it is a share of the steps",
    "evaluation_strategy": "it is eval_strategy now",
    "no_cuda": "it is use_cpu now",
    "overwrite_output_dir": "use `finetune train --overwrite`",
    "group_by_length": "it is train_sampling_strategy: group_by_length now",
    "save_safetensors": "nothing else is ever written",
}
"""Training arguments that transformers 5 dropped, and what to write instead."""


LIMITS = frozenset({"max_length", "max_new_tokens"})
"""Generation options of which one takes the other's place."""
_CODE = "transformers runs it as code from the Hub, and no remote code is ever run"
UNSUPPORTED: Mapping[str, str] = {
    "num_beam_groups": _CODE,
    "diversity_penalty": _CODE,
    "force_words_ids": _CODE,
    "constraints": _CODE,
    "dola_layers": _CODE,
    "penalty_alpha": _CODE,
    "stop_strings": "end tokens stop a text; cut what is written where you need it",
    "guidance_scale": "it needs a second, unconditional prompt",
}
"""Options of `transformers.GenerationConfig` that would fail when the first text is written, and why."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Names resolved and objects built; no data, no weights."""

    recipe: Recipe
    model: Model
    """The recipe's, its path that of a folder where a plugin answers for it."""
    task: Task
    preprocessor: Preprocessor
    strategy: Strategy
    evaluator: Evaluator
    metrics: Mapping[str, Metric]
    plugins: Plugins

    def resolved(self, training: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the recipe as plain mappings with every option spelt out, defaults included."""
        content = to_mapping(self.recipe)
        for section, built in (("preprocessor", self.preprocessor), ("evaluator", self.evaluator)):
            name = (content[section] or {}).get("name") or getattr(self.task, section)
            content[section] = {"name": name, **as_options(built)}
        content["strategy"] = {"name": self.recipe.strategy.name, **as_options(self.strategy)}
        content["training"] = dict(self.recipe.training if training is None else training)
        return content


def make(recipe: Recipe, plugins: Plugins) -> Plan:
    """Resolve every name of a recipe and build every object.

    Raises:
        FinetuneError: The only problem there is.
        BadRecipe: All problems there are, a line each.
    """
    problems: list[FinetuneError] = []

    def attempt(build: Callable[[], T]) -> T | None:
        try:
            return build()
        except FinetuneError as error:
            problems.append(error)
            return None

    task = attempt(lambda: plugins.find("tasks", recipe.task))
    strategy = attempt(lambda: _chosen(plugins, "strategies", recipe.strategy, Strategy))
    metrics = attempt(lambda: find_metrics(recipe, plugins))
    model = attempt(lambda: _model(recipe.model, plugins))
    preprocessor = evaluator = None
    if task is not None:
        if not isinstance(task, Task):
            raise BadRecipe(f"task: {recipe.task!r} is a {type(task).__name__}, not a finetune.interfaces.Task.")
        preprocessor = attempt(
            lambda: _chosen(plugins, "preprocessors", recipe.preprocessor, Preprocessor, task.preprocessor)
        )
        evaluator = attempt(lambda: _chosen(plugins, "evaluators", recipe.evaluator, Evaluator, task.evaluator))
        attempt(lambda: check_arguments(resolve(task.arguments), recipe.training))
        attempt(lambda: check_generation(task, recipe))
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
        metrics=metrics,
        plugins=plugins,
    )


def as_options(built: Any) -> dict[str, Any]:
    """Return the fields of a preprocessor, strategy or evaluator, as options that would build it again."""
    if not is_dataclass(built):
        return {}
    return {f.name: getattr(built, f.name) for f in fields(built) if f.init}


def find_metrics(recipe: Recipe, plugins: Plugins) -> dict[str, Metric]:
    """Return the recipe's further metrics, each under its name.

    Raises:
        FinetuneError: One does not exist, or is no function from records to scores.
    """
    return {name: _metric(name, plugins) for name in recipe.metrics}


def _metric(name: str, plugins: Plugins) -> Metric:
    """Return a further metric; what follows a scheme is the business of the plugin that brings the scheme."""
    targets = plugins.catalogues["metrics"].targets
    scheme, colon, rest = name.partition(":")
    if colon and f"{scheme}:" in targets:
        made: Metric = resolve(targets[f"{scheme}:"])(rest)
        return made
    found = plugins.find("metrics", name)
    if isinstance(found, type) or not callable(found):
        schemes = ", ".join(f"{known}{name}" for known in sorted(targets) if known.endswith(":"))
        raise BadRecipe(
            f"metrics: {name!r} is {found!r}; a function from records to {{name: score}} was wanted."
            + (f" If it is what one of these takes, write so: {schemes}." if schemes else "")
        )
    function: Metric = found
    return function


def _chosen(plugins: Plugins, hook: str, choice: Choice | None, base: Any, default: str = "") -> Any:
    """Build what a recipe names, or the task's default, with the options given."""
    choice = choice or Choice(name="")
    section = plugins.catalogues[hook].kind
    cls = plugins.find(hook, choice.name) if choice.name else resolve(default)
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise BadRecipe(f"{section}: {choice.name or default!r} is {cls!r}, not a subclass of {base.__name__}.")
    if not is_dataclass(cls):
        if choice.options:
            raise BadOptions(f"{section}: {cls.__name__} takes no options; it is no dataclass.")
        return cls()
    return options.build(cls, choice.options, where=section)


def _model(model: Model, plugins: Plugins) -> Model:
    """Return a model with the folder that a plugin answers with, and check what can be known of it.

    Raises:
        BadRecipe: It is not there, or not what it should be.
    """
    scheme, colon, rest = model.path.partition(":")
    if colon and scheme in plugins.catalogues["models"].targets:
        model = dataclasses.replace(model, path=str(plugins.find("models", scheme)(rest)))
    elif colon and f"{scheme}:" != models.PACKAGE:
        known = ["package", *plugins.catalogues["models"].targets]
        raise BadRecipe(
            f"model: nothing answers for {scheme!r} in {model.path!r}.{did_you_mean(scheme, known)} "
            f"Known: {', '.join(known)}."
        )
    models.check(model)
    return model


def check_generation(task: Task, recipe: Recipe) -> None:
    """Check the recipe's generation options against `transformers.GenerationConfig`.

    Raises:
        BadOptions: The task writes no text, or an option is unknown or contradicts another.
    """
    if not recipe.generation:
        return
    if not task.generates:
        raise BadOptions(f"generation: the task {recipe.task!r} writes no text. Leave the section out.")
    from transformers import GenerationConfig

    known = set(GenerationConfig().to_dict()) - {"transformers_version", "_from_model_config"}
    for name in recipe.generation:
        if name not in known:
            raise BadOptions(f"generation: {name!r} is not an option of GenerationConfig.{did_you_mean(name, known)}")
        if name in UNSUPPORTED:
            raise BadOptions(f"generation: {name!r} cannot be used here: {UNSUPPORTED[name]}.")
    if len(limits := recipe.generation.keys() & LIMITS) > 1:
        raise BadOptions(f"generation: give one of {', '.join(sorted(limits))}; transformers would ignore the first.")
    try:
        GenerationConfig(**recipe.generation).validate(strict=True)
    except (ValueError, TypeError) as error:
        raise BadOptions(f"generation: {' '.join(str(error).split())}") from error


def check_arguments(cls: type, training: Mapping[str, Any]) -> None:
    """Check the recipe's training options against the class that they are for.

    Raises:
        BadOptions: One is unknown, has gone, is the recipe's own business, or has a value of the wrong type.
    """
    known = {f.name: f for f in dataclasses.fields(cls) if f.init}
    hints = typing.get_type_hints(cls)
    for name, value in training.items():
        where = f"training: {name!r}"
        if name in OURS:
            raise BadOptions(f"{where} cannot be set here: {OURS[name]}.")
        if name not in known:
            told = f" {REMOVED[name][0].upper()}{REMOVED[name][1:]}." if name in REMOVED else did_you_mean(name, known)
            raise BadOptions(f"{where} is not an option of {cls.__name__}.{told}")
        try:
            read = TypeAdapter(hints[name]).validate_python(value)
        except ValidationError as error:
            raise BadOptions(f"{where}: {error.errors()[0]['msg']}, not {value!r}.") from error
        if isinstance(value, str) and isinstance(read, bool | int | float):  # upstream would take 'no' for true
            raise BadOptions(f"{where}: {read!r} was wanted, without quotes, not the text {value!r}.")
    if training.get("save_total_limit") == 1:
        raise BadOptions(
            "training: 'save_total_limit' is 1: a crash while the only checkpoint is replaced would lose the run. "
            "Keep at least 2."
        )
