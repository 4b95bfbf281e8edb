"""From a source to checked examples: read, rename, split, check, drop, count."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain, repeat
from typing import Any, Literal

import numpy as np
from datasets import Dataset, IterableDataset

from finetune.data import consistency, files, sources, splits, streaming, streams
from finetune.data.dropped_rows import DroppedRows
from finetune.data.findings import UNREAD, Report, nearest, one_line, place_of
from finetune.data.fingerprints import fingerprint
from finetune.data.places import JoinedPlaces, Places, places_of
from finetune.data.readers import text
from finetune.data.readers.formats import Formats
from finetune.data.rows import Rows
from finetune.data.sources import ROLES, Files
from finetune.data.splits import BadRows, Split
from finetune.data.streaming import StreamedBadRows, StreamedSplit
from finetune.data.streams import Survey
from finetune.data.table import MemoryWriter, PythonRows, Table, Tabulator, Writer
from finetune.errors import BadData, did_you_mean, listed
from finetune.interfaces import Finding, Preprocessor, Row
from finetune.plugins import Plugins
from finetune.recipe import Source


@dataclass(frozen=True, kw_only=True)
class Examples:
    """The checked examples of every split, and the findings."""

    splits: Mapping[str, Dataset]
    """Split → its good rows, with the column names of the task."""
    preprocessor: Preprocessor
    """Fitted on the good rows of train, or unchanged if nothing was fitted."""
    findings: tuple[Finding, ...]
    """At most 20 findings of each code, with their places."""
    counts: Mapping[str, int]
    """Code → number of findings."""
    data_report: Mapping[str, Mapping[str, int]]
    """Split → numbers of rows ``read``, ``bad``, ``dropped``, ``left_out`` (by a limit), ``kept``
    and ``from_train`` (split off from train), and of ``blank_lines`` and ``byte_order_marks``
    removed. ``read`` is always ``kept + dropped + left_out``."""
    fingerprints: Mapping[str, str]
    """Split → SHA-256 of the content of its kept rows."""
    dropped: Sequence[Mapping[str, Any]]
    """Every dropped row: its split, file, line, row, codes, messages and example."""
    sizes: Mapping[str, Mapping[str | None, int]] = field(default_factory=dict)
    """Split → file → its rows in the order of the split, bad ones included; None for rows without a file."""
    column_use: Mapping[str, str] = field(default_factory=dict)
    """Column that changes what the model reads → how many rows of train have a value in it: `all`,
    `some` or `none`."""
    unread: tuple[Finding, ...] = ()
    """A warning for each column of the data that the task does not read; the first file or split that
    has the column is its place."""
    stream: StreamedSplit | None = None
    """The kept rows of train if they are streamed; the train split then holds a sample of them."""
    leakage: Mapping[str, Mapping[str, Any]] | None = None
    """What `finetune.data.leakage` would return for all rows of train, if the train split is only a sample of them."""
    places: Mapping[str, Places | JoinedPlaces] = field(default_factory=dict)
    """Split → where each of its rows is in the data; see `finetune.data.places`. Rows that are drawn at random from a
    stream or for a mixture have none."""
    given: Mapping[str, Split] = field(default_factory=dict)
    """Split → its good rows with the columns and names that they have in the data, for those splits that have places.
    A mixture has none."""


AnySplit = Split | StreamedSplit


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """The rows of one data set, before and during the checks."""

    parts: dict[str, AnySplit]
    """Split → its remaining rows."""
    report: Report
    """The findings so far."""
    gone: list[Mapping[str, Any]] | DroppedRows = field(default_factory=list)
    """Every row dropped by a check."""
    seed: int
    """Seed of the run."""


def load(
    source: Source,
    preprocessor: Preprocessor,
    *,
    plugins: Plugins,
    seed: int,
    fit: bool = True,
    answers: bool = True,
    column_use: Mapping[str, str] | None = None,
    tokenizer: Callable[[], Any] | None = None,
    learn_form: bool = False,
) -> Examples:
    """Return the checked examples of a source.

    ``row`` of a finding is the position of the row in its file, from 0, or in the split of a source
    without files. A row that is split off from train keeps its position in train.

    Args:
        source: The ``dataset`` section of a recipe.
        preprocessor: Names the columns and checks the rows.
        plugins: Where formats and sources are looked up.
        seed: Seed of the validation split and of limits.
        fit: Whether to fit the preprocessor. If not, train may be missing, and no validation is
            split off.
        answers: Whether the rows must have answers. If not, the columns of the answers are removed.
        column_use: How the training of the run used its columns, if nothing is fitted; see
            `Examples.column_use`.
        tokenizer: Returns the tokenizer of the model, for the checks that need one; None to leave them
            out.
        learn_form: Whether the preprocessor, which is not fitted, learns how the rows write the labels; see
            `Preprocessor.learn_form`.

    Raises:
        BadData: A finding stops the run. The error holds the findings of all splits with their
            places.
    """
    gathered = gather(source, preprocessor, plugins=plugins, seed=seed, fit=fit, answers=answers)
    return settle(
        {"": gathered}, preprocessor, fit=fit, column_use=column_use, tokenizer=tokenizer, learn_form=learn_form
    )[""]


def gather(
    source: Source, preprocessor: Preprocessor, *, plugins: Plugins, seed: int, fit: bool, answers: bool
) -> Gathered:
    """Return the rows of a source, split and limited but not yet checked; see `load`.

    Raises:
        BadData: There are no rows to fit on, so nothing more can be checked.
    """
    report = Report(on_bad=source.on_bad, remedy=_remedy(fit=fit, answers=answers))
    formats = Formats(plugins)
    formats.check(source.format)
    text.check_encoding(source.encoding)
    _check_limits(source.limit)
    found = sources.find(source, plugins=plugins, formats=formats, report=report)
    parts = sources.assigned(found, source, report=report)
    files.refuse_same(parts, report=report)
    if report.levels["error"]:
        report.stop()
    needed = _needed(preprocessor, source.columns, answers=answers) - source.constants.keys()
    used = _used(preprocessor, source.columns, needed=needed, answers=answers)
    tables = {}
    survey: Survey | None = None
    for role, content in parts.items():
        if source.streaming and fit and role == "train":
            survey = streams.survey(
                content, split=role, source=source, formats=formats, needed=needed, used=used, report=report
            )
            tables[role] = survey.table
        elif isinstance(content, IterableDataset):
            tables[role] = _table(streams.as_dataset(content), split=role, needed=needed, used=used, report=report)
        elif isinstance(content, Files):
            tables[role] = files.read(
                content, split=role, source=source, formats=formats, needed=needed, used=used, report=report
            )
        else:
            tables[role] = _table(content, split=role, needed=needed, used=used, report=report)
    return _assemble(
        tables,
        source,
        preprocessor,
        report=report,
        seed=seed,
        fit=fit,
        answers=answers,
        found=list(found),
        survey=survey,
    )


def from_rows(
    splits: Mapping[str, Iterable[Row] | Dataset],
    preprocessor: Preprocessor,
    *,
    seed: int = 42,
    fit: bool = True,
    answers: bool = True,
    validation_size: float = 0.0,
    columns: Mapping[str, str] = {},
    on_bad: Literal["error", "drop"] = "error",
    source: Source | None = None,
    column_use: Mapping[str, str] | None = None,
    tokenizer: Callable[[], Any] | None = None,
    learn_form: bool = False,
    in_memory: bool = False,
) -> Examples:
    """Return the checked examples of rows that are given in Python.

    Args:
        splits: Split → its rows.
        preprocessor: Names the columns and checks the rows.
        seed: Seed of the validation split.
        fit: Whether to fit the preprocessor; see `load`.
        answers: Whether the rows must have answers; see `load`.
        validation_size: Share of train that becomes validation if there is none; 0 for none.
        columns: Name in the rows → name for the task.
        on_bad: Whether bad rows are an error, or are dropped.
        source: The ``dataset`` section of a recipe, whose keys count in place of the three arguments before; its path
            is not read.
        column_use: See `load`.
        tokenizer: See `load`.
        learn_form: See `load`.
        in_memory: Whether the rows stay in memory. Else they lie in a file until the process ends.

    Raises:
        BadData: A finding stops the run.
    """
    if source is None:
        source = Source(path={}, columns=columns, validation_size=validation_size, on_bad=on_bad)
    source = replace(source, path={})
    _check_limits(source.limit)
    report = Report(on_bad=source.on_bad, remedy=_remedy(fit=fit, answers=True))
    parts = sources.assigned(splits, source, report=report)
    needed = _needed(preprocessor, source.columns, answers=answers) - source.constants.keys()
    used = _used(preprocessor, source.columns, needed=needed, answers=answers)
    tables = {}
    for role, content in parts.items():
        writer = MemoryWriter() if in_memory else None
        tables[role] = _table(content, split=role, needed=needed, used=used, report=report, writer=writer)
    gathered = _assemble(
        tables, source, preprocessor, report=report, seed=seed, fit=fit, answers=answers, found=list(splits)
    )
    return settle(
        {"": gathered}, preprocessor, fit=fit, column_use=column_use, tokenizer=tokenizer, learn_form=learn_form
    )[""]


def _assemble(
    tables: Mapping[str, Table],
    source: Source,
    preprocessor: Preprocessor,
    *,
    report: Report,
    seed: int,
    fit: bool,
    answers: bool,
    found: list[str],
    survey: Survey | None = None,
) -> Gathered:
    if fit and "train" not in tables:
        message = f"there is no split 'train'. The splits are: {', '.join(found) or 'none'}."
        fix = "Say which one it is: dataset.splits: {train: NAME}."
        report.error("unknown-split", message, fix=fix, split="train")
    elif not tables:
        message = f"no split is called {' or '.join(ROLES)}. The splits are: {', '.join(found) or 'none'}."
        report.error("unknown-split", message, fix="Say which one it is: dataset.splits: {test: NAME}.")
    parts: dict[str, AnySplit] = {}
    for role, table in tables.items():
        split = _split(table, role, source, preprocessor, fit=fit, answers=answers, report=report)
        if split is not None and role == "train" and survey is not None:
            parts[role] = streaming.streamed(split, survey, source.constants)
        elif split is not None:
            parts[role] = split
    unlabelled = _set_aside(parts, preprocessor.needs().answers, report=report) if fit and answers else ()
    has_validation = "validation" in tables and "validation" not in unlabelled
    if fit and source.split_by is not None and has_validation:
        message = f"dataset.split_by is {source.split_by!r}, and nothing is split off: there is a split 'validation'."
        report.error("cannot-split", message, fix="Remove one of them.", split="validation")
    if fit and source.validation_size and "train" in parts and not has_validation:
        both = _parted(parts["train"], source, preprocessor, seed=seed, report=report)
        if both:
            parts["train"], parts["validation"] = both
    _limit(parts, source.limit, preprocessor, fit=fit, seed=seed, report=report)
    if fit and "train" not in parts:
        report.stop()  # without rows to fit on, nothing more can be checked
    gone: list[Mapping[str, Any]] | DroppedRows = [] if survey is None else DroppedRows()
    in_order = {role: parts[role] for role in ROLES if role in parts}
    return Gathered(parts=in_order, report=report, gone=gone, seed=seed)


def _parted(
    train: AnySplit, source: Source, preprocessor: Preprocessor, *, seed: int, report: Report
) -> tuple[AnySplit, Split] | None:
    """Split validation from train: by rule from a stream or if the recipe names a column for it, else at random."""
    size, names = source.validation_size, train.columns.column_names
    if source.split_by is not None and source.split_by not in names:
        close = nearest(source.split_by, names)
        message = f"dataset.split_by names the column {source.split_by!r}, which does not exist."
        fix = f"Did you mean {close!r}?" if close else f"The columns are: {listed(names)}."
        if source.split_by in source.columns:
            message = f"dataset.split_by names {source.split_by!r}, a column that dataset.columns renames."
            fix = f"Write its new name: split_by: {source.columns[source.split_by]}."
        report.error("missing-column", message, fix=fix, split="train", column=source.split_by)
        return None
    rule = streaming.rule_of(source, preprocessor, names)
    if isinstance(train, StreamedSplit):
        return streaming.part(train, rule, most=source.limit.get("validation"), report=report)
    if source.split_by is not None:
        return splits.part_by_rule(train, rule, report=report)
    return splits.part(train, size=size, preprocessor=preprocessor, seed=seed, report=report)


def _limit(
    parts: dict[str, AnySplit],
    limit: Mapping[str, int],
    preprocessor: Preprocessor,
    *,
    fit: bool,
    seed: int,
    report: Report,
) -> None:
    """Keep at most so many rows of each split, and no held-out row with a label that train has lost by that."""
    before = parts.get("train")
    for role, most in limit.items():
        whole = parts.get(role)
        if isinstance(whole, Split):
            parts[role] = splits.limited(whole, most, preprocessor=preprocessor, seed=seed)
    train = parts.get("train")
    if not fit or train is before or not isinstance(train, Split) or not isinstance(before, Split):
        return
    for role, part in parts.items():
        if role != "train" and isinstance(part, Split):
            parts[role] = splits.without_lost_labels(
                part, role=role, train=train, before=before, preprocessor=preprocessor, report=report
            )


def _split(
    table: Table,
    role: str,
    source: Source,
    preprocessor: Preprocessor,
    *,
    fit: bool,
    answers: bool,
    report: Report,
) -> Split | None:
    """Return a split that is ready for the checks, or None with a finding if it cannot be checked."""
    if table.rows is None or len(table.rows) == 0:
        if table.sound:
            file = table.files[0] if table.files else None
            bad = "Its only row is bad." if table.bad == 1 else f"All of its {table.bad:,} rows are bad."
            fix = bad if table.bad else "Check that it is the right file."
            who = role if fit or file is None else "the file"
            report.error("no-rows", f"{who} has no rows.", fix=fix, split=role, file=file)
        return None
    for file, size in zip(table.files, table.sizes, strict=False):
        if table.sound and not size:
            message, fix = f"{file} has no rows.", "Check that it was written and copied completely."
            report.add(Finding(level="warning", code="no-rows", message=message, fix=fix, file=file, split=role))
    needs = preprocessor.needs()
    may_be_missing = frozenset() if answers else needs.hidden | frozenset(needs.answers)
    before = report.levels["error"]
    rows = splits.renamed(
        table, split=role, columns=source.columns, may_be_missing=may_be_missing, either=not fit, report=report
    )
    rows = splits.filled(rows, source.constants, split=role, report=report)
    if not answers:  # what prediction does not need cannot stop it
        rows = rows.remove_columns([name for name in rows.column_names if name in needs.hidden])
    whole = splits.require(
        rows,
        split=role,
        table=table,
        preprocessor=preprocessor,
        answers=answers,
        can_leave_out=fit and role != "train",
        lost=set(source.columns.values()) if report.levels["error"] > before else (),
        report=report,
    )
    if not whole or report.levels["error"] > before or not table.sound:
        return None
    return Split(table=table, columns=rows, index=np.arange(len(rows)), read=table.read, lists_given=not answers)


def _set_aside(parts: dict[str, AnySplit], answers: Sequence[str], *, report: Report) -> list[str]:
    """Remove the held-out splits in which no row has an answer, with a warning; return their names."""
    if not answers or "train" not in parts:
        return []
    train = parts["train"]
    removed = []
    for role in [role for role in parts if role != "train"]:
        value = splits.no_answer(parts[role], train, answers)
        if value is None:
            continue
        table = parts.pop(role).table
        removed.append(role)
        who = f"none of the {table.read - table.bad:,} rows that are not bad" if table.bad else "no row"
        message = f"{who} has a {' or '.join(answers)}; every value is {value}. The split is left out."
        fix = (
            f"Add the values to use the split. To leave it out without this warning: dataset.splits: {{{role}: null}}."
        )
        report.add(
            Finding(
                code="unlabelled-split",
                message=message,
                fix=fix,
                level="warning",
                split=role,
                file=table.files[0] if len(table.files) == 1 else None,
                column=answers[0],
            )
        )
    return removed


def settle(
    gathered: Mapping[str, Gathered],
    preprocessor: Preprocessor,
    *,
    fit: bool,
    column_use: Mapping[str, str] | None = None,
    tokenizer: Callable[[], Any] | None = None,
    learn_form: bool = False,
) -> dict[str, Examples]:
    """Fit, check and drop until no more bad rows are found, because rows dropped from train can change the fit.

    Several data sets are fitted and checked together, so that one may lack a label that another
    has. A finding without a row is attributed to the first data set.

    Args:
        gathered: Name of a data set → its rows.
        preprocessor: Not fitted, or fitted if `fit` is False.
        fit: Whether to fit the preprocessor.
        column_use: How train uses its columns, if nothing is fitted; see `Examples.column_use`.
        tokenizer: See `load`.
        learn_form: See `load`.

    Raises:
        BadData: A finding stops the run.
    """
    use: Mapping[str, str] = column_use or {}
    if learn_form:
        preprocessor = preprocessor.learn_form(_any_rows(gathered))
    while True:
        fitted = preprocessor.fit(_together(gathered, "train").rows) if fit else preprocessor
        if fit:
            train = _together(gathered, "train")
            use = {name: consistency.use_of(train.values(name)) for name in fitted.needs().consistent}
        found = {name: Report(on_bad="drop" if one.report.drops else "error") for name, one in gathered.items()}
        shrunk = False
        for role in ROLES:
            together = _together(gathered, role)
            if not together.parts:
                continue
            expected = {} if fit and role == "train" else use
            for name, bad in _bad_rows(fitted, together, role, found, expected, tokenizer).items():
                one = gathered[name]
                if bad and one.report.drops:
                    split, shrunk = one.parts[role], True
                    one.gone.extend(bad.entries())
                    one.parts[role] = split.without(bad)  # type: ignore[arg-type]  # each collects its own kind
        stops = any(report.stops for report in found.values())
        for name, one in gathered.items():
            for role, split in one.parts.items():
                if not len(split.index) and not found[name].levels["error"]:
                    message = f"all rows of {role} are bad."
                    one.report.error("no-rows", message, fix="Correct the rows.", split=role)
        again = shrunk and not stops and not any(one.report.stops for one in gathered.values())
        for name, one in gathered.items():
            one.report.merge(found[name], warnings=not again)
        if not again:
            _stop([one.report for one in gathered.values()])
            return {name: _accounted(one, fitted, use) for name, one in gathered.items()}


def _any_rows(gathered: Mapping[str, Gathered]) -> Sequence[Row]:
    """Return the rows of one split: of test if there is such a split."""
    for role in reversed(ROLES):
        together = _together(gathered, role)
        if together.parts:
            return together.rows
    return ()


def left_out(dropped: Sequence[Mapping[str, Any]], *, rows: int) -> str:
    """Return a sentence with the number of rows that are left out, and where the first of them is.

    Args:
        dropped: At least one row, as in `Examples.dropped`.
        rows: Number of all rows.
    """
    first = dropped[0]
    finding = Finding(code=first["codes"][0], message=first["messages"][0], **{
        name: first[name] for name in ("split", "file", "line", "row", "path")
    })  # fmt: skip
    return f"left out {len(dropped):,} of {rows:,} rows, first {one_line(finding)}"


def _stop(reports: Sequence[Report]) -> None:
    """Raise `BadData` with the findings of all data sets, if those of any stop the run."""
    if len(reports) == 1:
        reports[0].stop()
    elif any(report.stops for report in reports):
        every = Report(remedy=_remedy(fit=True, answers=True))
        for report in reports:
            every.merge(report)
        every.stop()


@dataclass(frozen=True, kw_only=True)
class _Together:
    """One split of several data sets."""

    parts: Mapping[str, AnySplit]

    @property
    def rows(self) -> Sequence[Row]:
        """The rows of all data sets, one after the other."""
        rows: list[Any] = [Rows(split) if isinstance(split, Split) else split.rows for split in self.parts.values()]
        return rows[0] if len(rows) == 1 else _Chain(rows)

    def values(self, column: str) -> Iterator[Any]:
        """Yield the values of a column; None for the rows of a data set that does not have it."""
        for split in self.parts.values():
            if column not in split.columns.column_names:
                yield from repeat(None, len(split.index))
                continue
            for block in split.blocks([column]):
                yield from block.column(column).to_pylist()

    @property
    def file(self) -> str | None:
        """The file of the rows, if there is a single one."""
        names = {name for split in self.parts.values() for name in split.table.files}
        return names.pop() if len(names) == 1 else None

    def at(self, row: int) -> tuple[str, int]:
        """Return the data set that a row belongs to, and its position in that data set."""
        for name, split in self.parts.items():
            if row < len(split.index):
                return name, row
            row -= len(split.index)
        raise IndexError(row)


class _Chain(Sequence[Row]):
    """The rows of several data sets, one after the other."""

    def __init__(self, parts: Sequence[Sequence[Row]]) -> None:
        self._parts = parts
        self._ends = list(accumulate(map(len, parts)))

    def __len__(self) -> int:
        return self._ends[-1]

    def __iter__(self) -> Iterator[Row]:
        return chain.from_iterable(self._parts)

    def __getitem__(self, index: Any) -> Any:
        place = range(len(self))[index]
        part = bisect_right(self._ends, place)
        return self._parts[part][place - (self._ends[part - 1] if part else 0)]


def _together(gathered: Mapping[str, Gathered], role: str) -> _Together:
    return _Together(parts={name: one.parts[role] for name, one in gathered.items() if role in one.parts})


def _check(
    preprocessor: Preprocessor,
    together: _Together,
    use: Mapping[str, str],
    tokenizer: Callable[[], Any] | None,
) -> Iterator[Finding]:
    """Yield what is wrong with the rows of a split, and where its columns are used in another way than those of train.

    A cell with a finding of the preprocessor gets no second one. Rows with a finding are not checked with the
    tokenizer, which is not loaded if the run stops anyway.
    """
    found: set[tuple[int | None, str | None]] = set()
    bad: set[int] = set()
    stops = False
    for finding in preprocessor.check(together.rows):
        found.add((finding.row, finding.column))
        stops = stops or finding.level == "error" or (finding.level == "row" and finding.row is None)
        if finding.level == "row" and finding.row is not None:
            bad.add(finding.row)
        yield finding
    if tokenizer is not None and not stops and _checks_with_tokenizer(preprocessor):
        yield from _check_with_tokenizer(preprocessor, together.rows, bad, tokenizer())
    for column, train in use.items():
        for finding in consistency.check(column, list(together.values(column)), train=train, file=together.file):
            if finding.level == "error" or (finding.row, column) not in found:
                yield finding


def _checks_with_tokenizer(preprocessor: Preprocessor) -> bool:
    return type(preprocessor).check_with_tokenizer is not Preprocessor.check_with_tokenizer


def _check_with_tokenizer(
    preprocessor: Preprocessor, rows: Sequence[Row], bad: Collection[int], tokenizer: Any
) -> Iterator[Finding]:
    """Yield what the tokenizer shows to be wrong with the rows that are not bad, at their positions among all rows."""
    if not bad:
        yield from preprocessor.check_with_tokenizer(rows, tokenizer)
        return
    good = _Without(rows, bad)
    for finding in preprocessor.check_with_tokenizer(good, tokenizer):
        row = None if finding.row is None else good.place(finding.row)
        other = None if finding.other is None else good.place(finding.other)
        yield replace(finding, row=row, other=other)


class _Without(Sequence[Row]):
    """The rows of a sequence without some of them."""

    def __init__(self, rows: Sequence[Row], bad: Collection[int]) -> None:
        self._rows, self._bad = rows, frozenset(bad)
        ordered = np.array(sorted(self._bad), np.int64)
        self._before = ordered - np.arange(len(ordered))
        """For each bad row, how many of the others come before it."""

    def place(self, row: int) -> int:
        """Return the position among all rows of a row of this sequence."""
        return row + int(np.searchsorted(self._before, row, side="right"))

    def __len__(self) -> int:
        return len(self._rows) - len(self._bad)

    def __iter__(self) -> Iterator[Row]:
        for number, row in enumerate(self._rows):
            if number not in self._bad:
                yield row

    def __getitem__(self, index: Any) -> Any:
        return self._rows[self.place(range(len(self))[index])]


def _bad_rows(
    preprocessor: Preprocessor,
    together: _Together,
    role: str,
    reports: Mapping[str, Report],
    use: Mapping[str, str],
    tokenizer: Callable[[], Any] | None,
) -> dict[str, BadRows | StreamedBadRows]:
    """Check a split, report the findings with their places, and return those of the bad rows of each data set."""
    bad: dict[str, BadRows | StreamedBadRows] = {}
    found: Iterable[Finding] = _check(preprocessor, together, use, tokenizer)
    for name, split in together.parts.items():
        bad[name] = split.collector(drops=reports[name].drops)
        found = split.located(found)
    for finding in found:
        name, number = next(iter(together.parts)), None
        place: dict[str, Any] = {}
        level = finding.level
        if finding.row is not None:
            name, number = together.at(finding.row)
            place = together.parts[name].place(number)
        elif level == "row":
            level = "error"  # a bad row without a position cannot be dropped
        placed = replace(
            finding,
            file=finding.file or place.get("file"),
            line=finding.line or place.get("line"),
            path=finding.path or place.get("path"),
            row=place.get("row"),
            split=role,
            level=level,
        )
        if finding.other is not None:
            placed = _with_other(placed, together, finding.other)
        reports[name].add(placed)
        if level == "row" and number is not None:
            bad[name].add(number, placed)
    return bad


def _with_other(finding: Finding, together: _Together, row: int) -> Finding:
    """Return a finding whose message names the place of another row, given by its position in the split."""
    name, number = together.at(row)
    nowhere = {"file": None, "line": None, "path": None}
    other = replace(finding, **{**nowhere, **together.parts[name].place(number)})
    return replace(finding, message=f"{finding.message} The other row is {place_of(other)}.", other=other.row)


def _unread(parts: Mapping[str, AnySplit], preprocessor: Preprocessor) -> tuple[Finding, ...]:
    """Return a warning for each column that the task does not read; none if the preprocessor names no columns."""
    needs = preprocessor.needs()
    read = {*needs.inputs, *needs.answers, *needs.optional_answers, *needs.consistent, needs.group}
    unread: dict[str, Finding] = {}
    for role, split in parts.items():
        names = split.columns.column_names if read != {None} else []
        free = [other for other in read if other is not None and other not in names]
        for name in names:
            if name in read or name in unread:
                continue
            close = nearest(name, free)
            unread[name] = Finding(
                code=UNREAD,
                message=f"the task does not read the column {name!r}.",
                fix=f"Did you mean {close!r}? Rename it under dataset.columns: {{{name}: {close}}}." if close else "",
                level="warning",
                column=name,
                split=role,
                file=split.table.files[0] if len(split.table.files) == 1 else None,
            )
    return tuple(unread.values())


def _accounted(gathered: Gathered, preprocessor: Preprocessor, column_use: Mapping[str, str]) -> Examples:
    parts, report = gathered.parts, gathered.report
    train = parts.get("train")
    held_out = {role: split.rows for role, split in parts.items() if isinstance(split, Split)}
    rows = dict(held_out)
    every: list[Mapping[str, Any]] | DroppedRows = []
    stream, leakage = None, None
    fingerprints, places, given = {}, {}, {}
    for role, split in parts.items():
        if isinstance(split, Split):
            fingerprints[role] = fingerprint(split)
            places[role] = places_of(split, role)
            given[role] = split.given
    if isinstance(train, StreamedSplit):
        summary = streaming.summarize(train, held_out, preprocessor, seed=gathered.seed)
        rows, fingerprints = {"train": summary.sample, **rows}, {"train": summary.fingerprint, **fingerprints}
        stream, leakage, every = train.finished(), summary.leakage, DroppedRows()
    every.extend(row for split in parts.values() for row in split.table.broken)
    every.extend(gathered.gone)
    lost = Counter(row["split"] for row in every)
    data_report = {
        role: {
            "read": split.read,
            "bad": lost[role],
            "dropped": lost[role],
            "left_out": split.left_out,
            "kept": len(split.index),
            "from_train": split.from_train,
            "blank_lines": split.table.notes.get("blank_lines", 0),
            "byte_order_marks": split.table.notes.get("byte_order_marks", 0),
        }
        for role, split in parts.items()
    }
    return Examples(
        splits=rows,
        preprocessor=preprocessor,
        findings=report.findings,
        counts=dict(report.counts),
        data_report=data_report,
        fingerprints=fingerprints,
        dropped=tuple(every) if isinstance(every, list) else every,
        sizes={role: _sizes(split.table) for role, split in parts.items()},
        column_use=column_use,
        unread=_unread(parts, preprocessor),
        stream=stream,
        leakage=leakage,
        places=places,
        given=given,
    )


def _sizes(table: Table) -> dict[str | None, int]:
    """Return the number of rows of each file of a table; None for rows without a file."""
    return dict(zip(table.files, table.sizes, strict=True)) if table.files else {None: table.read}


def _table(
    content: Any,
    *,
    split: str,
    needed: Iterable[str],
    used: frozenset[str] | None,
    report: Report,
    writer: Writer | None = None,
) -> Table:
    """Return rows that are given in Python as a table."""
    if isinstance(content, Dataset):
        return Table(rows=content, read=len(content))
    tabulator = Tabulator(split=split, report=report, needed=frozenset(needed), used=used, writer=writer)
    rows = PythonRows(content)
    tabulator.read(rows, measured=rows, file=None, header=False)
    return tabulator.finish()


def _needed(preprocessor: Preprocessor, columns: Mapping[str, str], *, answers: bool) -> frozenset[str]:
    """Return the columns that the task uses, by their names in the source."""
    needs = preprocessor.needs()
    used = {*needs.inputs, *((*needs.answers, *needs.optional_answers) if answers else ())}
    theirs = {ours: name for name, ours in columns.items()}
    return frozenset(theirs.get(name, name) for name in used)


def _used(
    preprocessor: Preprocessor, columns: Mapping[str, str], *, needed: frozenset[str], answers: bool
) -> frozenset[str] | None:
    """Return the columns that the task or the recipe names, by their names in the source; None if the task names none.

    Args:
        preprocessor: Names the columns of the task.
        columns: Name in the source → name for the task.
        needed: Columns that every row must have.
        answers: Whether the rows must have answers.
    """
    needs = preprocessor.needs()
    if not needs.inputs and not needs.answers:
        return None
    ignored = () if answers else needs.answers
    named = {theirs for theirs, ours in columns.items() if ours not in ignored}
    group = {needs.group} if needs.group else set()
    return needed | named | group


def _remedy(*, fit: bool, answers: bool) -> str:
    """Return what to do about bad rows: where they can be dropped."""
    if fit:
        return "Correct the rows, or set dataset.on_bad: drop to leave them out and list them in dropped.jsonl."
    return "Correct or remove the rows." if answers else "Correct the rows, or leave them out with --on-bad drop."


def _check_limits(limit: Mapping[str, int]) -> None:
    for role, most in limit.items():
        if role not in ROLES:
            raise BadData(
                f"dataset.limit: {role!r} is not a split.{did_you_mean(role, ROLES)} Splits are {', '.join(ROLES)}."
            )
        if most < 1:
            raise BadData(f"dataset.limit: {role}: the limit must be at least 1, not {most}.")
