"""The content of a base model: what a run records of it, and the check that it is still the same.

An adapter, or a checkpoint, is right with the base model that it was trained on and with no other. A name does not show
whether it is that one, so a run records the SHA-256 of each file that matters.

To hash a large model takes a while (about two seconds for a gigabyte). So the record also holds the state of each file:
its size, its times and its number in the file system. A file in the same state is not read again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from finetune import gguf
from finetune.errors import BadRecipe, Incompatible
from finetune.folder import file_sha256
from finetune.models import INDEX, PACKAGE, WEIGHTS, locate, locate_tokenizer
from finetune.recipe import Model
from finetune.user_code import first_line

CONFIGS = ("config.json", "generation_config.json")
TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    "vocab.json", "vocab.txt", "merges.txt", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model",
    "source.spm", "target.spm",
)  # fmt: skip
"""Files in which transformers stores tokenizers."""
ADAPTER = "adapter_config.json"
SAVED = ("*.safetensors", f"*{INDEX}", "*config.json")
"""Patterns of the files from which the model of a run folder is loaded."""
WRITTEN_BY = ("transformers_version", "_name_or_path", "base_model_name_or_path", "tokenizer_name_or_path")
"""Entries of a JSON file that say who wrote it, or where the base model is; they do not count as content."""
SIGNED = (*CONFIGS, "tokenizer_config.json", ADAPTER)
"""Files that hold such entries."""
DIGITS = 16
"""Digits of a digest that a message shows."""

Files = Mapping[str, Mapping[str, str]]
"""Name of a file → its ``sha256`` and its ``state``."""


def describe(model: Model) -> dict[str, Any]:
    """Return what a run records of its base model: ``path``, the ``files`` of model and ``tokenizer``, and ``gguf``.

    Files that cannot be found, such as weights under another name, are left out.
    """
    folder, tokenizer = locate(model), locate_tokenizer(model)
    revision = model.revision if tokenizer == folder else None
    described = {
        "path": folder,
        "files": _digests(_model_files(folder, model.revision)),
        "tokenizer": _digests(_existing(TOKENIZER, tokenizer, revision)),
    }
    origin = gguf.record(Path(folder))
    return {**described, "gguf": origin} if origin else described


def describe_tokenizer(directory: Path) -> dict[str, Any]:
    """Return the files of the tokenizer in a run folder, with their digests."""
    return _digests(_existing(TOKENIZER, str(directory), None))


def describe_saved(directory: Path, *, others: Iterable[str] = ()) -> dict[str, Any]:
    """Return the files of the model and of the tokenizer in a run folder, with their digests.

    Args:
        directory: The run folder.
        others: Names of further files from which the model is loaded, such as those of a runtime.
    """
    files = {**_saved_files(directory), **{name: directory / name for name in others}}
    return {"saved_tokenizer": describe_tokenizer(directory), "saved_model": _digests(files)}


def facts(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return file → the first digits of its digest, for model and tokenizer, as a checkpoint stores them."""
    found: dict[str, Any] = {}
    for section in ("files", "tokenizer"):
        found[section] = {name: entry["sha256"][:DIGITS] for name, entry in described.get(section, {}).items()}
    return found


def check_content(recorded: Mapping[str, Any], model: Model) -> None:
    """Check that a base model is the one that a run recorded.

    Args:
        recorded: What `describe` returned when the run was trained; empty for results of older versions.
        model: Where the base model is now.

    Raises:
        Incompatible: Its content has changed.
    """
    folder = locate(model)
    files: Files = recorded.get("files", {})
    if Path(folder).is_dir():
        changed = _changed(files, _model_files(folder, model.revision))
    else:  # the cache of the Hub can lack a file, or have one that no run read
        found = _existing(files, folder, model.revision, local_files_only=False)
        changed = _changed({name: files[name] for name in found}, found)
    if changed:
        raise Incompatible(
            f"model: {folder!r} is not the base model that the run was trained on: {some(changed)} changed. "
            "Put the right one back, or name its place with --base (in Python: finetune.load(run, base=…)). To use "
            "this one, set --accept-changes."
        )


