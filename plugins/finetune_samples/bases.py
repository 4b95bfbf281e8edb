"""Small pretrained models, of about a million parameters, which are trained on this machine and cached.

Each is a folder like a repository of the Hub: configuration, safetensors, tokenizer. Nothing is downloaded.
"""

from __future__ import annotations

import ast
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from finetune.errors import BadOptions, UnknownName, did_you_mean
from finetune_samples.ingredients import Made, Making, Teaching

logger = logging.getLogger(__name__)

RECORD = "base.json"
"""File with the settings of a base model, its training loss and the digests of its files."""
FILES = "files"
"""Key of the record: name of a file → its SHA-256."""
_BODY = {
    "hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "max_position_embeddings": 512,
}  # fmt: skip
KINDS: dict[str, Making | Teaching] = {
    "encoder": Making(
        module="encoders",
        vocabulary="wordpiece",
        vocabulary_size=2048,
        size={**_BODY, "intermediate_size": 512},
        rehearsal=150,
        steps=600,
        batch=16,
        learning_rate=2e-3,
    ),
    "seq2seq": Making(
        module="encoder_decoders",
        vocabulary="sentencepiece",
        vocabulary_size=2304,
        size={"d_model": 128, "d_kv": 32, "num_heads": 4, "d_ff": 512, "num_layers": 2, "num_decoder_layers": 2},
        rehearsal=0,
        steps=400,
        batch=16,
        learning_rate=2e-3,
    ),
    "decoder": Making(
        module="decoders",
        vocabulary="byte_level",
        vocabulary_size=2560,
        size={**_BODY, "intermediate_size": 344},
        rehearsal=150,
        steps=600,
        batch=16,
        learning_rate=3e-3,
    ),
    "assistant": Teaching(
        after="decoder",
        chats=("harbour-instructions", "harbour-replies"),
        steps=750,
        batch=16,
        learning_rate=2e-3,
    ),
}
"""The base models: like BERT, T5 and Llama, and that Llama trained on chats."""


def names() -> dict[str, str]:
    """Return what each base model is."""
    return {
        "encoder": "A BERT of a million parameters, trained to fill in words",
        "seq2seq": "A T5 of a million parameters, trained to restore passages",
        "decoder": "A Llama of a million parameters, trained to continue texts",
        "assistant": "The decoder, taught to answer in chats",
    }


def base(kind: str, *, cache: Path | None = None, steps: int | None = None) -> Path:
    """Return the folder of a base model; the first call makes it, which takes some minutes.

    The name of the folder contains a fingerprint of the settings, the code that makes the model and the code that makes
    its texts. A change of any of these gives another base model. Two processes may make the same one at the same time.

    Args:
        kind: ``encoder``, ``seq2seq``, ``decoder`` or ``assistant``, which makes the decoder first.
        cache: Folder of all base models; None for `cache_folder`.
        steps: Another number of optimizer steps, which gives another base model.

    Raises:
        UnknownName: There is no such kind; the message names the nearest.
        BadOptions: The number of steps is not at least 1.
    """
    if kind not in KINDS:
        raise UnknownName(f"there is no base model {kind!r}.{did_you_mean(kind, KINDS)} There are: {', '.join(KINDS)}.")
    if steps is not None and (not isinstance(steps, int) or steps < 1):
        raise BadOptions(f"base model {kind}: steps must be a whole number of at least 1, not {steps!r}.")
    making = KINDS[kind] if steps is None else replace(KINDS[kind], steps=steps)
    named = fingerprint(making)
    folder = (cache or cache_folder()) / f"{kind}-{named[:16]}"
    if not folder.is_dir() or not is_intact(folder):
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _make(kind, making, folder, named)
    return folder


def is_intact(folder: Path) -> bool:
    """Return whether the folder of a base model is as it was written, and no other user can write it.

    The record of a folder that an older version wrote has no digests. They are added.
    """
    if folder.is_symlink() or not _is_own(folder):
        return False
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(record, dict):
        return False
    found = _digests(folder)
    if FILES not in record:
        _write_record(folder, {**record, FILES: found})
        return True
    return bool(record[FILES] == found)


