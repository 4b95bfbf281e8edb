"""Every door a plugin may open.

Hooks that ask are plural nouns and return a mapping ``{name: value or "module:attribute"}``; hooks that tell are
``before_x`` or ``after_x`` and return nothing. A plugin is a module that implements some of them, named in the
entry-point group ``finetune``. Import nothing heavy in it: name what is heavy as ``"module:attribute"``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from finetune.interfaces import Job, Task
    from finetune.result import Result

hookspec = pluggy.HookspecMarker("finetune")
hookimpl = pluggy.HookimplMarker("finetune")


@hookspec
def tasks() -> Mapping[str, Task]:  # type: ignore[empty-body]
    """Say which tasks you bring: what is learned. Asked once, at discovery.

    Examples:
        >>> @hookimpl
        ... def tasks():
        ...     return {"stsb": Task(model_class="AutoModelForSequenceClassification", ...)}
    """


@hookspec
def preprocessors() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Say which preprocessors you bring beyond those your tasks name: raw examples → features.

    Examples:
        >>> @hookimpl
        ... def preprocessors():
        ...     return {"head-and-tail": "my_plugin.long:HeadAndTail"}
    """


@hookspec
def strategies() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Say which strategies you bring: how parameters move.

    Examples:
        >>> @hookimpl
        ... def strategies():
        ...     return {"bitfit": "my_plugin.bitfit:BitFit"}
    """


@hookspec
def evaluators() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Say which evaluators you bring beyond those your tasks name: predictions → records → scores.

    Examples:
        >>> @hookimpl
        ... def evaluators():
        ...     return {"cost": "my_plugin.cost:CostSensitive"}
    """


@hookspec
def metrics() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Say which extra metrics you bring: functions from records to ``{name: score}``.

    A name that ends with a colon is a scheme: ``brier:macro`` calls what ``brier:`` names with ``"macro"``, whenever a
    recipe is planned, and gets such a function. One that has a method ``check`` is shown some records of the untouched
    model before the first step, and may refuse their form.

    Examples:
        >>> @hookimpl
        ... def metrics():
        ...     return {"brier": "my_plugin.brier:brier"}
    """


@hookspec
def readers() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Say which file formats you read: subclasses of `finetune.interfaces.Reader`.

    Asked for a file when the recipe names the format, or when a reader recognises the file.

    Examples:
        >>> @hookimpl
        ... def readers():
        ...     return {"conll": "my_plugin.conll:Conll"}
    """


@hookspec
def sources() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Say which schemes of ``dataset.path`` you answer: functions from the rest of the path to rows.

    ``path: "sample:harbour-qa"`` calls the source ``sample`` with ``"harbour-qa"`` and ``dataset.options``; it
    returns ``{split: iterable of mappings}``.

    Examples:
        >>> @hookimpl
        ... def sources():
        ...     return {"sample": "my_plugin.samples:load"}
    """


@hookspec
def models() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Say which schemes of ``model.path`` you answer: functions from the rest of the path to the folder of a model.

    ``model: "sample:decoder"`` calls the scheme ``sample`` with ``"decoder"``, whenever a recipe is planned: keep what
    takes time in a cache.

    Examples:
        >>> @hookimpl
        ... def models():
        ...     return {"sample": "my_plugin.bases:base"}
    """


@hookspec
def commands() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Say which subcommands you add to ``finetune``: Click commands.

    Examples:
        >>> @hookimpl
        ... def commands():
        ...     return {"serve": "my_plugin.serve:command"}
    """


@hookspec
def card_sections() -> Mapping[str, str]:  # type: ignore[empty-body]
    """Say which sections you add to model cards: titles, and functions from result and run folder to Markdown.

    An empty text leaves the section out. What comes from data must be escaped.

    Examples:
        >>> @hookimpl
        ... def card_sections():
        ...     return {"Energy": "my_plugin.energy:section"}
    """


@hookspec
def requirements() -> Mapping[str, Mapping[str, str]]:  # type: ignore[empty-body]
    """Return the optional libraries that your names need: name → top-level module → what ``pip install`` takes.

    A name is one that this plugin brings, of any kind, or ``"*"`` for all of them; an entry of its own is added to
    that of ``"*"``. Modules are looked up, not imported. If one is missing, `finetune list` shows the command that
    installs it, and a recipe that needs the name is refused with the same command. If a module of ``"*"`` is missing,
    the plugin's ``before_training`` and ``after_run`` are not called.

    Examples:
        >>> @hookimpl
        ... def requirements():
        ...     return {"*": {"peft": "my-plugin[peft]"}, "qlora": {"bitsandbytes": "my-plugin[qlora]"}}
    """


@hookspec
def before_training(job: Job) -> None:
    """Be told what is about to be trained: the model is prepared, no step is made.

    Examples:
        >>> @hookimpl
        ... def before_training(job):
        ...     print(job.model.num_parameters())
    """


@hookspec
def after_run(result: Result, directory: Path) -> None:
    """Be told that a run has ended, and which folder holds it.

    Examples:
        >>> @hookimpl
        ... def after_run(result, directory):
        ...     (directory / "notes.txt").write_text(result.task)
    """


ASKING: dict[str, str] = {
    "tasks": "task",
    "preprocessors": "preprocessor",
    "strategies": "strategy",
    "evaluators": "evaluator",
    "metrics": "metric",
    "readers": "reader",
    "sources": "source",
    "models": "model scheme",
    "commands": "command",
    "card_sections": "card section",
}
"""Every hook that asks, and what one of its names is called in a message."""
