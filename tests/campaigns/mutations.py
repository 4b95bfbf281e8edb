"""Mutations of files: what a broken download, a crooked export or a hostile hand makes of a valid one."""

from __future__ import annotations

import gzip
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from finetune.errors import FinetuneError

PATIENCE = 10.0
"""Seconds of computing that one file may take: other programs of the machine do not count."""
WAIT = 90.0
"""Seconds after which a file that computes nothing hangs, too."""

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63), 2**64, 10**400, 0.5, -0.0, 1e308, float("nan"),
    float("inf"), float("-inf"), "", " ", "\n", "\0", "a\0b", "\ud800", "x\udfff", "\ufeff", "\u2028", "\u200b",
    "\U0001f600", "e\u0301", "[MASK]", "</s>", "[CLS] [SEP]", "__label__", "null", "NaN", "1e999", "9" * 5000,
    "x" * 20_000, "a b " * 2_000, [], [[]], [None], [1, "a"], ["a", None], {}, {"": 0}, {"a": {"b": [1]}},
    {"text": "x"}, [{"role": "user"}], [{"role": None, "content": None}], [["a"], "b"], "-1", "2026-01-01", "%s {0}",
    "../../x", "~", "a:b", "text: x", "[", "{", '"', "'", "#", "!!python/object", "*a", "&a", "<b>", "$x$", "\x1b[0m",
)  # fmt: skip
"""Values that stand in place of one of a file."""

TOKENS = (
    b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"\r", b"\r\n", b"\n\n",
    b"\x0b", b"\x0c", b"\x1a", b"\x1c", b"\xc2\x85", b"\xe2\x80\xa8", b"\"", b"'", b"\"\"", b",", b";", b"\t",
    b"|", b":", b"{", b"}", b"[", b"]", b"NaN", b"Infinity", b"-", b"1e999", b"9" * 4400, b"null", b"true",
    b"__label__", b"-DOCSTART-", b"# ", b"B-", b"I-X", b"\xf0\x9f\x98\x80", b"\\", b"\\u", b"---\n", b"...",
    b"&a", b"*a", b"<<: ", b"!!", b"!!int ", b"!!bool ", b"!!timestamp ", b"? ", b"\xc3", b"\x80",
)  # fmt: skip
"""Pieces that are put into a file."""

Bytes = Callable[[bytes, bytes, random.Random], bytes]


def _flips(content: bytes, other: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 2, 8, 32])):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _bytes(content: bytes, other: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice([1, 2, 8])):
        changed[draw.randrange(len(changed))] = draw.randrange(256)
    return bytes(changed)


def _splice(content: bytes, other: bytes, draw: random.Random) -> bytes:
    return content[: draw.randint(0, len(content))] + other[draw.randint(0, len(other)) :]


def _truncate(content: bytes, other: bytes, draw: random.Random) -> bytes:
    return content[: draw.choice([0, 1, 2, 3, draw.randint(0, len(content)), len(content) - 1])]


def _repeat(content: bytes, other: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(content))
    end = min(len(content), start + draw.choice([1, 3, 20, 200]))
    times = draw.choice([2, 3, 10, 100, 1000])
    return content[:start] + content[start:end] * times + content[end:]


def _remove(content: bytes, other: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(content))
    return content[:start] + content[start + draw.choice([1, 1, 2, 10, 100]) :]


def _insert(content: bytes, other: bytes, draw: random.Random) -> bytes:
    for _ in range(draw.choice([1, 1, 2, 5])):
        place = draw.choice([0, len(content), draw.randint(0, len(content))])
        content = content[:place] + draw.choice(TOKENS) + content[place:]
    return content


def _swap(content: bytes, other: bytes, draw: random.Random) -> bytes:
    """Swap two delimiters, everywhere or in some places."""
    first, second = draw.sample([b",", b";", b"\t", b"|", b'"', b"'", b"{", b"[", b"]", b"}", b":", b" ", b"\n"], 2)
    most = draw.choice([-1, 1, 2])
    return content.replace(first, b"\x07", most).replace(second, first, most).replace(b"\x07", second, most)


