"""Find what `dataset.path` names: the files, or the rows, of each split."""

from __future__ import annotations

import glob
import importlib.util
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.data import text_folders
from finetune.data.findings import Report
from finetune.data.readers import signatures
from finetune.data.readers.formats import Formats
from finetune.errors import BadData, did_you_mean, listed
from finetune.files import not_a_file
from finetune.interfaces import Finding
from finetune.plugins import Plugins, find_code
from finetune.progress import suppress_progress_bars
from finetune.recipe import Source
from finetune.user_code import described

ROLES = ("train", "validation", "test")
"""The splits of a run, in their order."""

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_HUB = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")


@dataclass(frozen=True)
class Files:
    """The files of one split, by the names that messages show."""

    names: tuple[str, ...]


def find(source: Source, *, plugins: Plugins, formats: Formats, report: Report) -> dict[str, Any]:
    """Return split → `Files`, or split → rows, with the names that the source gives its splits.

    Raises:
        BadData: The source does not exist, or a key of the recipe does not fit it.
    """
    if isinstance(source.path, Mapping):
        _refuse(source, "name", "revision", what="files")
        return {
            split: _expanded([given] if isinstance(given, str) else list(given), split=split, report=report)
            for split, given in source.path.items()
        }
    scheme, colon, rest = source.path.partition(":")
    path = Path(source.path).expanduser()
    if "://" in source.path:
        raise _failed(f"dataset.path: {source.path!r} is a URL. Download the file, and give its path.")
    if colon and not path.exists():
        _refuse(source, "name", "revision", "format", what="a Python function")
        if scheme in plugins.catalogues["sources"].targets:
            return _called(plugins.find("sources", scheme), rest, source=source)
        if _FUNCTION.fullmatch(source.path) and _is_module(scheme):
            return _called(find_code(source.path, where="dataset.path"), source=source)
        if re.fullmatch(r"[\w.-]{2,}", scheme):  # a single letter is a Windows drive
            known = plugins.catalogues["sources"].targets
            raise _failed(
                f"dataset.path: {source.path!r}: {scheme!r} is neither a source of a plugin nor a Python module."
                f"{did_you_mean(scheme, known)} Installed sources: {_listed(known)}. Write a Python function as "
                "'module:function'."
            )
    if _names_files(source.path, formats):
        _refuse(source, "name", "revision", what="files")
        if path.is_dir():
            return _folder(source, path, formats=formats, report=report)
        return {"train": _expanded([source.path], split=None, report=report)}
    _refuse(source, "options", "format", what="a data set on the Hub")
    return _hub(source)


def missing(source: Source, *, formats: Formats) -> list[str]:
    """Return the files and patterns of ``dataset.path`` for which there is no file."""
    if isinstance(source.path, Mapping):
        names = [name for given in source.path.values() for name in ([given] if isinstance(given, str) else given)]
    else:
        is_other = ":" in source.path or not _names_files(source.path, formats)
        names = [] if is_other else [source.path]
    absent = []
    for name in names:
        path = Path(name).expanduser()
        if not path.exists() and not glob.glob(str(path), recursive=True):
            absent.append(name)
    return absent


def _is_one_file(name: str, plugins: Plugins) -> bool:
    """Return whether ``dataset.path`` names a file or a pattern, and neither a folder nor a source of another kind."""
    return ":" not in name and not Path(name).expanduser().is_dir() and _names_files(name, Formats(plugins))


def refuse_missing(source: Source, *, plugins: Plugins) -> None:
    """Check that the files which ``dataset.path`` names exist, and read none of them.

    Raises:
        BadData: One does not; the findings are those of `find`.
    """
    report = Report(on_bad=source.on_bad)
    if isinstance(source.path, Mapping):
        for split, given in source.path.items():
            _expanded([given] if isinstance(given, str) else list(given), split=split, report=report)
    elif _is_one_file(source.path, plugins):
        _expanded([source.path], split=None, report=report)
    if report.levels["error"]:
        report.stop()


def _names_files(name: str, formats: Formats) -> bool:
    """Return whether ``dataset.path`` names a file, a folder or a pattern, and not a data set on the Hub."""
    path = Path(name).expanduser()
    looks_like_file = formats.stem(path.name) is not None or path.exists() or path.is_symlink()
    return looks_like_file or glob.has_magic(name) or not _HUB.fullmatch(name)


def _is_module(name: str) -> bool:
    """Return whether Python finds the package of a module, without importing it."""
    return importlib.util.find_spec(name.partition(".")[0]) is not None


def _refuse(source: Source, *keys: str, what: str) -> None:
    """Refuse keys that would have no effect."""
    for key in keys:
        if getattr(source, key):
            raise _failed(f"dataset.{key} has no effect for {what} ({source.path!r}). Remove it.")


