"""Features that are kept in a folder, and used again by each run that would make the same ones.

The key of an entry is a digest of everything that features are made of: the rows, the preprocessor with its options
and its code, the tokenizer, the task, and the versions of the libraries. An entry is a folder with an Arrow file and a
JSON file, and their digests; nothing in it is code. It is written under another name and then renamed, so an entry is
complete or it is not there, also if several processes write the same one.

An entry is used only if it belongs to this user and no other user can change it, if its digests fit, and if the
features of some of its rows are those that the preprocessor makes now. Otherwise the features are made again.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, is_dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from datasets import Features as Types
from tokenizers import AddedToken

from finetune import result
from finetune.base import WRITTEN_BY
from finetune.data import feature_table, storage
from finetune.data.rows import is_plain
from finetune.errors import BadOptions
from finetune.folder import file_sha256
from finetune.interfaces import Preprocessor, Task
from finetune.plugins import Plugins, class_path
from finetune.recipe.options import describe
from finetune.user_code import first_line

FORMAT = 1
"""It grows if entries get another meaning."""
EXAMPLE = "example"
"""Feature column: index of the example that a feature was made from."""
TABLE, ENTRY = "features.arrow", "entry.json"
SCRATCH = ".making-"
"""Beginning of the names of folders that are not complete."""
_ABANDONED = 24 * 60 * 60
"""Seconds after which such a folder was left by a process that was killed."""
_TESTED = 16
"""Rows whose features are made again when an entry is read."""
_LARGEST = 1 << 20
"""Bytes of the largest `ENTRY`."""
_CODE = re.compile(r"([A-Za-z_]\w*)(?:\.\w+)*:[A-Za-z_][\w.]*")
_TIME = b"strftime_now"
"""The function by which a chat template reads the date."""
_WHERE = {*WRITTEN_BY, "name_or_path", "is_local", "local_files_only"}
"""Entries of a tokenizer's configuration that say where it came from."""
_WITHOUT_EFFECT = {"name_or_path", "init_kwargs", "init_inputs", "files_loaded", "deprecation_warnings", "verbose"}
"""Attributes of a tokenizer that say where it came from and what it has warned about."""

Make = Callable[[Mapping[str, Sequence[Any]], Sequence[int]], Mapping[str, Any]]
"""Makes the features of a batch from its columns and the positions of its rows."""


class _NotKeptError(Exception):
    """No key can be made for some features; the message says why."""


class FeatureCache:
    """A folder with the features of any number of data sets.

    Args:
        folder: The folder; it is made if it is missing.
        plugins: Say which preprocessors are installed code.
        note: Shows a sentence to the user.

    Raises:
        BadOptions: The folder cannot be made.
    """

    def __init__(self, folder: Path, *, plugins: Plugins, note: Callable[[str], None]) -> None:
        folder = folder.expanduser()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.folder = folder.resolve(strict=True)
            _remove_abandoned(self.folder)
        except OSError as error:
            raise BadOptions(f"the cache {str(folder)!r} cannot be used: {error.strerror}. Name a folder.") from error
        self._plugins = plugins
        self._note = note
        self._notes: set[str] = set()
        self._tokenizer: tuple[Any, dict[str, Any]] | None = None

    def note(self, text: str) -> None:
        """Show a sentence to the user, once."""
        if text not in self._notes:
            self._notes.add(text)
            self._note(text)

    def entry(
        self, rows: str, *, preprocessor: Preprocessor, tokenizer: Any, task: Task, answers: bool, batch: int
    ) -> Entry | None:
        """Return the place for the features of some rows; None with a note if they cannot be kept.

        Args:
            rows: The fingerprint of the rows.
            preprocessor: A fitted one.
            tokenizer: The tokenizer of the model.
            task: The task that the features are for.
            answers: Whether the features have labels.
            batch: How many rows are made at a time.
        """
        try:
            if self._tokenizer is None or self._tokenizer[0] is not tokenizer:
                self._tokenizer = tokenizer, _content_of_tokenizer(tokenizer)
            content = {
                "format": FORMAT,
                "rows": rows,
                "answers": answers,
                "batch": batch,
                "preprocessor": _content_of_preprocessor(preprocessor, self._plugins),
                "tokenizer": self._tokenizer[1],
                "task": [sorted(task.features), sorted(task.labels), task.generates],
                "versions": {**result.versions(), "python": platform.python_version()},
            }
        except _NotKeptError as error:
            self.note(f"the features are not kept in the cache: {error}")
            return None
        return Entry(self, _digest(content), is_packed=preprocessor.is_packed)