def check_tokenizer(recorded: Files, directory: Path) -> None:
    """Check that the tokenizer in a run folder is the one that the run saved.

    Raises:
        Incompatible: Its content has changed.
    """
    _check_saved("tokenizer", recorded, _existing(TOKENIZER, str(directory), None), directory)


def check_saved(recorded: Mapping[str, Any], directory: Path) -> None:
    """Check that the model and the tokenizer in a run folder are those that the run saved.

    Args:
        recorded: What `describe_saved` returned when the run ended; empty for results of older versions.
        directory: The run folder.

    Raises:
        Incompatible: A file is damaged, missing or new.
    """
    check_tokenizer(recorded.get("saved_tokenizer", {}), directory)
    then: Files = recorded.get("saved_model", {})
    others = {name: directory / name for name in then if (directory / name).is_file()}  # those of a runtime
    _check_saved("model", then, {**others, **_saved_files(directory)}, directory)


def lost(recorded: Mapping[str, Any], directory: Path) -> list[str]:
    """Return which files that a run saved are missing or have other content now.

    Each file is read, also if its state is the one that was recorded: a disk can damage content without a trace.

    Args:
        recorded: As in `check_saved`.
        directory: The run folder.
    """
    names = []
    for section in ("saved_model", "saved_tokenizer"):
        for name, then in recorded.get(section, {}).items():
            path = directory / name
            if not path.is_file() or _sha256(path) != then["sha256"]:
                names.append(name)
    return sorted(names)


def _check_saved(what: str, recorded: Files, found: Mapping[str, Path], directory: Path) -> None:
    changed = _changed(recorded, found)
    if changed:
        raise Incompatible(
            f"the {what} in {str(directory)!r} is not the one that the run saved: {some(changed)} "
            f"{'is missing' if len(changed) == 1 and changed[0] not in found else 'changed'}. Put it back, or set "
            "--accept-changes to use what is there."
        )


def unreadable(directory: Path, *, weights: bool = True) -> str:
    """Return what is wrong with the files of a model in a run folder, as far as they show it; an empty text if nothing.

    Results of older versions have no digests, so the form of the files is all that can be checked.

    Args:
        directory: The run folder.
        weights: Whether it must hold weights as safetensors; a runtime reads other files.
    """
    from safetensors import SafetensorError, safe_open

    for name, path in {**_existing(TOKENIZER, str(directory), None), **_saved_files(directory)}.items():
        try:
            if path.suffix == ".json" and not isinstance(json.loads(path.read_text(encoding="utf-8")), dict):
                return f"{name} holds no JSON object"
            if path.suffix == ".safetensors":
                with safe_open(path, framework="pt"):
                    pass
        except (OSError, ValueError, RecursionError, SafetensorError) as error:
            return f"{name} is damaged: {first_line(error)}"
    return "" if not weights or any(directory.glob(SAVED[0])) else f"it has no weights ({SAVED[0]})"


def check_place(model: Model) -> None:
    """Check that the folder of a base model still exists; an id of the Hub is left to transformers.

    Raises:
        BadRecipe: It does not exist, or holds no model.
    """
    path = model.path
    looks_local = path.startswith((".", "/", "~")) or "\\" in path
    folder = Path(path).expanduser()
    if path and folder.is_dir() and not (folder / CONFIGS[0]).is_file():
        raise BadRecipe(
            f"model: {path!r} holds no base model: it has no {CONFIGS[0]}. Name another folder with --base."
        )
    if path and (path.startswith(PACKAGE) or not looks_local or folder.is_dir()):
        return
    if gguf.is_one(path) and folder.is_file():
        return
    raise BadRecipe(
        f"model: the base model of the run is not in {path!r} any more. If it is in another place, name it with --base "
        "(in Python: finetune.load(run, base=…))."
    )