def _ends(content: bytes, other: bytes, draw: random.Random) -> bytes:
    """Write other line ends, in all lines or in some."""
    end = draw.choice(
        [b"\r", b"\r\n", b"\n\r", b"\r\r\n", b"\x0b", b"\x0c", b"\xc2\x85", b"\xe2\x80\xa8", b"\n\n", b""]
    )
    return content.replace(b"\n", end, draw.choice([-1, 1, 3]))


def _lines(content: bytes, other: bytes, draw: random.Random) -> bytes:
    """Shuffle, remove or double lines."""
    lines = content.splitlines(keepends=True)
    kind = draw.choice(["shuffle", "remove", "double", "other"])
    place = draw.randrange(len(lines)) if lines else 0
    if kind == "shuffle":
        draw.shuffle(lines)
    elif kind == "remove":
        del lines[place : place + 1]
    elif kind == "double":
        lines[place:place] = lines[place : place + 1] * draw.choice([1, 5, 500])
    else:
        lines[place:place] = other.splitlines(keepends=True)[:3]
    return b"".join(lines)


def _nest(content: bytes, other: bytes, draw: random.Random) -> bytes:
    """Put many levels around a piece or into the middle."""
    opening, closing = draw.choice([(b"[", b"]"), (b'{"a":', b"}"), (b"(", b")"), (b"- ", b""), (b"{a: ", b"}")])
    levels = draw.choice([2, 20, 70, 300, 900, 1100, 5_000, 100_000])
    start = draw.randint(0, len(content))
    end = draw.randint(start, len(content)) if draw.random() < 0.5 else start
    closed = closing * levels if draw.random() < 0.7 else b""
    return content[:start] + opening * levels + content[start:end] + closed + content[end:]


def _recode(content: bytes, other: bytes, draw: random.Random) -> bytes:
    """Write the text in another encoding."""
    text = content.decode("utf-8", "surrogateescape")
    return text.encode(draw.choice(["utf-16", "utf-16-le", "utf-32", "latin-1", "utf-8-sig", "cp037"]), "replace")


BYTES: Sequence[Bytes] = (
    _flips, _bytes, _splice, _truncate, _repeat, _remove, _insert, _insert, _swap, _ends, _lines, _nest, _recode,
)  # fmt: skip


def mutated(content: bytes, other: bytes, draw: random.Random) -> tuple[bytes, list[str]]:
    """Return content after one to three mutations, and their names.

    Args:
        content: A valid file.
        other: Another one, for pieces.
        draw: Chooses.
    """
    names = []
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        mutation = draw.choice(BYTES)
        if content:
            content = mutation(content, other, draw)
            names.append(mutation.__name__.strip("_"))
    return content, names


def gzipped(content: bytes, draw: random.Random) -> bytes:
    """Return content compressed, and in one of three cases damaged afterwards."""
    packed = gzip.compress(content, mtime=0)
    return mutated(packed, packed, draw)[0] if draw.random() < 0.3 else packed


