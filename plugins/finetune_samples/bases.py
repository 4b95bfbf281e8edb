"""Pretrained models of about a million parameters that have read about Skerrow: made here, in a few minutes, and kept.

Each is a folder as a Hub repository would be: configuration, safetensors, tokenizer. Nothing is downloaded.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from finetune.errors import BadOptions, UnknownName, did_you_mean
from finetune_samples.world import SEED, world

logger = logging.getLogger(__name__)

RECORD = "base.json"
"""What a base was made from, and the loss it came to."""
_NOT_READ = ("__init__.py", "demo.py", "rewards.py")
"""Modules of this package on which no base depends."""


@dataclass(frozen=True, kw_only=True)
class Making:
    """All that a base is made from, apart from code and text."""

    vocabulary: str
    """Function of `finetune_samples.vocabularies`."""
    vocabulary_size: int
    """Tokens at most."""
    size: Mapping[str, int]
    """Fields of the model's configuration."""
    rehearsal: int
    """Optimizer updates on roll calls, before."""
    steps: int
    """Optimizer updates on the corpus."""
    batch: int
    """Sequences an update."""
    learning_rate: float
    """Highest rate."""
    seed: int = SEED
    """Of the town, the weights and the order of the texts."""


_BODY = {
    "hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "max_position_embeddings": 512,
}  # fmt: skip
KINDS: dict[str, Making] = {
    "encoder": Making(
        vocabulary="wordpiece",
        vocabulary_size=2048,
        size={**_BODY, "intermediate_size": 512},
        rehearsal=150,
        steps=600,
        batch=16,
        learning_rate=2e-3,
    ),
    "seq2seq": Making(
        vocabulary="sentencepiece",
        vocabulary_size=2304,
        size={"d_model": 128, "d_kv": 32, "num_heads": 4, "d_ff": 512, "num_layers": 2, "num_decoder_layers": 2},
        rehearsal=150,
        steps=600,
        batch=16,
        learning_rate=3e-3,
    ),
    "decoder": Making(
        vocabulary="byte_level",
        vocabulary_size=2560,
        size={**_BODY, "intermediate_size": 344},
        rehearsal=150,
        steps=600,
        batch=16,
        learning_rate=3e-3,
    ),
}
"""The bases: like BERT, like T5, like Llama."""


def base(kind: str, *, cache: Path | None = None, steps: int | None = None) -> Path:
    """Return the folder of a base, making it first if it is not there: some minutes, then at once.

    A base is looked up by the fingerprint of its configuration, of the code that makes it and of the code that writes
    its texts: whoever changes any of these gets another. Two processes that make the same one do not disturb each
    other.

    Args:
        kind: ``encoder``, ``seq2seq`` or ``decoder``.
        cache: Folder of all bases; `cache_folder` unless told.
        steps: Another number of optimizer updates; the result is another base.

    Raises:
        UnknownName: There is no such kind; the nearest is named.
        BadOptions: The number of steps is not at least 1.
    """
    if kind not in KINDS:
        raise UnknownName(f"there is no base {kind!r}.{did_you_mean(kind, KINDS)} There are: {', '.join(KINDS)}.")
    if steps is not None and (not isinstance(steps, int) or steps < 1):
        raise BadOptions(f"base {kind}: steps must be a whole number of at least 1, not {steps!r}.")
    making = KINDS[kind] if steps is None else replace(KINDS[kind], steps=steps)
    named = fingerprint(making)
    folder = (cache or cache_folder()) / f"{kind}-{named[:16]}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        _make(kind, making, folder, named)
    return folder


def cache_folder() -> Path:
    """Return the folder in which bases are kept: ``$XDG_CACHE_HOME/finetune/bases``, or the same under ``~/.cache``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "finetune" / "bases"


def fingerprint(making: Making) -> str:
    """Return the SHA-256 of what a base is made from: its options and the code that writes, reads and trains."""
    digest = hashlib.sha256(json.dumps(asdict(making), sort_keys=True).encode())
    for module in sorted(Path(__file__).parent.glob("*.py")):
        if module.name not in _NOT_READ:
            digest.update(module.name.encode() + b"\0" + module.read_bytes() + b"\0")
    return digest.hexdigest()


def _make(kind: str, making: Making, folder: Path, named: str) -> None:
    """Make a base beside its place and move it there whole, so that what is there is never half of one."""
    logger.info("making the base %s once, in some minutes: %s", kind, folder)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write(kind, making, building, named)
        building.chmod(0o755)  # mkdtemp's is for its owner alone
        if not folder.is_dir():
            _move(building, folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _move(building: Path, folder: Path) -> None:
    try:
        building.rename(folder)
    except OSError:
        # Another process was faster: its base is as good as ours.
        if not folder.is_dir():
            raise


def _write(kind: str, making: Making, folder: Path, named: str) -> None:
    import torch

    from finetune.models import quiet
    from finetune_samples import pretraining, vocabularies
    from finetune_samples.corpora import corpus, rehearsals

    town = world(making.seed)
    texts = corpus(making.seed, town)
    tokenizer = getattr(vocabularies, making.vocabulary)(texts, making.vocabulary_size)
    with torch.random.fork_rng():
        torch.manual_seed(making.seed)
        model = getattr(pretraining, kind)(tokenizer, dict(making.size))
    schedule = pretraining.Schedule(
        steps=making.steps, batch=making.batch, learning_rate=making.learning_rate, seed=making.seed
    )
    with quiet():
        if making.rehearsal:
            rolls = rehearsals(making.seed, town, making.rehearsal * making.batch * 2)
            pretraining.pretrain(model, tokenizer, rolls, replace(schedule, steps=making.rehearsal))
        loss = pretraining.pretrain(model, tokenizer, texts, schedule)
        model.cpu().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    record: dict[str, Any] = {
        "kind": kind,
        **asdict(making),
        "fingerprint": named,
        "texts": len(texts),
        "parameters": model.num_parameters(),
        "loss": round(loss, 4),
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
