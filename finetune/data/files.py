"""Read the files of a split into one table."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from finetune.data.findings import Report, UnreadableError
from finetune.data.readers import binary
from finetune.data.readers.delimited import DelimitedReader
from finetune.data.readers.formats import Formats
from finetune.data.readers.text import Text
from finetune.data.sources import Files
from finetune.data.table import Table, Tabulator
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
    kinds = [formats.binary(path.name, source.format) for path in paths]
    if paths and all(kinds):
        if source.options:
            message = f"dataset.options has no effect for {kinds[0]} files."
            report.error("source-failed", message, fix="Remove it.", split=split, file=files.names[0])
        known = [kind for kind in kinds if kind]
        return binary.read(paths, names=files.names, kinds=known, split=split, report=report)
    errors = report.levels["error"]
    if any(kinds):
        message = f"{split} mixes text files with {next(filter(None, kinds))}."
        report.error("mixed-formats", message, fix="Convert the files to one format.", split=split)
        return Table(rows=None, read=0, files=files.names, sound=False)
    tabulator = Tabulator(split=split, report=report, needed=needed, used=used)
    for path, name in zip(paths, files.names, strict=True):
        _tabulate(tabulator, path, name=name, source=source, formats=formats)
    table = tabulator.finish()
    if not paths or report.levels["error"] > errors:
        return Table(
            rows=table.rows,
            places=table.places,
            files=table.files,
            sizes=table.sizes,
            read=table.read,
            sound=False,
            header=table.header,
        )
    return table


def _tabulate(tabulator: Tabulator, path: Path, *, name: str, source: Source, formats: Formats) -> None:
    text = Text(path, name=name, encoding=source.encoding)
    try:
        reader = formats.reader(path, name=name, given=source.format, encoding=source.encoding, options=source.options)
    except UnreadableError as error:
        tabulator.report.add(error.finding)
        return
    header = isinstance(reader, DelimitedReader)
    tabulator.read(reader.rows(text, file=name), measured=text, file=name, header=header)
    if text.byte_order_mark:
        tabulator.note("byte_order_marks")


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
