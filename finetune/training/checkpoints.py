"""What survives a crash: checkpoints with a manifest, written last, that proves them whole.

A checkpoint without a valid manifest does not exist: it is skipped, and named. What is promised: a run that is resumed
on the same machine, with the same versions and thread count, ends with the same weights to the bit as one that was
never stopped. Not promised: the same under another number of threads or GPUs, or
``train_sampling_strategy: group_by_length``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from finetune.errors import BadCheckpoint
from finetune.folder import file_sha256
from finetune.result import write_atomically

MANIFEST = "manifest.json"
PICKLED_ARGUMENTS = "training_args.bin"  # a pickle that nothing reads back

HARMLESS = frozenset(
    {"logging_steps", "logging_strategy", "logging_first_step", "save_steps", "save_strategy", "save_total_limit",
     "eval_steps", "eval_strategy", "eval_on_start", "per_device_eval_batch_size", "disable_tqdm", "report_to",
     "run_name", "dataloader_num_workers", "dataloader_pin_memory"}
)  # fmt: skip
"""Training arguments that may change on resume, because no weight depends on them."""


@dataclass(frozen=True)
class Identity:
    """What must not change between a run and its continuation."""

    facts: Mapping[str, Any]
    """Data fingerprints, labels, seed, batch geometry, training arguments."""
    circumstances: Mapping[str, Any]
    """Versions and threads: under others the run goes on, but not to the same bits."""

    def changes(self, manifest: Mapping[str, Any]) -> list[str]:
        """Return what differs, a line each: ``seed: 42 then, 43 now``."""
        return _differences(manifest["identity"], self.facts)

    def drift(self, manifest: Mapping[str, Any]) -> list[str]:
        """Return what differs in the circumstances."""
        return _differences(manifest["circumstances"], self.circumstances)


def _differences(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    now = json.loads(json.dumps(now))
    keys = sorted({*then, *now})
    return [f"{key}: {then.get(key)} then, {now.get(key)} now" for key in keys if then.get(key) != now.get(key)]


class WriteManifest(TrainerCallback):
    """Seals every checkpoint after the trainer has written it."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Hash every file of the newest checkpoint and write its manifest."""
        directory = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        if state.is_world_process_zero and directory.is_dir():
            (directory / PICKLED_ARGUMENTS).unlink(missing_ok=True)
            seal(directory, identity=self.identity, step=state.global_step)


def seal(directory: Path, *, identity: Identity, step: int) -> None:
    """Write the manifest of a checkpoint, after all its files are on the disk."""
    files = {}
    for path in sorted(path for path in directory.rglob("*") if path.is_file() and path.name != MANIFEST):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        files[str(path.relative_to(directory))] = {"size": path.stat().st_size, "sha256": file_sha256(path)}
    content = {"step": step, "files": files, "identity": identity.facts, "circumstances": identity.circumstances}
    write_atomically(directory / MANIFEST, json.dumps(content, indent=1, ensure_ascii=False))


def verify(directory: Path) -> dict[str, Any]:
    """Return a checkpoint's manifest.

    Raises:
        BadCheckpoint: It has none, or a file is missing, of another size, or of another content.
    """
    try:
        manifest: dict[str, Any] = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        files = manifest["files"].items()
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise BadCheckpoint(f"{directory.name} was never finished: it has no valid {MANIFEST}") from error
    for name, expected in files:
        path = directory / name
        if not path.is_file():
            raise BadCheckpoint(f"{directory.name} lacks {name}")
        if path.stat().st_size != expected["size"] or file_sha256(path) != expected["sha256"]:
            raise BadCheckpoint(f"{directory.name} is damaged: {name} is not what was written")
    return manifest


def newest(output: Path, identity: Identity, *, accept_changes: bool = False) -> tuple[Path, list[str]]:
    """Return the newest valid checkpoint of a run, and why newer ones were skipped.

    Invalid ones are renamed to ``torn-checkpoint-N``, out of the way of what the trainer will write.

    Raises:
        BadCheckpoint: There is no valid one, or what must not change has changed.
    """
    skipped: list[str] = []
    found = [path for path in output.glob("checkpoint-*") if path.is_dir() and _step(path) >= 0]
    for directory in sorted(found, key=_step, reverse=True):
        try:
            manifest = verify(directory)
        except BadCheckpoint as error:
            skipped.append(str(error))
            directory.rename(_free(directory.with_name(f"torn-{directory.name}")))
            continue
        changed = identity.changes(manifest)
        if changed and not accept_changes:
            raise BadCheckpoint(
                f"cannot resume from {directory}: it belongs to another run.\n  "
                + "\n  ".join(changed)
                + "\nPut it back as it was, start afresh with --overwrite, or accept it with --resume-changed."
            )
        skipped += [f"resumed although changed: {change}" for change in changed]
        skipped += [f"not the same to the bit, because of {change}" for change in identity.drift(manifest)]
        return directory, skipped
    told = "".join(f" {why}." for why in skipped)
    raise BadCheckpoint(f"there is no checkpoint to resume from in {output}.{told} Start afresh with --overwrite.")


def _step(directory: Path) -> int:
    number = directory.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1


def _free(path: Path) -> Path:
    """Return a path that nothing holds yet."""
    candidate, count = path, 1
    while candidate.exists():
        count += 1
        candidate = path.with_name(f"{path.name}.{count}")
    return candidate
