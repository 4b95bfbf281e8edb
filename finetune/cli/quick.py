"""A recipe from a data file: what `finetune init` prints, and what `check`, `plan` and `train` take without one."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from finetune import processes
from finetune.errors import BadData, BadOptions, listed

if TYPE_CHECKING:
    from finetune.inspection import Look, Proposal
    from finetune.plugins import Plugins
    from finetune.recipe.short import Chosen

SHOWN = 3
"""Most other tasks that are named."""
MOST_COLUMNS = 8
"""Most columns of a group that are named."""


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What was chosen for a data set."""

    task: str
    chosen: Chosen


def settle(
    data: str,
    plugins: Plugins,
    *,
    task: str | None = None,
    columns: Mapping[str, str] | None = None,
    model: str | None = None,
    ask: bool = True,
) -> Settled:
    """Look at a data set, choose its task, columns and base model, and say on standard error what was chosen and why.

    On a terminal, the user is asked what is not clear.

    Args:
        data: Path of the data.
        plugins: The tasks and readers.
        task: The task; None to choose it.
        columns: Column of the task → column of the data, as far as the user says.
        model: The base model; None to choose it.
        ask: Whether the user may be asked.

    Raises:
        BadData: The data cannot be read, or no task fits.
        UnknownName: The task does not exist.
    """
    from pathlib import Path

    from finetune.cli import output
    from finetune.plugins import add_folder

    with output.loading():
        from finetune import inspection, trust
    with output.loading():
        if task is not None:
            plugins.find("tasks", task)  # before the data are read
        trust.allow({"path": data})
        if ":" in data:
            add_folder(Path())
        seen = inspection.look(data, plugins)
        _require_rows(seen, data)
        proposals = inspection.propose(seen, plugins, task=task, given=columns)
    if not proposals:
        raise BadData(
            f"{data}: no task fits its columns: {_listed(seen)}. Name the task: finetune init TASK --data "
            f"{shlex.quote(data)}. `finetune list` shows all tasks."
        )
    _say(f"{data}: {seen.form}, {_count(seen)}. Columns: {_listed(seen)}.")
    best = proposals[0]
    if ask and can_ask():
        best = _asked_task(proposals)
        best = _asked_columns(best, seen, plugins, given=columns or {})
    _say_choice(best, proposals, seen, data, plugins, is_given=task is not None)
    chosen, base = inspection.chosen(seen, best, plugins, model=model)
    _say_rest(chosen, base.why, base.note, seen)
    return Settled(task=best.task, chosen=chosen)