def _expanded(given: list[str], *, split: str | None, report: Report) -> Files:
    """Return the files of names and patterns; report those without a file."""
    names: list[str] = []
    for name in given:
        path = Path(name).expanduser()
        found = [str(path)] if path.exists() or path.is_symlink() or not glob.has_magic(name) else []
        found = found or sorted(glob.glob(str(path), recursive=True))
        if not found:
            fix = "A pattern can contain *, ?, [ab] and **."
            report.error("no-such-file", f"no file matches {name!r}.", fix=fix, split=split, file=name)
        for one in found:
            if _is_readable(Path(one), name=name if len(found) == 1 else one, split=split, report=report):
                names.append(name if one == str(path) else one)
    if not given:
        report.error("no-such-file", "the list of files is empty.", fix="Name at least one file.", split=split)
    return Files(tuple(names))


def _is_of_system(path: Path) -> bool:
    """Return whether a path leads into a folder of the kernel: its files show the environment and the machine."""
    resolved = path.resolve()
    is_shared_memory = resolved.is_relative_to("/dev/shm")
    return not is_shared_memory and any(resolved.is_relative_to(folder) for folder in ("/proc", "/sys", "/dev"))


def _is_readable(path: Path, *, name: str, split: str | None, report: Report) -> bool:
    """Return whether a path is a file; report it if it is not."""
    if path.is_file():
        if not _is_of_system(path):
            return True
        message, code = f"the path leads to {path.resolve()}, a file of the system and not of data.", "not-a-file"
    elif what := not_a_file(path):
        message, code = f"the path is {what}, not a file.", "not-a-file"
    elif path.is_symlink():
        message, code = "the path is a link without a target, or a loop of links.", "not-a-file"
    else:
        siblings = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
        message, code = f"the file does not exist.{did_you_mean(path.name, siblings)}", "no-such-file"
    fix = f"Relative paths start at {Path.cwd()}."
    slashed = name.replace("\\", "/")
    if slashed != name and Path(slashed).expanduser().exists():
        fix = f"Write {slashed}: on this system, '/' separates folders."
    report.error(code, message, fix=fix, file=name, split=split)
    return False


def _folder(source: Source, folder: Path, *, formats: Formats, report: Report) -> dict[str, Any]:
    """Return the files of a folder by their stems, or the data set that `Dataset.save_to_disk` wrote there.

    A file that cannot be read, such as a workbook, is reported if its name is that of a split, or
    if there is no data file. Without a data file, texts in a folder for each label are read.
    """
    if (folder / "dataset_dict.json").exists() or (folder / "state.json").exists():
        import datasets

        try:
            return _splits(datasets.load_from_disk(str(folder)))
        except Exception as error:
            if isinstance(error, MemoryError | OSError):
                raise
            raise _failed(
                f"{source.path}: the data set that save_to_disk wrote there cannot be read: {described(error)}. "
                "Write it again."
            ) from error
    found: dict[str, list[str]] = {}
    stems: dict[tuple[str, bool], str] = {}
    for path in sorted(folder.iterdir()):
        stem = formats.stem(path.name)
        if stem is not None and path.is_file():
            if not _is_readable(path, name=str(path), split=None, report=report):
                report.stop()
            split, sharded = _SHARD.sub("", stem), bool(_SHARD.search(stem))
            if split in found and not (sharded and (split, True) in stems):
                raise _failed(
                    f"{source.path}: both {Path(found[split][0]).name} and {path.name} can be {split!r}. "
                    f"Name the right file: dataset.path: {{{split}: {path}}}."
                )
            stems[split, sharded] = path.name
            found.setdefault(split, []).append(str(path))
    wanted = {role for role in ROLES if role not in source.splits}.union(filter(None, source.splits.values()))
    for path in sorted(folder.iterdir()):
        split = path.name.partition(".")[0]
        if formats.stem(path.name) is None and path.is_file() and (not found or split in wanted - found.keys()):
            known = signatures.of_file(path)
            if known is not None:
                what, fix = known
                report.error("unknown-format", f"the file is {what}.", fix=fix, file=str(path))
    if not found and report.levels["error"]:
        report.stop()
    labelled = {} if wanted & found.keys() else text_folders.find(folder)
    if labelled:
        _refuse(source, "format", what="a folder for each label")
        return dict(text_folders.read(labelled, source, folder, report=report))
    if not found:
        raise _failed(
            f"{source.path}: the folder contains no data file, such as train.csv. It contains: "
            f"{_listed(path.name for path in folder.iterdir())}. Supported suffixes: {_listed(formats.suffixes())}."
        )
    return {split: Files(tuple(names)) for split, names in found.items()}