def _is_own(folder: Path) -> bool:
    """Return whether a folder belongs to this user or to the system, and no other user can write it or its files."""
    if os.name == "nt":
        return True
    for path in (folder, *folder.iterdir()):
        state = path.lstat()
        if state.st_uid not in (os.geteuid(), 0) or state.st_mode & 0o022:
            return False
    return True


def _digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of a folder, without the record: name → digest."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.name != RECORD:
            found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "no file"
    return found


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write the record of a base model; two processes may do so at the same time."""
    from finetune.kit import write_atomically

    write_atomically(folder / RECORD, json.dumps(record, indent=2, allow_nan=False) + "\n")


def cache_folder() -> Path:
    """Return the folder of all base models: ``$XDG_CACHE_HOME/finetune/bases``, or the same under ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "finetune" / "bases"


def fingerprint(making: Making | Teaching) -> str:
    """Return the SHA-256 of the settings of a base model and of the code that makes its texts and trains it."""
    digest = hashlib.sha256(json.dumps(asdict(making), sort_keys=True).encode())
    if isinstance(making, Teaching):
        digest.update(fingerprint(KINDS[making.after]).encode())
    for name, source in sorted(sources(making).items()):
        digest.update(name.encode() + b"\0" + source + b"\0")
    return digest.hexdigest()


def sources(making: Making | Teaching) -> dict[str, bytes]:
    """Return the modules of this package that are imported to make a base model: name → source.

    For a `Teaching`, the modules of its base model are not included.
    """
    waiting = ["assistants"] if isinstance(making, Teaching) else ["making", making.module]
    found: dict[str, bytes] = {}
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = (Path(__file__).parent / f"{name}.py").read_bytes()
            waiting += _imported(found[name])
    return found


def _imported(source: bytes) -> Iterator[str]:
    """Yield the modules of this package that a module imports, at the top or inside functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == __package__:
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and str(node.module).startswith(f"{__package__}."):
            yield str(node.module).removeprefix(f"{__package__}.")


def _make(kind: str, making: Making | Teaching, folder: Path, named: str) -> None:
    """Make a base model in a temporary folder and move it to its place, so that an incomplete one is never there."""
    logger.info("making the base model %s, which takes some minutes: %s", kind, folder)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write(kind, making, building, named)
        building.chmod(0o755)  # mkdtemp makes it readable for its owner only
        if folder.is_symlink() or (folder.is_dir() and not is_intact(folder)):
            logger.warning("%s has changed since it was written, or another user can write it: made again", folder)
            _remove(folder)
        if not folder.is_dir():
            _move(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _remove(folder: Path) -> None:
    """Remove a folder, or the link in its place.

    Raises:
        BadOptions: It belongs to somebody else.
    """
    try:
        if folder.is_symlink():
            folder.unlink()
        else:
            shutil.rmtree(folder)
    except OSError as error:
        raise BadOptions(
            f"{str(folder)!r} has changed, or another user can write it, and it cannot be removed: {error.strerror}. "
            "Remove it, or set XDG_CACHE_HOME to a folder of yours."
        ) from error


def _move(building: Path, folder: Path) -> None:
    try:
        building.rename(folder)
    except OSError:
        # another process was faster; its base model is the same
        if not folder.is_dir():
            raise


def _write(kind: str, making: Making | Teaching, folder: Path, named: str) -> None:
    from finetune.kit import suppress_output

    with suppress_output():
        made = _made(making, folder.parent)
        made.model.cpu().save_pretrained(folder)
        made.tokenizer.save_pretrained(folder)
    record: dict[str, Any] = {
        "kind": kind,
        **asdict(making),
        "fingerprint": named,
        "texts": made.texts,
        "parameters": made.model.num_parameters(),
        "loss": round(made.loss, 4),
    }
    _write_files(folder, record)


def _write_files(folder: Path, record: dict[str, Any]) -> None:
    """Write the record with the digests of the other files, and let nobody else write any of them."""
    for path in folder.iterdir():
        path.chmod(0o644)
    _write_record(folder, {**record, FILES: _digests(folder)})
    (folder / RECORD).chmod(0o644)


def _made(making: Making | Teaching, cache: Path) -> Made:
    if isinstance(making, Teaching):
        from finetune_samples.assistants import taught

        return taught(making, base(making.after, cache=cache))
    from finetune_samples.making import pretrained

    return pretrained(making)
