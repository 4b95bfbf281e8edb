"""The hooks that a plugin can implement.

A hook whose name is a plural noun returns a mapping ``{name: value or "module:attribute"}``. A hook
called ``before_x`` or ``after_x`` is called at that moment and returns nothing. A plugin is a
module that implements some of these hooks, and that an entry point of the group ``finetune`` names.
Keep its import fast: name heavy objects as ``"module:attribute"``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from finetune.interfaces import Job, Task
    from finetune.result import Result
    from finetune.seeds_result import SeedsResult

hookspec = pluggy.HookspecMarker("finetune")
hookimpl = pluggy.HookimplMarker("finetune")


@dataclass(frozen=True)
class Command:
    """A subcommand of ``finetune``, and where ``finetune --help`` lists it."""

    target: str
    """``"module:attribute"`` of the Click command."""
    group: str
    """``data``, ``train``, ``judge``, ``use``, ``share`` or ``learn``."""


@hookspec
def tasks() -> Mapping[str, Task]:  # type: ignore[empty-body]
    """Return your tasks: name → `Task`. The hook can be called more than once, so keep it fast.

    Examples:
        >>> @hookimpl
        ... def tasks():
        ...     return {"stsb": TASK}  # a finetune.interfaces.Task
    """


@hookspec
def preprocessors() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Return preprocessors that no task of yours names: name → subclass of `Preprocessor`.

    Examples:
        >>> @hookimpl
        ... def preprocessors():
        ...     return {"head-and-tail": "my_plugin.long:HeadAndTail"}
    """


@hookspec
def strategies() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Return your strategies: name → subclass of `Strategy`.

    Examples:
        >>> @hookimpl
        ... def strategies():
        ...     return {"bitfit": "my_plugin.bitfit:BitFit"}
    """


@hookspec
def evaluators() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Return evaluators that no task of yours names: name → subclass of `Evaluator`.

    Examples:
        >>> @hookimpl
        ... def evaluators():
        ...     return {"cost-sensitive": "my_plugin.cost:CostSensitiveEvaluator"}
    """


@hookspec
def metrics() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Return your metrics: name → function from records to ``{name: score}``.

    A name that ends with a colon is a scheme: for ``brier:macro``, the function of ``brier:`` is
    called with ``"macro"`` and returns the metric. If a metric has a method ``check``, it is called
    with some records of the base model before the first step, and can refuse them with
    `BadOptions`.

    Examples:
        >>> @hookimpl
        ... def metrics():
        ...     return {"brier": "my_plugin.brier:brier"}
    """


@hookspec
def readers() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Return your readers of file formats: name of the format → subclass of `finetune.interfaces.Reader`.

    A reader is used if the recipe names its format, or if it recognises the file.

    Examples:
        >>> @hookimpl
        ... def readers():
        ...     return {"conll": "my_plugin.conll:Conll"}
    """


@hookspec
def importers() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Return your importers of other tools' settings: name of the tool → subclass of `finetune.interfaces.Importer`.

    `finetune import` uses the one that recognises the file, or the one that ``--from`` names.

    Examples:
        >>> @hookimpl
        ... def importers():
        ...     return {"autotrain": "my_plugin.autotrain:AutoTrainImporter"}
    """


@hookspec
def sources() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Return your schemes of ``dataset.path``: scheme → function from the rest of the path to rows.

    ``path: "sample:harbour-qa"`` calls the function of ``sample`` with ``"harbour-qa"`` and, as
    keywords, ``dataset.options``. It returns ``{split: iterable of mappings}``. If its module has a
    function ``names``, which returns name → summary, ``finetune show sample`` lists them.

    Examples:
        >>> @hookimpl
        ... def sources():
        ...     return {"sample": "my_plugin.samples:load"}
    """


