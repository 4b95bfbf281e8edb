"""Read a text file in bounded memory: bytes, decoded pieces, lines."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from finetune.data.findings import UnreadableError
from finetune.data.readers import signatures
from finetune.errors import BadData
from finetune.interfaces import Finding

PIECE = 1 << 20
"""Bytes read at a time."""

LONGEST = 64 << 20
"""Longest line or record, in characters."""


class Text:
    """The decoded text of one file. Iterate over it for pieces of about a million characters; line ends are kept.

    Raises:
        UnreadableError: While iterating: the file is no text or not in this encoding, is not gzip,
            or is truncated.
    """

    def __init__(self, path: Path, *, name: str, encoding: str = "utf-8") -> None:
        self.path = path
        self.name = name
        self.encoding = encoding
        self.characters = 0
        """Characters read so far."""
        self.byte_order_mark = False
        """Whether the file begins with one; it is not part of the text."""
        self._lines = 0

    def __iter__(self) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder(self.encoding)()
        offset = 0
        first = True
        for chunk, last in _with_last(self._bytes()):
            if first:
                self._check_signature(chunk)
                self._check_encoding(chunk)
            pending = decoder.getstate()[0]
            try:
                piece = decoder.decode(chunk, last)
            except UnicodeDecodeError as error:
                raise self._undecodable(error, offset=offset - len(pending)) from error
            offset += len(chunk)
            if first and piece:
                first = False
                self.byte_order_mark = piece.startswith("\ufeff") or chunk.startswith(codecs.BOM_UTF8)
                piece = piece.removeprefix("\ufeff")
            self._lines += piece.count("\n")
            self.characters += len(piece)
            if piece:
                yield piece

    def _bytes(self) -> Iterator[bytes]:
        try:
            with self.path.open("rb") as raw:
                stream = self._unzipped(raw)
                while chunk := stream.read(PIECE):
                    yield chunk
        except EOFError as error:
            message = "the compressed file ends too early."
            raise self._unreadable("truncated-gzip", message, fix="Copy it again.") from error
        except (gzip.BadGzipFile, zlib.error) as error:
            message = f"the file cannot be decompressed ({error})."
            raise self._unreadable("corrupt-gzip", message, fix="Copy it again.") from error
        except OSError as error:
            message = f"the file cannot be read ({error.strerror})."
            raise self._unreadable("unreadable-file", message, fix="Check its permissions.") from error

    def _unzipped(self, raw: IO[bytes]) -> IO[bytes]:
        head = raw.read(2)
        raw.seek(0)
        zipped, named = head == b"\x1f\x8b", self.path.name.lower().endswith(".gz")
        if named and head and not zipped:
            message = "the file name ends in .gz, but the content is not compressed."
            raise self._unreadable("not-gzip", message, fix="Rename the file.")
        if zipped and not named:
            message = "the content is compressed with gzip, but the file name does not end in .gz."
            raise self._unreadable("unnamed-gzip", message, fix="Add .gz to the file name.")
        return gzip.GzipFile(fileobj=raw) if zipped else raw  # type: ignore[return-value]

    def _check_signature(self, head: bytes) -> None:
        """Refuse a file that is no text, such as an archive, whatever its name and encoding are."""
        known = signatures.named(head, self.path)
        if known is not None:
            what, fix = known
            raise self._unreadable("unknown-format", f"the file is {what}.", fix=fix)

    def _check_encoding(self, head: bytes) -> None:
        """Refuse text in another encoding that decodes without an error, such as UTF-16 without a byte order mark."""
        name = codecs.lookup(self.encoding).name
        guess = likely(head)
        if head.startswith(codecs.BOM_UTF8) and name not in {"utf-8", "utf-8-sig"}:
            guess = "utf-8"
        elif name.startswith(("utf-16", "utf-32")):
            return
        if guess is not None and guess.startswith("utf-"):
            raise self._unreadable(
                "wrong-encoding",
                f"the file is not {self.encoding}. It is probably {guess}.",
                fix=f"Set dataset.encoding: {guess}.",
                line=1,
            )

    def _undecodable(self, error: UnicodeDecodeError, *, offset: int) -> UnreadableError:
        data, start = bytes(error.object), error.start
        line = self._lines + data[:start].count(b"\n") + 1
        around = data[max(0, start - 200) : start + 200]
        whole = data[data.rfind(b"\n", 0, start) + 1 :].partition(b"\n")[0]
        guess = "utf-8" if _is_utf8(whole) else likely(around)
        if guess:
            fix = f"The encoding is probably {guess}: set dataset.encoding: {guess}."
        else:
            fix = "Set dataset.encoding to the encoding of the file."
        return self._unreadable(
            "wrong-encoding",
            f"byte {offset + start:,} (0x{data[start]:02x}) is not valid {self.encoding}.",
            fix=fix,
            line=line,
            value=around[max(0, min(start, 200) - 30) :][:60].decode("ascii", "backslashreplace"),
        )

    def _unreadable(
        self, code: str, message: str, *, fix: str = "", line: int | None = None, value: str | None = None
    ) -> UnreadableError:
        line = line if line is not None or not self.characters else self._lines + 1
        return UnreadableError(
            Finding(code=code, message=message, fix=fix, level="error", file=self.name, line=line, value=value)
        )


def likely(data: bytes) -> str | None:
    """Return the probable encoding of some bytes, or None if they show none.

    >>> likely("öd".encode("utf-16-le")), likely("plain words".encode("utf-16-be")), likely("öd".encode("cp1252"))
    (None, 'utf-16-be', 'cp1252')
    """
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    head = data[:4096]
    if len(head) >= 8 and head.count(0) > len(head) // 4:
        return "utf-16-le" if head[1::2].count(0) > head[0::2].count(0) else "utf-16-be"
    high = [byte for byte in head if byte >= 0x80]
    return "cp1252" if high and not set(high) & {0x81, 0x8D, 0x8F, 0x90, 0x9D} and 0 not in head else None


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def check_encoding(encoding: str) -> None:
    """Check that Python knows an encoding, and that it is one of text.

    Raises:
        BadData: It is not. The message names encodings that are.
    """
    try:
        b"text".decode(encoding, "replace")  # base64 accepts empty bytes
        codecs.getincrementaldecoder(encoding)
    except LookupError as error:
        raise BadData(
            f"dataset.encoding: {encoding!r} is not an encoding of text. Examples: utf-8, utf-16, cp1252, latin-1."
        ) from error


def lines(text: Iterable[str], *, file: str) -> Iterator[str]:
    r"""Yield the lines of a text that comes in pieces, without their ``\n``. A ``\r`` before it is kept.

    Only ``\n`` ends a line. `str.splitlines` would also split at U+2028, ``\x0b``, ``\x85`` and a lone ``\r``.

    >>> list(lines(["a\r", "\nb\u2028c", "\n"], file="x"))
    ['a\r', 'b\u2028c']

    Raises:
        UnreadableError: A line is longer than `LONGEST`.
    """
    tail: list[str] = []
    size = number = 0
    for piece in text:
        first, *rest = piece.split("\n")
        tail.append(first)
        size += len(first)
        if size > LONGEST:
            raise too_long(file=file, line=number + 1)
        if rest:
            last = rest.pop()
            yield "".join(tail)
            yield from rest
            number += 1 + len(rest)
            tail, size = [last], len(last)
    if size:
        yield "".join(tail)


def too_long(*, file: str, line: int, what: str = "line") -> UnreadableError:
    """Return the error for a line or record that is longer than `LONGEST`."""
    return UnreadableError(
        Finding(
            code="record-too-long",
            message=f"the {what} that begins here has more than {LONGEST:,} characters.",
            fix="Check the format. A missing quote or line end turns a whole file into one record.",
            level="error",
            file=file,
            line=line,
        )
    )


def _with_last(chunks: Iterator[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Yield each chunk and whether it is the last. The last is empty, so that the decoder reports a cut character."""
    for chunk in chunks:
        yield chunk, False
    yield b"", True
