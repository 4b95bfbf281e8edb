"""Find the reader of a file: by the recipe, else by the file name, else by the content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune.data.findings import UnreadableError
from finetune.data.readers.delimited import CsvReader, TsvReader
from finetune.data.readers.json_array import JsonArrayReader
from finetune.data.readers.json_lines import JsonLinesReader
from finetune.data.readers.plain import FORMAT, PlainReader
from finetune.data.readers.text import Text
from finetune.errors import BadData, BrokenPlugin, MissingLibrary, UnknownName, did_you_mean
from finetune.interfaces import Finding, Reader
from finetune.plugins import Plugins
from finetune.recipe.options import build

OURS: dict[str, type[Reader]] = {"csv": CsvReader, "tsv": TsvReader, "json": JsonArrayReader, "jsonl": JsonLinesReader}
"""Text formats of the core."""

_KNOWN: dict[str, type[Reader]] = {**OURS, FORMAT: PlainReader}
"""They, and the one of plain text that is predicted."""

BINARY = {"parquet": (".parquet",), "arrow": (".arrow",)}
"""Binary formats, which store the types of their columns: name → suffixes."""

_HEAD = 4096


class Formats:
    """The formats that are installed."""

    def __init__(self, plugins: Plugins) -> None:
        self._plugins = plugins
        self._theirs: dict[str, type[Reader]] = {}
        self._broken: list[str] = []
        catalogue = plugins.catalogues["readers"]
        for name in catalogue.targets:
            try:
                self._theirs[name] = catalogue.find(name)
            except (BrokenPlugin, MissingLibrary, UnknownName) as error:
                self._broken.append(f"{name} ({error})")  # reported only if no other reader takes the file

    @property
    def names(self) -> list[str]:
        """The formats that a recipe can name."""
        return sorted({*OURS, *BINARY, *self._theirs})

    def suffixes(self) -> set[str]:
        """Return every suffix that a data file can have."""
        found: set[str] = set()
        for reader in (*OURS.values(), *self._theirs.values()):
            found.update(reader.suffixes)
        return found.union(*BINARY.values())

    def stem(self, name: str) -> str | None:
        """Return a file name without its suffixes, or None if no format has these suffixes."""
        short = name[:-3] if name.lower().endswith(".gz") else name
        for suffix in sorted(self.suffixes(), key=len, reverse=True):
            if short.lower().endswith(suffix) and len(short) > len(suffix):
                return short[: -len(suffix)]
        return None

    def binary(self, name: str, given: str | None) -> str | None:
        """Return `parquet` or `arrow` for a file in one of these formats, else None."""
        if given is not None:
            return given if given in BINARY else None
        return next((kind for kind, suffixes in BINARY.items() if name.lower().endswith(suffixes)), None)

    def check(self, given: str | None) -> None:
        """Check that a format is installed.

        Raises:
            BadData: It is not. The message has the nearest name.
        """
        if given is not None and given not in {*self.names, *_KNOWN} and ":" not in given:
            raise BadData(
                f"dataset.format: unknown format {given!r}.{did_you_mean(given, self.names)} "
                f"Installed: {', '.join(self.names)}.{self._list_broken()}"
            )

    def reader(
        self, path: Path, *, name: str, given: str | None, encoding: str, options: Mapping[str, Any] = {}
    ) -> Reader:
        """Return the reader for a text file, with its options.

        Raises:
            UnreadableError: No reader takes the file, or more than one.
            BadOptions: The reader does not have these options.
        """
        cls = self._class(path, name=name, given=given, encoding=encoding)
        return build(cls, options, where="dataset.options")

    def _class(self, path: Path, *, name: str, given: str | None, encoding: str) -> type[Reader]:
        if given is not None:
            found: type[Reader] = _KNOWN[given] if given in _KNOWN else self._plugins.find("readers", given)
            return found
        short = (name[:-3] if name.lower().endswith(".gz") else name).lower()
        theirs = {kind: reader for kind, reader in self._theirs.items() if short.endswith(tuple(reader.suffixes))}
        ours = [reader for reader in OURS.values() if short.endswith(reader.suffixes)]
        if len(theirs) + len(ours) == 1:
            return [*theirs.values(), *ours][0]
        head = _head(path, name=name, encoding=encoding)
        recognising = sorted(kind for kind, reader in theirs.items() if reader().recognises(head))
        if len(recognising) > 1:
            message = f"the file can have the formats {' and '.join(recognising)}."
            raise self._unknown(name, message, fix=f"Set dataset.format: {' or '.join(recognising)}.")
        for reader in [theirs[kind] for kind in recognising] + ours:
            if reader().recognises(head):
                return reader
        if not head.strip():
            fix = "Give the path of a file with rows."
            raise UnreadableError(
                Finding(code="no-rows", message="the file is empty.", fix=fix, level="error", file=name)
            )
        reason = "no reader recognises the file" if theirs or ours else "the suffix of the file is unknown"
        fix = f"Set dataset.format to one of: {', '.join(self.names)}.{self._list_broken()}"
        raise self._unknown(name, f"{reason}; {_describe(head)}.", fix=fix)

    def _list_broken(self) -> str:
        return f" Broken: {'; '.join(self._broken)}." if self._broken else ""

    @staticmethod
    def _unknown(name: str, message: str, *, fix: str) -> UnreadableError:
        return UnreadableError(Finding(code="unknown-format", message=message, fix=fix, level="error", file=name))


def _head(path: Path, *, name: str, encoding: str) -> str:
    """Return the first characters of a file."""
    for piece in Text(path, name=name, encoding=encoding):
        return piece[:_HEAD]
    return ""


def _describe(head: str) -> str:
    begin = head.lstrip()
    if begin.startswith("{"):
        first = begin.splitlines()[0].rstrip()
        return "it looks like JSON lines" if first.endswith("}") else f"it looks like one JSON object: {begin[:40]!r}"
    if begin.startswith("["):
        return "it looks like a JSON array"
    line = begin.split("\n", 1)[0]
    if "\t" in line or "," in line:
        return "it looks like a table with " + ("tabs" if "\t" in line else "commas")
    return f"it begins with {begin[:40]!r}"