@hookspec
def models() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Return your schemes of ``model.path``: scheme → function from the rest of the path to the folder of a model.

    ``model: "sample:decoder"`` calls the function of ``sample`` with ``"decoder"``. It is called
    each time a recipe is read, so cache slow work. ``names`` is as for `sources`.

    Examples:
        >>> @hookimpl
        ... def models():
        ...     return {"sample": "my_plugin.bases:base"}
    """


@hookspec
def runtimes() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Return your runtimes of exported models: name → function from a folder and a class of transformers to a model.

    The folder of an exported model names its runtime; see `finetune.runtimes`. The model that the function returns must
    behave as one of the class: with its ``config``, ``device`` and ``dtype``, and the same outputs for the same inputs.

    Examples:
        >>> @hookimpl
        ... def runtimes():
        ...     return {"tensorrt": "my_plugin.tensorrt:load"}
    """


@hookspec
def commands() -> Mapping[str, str | Command]:  # type: ignore[empty-body]
    """Return your subcommands of ``finetune``: name → Click command.

    With a `Command`, ``finetune --help`` lists it among those with the same purpose. Its line there is the first
    sentence of the docstring of its function; nothing is imported for that.

    Examples:
        >>> @hookimpl
        ... def commands():
        ...     return {"serve": Command("my_plugin.serve:command", group="use")}
    """


@hookspec
def card_sections() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Return your sections of model cards: title → function from result and run folder to Markdown.

    If the text is empty, the section is left out. Escape everything that comes from data.

    Examples:
        >>> @hookimpl
        ... def card_sections():
        ...     return {"Energy": "my_plugin.energy:section"}
    """


@hookspec
def requirements() -> Mapping[str, Mapping[str, str]]:  # type: ignore[empty-body]
    """Return the optional libraries that your names need: name → top-level module → what ``pip install`` takes.

    A name is one that this plugin provides, of any kind, or ``"*"`` for all of them; an entry of its
    own is added to that of ``"*"``. Modules are looked up, not imported. If one is missing,
    `finetune list` shows the command that installs it, and a recipe that needs the name is refused
    with the same command. If a module of ``"*"`` is missing, the plugin's ``before_training``,
    ``after_run`` and ``after_seeds`` are not called.

    Examples:
        >>> @hookimpl
        ... def requirements():
        ...     return {"*": {"peft": "my-plugin[peft]"}, "qlora": {"bitsandbytes": "my-plugin[qlora]"}}
    """


@hookspec
def before_training(job: Job) -> None:
    """Called after the strategy has prepared the model, before the first step.

    Args:
        job: What the trainer gets. A callback that you append to ``job.callbacks`` sees the training.

    Examples:
        >>> @hookimpl
        ... def before_training(job):
        ...     print(job.model.num_parameters())
    """


@hookspec
def after_run(result: Result, directory: Path) -> None:
    """Called at the end of a run, when the run folder is complete.

    `finetune.kit.tracked` returns what an experiment tracker stores of a result: numbers, texts and files.

    Args:
        result: The result of the run.
        directory: The run folder.

    Examples:
        >>> @hookimpl
        ... def after_run(result, directory):
        ...     (directory / "notes.txt").write_text(result.recipe["task"])
    """


@hookspec
def after_seeds(result: SeedsResult, directory: Path) -> None:
    """Called when the runs of all ``seeds`` of a recipe have finished, after `after_run` of each of them.

    Args:
        result: The result of all seeds.
        directory: The folder that holds their run folders.

    Examples:
        >>> @hookimpl
        ... def after_seeds(result, directory):
        ...     (directory / "notes.txt").write_text(str(result.seeds))
    """


COLLECTING: dict[str, str] = {
    "tasks": "task",
    "preprocessors": "preprocessor",
    "strategies": "strategy",
    "evaluators": "evaluator",
    "metrics": "metric",
    "readers": "reader",
    "importers": "importer",
    "sources": "source",
    "models": "model scheme",
    "runtimes": "runtime",
    "commands": "command",
    "card_sections": "card section",
}
"""Hooks that return names → what messages call one of the names."""