def _called(function: Callable[..., Any], *arguments: str, source: Source) -> dict[str, Any]:
    """Return the splits that a Python function returns, after a check of its arguments."""
    if not callable(function):
        raise _failed(f"{source.path!r} is a {type(function).__name__}. It must be a function that returns rows.")
    signature = inspect.signature(function)
    try:
        signature.bind(*arguments, **source.options)
    except TypeError as error:
        known = list(signature.parameters)[len(arguments) :]
        wrong = next((key for key in source.options if key not in known), "")
        raise _failed(
            f"dataset.options of {source.path!r}: {error}.{did_you_mean(wrong, known)} It takes: {_listed(known)}."
        ) from error
    return _splits(function(*arguments, **source.options), what=source.path)


def _splits(content: Any, *, what: object = "the source") -> dict[str, Any]:
    if isinstance(content, Mapping):
        return dict(content)
    if isinstance(content, Iterable) and not isinstance(content, str | bytes):
        return {"train": content}
    raise _failed(
        f"{what!r} returned a value of type {type(content).__name__}. It must return rows (mappings of columns to "
        "values), or a mapping of splits to rows."
    )


def _hub(source: Source) -> dict[str, Any]:
    """Return the splits of a data set on the Hub."""
    import datasets

    more = {"streaming": True} if source.streaming else {}
    try:
        with suppress_progress_bars():
            return _splits(datasets.load_dataset(source.path, source.name, revision=source.revision, **more))
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        offline = " HF_HUB_OFFLINE is set, so the network is not used." if datasets.config.HF_HUB_OFFLINE else ""
        name = f", configuration {source.name!r}" if source.name else ""
        revision = f", revision {source.revision!r}" if source.revision else ""
        raise _failed(
            f"dataset.path: {source.path!r} is neither a file nor a folder here, and the data set with this name "
            f"on the Hub cannot be loaded: {str(error).strip().rstrip('.')}{cause}.{offline} "
            f"Tried: {Path(str(source.path)).resolve()}, then huggingface.co/datasets/{source.path}{name}{revision}."
        ) from error


def _failed(message: str) -> BadData:
    finding = Finding(code="source-failed", message=message, level="error")
    return BadData(message, findings=[finding], counts={finding.code: 1})


def assigned(found: Mapping[str, Any], source: Source, *, report: Report) -> dict[str, Any]:
    """Return split of the run → content of the source.

    A split of the source keeps its name, unless `dataset.splits` renames it. Splits with other
    names are left out with a warning, and those that are renamed to None without one. No name is
    guessed: `dev` is not `validation`.
    """
    parts: dict[str, Any] = {}
    for role, theirs in source.splits.items():
        if role not in ROLES:
            report.error(
                "unknown-split",
                f"dataset.splits: {role!r} is not a split of a run. The splits are {', '.join(ROLES)}.",
                fix="Write the name for the run first: {validation: dev}.",
                split=role,
            )
        elif theirs is None:
            continue
        elif theirs not in found:
            message = f"dataset.splits: the source has no split {theirs!r}.{did_you_mean(theirs, found.keys())}"
            report.error("unknown-split", message, fix=f"Its splits are: {_listed(found)}.", split=role)
        else:
            parts[role] = found[theirs]
    renamed = [theirs for theirs in source.splits.values() if theirs is not None]
    for name, content in found.items():
        if name in ROLES and name not in source.splits and name not in renamed:
            parts[name] = content
        elif name not in renamed and not (name in source.splits and source.splits[name] is None):
            _left_out(name, source, found=found, report=report)
    if len(set(renamed)) < len(renamed):
        message = f"dataset.splits uses a split of the source twice: {dict(source.splits)}."
        report.error("same-file", message, fix="Use each split of the source once.")
    return {role: parts[role] for role in ROLES if role in parts}


def _left_out(name: str, source: Source, *, found: Collection[str], report: Report) -> None:
    free = [role for role in ROLES if role not in source.splits and role not in found]
    if source.path and isinstance(source.path, Mapping):
        fix = f"Name it {' or '.join(ROLES)}."
        report.error("unknown-split", f"{name!r} is not a split of a run.", fix=fix, split=name)
        return
    role = (free or ROLES)[-1]
    fix = f"To use it, set dataset.splits: {{{role}: {name}}}." if source.path else f"To use it, name it {role}."
    message = f"the split {name!r} of {source.path or 'the rows'} is not used."
    report.add(Finding(code="unused-split", message=message, fix=fix, level="warning", split=name))


def _listed(names: Iterable[object], *, most: int = 12) -> str:
    return listed(sorted(map(str, names)), most=most)
