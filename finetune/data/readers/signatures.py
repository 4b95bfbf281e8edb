"""Recognise files that are no text by their first bytes: archives, workbooks, documents, databases."""

from __future__ import annotations

import zipfile
from pathlib import Path

_UNPACK = "Unpack it, and give the path of the file inside."
_SAVE = "Save its sheet as CSV (UTF-8), and give the path of that file."
_EXPORT = "Export the rows as csv or jsonl."

_SIGNATURES = {
    b"PAR1\x15": ("a parquet file", "Set dataset.format: parquet."),
    b"ARROW1\0\0": ("an arrow file", "Set dataset.format: arrow."),
    b"%PDF-": ("a PDF", _EXPORT),
    b"SQLite format 3\0": ("an SQLite database", _EXPORT),
    b"\x28\xb5\x2f\xfd": ("a zstandard archive", _UNPACK),
    **{b"BZh%d1AY&SY" % level: ("a bzip2 archive", _UNPACK) for level in range(1, 10)},
    b"\xfd7zXZ\0": ("an xz archive", _UNPACK),
    b"7z\xbc\xaf\x27\x1c": ("a 7-Zip archive", _UNPACK),
    b"Rar!\x1a\x07": ("a RAR archive", _UNPACK),
}
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_OLE = b"\xd0\xcf\x11\xe0"
_TAR = b"ustar"
_TAR_AT = 257
_HEAD = 512
_DIRECTORY = 8 << 20
"""Bytes in which the parts of an old Office document are looked up."""


def named(head: bytes, path: Path) -> tuple[str, str] | None:
    """Return what a file is and what to do, or None if its first bytes are not those of a known format.

    Args:
        head: The first bytes of the file, or of its content if it is compressed.
        path: The file.
    """
    if head.startswith(_ZIP):
        return _zip(path)
    if head.startswith(_OLE):
        return _office(path)
    if head[_TAR_AT:].startswith(_TAR):
        return "a tar archive", _UNPACK
    for signature, meaning in _SIGNATURES.items():
        if head.startswith(signature):
            return meaning
    return None


def of_file(path: Path) -> tuple[str, str] | None:
    """Return what a file is and what to do, or None if it is not known or cannot be read; see `named`."""
    try:
        with path.open("rb") as file:
            return named(file.read(_HEAD), path)
    except OSError:
        return None  # the reader of the file reports it


def _zip(path: Path) -> tuple[str, str]:
    """Return what a zip archive is, by the names of the files in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            begin = archive.read("mimetype")[:80] if "mimetype" in names else b""
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError):
        return "a zip archive or an Excel workbook, and it is damaged", "Copy it again."
    if any(name.startswith("xl/") for name in names):
        return "an Excel workbook", _SAVE
    if begin.endswith(b"opendocument.spreadsheet"):
        return "an OpenDocument spreadsheet", _SAVE
    if any(name.startswith(("word/", "ppt/")) for name in names) or b"opendocument" in begin:
        return "an Office document", _EXPORT
    files = [name for name in names if not name.endswith("/")]
    inside = f" It contains {', '.join(files[:3])}{' …' if len(files) > 3 else ''}." if files else " It is empty."
    return "a zip archive", _UNPACK + inside


def _office(path: Path) -> tuple[str, str]:
    """Return what an old Office document is, by the names of its parts."""
    with path.open("rb") as file:
        content = file.read(_DIRECTORY)
    if any(part.encode("utf-16-le") in content for part in ("Workbook", "Book\0")):
        return "an old Excel workbook", _SAVE
    return "an old Office document", _EXPORT