class Entry:
    """The place of the features of one split."""

    def __init__(self, place: FeatureCache, key: str, *, is_packed: bool) -> None:
        self.path = place.folder / key
        self._cache = place
        self._is_packed = is_packed

    def load(self, examples: Dataset, make: Make) -> tuple[Dataset, dict[str, int], int] | None:
        """Return the features, their counts and the length of the longest; None if there is no entry.

        An entry that cannot be used is removed, with a note.

        Args:
            examples: The examples that the features belong to.
            make: Makes the features of some rows again.
        """
        if not os.path.lexists(self.path):
            return None
        try:
            features, counts, longest = self._read(len(examples))
            if not self._is_packed:  # the features of a row then depend on that row alone
                _compare(features, examples, make)
        except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
            self._cache.note(f"an entry of the cache is not used: {first_line(error)}; its features are made again")
            self._remove()
            return None
        return features, counts, longest

    def _read(self, examples: int) -> tuple[Dataset, dict[str, int], int]:
        """Return what the entry holds.

        Raises:
            ValueError: It is not as it was written, or somebody else can change it.
        """
        if not stat.S_ISDIR(os.lstat(self.path).st_mode):
            raise ValueError("it is not a folder")
        _require_own(os.lstat(self.path))
        with _opened(self.path / ENTRY) as file:
            written = json.loads(file.read(_LARGEST))
        content = written["content"]
        if written["sha256"] != _digest(content) or content["key"] != self.path.name:
            raise ValueError("it is damaged")
        table = self.path / TABLE
        with _opened(table) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != content["table"]:
                raise ValueError("it is damaged")
        with pa.memory_map(str(table)) as source, pa.ipc.open_stream(source) as stream:
            if not all(map(is_plain, Types.from_arrow_schema(stream.schema).values())):
                raise ValueError("it holds something else than features")
            for block in stream:
                block.validate(full=True)
        features = Dataset.from_file(str(table))
        bounds = pc.min_max(features.data.column(EXAMPLE)).as_py()
        if len(features) != content["counts"]["features"] or not 0 <= bounds["min"] <= bounds["max"] < examples:
            raise ValueError("its features belong to other rows")
        return features, {name: int(count) for name, count in content["counts"].items()}, int(content["longest"])

    def save(self, features: Dataset, counts: Mapping[str, int], longest: int) -> None:
        """Keep features. If that fails, a note says so, and nothing is kept."""
        scratch: Path | None = None
        try:
            scratch = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=self._cache.folder))
            rows = features.data.table
            with _created(scratch / TABLE) as file, pa.ipc.new_stream(file, rows.schema) as stream:
                stream.write_table(rows)
            content = {
                "key": self.path.name,
                "table": file_sha256(scratch / TABLE),
                "counts": dict(counts),
                "longest": longest,
            }
            with _created(scratch / ENTRY) as file:
                file.write(result.to_json({"content": content, "sha256": _digest(content)}).encode())
            scratch.rename(self.path)
        except OSError as error:
            if scratch is not None:
                shutil.rmtree(scratch, ignore_errors=True)
            if not self.path.exists():  # otherwise another process was faster, and kept the same features
                self._cache.note(f"the features could not be kept in the cache: {error.strerror}")

    def _remove(self) -> None:
        """Remove the entry. It gets another name first, so that no process reads a part of it."""
        with suppress(OSError):
            aside = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=self._cache.folder))
            try:
                self.path.rename(aside / self.path.name)
            finally:
                shutil.rmtree(aside)


def _compare(features: Dataset, examples: Dataset, make: Make) -> None:
    """Check that the features of some rows are those that are made now.

    Raises:
        ValueError: They are not.
    """
    places = sorted(set(np.linspace(0, len(examples) - 1, _TESTED).astype(int).tolist()))
    made = make(examples[places], places)
    owners = features.data.column(EXAMPLE).to_numpy()
    kept = features.select(np.flatnonzero(np.isin(owners, places))).with_format("arrow")[:]
    expected = feature_table.table(made)
    for name in expected.column_names:
        if name not in kept.column_names or kept.column(name).to_pylist() != expected.column(name).to_pylist():
            raise ValueError("its features are not those that the preprocessor makes")


def _content_of_preprocessor(preprocessor: Preprocessor, plugins: Plugins) -> dict[str, Any]:
    """Return everything of a preprocessor that changes its features, as JSON can hold it.

    Raises:
        _NotKeptError: Something of it cannot be described.
    """
    name = class_path(type(preprocessor))
    if not plugins.provides("preprocessors", name):
        raise _NotKeptError(f"{name} is your own code, which can change between two runs.")
    if not is_dataclass(preprocessor) and vars(preprocessor):
        raise _NotKeptError(f"{name} is not a dataclass, so its options are not known.")
    packages = {"finetune"}
    for each in type(preprocessor).__mro__:
        packages.add(each.__module__.partition(".")[0])
    described = describe(preprocessor)
    try:
        json.dumps(described, default=_plain)
    except (TypeError, ValueError) as error:
        raise _NotKeptError(f"an option of {name} has no written form.") from error
    files: dict[str, str] = {}
    dated = False
    for text in _texts(described["options"]):
        code = _CODE.fullmatch(text)
        if code and importlib.util.find_spec(code[1]) is not None:
            raise _NotKeptError(f"the option {text!r} is Python code, which can change between two runs.")
        content = _content_of_file(text)
        if content is not None:
            files[text] = hashlib.sha256(content).hexdigest()
        dated = dated or _TIME in (content or text.encode("utf-8", "replace"))
    return {
        **described,
        "files": files,
        "code": {package: _code(package) for package in sorted(packages - sys.stdlib_module_names)},
        "date": date.today().isoformat() if dated else None,
    }


