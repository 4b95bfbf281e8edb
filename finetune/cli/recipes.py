"""What `check`, `plan` and `train` take: a recipe and changes to it, or data and what a recipe would say of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from finetune import processes
from finetune.cli import meant, names
from finetune.cli.parameters import not_empty

if TYPE_CHECKING:
    from finetune.recipe import Recipe

SETTINGS = {"ignore_unknown_options": True}
"""``context_settings`` of these commands: an option with the name of a column, such as ``--text``, is no error."""

_OPTIONS = (
    click.option(
        "--data", callback=not_empty, help="Path of your data, instead of RECIPE. The other choices are found from it."
    ),
    click.option("--task", callback=not_empty, shell_complete=names.complete("tasks"), help="With --data: the task."),
    click.option("--model", callback=not_empty, help="With --data: the base model, an id of the Hub or a folder."),
    click.option(
        "--strategy",
        callback=not_empty,
        shell_complete=names.complete("strategies"),
        help="With --data: the strategy.  [default: full]",
    ),
    click.option("--output", callback=not_empty, help="With --data: folder of the run. Default: runs/TASK."),
)


@dataclass(frozen=True, kw_only=True)
class Given:
    """A recipe, and where it came from."""

    recipe: Recipe
    path: Path
    """Its file; for a recipe that was made from data, a file in the current folder that does not exist."""
    made: bool
    """Whether it was made from data."""

    def say_where(self, command: str) -> None:
        """Say where the recipe of a call without one is written, or how to write it."""
        if not self.made or not processes.is_main():
            return
        if command == "train":
            click.echo(f"There is no recipe file, so the run writes one: {self.recipe.output}/{meant.RECIPE}", err=True)
        else:
            click.echo("`finetune init` with the same options prints this as a recipe.", err=True)


@dataclass(frozen=True, kw_only=True)
class Call:
    """The arguments of a command that takes a recipe or data."""

    words: Sequence[str]
    """The path of the recipe, overrides, and options with the names of columns."""
    data: str | None
    """Path of the data; None if there is a recipe."""
    task: str | None
    model: str | None
    strategy: str | None
    output: str | None

    def read(self, *, ask: bool = True, runs: bool = False) -> Given:
        """Return the recipe of the call.

        Args:
            ask: Whether the user may be asked what is not clear; not if other processes read the same call.
            runs: Whether the folder of a run can take the place of the recipe. Its output is then that folder.

        Raises:
            FinetuneError: There is neither a recipe nor data, or both; or an option does not exist.
        """
        from finetune import recipe as recipes
        from finetune.errors import BadOptions

        context = click.get_current_context()
        plain, given = _sorted_out(self.words)
        if self.data is None:
            for name, value in given:
                raise meant.option(name, value, known=_known(context))
            for name in ("task", "model", "strategy", "output"):
                value = getattr(self, name)
                if value is not None and plain:
                    raise BadOptions(f"a recipe has the key {name}: write {name}={value} instead of --{name}.")
                if value is not None:
                    raise BadOptions(f"--{name} needs --data FILE, or a recipe: RECIPE {name}={value}.")
            if not plain:
                raise click.UsageError("Missing argument 'RECIPE'. Or name your data: --data FILE.", ctx=context)
            own = Path(plain[0]).expanduser() / meant.RECIPE
            if runs and own.is_file():
                return Given(recipe=replace(recipes.read(own, plain[1:]), output=plain[0]), path=own, made=False)
            path = meant.recipe_file(plain[0], command=context.info_name or "")
            return Given(recipe=recipes.read(path, plain[1:]), path=Path(path), made=False)
        for word in plain:
            if "=" not in word:
                raise BadOptions(f"give a recipe ({word!r}) or --data, not both. To use other data: dataset.path=FILE.")
        content = self._made(given, known=_known(context), ask=ask)
        found = recipes.parse(content, plain, name=f"the recipe for {self.data}")
        return Given(recipe=found, path=Path("recipe.yaml").absolute(), made=True)

    def _made(self, given: Sequence[tuple[str, str | None]], *, known: Sequence[str], ask: bool) -> dict[str, Any]:
        """Return the content of a recipe for the data."""
        from finetune.cli import quick
        from finetune.plugins import discover
        from finetune.recipe import starter

        plugins = discover()
        possible = quick.columns_of_tasks(plugins, self.task) if given else set()
        columns: dict[str, str] = {}
        for name, value in given:
            column = name.lstrip("-").replace("-", "_")
            if column not in possible or value is None:
                raise meant.option(name, value, known=[*known, *(f"--{each}" for each in possible)])
            columns[column] = value
        settled = quick.settle(str(self.data), plugins, task=self.task, columns=columns, model=self.model, ask=ask)
        return starter.content_of(
            settled.task,
            plugins,
            strategy=self.strategy or "full",
            output=self.output or f"runs/{settled.task}",
            chosen=settled.chosen,
        )


def arguments(command: Callable[..., Any]) -> Any:
    """Add the arguments and options of a recipe or of data to a command, which gets them as `call`."""

    @functools.wraps(command)
    def packed(
        words: tuple[str, ...],
        data: str | None,
        task: str | None,
        model: str | None,
        strategy: str | None,
        output: str | None,
        **rest: Any,
    ) -> Any:
        call = Call(words=words, data=data, task=task, model=model, strategy=strategy, output=output)
        return command(call=call, **rest)

    taken: Any = packed
    for option in reversed(_OPTIONS):
        taken = option(taken)
    return click.argument("words", nargs=-1, metavar="[RECIPE] [KEY=VALUE]...", type=click.UNPROCESSED)(taken)


def _sorted_out(words: Sequence[str]) -> tuple[list[str], list[tuple[str, str | None]]]:
    """Return the words that are no options, and unknown options with their values.

    >>> _sorted_out(["a.yaml", "--text", "review", "--label=stars", "seed=1", "--odd"])
    (['a.yaml', 'seed=1'], [('--text', 'review'), ('--label', 'stars'), ('--odd', None)])
    """
    plain: list[str] = []
    options: list[tuple[str, str | None]] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            plain.append(word)
            continue
        name, equals, value = word.partition("=")
        if equals:
            options.append((name, value))
        elif rest and not rest[0].startswith("--"):
            options.append((name, rest.pop(0)))
        else:
            options.append((name, None))
    return plain, options


def _known(context: click.Context) -> list[str]:
    return [name for parameter in context.command.params for name in parameter.opts if name.startswith("-")]