def not_found(model: Model, error: Exception) -> BadRecipe:
    """Return the error for a base model that transformers cannot load."""
    hint = " If it is in another place,"
    if not Path(model.path).is_absolute():
        hint = " There is no such folder here. If there was one where the run was trained,"
    return BadRecipe(
        f"model: the base model of the run, {model.path!r}, cannot be loaded: {first_line(error)}{hint} "
        "name its place with --base (in Python: finetune.load(run, base=…))."
    )


def _changed(recorded: Files, found: Mapping[str, Path]) -> list[str]:
    """Return the recorded files whose content is another now, and the files that are new or missing."""
    if not recorded:
        return []
    changed = set(recorded) ^ set(found)
    for name in set(recorded) & set(found):
        then, path = recorded[name], found[name]
        is_untouched = _state(path) == then["state"]
        if not is_untouched and _sha256(path) != then["sha256"]:
            changed.add(name)
    return sorted(changed)


def some(names: Sequence[str]) -> str:
    """Return some names as text; of many, the first three and how many there are."""
    return ", ".join(names) if len(names) <= 4 else f"{', '.join(names[:3])} and {len(names) - 3} other files"


def _saved_files(directory: Path) -> dict[str, Path]:
    """Return the files of the model in a run folder, without those of the tokenizer."""
    found: dict[str, Path] = {}
    for pattern in SAVED:
        for path in sorted(directory.glob(pattern)):
            if path.is_file() and path.name not in TOKENIZER:
                found[path.name] = path
    return found


def _model_files(folder: str, revision: str | None) -> dict[str, Path]:
    """Return the files that `from_pretrained` reads: configuration and weights."""
    weights = _existing([WEIGHTS], folder, revision)
    if not weights:
        weights = _existing([INDEX], folder, revision)
        for index in list(weights.values()):
            content = json.loads(index.read_text(encoding="utf-8"))
            weights.update(_existing(sorted(set(content["weight_map"].values())), folder, revision))
    return {**_existing(CONFIGS, folder, revision), **weights} if weights else {}


def _existing(
    names: Iterable[str], folder: str, revision: str | None, *, local_files_only: bool = True
) -> dict[str, Path]:
    """Return those of some files that are in a folder, or in the cache of the Hub; name → path.

    Args:
        names: Names of files.
        folder: A folder, or an id of the Hub.
        revision: Revision of the id.
        local_files_only: Whether files that the cache lacks are left out, not downloaded.
    """
    found: dict[str, Path] = {}
    for name in names:
        path = _path(name, folder, revision, local_files_only=local_files_only)
        if path is not None and path.is_file():
            found[name] = path
    return found


def _path(name: str, folder: str, revision: str | None, *, local_files_only: bool) -> Path | None:
    if Path(folder).is_dir():
        return Path(folder) / name
    from transformers.utils import cached_file

    try:
        cached = cached_file(folder, name, revision=revision or "main", local_files_only=local_files_only)
    except (OSError, ValueError):  # not in the cache, nor on the Hub
        return None
    return None if cached is None else Path(cached)


def _digests(files: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    return {name: {"sha256": _sha256(path), "state": _state(path)} for name, path in files.items()}


def _state(path: Path) -> str:
    """Return what changes if a file is written: size, times of its content and its entry, and its number."""
    stat = path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"


def _sha256(path: Path) -> str:
    return _sha256_of_state(path, _state(path))


@lru_cache(maxsize=256)
def _sha256_of_state(path: Path, state: str) -> str:
    """Return the digest of a file; of a JSON object without the entries of `WRITTEN_BY`."""
    if path.name in SIGNED:
        content = _without_writer(path)
        if content is not None:
            return hashlib.sha256(content).hexdigest()
    return file_sha256(path)


def _without_writer(path: Path) -> bytes | None:
    """Return the content of a JSON object in one way of writing; None if the file is something else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    kept = {key: value for key, value in content.items() if key not in WRITTEN_BY}
    return json.dumps(kept, sort_keys=True).encode()