def _plain(value: Any) -> Any:
    """Return a value that JSON does not know as one that it knows.

    Raises:
        TypeError: There is none.
    """
    if isinstance(value, Mapping):
        return dict(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(type(value).__name__)


def _texts(value: Any) -> Iterator[str]:
    """Yield each text in the options of a preprocessor, except keys."""
    if isinstance(value, str):
        yield value
    elif is_dataclass(value) and not isinstance(value, type):
        yield from _texts(asdict(value))
    elif isinstance(value, Mapping):
        for below in value.values():
            yield from _texts(below)
    elif isinstance(value, list | tuple):
        for below in value:
            yield from _texts(below)


def _content_of_file(name: str) -> bytes | None:
    """Return the content of the file that an option names, such as a template; None if there is no such file."""
    try:
        path = Path(name).expanduser()
        return path.read_bytes() if path.is_file() else None
    except (OSError, ValueError, RuntimeError):  # no name of a file
        return None


@cache
def _code(package: str) -> str:
    """Return a digest of the Python files of an imported package."""
    module = sys.modules[package]
    digest = hashlib.sha256()
    for place in getattr(module, "__path__", None) or [module.__file__]:
        root = Path(place)
        for path in sorted(root.rglob("*.py")) if root.is_dir() else [root]:
            digest.update(f"{path.relative_to(root)}\n{file_sha256(path)}\n".encode())
    return digest.hexdigest()


def _content_of_tokenizer(tokenizer: Any) -> dict[str, Any]:
    """Return the class of a tokenizer, the digests of the files that it saves, and its simple attributes.

    The files alone are not enough: `truncation_side`, for one, is not saved if it was set as an attribute.

    Raises:
        _NotKeptError: It cannot be saved.
    """
    folder = storage.folder()
    try:
        tokenizer.save_pretrained(folder)
        files = {}
        dated = False
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                content = _without_state(path.name, path.read_bytes())
                files[path.name] = hashlib.sha256(content).hexdigest()
                dated = dated or _TIME in content
    except (OSError, ValueError, TypeError, AttributeError, NotImplementedError) as error:
        raise _NotKeptError(f"the tokenizer cannot be saved ({first_line(error)})") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "class": class_path(type(tokenizer)),
        "files": files,
        "attributes": _simple_attributes(tokenizer),
        "date": date.today().isoformat() if dated else None,
    }


def _simple_attributes(tokenizer: Any) -> dict[str, str]:
    """Return the attributes of a tokenizer that JSON can hold, and its special tokens."""
    found = {}
    for name, value in vars(tokenizer).items():
        if name not in _WITHOUT_EFFECT:
            with suppress(TypeError, ValueError):
                found[name] = json.dumps(value, sort_keys=True, default=_as_token)
    return found


def _as_token(value: Any) -> str:
    """Return a special token with its options as text.

    Raises:
        TypeError: It is something else.
    """
    if isinstance(value, AddedToken):
        return repr(value)
    raise TypeError(type(value).__name__)


def _without_state(name: str, content: bytes) -> bytes:
    """Return a file of a tokenizer without what its last call left there, and without the place it came from."""
    if name == "tokenizer.json":
        left_out = {"truncation", "padding"}  # each call sets them
    elif name == "tokenizer_config.json":
        left_out = _WHERE
    else:
        return content
    entries = json.loads(content)
    return json.dumps({key: value for key, value in entries.items() if key not in left_out}, sort_keys=True).encode()


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=_plain).encode()).hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a file of an entry.

    Raises:
        OSError: It is not there, or is a link.
        ValueError: It is not a file, or somebody else can change it.
    """
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"its {path.name} is not a file")
        _require_own(found)
        yield file


@contextmanager
def _created(path: Path) -> Iterator[Any]:
    """Create a file that only this user can read, and write it to the disk."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _require_own(found: os.stat_result) -> None:
    """Check that a file or folder belongs to this user, and that no other user can write it.

    Raises:
        ValueError: It does not, or others can.
    """
    if os.name != "nt" and (found.st_uid != os.geteuid() or found.st_mode & 0o022):
        raise ValueError("another user can change it")


def _remove_abandoned(folder: Path) -> None:
    """Remove what processes left that were killed while they wrote."""
    for path in folder.glob(f"{SCRATCH}*"):
        with suppress(OSError):
            found = path.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_mtime < time.time() - _ABANDONED:
                shutil.rmtree(path)
