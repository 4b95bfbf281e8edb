"""Which task a data set is for, and which of its columns are those of the task."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from finetune.errors import BadData, BrokenPlugin, FinetuneError, MissingLibrary, UnknownName, did_you_mean, listed
from finetune.inspection.columns import Column, Fit
from finetune.inspection.look import Look
from finetune.interfaces import DataForm, Finding, Preprocessor, Row, Task, Values
from finetune.plugins import Plugins, resolve
from finetune.recipe.options import build

CHECKED = 1_000
"""Most rows that are checked as a task checks them."""
COMPARED = 8
"""Most proposals whose rows are checked."""
CLOSE = 0.9
"""Share of the best score from which another task is as likely."""
LISTED = 0.75
"""Share of the best score from which another task is named."""
_UNUSED = 0.12
"""What a column costs that the task does not read, and that is more than the name of a row."""
_BY_NAME = 0.7
"""Score from which a column is found by its name."""
_IDS = frozenset(
    {"id", "ids", "idx", "index", "uuid", "guid", "key", "row", "number", "no", "url", "link", "date", "time"}
)
"""Words in the names of columns that identify a row, and say nothing about it."""


@dataclass(frozen=True, kw_only=True)
class Match:
    """A column of the data for a column of a task."""

    column: str
    """Its name in the data."""
    score: float
    by_name: bool
    why: str
    others: tuple[str, ...] = ()
    """Other columns that are as likely."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """A task for a data set, and how its columns are used."""

    task: str
    matches: Mapping[str, Match]
    """Column of the task → column of the data."""
    options: Mapping[str, Any]
    """Options of the preprocessor."""
    score: float
    bad: int = 0
    """How many of the checked rows the task refuses."""
    checked: int = 0
    """How many rows were checked; 0 if the task cannot check them yet."""
    first: str = ""
    """The first thing that is wrong."""
    form: DataForm | None = None
    missing: Sequence[str] = field(default_factory=tuple)
    """Columns of the task that are not found; only if the task was given."""

    @property
    def columns(self) -> dict[str, str]:
        """Name in the data → name for the task, of those that differ."""
        return {match.column: name for name, match in self.matches.items() if match.column != name}


def propose(
    seen: Look, plugins: Plugins, *, task: str | None = None, given: Mapping[str, str] | None = None
) -> list[Proposal]:
    """Return the tasks that a data set can be for, the most likely first; only the best form of each task.

    Args:
        seen: The look at the data set.
        plugins: The tasks.
        task: The only task to consider; None for all. If no form of it fits, the proposal names the missing columns.
        given: Column of the task → column of the data, as far as the user says.

    Raises:
        UnknownName: The task does not exist.
        BadData: A given column is not in the data.
    """
    given = dict(given or {})
    known = {column.name: column for column in seen.columns}
    for name, theirs in given.items():
        if theirs not in known:
            hint = f"{did_you_mean(theirs, known)} The columns are: {listed(known)}."
            raise BadData(f"there is no column {theirs!r} for {name}.{hint}")
    found: list[Proposal] = []
    for name, preprocessor in preprocessors(plugins, task):
        for form in preprocessor.forms():
            proposal = _matched(name, form, seen.columns, given, lenient=task is not None)
            if proposal is not None:
                found.append(proposal)
    found.sort(key=lambda proposal: -proposal.score)
    checked = [_checked(proposal, seen, plugins) for proposal in found[:COMPARED]]
    best: dict[str, Proposal] = {}
    for proposal in sorted(checked, key=lambda proposal: -proposal.score):
        best.setdefault(proposal.task, proposal)
    return [proposal for proposal in best.values() if proposal.score > 0 or task is not None]


def alternatives(proposals: Sequence[Proposal], *, share: float = LISTED) -> list[Proposal]:
    """Return the proposals after the first that are nearly as likely.

    Args:
        proposals: As `propose` returned them.
        share: Share of the best score that they need.
    """
    return [other for other in proposals[1:] if other.score >= share * proposals[0].score]


def preprocessors(plugins: Plugins, task: str | None) -> Iterator[tuple[str, Preprocessor]]:
    """Yield the name and the preprocessor of each task, or of one; tasks that cannot be loaded are left out.

    Raises:
        UnknownName: The one task does not exist.
    """
    names = [task] if task is not None else sorted(plugins.catalogues["tasks"].available)
    for name in names:
        try:
            found: Task = plugins.find("tasks", name)
            yield name, resolve(found.preprocessor)()
        except (BrokenPlugin, MissingLibrary, UnknownName):
            if task is not None:
                raise


def _matched(
    task: str, form: DataForm, columns: Sequence[Column], given: Mapping[str, str], *, lenient: bool
) -> Proposal | None:
    """Return how the columns of the data fit a form; None if one is missing.

    Args:
        task: Name of the task.
        form: The form.
        columns: The columns of the data.
        given: Column of the task → column of the data.
        lenient: Whether columns may be missing.
    """
    wanted = {**form.columns, **form.optional}
    if any(name not in wanted for name in given):
        if not lenient:
            return None
        wanted |= {name: Values(what="") for name in given}
    pairs = []
    for name, values in wanted.items():
        for position, column in enumerate(columns):
            if name in given and column.name != given[name]:
                continue
            match, fit = _pair(name, values, column, given=name in given)
            if match is not None and (name in form.columns or match.by_name):
                pairs.append((match.score, -position, name, match, fit))
    pairs.sort(key=lambda pair: (-pair[0], -pair[1]))
    matches: dict[str, Match] = {}
    facts: dict[str, str] = {}
    used: set[str] = set()
    for _, _, name, match, fit in pairs:
        if name not in matches and match.column not in used:
            matches[name] = match
            used.add(match.column)
            facts |= fit.facts
    for name, match in matches.items():
        near = [
            pair[3].column
            for pair in pairs
            if pair[2] == name and pair[3].column not in used and pair[0] >= CLOSE * match.score
        ]
        if near and not match.by_name:
            matches[name] = replace(match, others=tuple(near))
    missing = tuple(name for name in form.columns if name not in matches)
    if missing and not lenient:
        return None
    found = [matches[name] for name in form.columns if name in matches]
    mean = sum(match.score for match in found) / max(1, len(form.columns))
    named = sum(0.15 if match.column == name else 0.1 for name, match in matches.items() if match.by_name)
    unused = [column for column in columns if column.name not in used and not _is_id(column.name)]
    score = mean * form.weight + named + 0.05 * len(found) - _UNUSED * min(len(unused), 3) - len(missing)
    options = {**form.options, **{option: facts[fact] for option, fact in form.learned.items() if fact in facts}}
    in_order = {name: matches[name] for name in wanted if name in matches}
    return Proposal(
        task=task, matches=in_order, options=options, score=max(score, 0.01), form=form, missing=missing
    )  # fmt: skip


def _pair(name: str, values: Values, column: Column, *, given: bool) -> tuple[Match | None, Fit]:
    """Return a column of the data as a column of a task, or None if it cannot be that."""
    fit = column.fit(values.kind)
    similar = 1.0 if given else _similarity(column.name, name, values.names)
    if given and not fit.score:
        fit = Fit(0.05, column.fit("any").why)
    by_name = similar >= _BY_NAME
    if not fit.score:
        return None, fit
    if not by_name and (values.kind in ("any", "offset", "boolean", "index", "letter") or _is_id(column.name)):
        return None, fit
    score = max(fit.score, 0.2) if by_name else fit.score
    if not by_name and score <= 0.05:
        return None, fit
    match = Match(column=column.name, score=0.5 * similar + 0.5 * score, by_name=by_name, why=fit.why)
    return match, fit


def _similarity(theirs: str, name: str, others: Sequence[str]) -> float:
    """Return how much the name of a column says that it is a column of a task: 1 if it is the same.

    >>> _similarity("Review Text", "text", ()), _similarity("stars", "label", ("stars",)), _similarity("x", "label", ())
    (0.5, 0.9, 0.0)
    """
    written = _plain(theirs)
    if written == _plain(name):
        return 1.0
    for position, other in enumerate(others):
        if written == _plain(other):
            return 0.9 - 0.01 * position
    words = set(written.split("_"))
    if any(_plain(other) in words for other in (name, *others)):
        return 0.5
    return 0.0


def _plain(name: str) -> str:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[^0-9a-z]+", "_", spaced.casefold()).strip("_") or name.strip().casefold()


def _is_id(name: str) -> bool:
    return bool(_IDS & set(_plain(name).split("_")))


def _checked(proposal: Proposal, seen: Look, plugins: Plugins) -> Proposal:
    """Return a proposal with what the task itself says about the rows."""
    if proposal.missing:
        return replace(proposal, score=0.0)
    task: Task = plugins.find("tasks", proposal.task)
    rows = [_renamed(row, proposal) for row in seen.rows["train"][:CHECKED]]
    try:
        fitted = build(resolve(task.preprocessor), proposal.options, where="preprocessor").fit(rows)
        findings = list(fitted.check(rows))
    except BadData as error:
        return replace(proposal, bad=len(rows), checked=len(rows), first=str(error), score=0.0)
    except FinetuneError as error:  # it needs an option that only the user can give
        return replace(proposal, first=str(error))
    bad = {finding.row for finding in findings if finding.level == "row"}
    errors = [finding for finding in findings if finding.level == "error"]
    first = _first([*errors, *(finding for finding in findings if finding.level == "row")])
    share = 0.5 if errors and len(bad) < len(rows) else 1.0
    score = proposal.score * share * (1 - len(bad) / max(1, len(rows)))
    return replace(proposal, bad=len(bad), checked=len(rows), first=first, score=score)


def _first(findings: Sequence[Finding]) -> str:
    if not findings:
        return ""
    first = findings[0]
    return f"{first.column}: {first.message}" if first.column else first.message


def _renamed(row: Row, proposal: Proposal) -> dict[str, Any]:
    names = proposal.columns
    return {names.get(name, name): value for name, value in row.items()}