def can_ask() -> bool:
    """Return whether a person sits at a terminal, who can be asked."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))


def _require_rows(seen: Look, data: str) -> None:
    if seen.rows["train"]:
        return
    if seen.findings:
        from finetune.data.findings import one_line

        raise BadData(one_line(seen.findings[0]), findings=list(seen.findings), counts={})
    raise BadData(f"{data} has no rows.")


def _asked_task(proposals: Sequence[Proposal]) -> Proposal:
    """Return the best proposal, or the one that the user chooses if others are as likely."""
    from finetune import inspection

    close = inspection.alternatives(proposals, share=inspection.CLOSE)
    if not close:
        return proposals[0]
    _say("Several tasks are possible:")
    options = [proposals[0], *close]
    for number, proposal in enumerate(options, 1):
        _say(f"  {number}. {proposal.task}: {_used(proposal)}")
    number = click.prompt("Which one", type=click.IntRange(1, len(options)), default=1, err=True)
    return options[number - 1]


def _asked_columns(proposal: Proposal, seen: Look, plugins: Plugins, *, given: Mapping[str, str]) -> Proposal:
    """Return a proposal with the columns that the user chooses where others are as likely."""
    from finetune import inspection

    wanted = dict(given)
    for name, match in proposal.matches.items():
        if match.others and name not in given:
            options = click.Choice([match.column, *match.others])
            wanted[name] = click.prompt(f"Which column is `{name}`", type=options, default=match.column, err=True)
    if wanted == dict(given):
        return proposal
    found = inspection.propose(seen, plugins, task=proposal.task, given=wanted)
    return found[0] if found else proposal


def _say_choice(
    best: Proposal, proposals: Sequence[Proposal], seen: Look, data: str, plugins: Plugins, *, is_given: bool
) -> None:
    """Say the task, its columns, and what else is possible."""
    from finetune import inspection

    if not is_given:
        summary = plugins.find("tasks", best.task).summary.rstrip(".")
        _say(f"Task: {best.task}. {summary}.")
    for name, match in best.matches.items():
        others = f" (or {', '.join(match.others)})" if match.others else ""
        _say(f"  {match.column} → {name}: {match.why}{others}")
    for option, group in best.groups.items():
        _say(f"  {listed(group.columns, most=MOST_COLUMNS)} → preprocessor.{option}: {group.why}")
    for name in best.missing:
        values = best.form.columns[name] if best.form else None
        what = f" ({values.what})" if values else ""
        _say(f"  No column looks like {name!r}{what}. Name it under dataset.columns: {{NAME: {name}}}.")
    rest = [column.name for column in seen.columns if column.name not in best.used]
    if rest:
        _say(f"  Not read: {', '.join(rest)}.")
    if best.bad and best.checked:
        _say(
            f"  {best.bad:,} of the first {best.checked:,} rows are bad: {best.first} `finetune check` lists them."
        )  # fmt: skip
    near = [] if is_given else inspection.alternatives(proposals)
    for other in [each for each in near if each.task != best.task][:SHOWN]:
        _say(f"Also possible: {other.task} ({_used(other)}): finetune init {other.task} --data {shlex.quote(data)}")


def _say_rest(chosen: Chosen, why: str, note: str, seen: Look) -> None:
    """Say the base model, how the file is read, and what becomes of the splits."""
    _say(f"Model: {chosen.model}{f', {why}' if why else ''}." + (f" {note}" if note else ""))
    for key, reason in seen.why.items():
        value = chosen.dataset[key]
        _say(f"dataset.{key}: {_in_yaml(value)}, because {reason}.")
    if "validation" not in seen.rows:
        _say("There is no validation split: part of train becomes it (dataset.validation_size, a tenth by default).")


def _used(proposal: Proposal) -> str:
    used = [f"{match.column} as {name}" for name, match in proposal.matches.items()]
    for option, group in proposal.groups.items():
        used.append(f"{listed(group.columns, most=MOST_COLUMNS)} as {option}")
    return ", ".join(used)


def _listed(seen: Look) -> str:
    return listed([column.name for column in seen.columns])


def _count(seen: Look) -> str:
    parts = []
    for role, rows in seen.rows.items():
        more = "" if seen.complete or role != "train" else "more than "
        parts.append(f"{more}{len(rows):,} rows" + (f" in {role}" if len(seen.rows) > 1 else ""))
    return ", ".join(parts)


def _in_yaml(value: Any) -> str:
    from finetune import recipe

    dumped = recipe.dump({"x": value}, flow=True) if isinstance(value, dict | list) else recipe.dump({"x": value})
    return dumped.strip().removeprefix("x: ")


def _say(text: str) -> None:
    if not processes.is_main():
        return
    click.echo(text, err=True)


def require_task_or_data(task: str | None, data: str | None) -> None:
    """Refuse a call that names neither a task nor data.

    Raises:
        BadOptions: Both are missing.
    """
    if task is None and data is None:
        from finetune.plugins import discover

        tasks = ", ".join(sorted(discover().catalogues["tasks"].targets))
        raise BadOptions(f"name your data, with --data FILE, or a task: {tasks}.")


def columns_of_tasks(plugins: Plugins, task: str | None) -> set[str]:
    """Return the names of the columns of a task; None for those of all tasks."""
    from finetune.inspection.propose import preprocessors

    found: set[str] = set()
    for _, preprocessor in preprocessors(plugins, task):
        for form in preprocessor.forms():
            found |= {*form.columns, *form.optional}
    return found
