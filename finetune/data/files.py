"""Read the files of a split into one table."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from finetune.data.findings import Report, UnreadableError
from finetune.data.readers import binary
from finetune.data.readers.delimited import DelimitedReader
from finetune.data.readers.formats import Formats
from finetune.data.readers.text import Text
from finetune.data.sources import Files
from finetune.data.table import Table, Tabulator
from finetune.interfaces import Reader
from finetune.recipe import Source


def read(
    files: Files,
    *,
    split: str,
    source: Source,
    formats: Formats,
    needed: Collection[str],
    used: frozenset[str] | None,
    report: Report,
) -> Table:
    """Return the rows of a split's files as one table, and report the findings.

    Args:
        files: The files of the split.
        split: Name of the split.
        source: Says format and encoding.
        formats: The installed formats.
        needed: Columns, by their names in the files, that every row must have.
        used: Columns that the task reads; None for all.
        report: Takes the findings.
    """
    paths = [Path(name).expanduser() for name in files.names]
    kinds = kinds_of(files, paths, split=split, source=source, formats=formats, report=report)
    if kinds is None:
        return Table(rows=None, read=0, files=files.names, sound=False)
    if kinds:
        return binary.read(paths, names=files.names, kinds=kinds, split=split, report=report)
    errors = report.levels["error"]
    tabulator = Tabulator(split=split, report=report, needed=needed, used=used)
    for path, name in zip(paths, files.names, strict=True):
        tabulate(tabulator, path, name=name, source=source, formats=formats)
    table = tabulator.finish()
    if not paths or report.levels["error"] > errors:
        return table.unsound()
    return table


def kinds_of(
    files: Files, paths: Sequence[Path], *, split: str, source: Source, formats: Formats, report: Report
) -> list[str] | None:
    """Return the format of each binary file; none if all are text, and None if they are mixed, which is reported."""
    kinds = [formats.binary(path.name, source.format) for path in paths]
    known = [kind for kind in kinds if kind]
    if known and len(known) < len(kinds):
        message = f"{split} mixes text files with {known[0]}."
        report.error("mixed-formats", message, fix="Convert the files to one format.", split=split)
        return None
    if known and source.options:
        message = f"dataset.options has no effect for {known[0]} files."
        report.error("source-failed", message, fix="Remove it.", split=split, file=files.names[0])
    return known


def tabulate(tabulator: Tabulator, path: Path, *, name: str, source: Source, formats: Formats) -> Reader | None:
    """Read a text file into a table, and return its reader; None if it cannot be read, which is reported."""
    text = Text(path, name=name, encoding=source.encoding)
    try:
        reader = formats.reader(path, name=name, given=source.format, encoding=source.encoding, options=source.options)
    except UnreadableError as error:
        tabulator.report.add(error.finding)
        return None
    header = isinstance(reader, DelimitedReader)
    tabulator.read(reader.rows(text, file=name), measured=text, file=name, header=header)
    if text.byte_order_mark:
        tabulator.note("byte_order_marks")
    return reader


def refuse_same(parts: Mapping[str, object], *, report: Report) -> None:
    """Report a file that is given for two splits, or twice for one split, even under different names."""
    seen: dict[tuple[int, int], tuple[str, str]] = {}
    for split, content in parts.items():
        for name in content.names if isinstance(content, Files) else ():
            status = os.stat(Path(name).expanduser())
            other = seen.setdefault((status.st_dev, status.st_ino), (split, name))
            if other != (split, name) or content.names.count(name) > 1:  # type: ignore[attr-defined]
                message = f"the file is given for {split} and, as {other[1]}, for {other[0]}."
                fix = "Use each file once: a model must not be scored on rows that it learned from."
                report.error("same-file", message, fix=fix, file=name, split=split)
                break
