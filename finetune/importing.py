"""Make a recipe of another tool's settings: find the importer, check what it made, and write it with comments."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from finetune import recipe, secrets
from finetune.conversion import Conversion
from finetune.errors import BadOptions, BadRecipe, Incompatible, MissingLibrary, UnknownName
from finetune.interfaces import Importer, Strategy, Task
from finetune.plugins import Plugins, resolve
from finetune.recipe import foreign, options
from finetune.training import early_stopping, sharding_options
from finetune.training.arguments import check_arguments

WIDTH = 120
"""Longest line of a recipe."""

ORDER = (
    "task", "model", "dataset", "preprocessor", "strategy", "evaluator", "metrics", "training", "generation", "seed",
    "output",
)  # fmt: skip
"""The keys of a recipe in the order in which they are written; others follow."""

TRAINING = (
    "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "num_train_epochs", "max_steps",
    "per_device_train_batch_size", "gradient_accumulation_steps", "per_device_eval_batch_size", "optim", "optim_args",
    "weight_decay", "max_grad_norm", "beta", "loss_type", "bf16", "fp16", "tf32", "activation_checkpointing",
)  # fmt: skip
"""The same for the options of `training`."""


def convert(path: Path, plugins: Plugins, *, tool: str | None = None, task: str | None = None) -> Conversion:
    """Make a recipe of a file of settings.

    Args:
        path: The file: YAML, JSON, or a shell script with one command.
        plugins: Where importers are looked up.
        tool: Name of the importer; None for the one that recognises the file.
        task: The task, where the file does not say it.

    Raises:
        BadRecipe: The file cannot be read, no importer or several recognise it, or no recipe can be made of it.
        UnknownName: There is no importer with this name, or no such task.
    """
    found = foreign.read(path, programs=plugins.catalogues["importers"].targets)
    if task is not None and task not in plugins.catalogues["tasks"].targets:
        plugins.find("tasks", task)  # raises, with the nearest name
    importer = _importer(found, plugins, tool)
    conversion = Conversion(
        tool=importer.title,
        content=found.content,
        folder=found.folder,
        lines=found.lines,
        command=found.command,
        task=task,
    )
    conversion.check_types(importer.keys)
    importer.convert(conversion)
    conversion.follow(importer.keys)
    conversion.finish(importer.keys)
    if task is not None and conversion.recipe.get("task") != task:
        raise BadRecipe(f"--task {task}: the file makes the task {conversion.recipe.get('task')!r}. Leave --task out.")
    settle(conversion, plugins)
    return conversion


def _importer(found: foreign.Foreign, plugins: Plugins, tool: str | None) -> Importer:
    """Return the importer of a name, or the one that recognises the settings."""
    catalogue = plugins.catalogues["importers"]
    if tool is not None:
        return _built(catalogue.find(tool))
    importers = {name: _built(catalogue.load(name)) for name in sorted(catalogue.available)}
    known = [name for name, importer in importers.items() if importer.recognises(found.content)]
    if found.command and found.command[0] in known:  # `trl sft …`
        known = [found.command[0]]
    if len(known) == 1:
        return importers[known[0]]
    what = f"{' and '.join(known)} can read this file" if known else "no importer recognises this file"
    raise BadRecipe(f"{found.name}: {what}. Name the tool: --from {' or --from '.join(known or importers)}.")


def _built(cls: Any) -> Importer:
    if not (isinstance(cls, type) and issubclass(cls, Importer)):
        raise BadOptions(f"importer: {cls!r} is not a subclass of finetune.interfaces.Importer.")
    return cls()


# --- what a recipe cannot have ----------------------------------------------------------------------------------------


def settle(conversion: Conversion, plugins: Plugins) -> None:
    """Remove from the recipe what it cannot have, and say why; then check that it is one.

    Raises:
        BadRecipe: The recipe is none: the importer is at fault.
    """
    content = conversion.recipe
    try:
        task: Task = plugins.find("tasks", str(content.get("task")))
        arguments = resolve(task.arguments)
    except MissingLibrary as error:
        conversion.tell("task", "mapped", f"The options of training are not checked: {error}")
    else:
        _settle_training(conversion, task, arguments)
        _settle_options(conversion, "preprocessor", resolve(task.preprocessor))
    given = content.get("strategy", "full")
    named = dict(given) if isinstance(given, Mapping) else {"name": given}
    try:
        strategy = plugins.find("strategies", str(named.pop("name", "")))
    except MissingLibrary as error:
        conversion.tell("strategy", "mapped", f"The options of strategy are not checked: {error}")
    else:
        if isinstance(given, Mapping):
            _settle_options(conversion, "strategy", strategy)
            named = {name: value for name, value in given.items() if name != "name"}
        _settle_sharding(conversion, options.build(strategy, named, where="strategy"))
    for section in ("training", "preprocessor", "generation"):
        if section in content and not content[section]:
            del content[section]
    secrets.refuse(content)
    recipe.from_mapping(content, name="the recipe")


def _settle_training(conversion: Conversion, task: Task, arguments: type) -> None:
    def check(training: Mapping[str, Any]) -> None:
        check_arguments(arguments, training)
        if task.check_training is not None:
            resolve(task.check_training)(task, training)

    _remove_refused(conversion, "training", check)
    _settle_early_stopping(conversion, task)


def _settle_early_stopping(conversion: Conversion, task: Task) -> None:
    """Let a run that stops early save whenever it is evaluated; remove early stopping that cannot work."""
    training = conversion.recipe.get("training", {})
    if not early_stopping.is_on(training):
        return
    when_saved = (training.get("save_strategy"), training.get("save_steps"))
    when_evaluated = (training.get("eval_strategy"), training.get("eval_steps"))
    if "eval_strategy" in training and when_saved != when_evaluated:
        for name in ("save_strategy", "save_steps"):
            if name in training:
                note = "With early stopping, a checkpoint is saved at each evaluation."
                conversion.remove(("training", name), "unneeded", note)
    if training.get("load_best_model_at_end") is False:
        note = "A run that stops early ends with its best weights."
        conversion.remove(("training", "load_best_model_at_end"), "unneeded", note)
    problem = _problem(lambda given: early_stopping.check(given, task.training), training)
    if problem is not None:
        conversion.remove(("training", early_stopping.PATIENCE), "missing", problem)


def _settle_sharding(conversion: Conversion, strategy: Strategy) -> None:
    """Remove options that do not go with FSDP, or FSDP if the strategy does not go with it."""

    def check(training: Mapping[str, Any]) -> None:
        sharding_options.refuse({"fsdp": True, **training}, strategy)

    if conversion.recipe.get("training", {}).get("fsdp"):
        _remove_refused(conversion, "training", check, only=("fsdp",))
    if conversion.recipe.get("training", {}).get("fsdp"):
        _remove_refused(conversion, "training", check)


def _settle_options(conversion: Conversion, section: str, cls: type) -> None:
    def check(given: Mapping[str, Any]) -> None:
        named = {name: value for name, value in given.items() if name != "name"}
        options.build(cls, named, where=section)

    _remove_refused(conversion, section, check)


def _remove_refused(
    conversion: Conversion, section: str, check: Callable[[Mapping[str, Any]], None], *, only: Collection[str] = ()
) -> None:
    """Remove the options of a section that a check refuses, one by one.

    Args:
        conversion: The conversion.
        section: The section.
        check: Raises `BadOptions` for options that it refuses.
        only: Names of the options to check; empty for all.
    """
    given = conversion.recipe.get(section, {})
    if _problem(check, given) is None:
        return
    for name in only or list(given):
        problem = _problem(check, {name: given[name]})
        if problem is None:
            continue
        if given[name] is False or given[name] is None:
            conversion.remove((section, name), "unneeded", "It is off.")
        else:
            conversion.remove((section, name), "missing", problem)
    if not only and (problem := _problem(check, given)):
        conversion.tell(section, "missing", f"The options contradict each other: {problem}")


def _problem(check: Callable[[Mapping[str, Any]], None], given: Mapping[str, Any]) -> str | None:
    """Return why a check refuses options; None if it does not."""
    try:
        check(given)
    except (BadOptions, Incompatible, UnknownName) as error:
        return str(error)
    return None


# --- the recipe as text -----------------------------------------------------------------------------------------------


def write(conversion: Conversion, *, name: str) -> str:
    """Return the recipe of a conversion as YAML, with comments that say where its values come from.

    Args:
        conversion: The conversion.
        name: Name of the file that it was made of.
    """
    lines = [
        *_comment(f"Made of {name} ({conversion.tool}) by `finetune import`."),
        *_comment(
            "A comment after a value names its key there, or says why it is set. A value without one has the same key "
            "there."
        ),
    ]
    lost = [key for key, outcome in conversion.outcomes.items() if outcome.status == "missing"]
    if lost:
        lines += ["#", *_comment("These keys have no place here, and change what the run does:")]
        for key in lost:
            text = f"{conversion.place_of(key)}: {' '.join(conversion.outcomes[key].notes)}"
            lines += _comment(text, first="# - ", rest="#   ")
    content = _ordered(conversion.recipe, ORDER)
    if "training" in content:
        content["training"] = _ordered(content["training"], TRAINING)
    was_section = True
    for key in content:
        is_section = isinstance(content[key], Mapping)
        if is_section or was_section:
            lines.append("")
        was_section = is_section
        lines += _entry((key,), content[key], conversion.comments, 0)
    return "\n".join(lines) + "\n"


def _ordered(content: Mapping[str, Any], order: Collection[str]) -> dict[str, Any]:
    """Return a section with the named keys first."""
    first = {key: content[key] for key in order if key in content}
    return {**first, **content}


def _entry(place: tuple[str, ...], value: Any, comments: Mapping[tuple[str, ...], str], indent: int) -> Iterator[str]:
    """Yield the lines of one key, with its comment."""
    comment = comments.get(place, "")
    has_comments = any(other[: len(place)] == place and other != place for other in comments)
    space = "  " * indent
    if isinstance(value, Mapping) and value and has_comments:
        yield from _above(comment, space)
        yield f"{space}{recipe.dump({place[-1]: None}).rstrip().removesuffix(' null')}"
        for key, inner in value.items():
            yield from _entry((*place, key), inner, comments, indent + 1)
        return
    written = [f"{space}{line}" if line else "" for line in _written(place[-1], value)]
    if comment and len(written) == 1 and len(written[0]) + len(comment) + 4 <= WIDTH:
        yield f"{written[0]}  # {comment}"
        return
    yield from _above(comment, space)
    yield from written


def _written(key: str, value: Any) -> list[str]:
    """Return a key with its value; texts of several lines as a block."""
    if isinstance(value, str) and "\n" in value:
        block = recipe.scalar(value, style="|").splitlines()
        head, *rest = block
        return [f"{key}: {head}", *rest]
    return recipe.dump({key: value}).splitlines()


def _above(comment: str, space: str) -> list[str]:
    return [f"{space}{line}" for line in _comment(comment, width=WIDTH - len(space))] if comment else []


def _comment(text: str, *, first: str = "# ", rest: str = "# ", width: int = WIDTH) -> list[str]:
    flat = " ".join(text.split())
    return textwrap.wrap(flat, width, initial_indent=first, subsequent_indent=rest, break_long_words=False)
