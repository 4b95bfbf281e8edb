"""Options that several commands have, and checks of their values."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import click

from finetune import trust
from finetune.cli.meant import recipe_file, run_folder
from finetune.plugins import add_folder
from finetune.training import upstream

Command = TypeVar("Command", bound=Callable[..., Any])


class RecipePath(click.Path):
    """The path of a recipe; a run or data in its place is answered with what was meant."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, with ``~`` replaced."""
        return recipe_file(str(value), command=(ctx and ctx.info_name) or "train")


class RunPath(click.Path):
    """The folder of a run; a recipe, data or a file of the run in its place is answered with what was meant."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path, with ``~`` replaced."""
        return run_folder(str(value), command=(ctx and ctx.info_name) or "evaluate")


def not_empty(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Return the value of a parameter as it is.

    Raises:
        click.BadParameter: It is an empty text.
    """
    if value == "":
        raise click.BadParameter("the value is empty.", ctx=context, param=parameter)
    return value


def _add_modules(context: click.Context, parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        add_folder(Path(value))
        trust.allow_folder(Path(value))


def _trust(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        stack = ExitStack()
        stack.enter_context(trust.everything())
        context.call_on_close(stack.close)


def _verbose(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if not value:
        return
    stack = ExitStack()
    for name, setting in VERBOSE.items():
        stack.enter_context(upstream.environment(name, setting))
    root, handler = logging.getLogger(), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    root.addHandler(handler)
    stack.callback(root.removeHandler, handler)
    stack.enter_context(upstream.at_level("", logging.DEBUG))
    context.call_on_close(stack.close)


VERBOSE = {"FINETUNE_VERBOSE": "1", "TRANSFORMERS_VERBOSITY": "info", "DATASETS_VERBOSITY": "info"}
"""Variables that let libraries say what they do; processes that a command starts have them, too."""

_LOUDNESS = (
    click.option("--quiet", "-q", is_flag=True, help="Show no progress and no notes."),
    click.option(
        "--verbose", "-v", is_flag=True, expose_value=False, callback=_verbose, help="Show what the libraries log."
    ),
)


def loudness(command: Command) -> Command:
    """Add `--quiet`, whose argument is `quiet`, and `--verbose`, which has no argument."""
    for option in reversed(_LOUDNESS):
        command = option(command)
    return command


AS_JSON = "finetune.json"
"""Key of a context whose command was asked for JSON: an error of it is printed as JSON, too."""


def _ask_for_json(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    context.find_root().meta[AS_JSON] = value
    return value


def as_json(what: str) -> Callable[[Command], Command]:
    """Return the option `--json`, whose argument is `as_json`.

    If the command ends with an error of finetune, standard output has one JSON object: ``error`` (the message),
    ``kind`` (the class), ``exit_code``, and for data also ``findings`` and ``counts``.

    Args:
        what: The help: ``Print the scores as JSON.``
    """
    return click.option("--json", "as_json", is_flag=True, is_eager=True, callback=_ask_for_json, help=what)


task = click.option(
    "--task",
    callback=not_empty,
    help="What a model of another program does: text-classification, question-answering, … Needed for an id of the "
    "Hub, and where the files of a folder do not say it.",
)
"""The option `--task` of commands that take models of other programs; the argument is `task`."""

base = click.option(
    "--base", callback=not_empty, help="Folder or Hub id of the base model, if it has moved since the run was trained."
)
"""The option `--base` of commands that load a run; the argument is `base`."""

accept_changes = click.option(
    "--accept-changes", is_flag=True, help="Use the run even if its base model or its tokenizer has changed."
)
"""The option `--accept-changes` of commands that load a run; the argument is `accept_changes`."""

modules = click.option(
    "--modules",
    type=click.Path(exists=True, file_okay=False),
    callback=_add_modules,
    expose_value=False,
    help="Folder with the Python modules that the recipe of the run names. They are run, so you must trust them.",
)
"""The option `--modules` of commands that load a run; it has no argument."""

trust_code = click.option(
    "--trust-code",
    is_flag=True,
    callback=_trust,
    expose_value=False,
    help="Run any Python code that the run folder names. Use it only if you trust its author.",
)
"""The option `--trust-code` of commands that read a run folder; it has no argument."""

_ANSWERING = (
    click.option(
        "--abstain-below",
        type=click.FloatRange(min=0, max=1, min_open=True, max_open=True),
        metavar="P",
        help="Withhold predictions with a probability below P: the prediction is null, and `withheld` is what it would "
        "have been.",
    ),
    click.option(
        "--coverage",
        type=click.FloatRange(min=0, max=1, min_open=True, max_open=True),
        metavar="P",
        help="Add a set of labels that holds the right one in at least this share of all cases.",
    ),
)


def answering(command: Command) -> Command:
    """Add `--abstain-below` and `--coverage`, which are the arguments of `FineTuned.with_answering`."""
    for option in reversed(_ANSWERING):
        command = option(command)
    return command


ENGINES = ("local", "ray")
"""As in `finetune.prediction`, which needs libraries that the help does not."""

_BLOCKS = (
    click.option("--overwrite", is_flag=True, help="Predict all rows again, and replace the predictions in --output."),
    click.option("--block-rows", type=click.IntRange(min=1), help="Rows of each file in --output. Default: 1000."),
    click.option(
        "--processes",
        type=click.IntRange(min=1),
        help="Predict in this many processes, one for each GPU. In Ray, by default as many as there are GPUs, or CPUs.",
    ),
    click.option(
        "--engine",
        type=click.Choice(ENGINES),
        help="What runs the processes: this machine (the default), or a cluster of Ray.",
    ),
    click.option("--address", help="Where the cluster of Ray is. Default: one that is started on this machine."),
)


def blocks(command: Command) -> Command:
    """Add the options of commands that predict in blocks; `chosen` checks them."""
    for option in reversed(_BLOCKS):
        command = option(command)
    return command


def chosen(options: Mapping[str, Any], *, need_output: Collection[str]) -> dict[str, Any]:
    """Return those options of `blocks`, and ``output``, that were given.

    Args:
        options: All of them.
        need_output: Those that have an effect with ``--output`` only.

    Raises:
        click.UsageError: An option has no effect.
    """
    given = {name: value for name, value in options.items() if value}
    for name in given:
        if name in need_output and "output" not in given:
            raise click.UsageError(f"--{name.replace('_', '-')} has an effect with --output only.")
    if "address" in given and given.get("engine") != "ray":
        raise click.UsageError("--address has an effect with --engine ray only.")
    return given


def _folder(context: click.Context, parameter: click.Parameter, value: str | None) -> Path | None:
    if value == "":
        raise click.BadParameter("the value is empty.", ctx=context, param=parameter)
    return None if value is None else Path(value)


cache = click.option(
    "--cache",
    metavar="DIR",
    type=click.Path(file_okay=False),
    callback=_folder,
    help="Keep the features in this folder, and use those that an earlier run kept.",
)
"""The option `--cache` of commands that make features; the argument is `cache`."""

SECTIONS = ("columns", "preprocessor", "evaluator")
"""What a model of another program can be given on the command line, with the names of the arguments of `load`."""


def sections(words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the options of `SECTIONS` among some words, ``preprocessor.max_length=384``, and the other words.

    Raises:
        click.UsageError: A value is missing.
    """
    from finetune import recipe

    found: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    others = []
    for word in words:
        key, equals, value = word.partition("=")
        section, _, name = key.removeprefix("dataset.").partition(".")
        if section not in SECTIONS or not name:
            others.append(word)
            continue
        if not equals or not value:
            raise click.UsageError(f"{word} needs a value: {key}=….")
        found[section][name] = value if section == "columns" else recipe.load(value, name=word)
    return found, others


__all__ = [
    "SECTIONS",
    "RecipePath",
    "RunPath",
    "accept_changes",
    "answering",
    "as_json",
    "base",
    "blocks",
    "cache",
    "chosen",
    "loudness",
    "modules",
    "not_empty",
    "sections",
    "task",
    "trust_code",
]