def places(content: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the place of every value in mappings and lists: keys and positions."""
    yield at
    parts: Any = ()
    if isinstance(content, dict):
        parts = list(content.items())
    elif isinstance(content, list):
        parts = list(enumerate(content))
    for key, value in parts:
        yield from places(value, (*at, key))


def mutate_tree(content: Any, draw: random.Random, *, values: Sequence[Any] = VALUES) -> str:
    """Change a value, a key or an entry of mappings and lists in place, and return what was done.

    Args:
        content: A mapping or a list; not empty.
        draw: Chooses.
        values: What can stand in place of a value.
    """
    found = [place for place in places(content) if place]
    if not found:
        return "nothing"
    *path, last = draw.choice(found)
    holder = content
    for key in path:
        holder = holder[key]
    kind = draw.choice(["value", "value", "value", "value", "remove", "rename", "move", "wrap", "near", "repeat"])
    if kind == "value":
        holder[last] = draw.choice(values)
    elif kind == "remove":
        del holder[last]
    elif kind == "rename" and isinstance(holder, dict):
        holder[draw.choice(["", "text", "label", "a.b", "\0", "x\ud800", f"{last} ", str(last).upper()])] = holder.pop(
            last
        )
    elif kind == "move":
        other = content
        for key in draw.choice(found):
            other = other[key]
        holder[last] = other if not isinstance(other, dict | list) else str(other)[:200]
    elif kind == "wrap":
        value = holder[last]
        holder[last] = draw.choice([[value], {"a": value}, [value, value], str(value)[:200], [[value]]])
    elif kind == "near" and isinstance(holder[last], int | float):
        holder[last] = draw.choice([-1, 0, 0.5, 10, 1e9]) * holder[last] + draw.choice([-1, 0, 1])
    elif kind == "repeat" and isinstance(holder[last], list):
        holder[last] = holder[last] * draw.choice([2, 50])
    else:
        holder[last] = draw.choice(values)
    return f"{kind} {'.'.join(map(str, (*path, last)))[:60]!r}"


def numbers(first: int, files: int | None) -> Iterator[int]:
    """Yield the numbers of the files, without an end if none is given."""
    number = first
    while files is None or number < first + files:
        yield number
        number += 1


class Hang(BaseException):
    """A file took longer than `PATIENCE` or `WAIT`. It is no `Exception`, so that no code catches it."""


@contextmanager
def _alarm() -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise Hang

    before = [(number, signal.signal(number, ring)) for number in (signal.SIGALRM, signal.SIGPROF)]
    signal.setitimer(signal.ITIMER_REAL, WAIT)
    signal.setitimer(signal.ITIMER_PROF, PATIENCE)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for number, handler in before:
            signal.signal(number, handler)


@dataclass
class Tally:
    """What the files showed."""

    seed: int
    files: int = 0
    loaded: int = 0
    refused: int = 0
    """Files that a `FinetuneError` refused."""
    slowest: float = 0.0
    """Seconds of computing for the slowest file."""
    crashes: list[str] = field(default_factory=list)
    """Errors of another kind, each once, with its place and the first file that showed it."""
    hangs: list[str] = field(default_factory=list)
    kinds: dict[str, int] = field(default_factory=dict)
    """Place of an error of another kind → how many files showed it."""

    @property
    def crashed(self) -> int:
        """Number of files that crashed."""
        return sum(self.kinds.values())

    def attempt(self, use: Callable[[], object], where: str) -> None:
        """Use one file, and count what it comes to.

        Args:
            use: What reads the file.
            where: The file and how it was made.
        """
        self.files += 1
        started = time.process_time()
        try:
            with _alarm():
                use()
            self.loaded += 1
        except FinetuneError:
            self.refused += 1
        except Hang:
            self.hangs.append(where)
        except Exception as error:  # noqa: BLE001, whatever it is: it is counted
            ours = [each for each in traceback.extract_tb(error.__traceback__) if "/campaigns/" not in each.filename]
            inside = [each for each in ours if "finetune" in each.filename] or ours
            shown = dict.fromkeys(f"{Path(each.filename).name}:{each.lineno}" for each in (*inside[-1:], *ours[-1:]))
            last = "; ".join(shown)
            kind = f"{type(error).__name__} at {last}"
            self.kinds[kind] = self.kinds.get(kind, 0) + 1
            if self.kinds[kind] == 1:
                self.crashes.append(f"{where}: {kind}: {str(error)[:200]}")
                print(self.crashes[-1], file=sys.stderr, flush=True)
        spent = time.process_time() - started
        self.slowest = max(self.slowest, spent)
        if spent > PATIENCE and where not in self.hangs:
            self.hangs.append(where)
