"""The rows that a user wants predictions for: a file in any format, lines of text, or standard input."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from finetune.data import storage
from finetune.data.readers.plain import FORMAT
from finetune.errors import BadData, listed
from finetune.interfaces import Columns
from finetune.recipe import Source

STANDARD_INPUT = "-"
"""The path that stands for standard input."""

SHOWN = "standard input"
"""What messages and lines call it."""

_TEXT = (".txt", ".txt.gz")
_JSON = {b"{": ".jsonl", b"[": ".json"}
"""First character of standard input → the suffix of a file with the same content; any other is plain text."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Rows to predict."""

    source: Source
    names: Mapping[str, str] = field(default_factory=dict)
    """File → the name that messages and lines show for it."""


def asked(path: str, like: Source, needs: Columns, *, has_own_format: bool) -> Asked:
    """Return the rows of a path.

    Args:
        path: What `Source.path` takes, or `STANDARD_INPUT`.
        like: The path as a data set like that of the run.
        needs: The columns of the task.
        has_own_format: Whether the run read files with the same suffix, so that the file is read as they were.

    Raises:
        BadData: Standard input is empty, or lines of text cannot be the rows of the task.
    """
    columns = {theirs: ours for theirs, ours in like.columns.items() if ours in needs.inputs}
    constants = {name: text for name, text in like.constants.items() if name in needs.inputs}
    source = replace(like, columns=columns, constants=constants)
    names = {}
    is_text = path.lower().endswith(_TEXT) and not has_own_format
    if path == STANDARD_INPUT:
        content = sys.stdin.buffer.read()
        if not content.strip():
            raise BadData("standard input is empty. Give one row on each line: JSON, or text.")
        suffix = _JSON.get(content.removeprefix(b"\xef\xbb\xbf").lstrip()[:1], ".txt")
        copy = storage.folder() / f"stdin{suffix}"
        copy.write_bytes(content)
        names = {str(copy): SHOWN}
        is_text = suffix == ".txt"
        source = replace(source, path=str(copy), encoding="utf-8", format=None, options={})
    if is_text:
        shown = SHOWN if names else path
        source = replace(source, format=FORMAT, options={"column": _only_column(source, needs, shown)})
    return Asked(source=source, names=names)


def _only_column(source: Source, needs: Columns, shown: str) -> str:
    """Return the column that lines of text are, by its name in the data of the run.

    Raises:
        BadData: The task needs another number of columns.
    """
    wanted = [name for name in needs.required if name not in source.constants]
    if len(wanted) != 1:
        names = wanted or list(needs.inputs)
        raise BadData(
            f"{shown}: each line of text is one column, and the task reads {listed(names)}. Write a csv or jsonl file "
            "with these columns."
        )
    theirs = {ours: name for name, ours in source.columns.items()}
    return theirs.get(wanted[0], wanted[0])


@contextmanager
def naming(names: Mapping[str, str]) -> Iterator[None]:
    """Show the names of files in the findings of a `with` block.

    Raises:
        BadData: As in the block.
    """
    try:
        yield
    except BadData as error:
        if not names:
            raise
        text, findings = str(error), []
        for path, name in names.items():
            text = text.replace(path, name)
        for finding in error.findings:
            findings.append(replace(finding, file=names.get(finding.file or "", finding.file)))
        raise BadData(text, findings=findings, counts=error.counts) from None
