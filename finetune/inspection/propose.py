"""Which task a data set is for, and which of its columns are those of the task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from finetune.errors import BadData, BrokenPlugin, FinetuneError, MissingLibrary, UnknownName, did_you_mean, listed
from finetune.inspection.columns import Column, Fit
from finetune.inspection.groups import Group, group
from finetune.inspection.look import Look
from finetune.inspection.names import is_id, similarity
from finetune.interfaces import DataForm, Finding, Preprocessor, Row, Task, Values
from finetune.plugins import Plugins, resolve
from finetune.recipe.options import build

CHECKED = 1_000
"""Most rows that are checked as a task checks them."""
COMPARED = 10
"""Most proposals whose rows are checked."""
FORMS = 3
"""Most forms of one task among them."""
CLOSE = 0.9
"""Share of the best score from which another task is as likely."""
LISTED = 0.75
"""Share of the best score from which another task is named."""
_UNUSED = 0.12
"""What a column costs that the task does not read, and that is more than the name of a row."""
_BY_NAME = 0.7
"""Score from which a column is found by its name."""
_DECLARED = 0.5
"""Share of its score that a task keeps if its columns have the right names, and every row is bad."""
_NAMED = frozenset({"any", "offset", "boolean", "index", "ordinal", "letter"})
"""Kinds whose columns are found by their names only."""
_ALONE = 0.15
"""What it costs to read one column alone, and no answer, where the data have more."""


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
    groups: Mapping[str, Group] = field(default_factory=dict)
    """Option of the preprocessor → the columns that it names."""
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
    def used(self) -> set[str]:
        """Columns of the data that the task reads."""
        found = {match.column for match in self.matches.values()}
        for each in self.groups.values():
            found.update(each.columns)
        return found

    @property
    def is_declared(self) -> bool:
        """Whether several columns have just the names that the task gives them, and none is missing."""
        wanted = self.form.columns if self.form is not None else {}
        exact = [name for name in wanted if name in self.matches and self.matches[name].column == name]
        return len(exact) == len(wanted) > 1

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
    forms: Counter[str] = Counter()
    likely = []
    for proposal in found:
        forms[proposal.task] += 1
        if forms[proposal.task] <= FORMS:
            likely.append(proposal)
    checked = [_checked(proposal, seen, plugins) for proposal in likely[:COMPARED]]
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
    free = [column for column in columns if column.name not in given.values()]
    groups: dict[str, Group] = {}
    for option, values in form.groups.items():
        found = group(values, free)
        if found is None:
            return None
        groups[option] = found
    grouped = {name for each in groups.values() for name in each.columns}
    pairs = _pairs(wanted, [column for column in columns if column.name not in grouped], form, given)
    matches, facts = _assigned(pairs)
    missing = tuple(name for name in form.columns if name not in matches)
    if missing and not lenient:
        return None
    options = {**form.options, **{option: facts[fact] for option, fact in form.learned.items() if fact in facts}}
    options |= {option: list(each.columns) for option, each in groups.items()}
    in_order = {name: matches[name] for name in wanted if name in matches}
    proposal = Proposal(
        task=task, matches=in_order, groups=groups, options=options, score=0.0, form=form, missing=missing
    )  # fmt: skip
    return replace(proposal, score=max(_score(proposal, form, columns), 0.01))


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """A column of the data that can be a column of a task."""

    name: str
    """The column of the task."""
    position: int
    match: Match
    facts: Mapping[str, str]


def _pairs(
    wanted: Mapping[str, Values], columns: Sequence[Column], form: DataForm, given: Mapping[str, str]
) -> list[_Pair]:
    """Return which columns of the data can be which of the task, the best first."""
    pairs = []
    for name, values in wanted.items():
        for position, column in enumerate(columns):
            if name in given and column.name != given[name]:
                continue
            match, fit = _pair(name, values, column, given=name in given)
            if match is not None and (name in form.columns or match.by_name):
                pairs.append(_Pair(name=name, position=position, match=match, facts=fit.facts))
    return sorted(pairs, key=lambda pair: (-pair.match.score, pair.position))


def _assigned(pairs: Sequence[_Pair]) -> tuple[dict[str, Match], dict[str, str]]:
    """Return the best column for each of the task, with those that are as likely, and what else was found out."""
    matches: dict[str, Match] = {}
    facts: dict[str, str] = {}
    used: set[str] = set()
    for pair in pairs:
        if pair.name not in matches and pair.match.column not in used:
            matches[pair.name] = pair.match
            used.add(pair.match.column)
            facts |= pair.facts
    for name, match in matches.items():
        near = [pair.match for pair in pairs if pair.name == name and pair.match.column not in used]
        others = tuple(other.column for other in near if other.score >= CLOSE * match.score)
        if others and not match.by_name:
            matches[name] = replace(match, others=others)
    return matches, facts


def _score(proposal: Proposal, form: DataForm, columns: Sequence[Column]) -> float:
    """Return how well the columns of the data fit those of a form."""
    found: list[Match | Group] = [proposal.matches[name] for name in form.columns if name in proposal.matches]
    found += proposal.groups.values()
    wanted = len(form.columns) + len(form.groups)
    mean = sum(each.score for each in found) / max(1, wanted)
    named = 0.1 * sum(each.by_name for each in proposal.groups.values())
    for name, match in proposal.matches.items():
        if match.by_name:
            named += 0.15 if match.column == name else 0.1
    unused = [each for each in columns if each.values and each.name not in proposal.used and not is_id(each.name)]
    cost = _UNUSED * min(len(unused), 3)
    if wanted == 1 and unused:
        cost += _ALONE
    return mean * form.weight + named + 0.05 * len(found) - cost - len(proposal.missing)


def _pair(name: str, values: Values, column: Column, *, given: bool) -> tuple[Match | None, Fit]:
    """Return a column of the data as a column of a task, or None if it cannot be that."""
    fit = column.fit(values.kind)
    similar = 1.0 if given else similarity(column.name, name, values.names)
    if given and not fit.score:
        fit = Fit(0.05, column.fit("any").why)
    by_name = similar >= _BY_NAME
    if not fit.score:
        return None, fit
    if not by_name and (values.kind in _NAMED or (is_id(column.name) and not similar)):
        return None, fit
    score = max(fit.score, 0.2) if by_name else fit.score
    if not by_name and score <= 0.05:
        return None, fit
    match = Match(column=column.name, score=0.5 * similar + 0.5 * score, by_name=by_name, why=fit.why)
    return match, fit


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
        score = proposal.score * _DECLARED if proposal.is_declared else 0.0
        return replace(proposal, bad=len(rows), checked=len(rows), first=str(error), score=score)
    except FinetuneError as error:  # it needs an option that only the user can give
        return replace(proposal, first=str(error))
    bad = {finding.row for finding in findings if finding.level == "row"}
    errors = [finding for finding in findings if finding.level == "error"]
    first = _first([*errors, *(finding for finding in findings if finding.level == "row")])
    share = 0.5 if errors and len(bad) < len(rows) else 1.0
    share *= max(1 - len(bad) / max(1, len(rows)), _DECLARED if proposal.is_declared else 0.0)
    score = proposal.score * share
    return replace(proposal, bad=len(bad), checked=len(rows), first=first, score=score)


def _first(findings: Sequence[Finding]) -> str:
    if not findings:
        return ""
    first = findings[0]
    return f"{first.column}: {first.message}" if first.column else first.message


def _renamed(row: Row, proposal: Proposal) -> dict[str, Any]:
    names = proposal.columns
    return {names.get(name, name): value for name, value in row.items()}
