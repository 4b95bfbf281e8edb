"""Checkpoints that survive a crash: each has a manifest, written last, with the hash of every file.

A checkpoint without a valid manifest is skipped, and reported. A run that is resumed on the same
machine, with the same versions and number of threads, ends with exactly the same weights as a run
that was never stopped. This does not hold for another number of threads or GPUs, and not for
``train_sampling_strategy: group_by_length``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from finetune import processes
from finetune.errors import BadCheckpoint
from finetune.folder import file_sha256
from finetune.models import absolute
from finetune.result import write_atomically

MANIFEST = "manifest.json"
OWN = "sha256"
"""Key of a manifest that holds the digest of all its other keys, so that a damaged manifest is noticed."""

PICKLED_ARGUMENTS = "training_args.bin"  # a pickle that nothing reads back

HARMLESS = frozenset(
    {"logging_steps", "logging_strategy", "logging_first_step", "save_steps", "save_strategy", "save_total_limit",
     "eval_steps", "eval_strategy", "eval_on_start", "per_device_eval_batch_size", "disable_tqdm", "report_to",
     "run_name", "dataloader_num_workers", "dataloader_pin_memory"}
)  # fmt: skip
"""Training arguments that can change on resume, because no weight depends on them."""


BASE = "base"
"""The fact that holds the digests of the base model and its tokenizer; results of older versions lack it."""
PLACES = ("path", "tokenizer")
"""Keys of the recipe's `model` section that say where the base model is."""


@dataclass(frozen=True)
class Identity:
    """What identifies a run when it is resumed."""

    facts: Mapping[str, Any]
    """Data fingerprints, labels, seed and training arguments. They must not change."""
    circumstances: Mapping[str, Any]
    """Versions and threads. If they change, the run can continue, but its weights differ in the
    last bits."""

    def changes(self, manifest: Mapping[str, Any]) -> list[str]:
        """Return the facts that differ, one line for each: ``seed: 42 then, 43 now``."""
        then, now = manifest["identity"], self.facts
        if all(_has_digests(facts) for facts in (then, now)):
            return _differences(_without_places(then), _without_places(now))
        return _differences(_with_places(then), _with_places(now))

    def drift(self, manifest: Mapping[str, Any]) -> list[str]:
        """Return the circumstances that differ, one line for each."""
        return _differences(manifest["circumstances"], self.circumstances)


def _has_digests(facts: Mapping[str, Any]) -> bool:
    return bool((facts.get(BASE) or {}).get("files"))


def _with_places(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts with absolute paths, and without the digests that only one of two runs has."""
    model = dict(facts.get("model", {}))
    for name in PLACES:
        if model.get(name):
            model[name] = absolute(model[name])
    return {**facts, "model": model, BASE: None}


def _without_places(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts with the content of the base model instead of its place: a folder that moved is the same."""
    kept = {name: value for name, value in facts.items() if name != BASE}
    kept["model"] = {name: value for name, value in facts.get("model", {}).items() if name not in PLACES}
    for section, owner in (("files", "the base model"), ("tokenizer", "its tokenizer")):
        for name, digest in facts[BASE].get(section, {}).items():
            kept[f"{name} of {owner}"] = digest
    return kept


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    now = json.loads(json.dumps(now))
    keys = sorted({*then, *now})
    return [f"{key}: {then.get(key)} then, {now.get(key)} now" for key in keys if then.get(key) != now.get(key)]


class WriteManifest(TrainerCallback):
    """Writes the manifest of every checkpoint after the trainer has written its files."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the manifest of the newest checkpoint."""
        directory = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        processes.wait()  # each process writes a file
        if processes.is_main() and directory.is_dir():
            (directory / PICKLED_ARGUMENTS).unlink(missing_ok=True)
            seal(directory, identity=self.identity, step=state.global_step)


def seal(directory: Path, *, identity: Identity, step: int) -> None:
    """Write the manifest of a checkpoint, once all its files are on the disk."""
    files = {}
    for path in sorted(path for path in directory.rglob("*") if path.is_file() and path.name != MANIFEST):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        files[str(path.relative_to(directory))] = {"size": path.stat().st_size, "sha256": file_sha256(path)}
    content = {"step": step, "files": files, "identity": identity.facts, "circumstances": identity.circumstances}
    content = {**content, OWN: _own_digest(content)}
    write_atomically(directory / MANIFEST, json.dumps(content, indent=1, ensure_ascii=False))


def _own_digest(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest without its own digest."""
    content = {key: value for key, value in manifest.items() if key != OWN}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def verify(directory: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint, after a check of every file.

    Raises:
        BadCheckpoint: It has no manifest, or a file is missing or has other content.
    """
    try:
        manifest: dict[str, Any] = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        own = manifest[OWN]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadCheckpoint(f"{directory.name} is not complete: it has no valid {MANIFEST}") from error
    if own != _own_digest(manifest):
        raise BadCheckpoint(f"{directory.name} is damaged: the content of {MANIFEST} has changed")
    for name, expected in manifest["files"].items():
        path = directory / name
        if not path.is_file():
            raise BadCheckpoint(f"{directory.name} lacks {name}")
        if path.stat().st_size != expected["size"] or file_sha256(path) != expected["sha256"]:
            raise BadCheckpoint(f"{directory.name} is damaged: the content of {name} has changed")
    return manifest


def newest(output: Path, identity: Identity, *, accept_changes: bool = False) -> tuple[Path, list[str]]:
    """Return the newest valid checkpoint of a run, and why newer ones were skipped.

    Invalid ones are renamed to ``invalid-checkpoint-N``, out of the way of what the trainer will
    write.

    Raises:
        BadCheckpoint: There is no valid checkpoint, or the recipe or the data changed.
    """
    skipped: list[str] = []
    found = [path for path in output.glob("checkpoint-*") if path.is_dir() and _step(path) >= 0]
    for directory in sorted(found, key=_step, reverse=True):
        try:
            manifest = verify(directory)
        except BadCheckpoint as error:
            skipped.append(str(error))
            directory.rename(_free(directory.with_name(f"invalid-{directory.name}")))
            continue
        changed = identity.changes(manifest)
        if changed and not accept_changes:
            raise BadCheckpoint(
                f"cannot resume from {directory}: the recipe or the data changed.\n  "
                + "\n  ".join(changed)
                + "\nUndo the changes, resume with them by --resume --accept-changes, or start again with --overwrite."
            )
        skipped += [f"resumed with a change: {change}" for change in changed]
        skipped += [f"not equal to the bit, because of {change}" for change in identity.drift(manifest)]
        return directory, skipped
    reasons = "".join(f" {reason}." for reason in skipped)
    raise BadCheckpoint(f"{output} has no checkpoint to resume from.{reasons} Start again with --overwrite.")


def _step(directory: Path) -> int:
    number = directory.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1


def _free(path: Path) -> Path:
    """Return a path that does not exist yet."""
    candidate, count = path, 1
    while candidate.exists():
        count += 1
        candidate = path.with_name(f"{path.name}.{count}")
    return candidate
