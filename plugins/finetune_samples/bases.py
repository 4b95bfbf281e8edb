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
"""File with the settings of a base model and its training loss."""
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
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        _make(kind, making, folder, named)
    return folder


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
        if not folder.is_dir():
            _move(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


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
    (folder / RECORD).write_text(json.dumps(record, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _made(making: Making | Teaching, cache: Path) -> Made:
    if isinstance(making, Teaching):
        from finetune_samples.assistants import taught

        return taught(making, base(making.after, cache=cache))
    from finetune_samples.making import pretrained

    return pretrained(making)
