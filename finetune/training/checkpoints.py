"""Checkpoints that survive a crash: each has a manifest, written last, with the hash of every file.

A checkpoint without a valid manifest is skipped, and reported. A run that is resumed on the same
machine, with the same versions and number of threads, ends with exactly the same weights as a run
that was never stopped. This does not hold for another number of threads or GPUs.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NotRequired

from transformers import TrainerCallback, TrainerState
from typing_extensions import TypedDict  # pydantic cannot read that of Python 3.11

from finetune import processes
from finetune.checkpoint_folders import (
    CHECKPOINT,
    MANIFEST,
    PUT_ASIDE,
    TRAINER_STATE,
    UNFINISHED,
    is_own,
    name_of,
    named_like_checkpoints,
    step_in_manifest,
)
from finetune.errors import BadCheckpoint, Incompatible
from finetune.folder import file_sha256, make_readable
from finetune.models import absolute
from finetune.recipe.options import adapter
from finetune.result import SCRATCH, to_json, write_atomically
from finetune.training import averaging

OWN = "sha256"
"""Key of a manifest that holds the digest of all its other keys, so that a damaged manifest is noticed."""

FORMAT = 1
"""Number of the format of checkpoints; it grows when older versions could not resume from one. Each format has the
digest `OWN`, so that a damaged manifest is not taken for a newer one."""

_READ_BY_TRAINER = (".bin", ".pt", ".pth", ".safetensors", ".index.json")
"""Ends of the names of files that the trainer reads if they are there, whether the run wrote them or not."""

PICKLED_ARGUMENTS = "training_args.bin"  # a pickle that nothing reads back

EVALUATION = frozenset(
    {"save_steps", "save_strategy", "eval_steps", "eval_strategy", "eval_on_start", "per_device_eval_batch_size"}
)
"""Training arguments on which the final weights depend if the scores of validation choose them: the best checkpoint,
early stopping, or a learning rate that follows the scores."""
FOLLOWS_SCORES = frozenset({"reduce_lr_on_plateau", "greedy"})
"""Values of `lr_scheduler_type` whose learning rate follows the scores of validation."""

HARMLESS = frozenset(
    {"logging_steps", "logging_strategy", "logging_first_step", "save_steps", "save_strategy", "save_total_limit",
     "eval_steps", "eval_strategy", "eval_on_start", "per_device_eval_batch_size", "disable_tqdm", "report_to",
     "run_name", "dataloader_num_workers", "dataloader_pin_memory"}
)  # fmt: skip
"""Training arguments that can change on resume, because no weight depends on them; but see `EVALUATION`."""


BASE = "base"
"""The fact that holds the digests of the base model and its tokenizer; results of older versions lack it."""
PLACES = ("path", "tokenizer")
"""Keys of the recipe's `model` section that say where the base model is."""


class _File(TypedDict):
    size: int
    sha256: str


class _Place(TypedDict, total=False):
    path: str
    tokenizer: str | None


class _Digests(TypedDict, total=False):
    files: Mapping[str, str]
    tokenizer: Mapping[str, str]


class _Facts(TypedDict, total=False):
    model: _Place
    base: _Digests | None


class _Manifest(TypedDict):
    """The form of a manifest. A digest that fits shows that it was not damaged, and not that finetune wrote it."""

    format: NotRequired[int]  # the first manifests had none
    step: int
    files: Mapping[str, _File]
    identity: _Facts
    circumstances: Mapping[str, Any]


class _CallbackState(TypedDict, total=False):
    args: Mapping[str, Any]
    attributes: Mapping[str, Any]


class _State(TypedDict):
    """The form of the trainer's state, `transformers.TrainerState`, as its file holds it."""

    global_step: int
    best_model_checkpoint: str | None
    epoch: NotRequired[float | None]
    max_steps: NotRequired[int]
    logging_steps: NotRequired[float]
    eval_steps: NotRequired[float]
    save_steps: NotRequired[float]
    train_batch_size: NotRequired[int | None]
    num_train_epochs: NotRequired[float]
    num_input_tokens_seen: NotRequired[int]
    total_flos: NotRequired[float]
    log_history: NotRequired[Sequence[Mapping[str, Any]]]
    best_metric: NotRequired[float | None]
    best_global_step: NotRequired[int | None]
    is_local_process_zero: NotRequired[bool]
    is_world_process_zero: NotRequired[bool]
    is_hyper_param_search: NotRequired[bool]
    trial_name: NotRequired[str | None]
    trial_params: NotRequired[Mapping[str, Any] | None]
    stateful_callbacks: NotRequired[Mapping[str, _CallbackState | Sequence[_CallbackState]]]


@dataclass(frozen=True)
class Identity:
    """What identifies a run when it is resumed."""

    facts: Mapping[str, Any]
    """Data fingerprints, labels, seed and training arguments. They must not change."""
    circumstances: Mapping[str, Any]
    """Versions and threads. If they change, the run can continue, but its weights differ in the
    last bits."""
    fixed: Mapping[str, str] = field(default_factory=dict)
    """Facts that must not change even if the user accepts changes, with the reason."""
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Fact whose value is a mapping of options → the defaults of the options. An option that a version of finetune
    added is no change if it has its default."""

    def changes(self, manifest: Mapping[str, Any]) -> list[str]:
        """Return the facts that differ, one line for each: ``seed: 42 then, 43 now``."""
        then, now = self._without_defaults(manifest["identity"]), self._without_defaults(self.facts)
        if all(_has_digests(facts) for facts in (then, now)):
            return _differences(_without_places(then), _without_places(now))
        return _differences(_with_places(then), _with_places(now))

    def _without_defaults(self, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Return facts without the options that have their default."""
        kept = dict(facts)
        for name, defaults in self.defaults.items():
            if isinstance(kept.get(name), Mapping):
                given = kept[name].items()
                plain = json.loads(json.dumps(defaults, default=str))  # a manifest holds lists for tuples
                kept[name] = {
                    key: value
                    for key, value in given
                    if key not in plain or json.loads(json.dumps(value, default=str)) != plain[key]
                }
        return kept

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
    """Writes the manifest of every checkpoint after the trainer has written its files, then deletes older ones."""

    def __init__(self, identity: Identity, *, averages: bool = False) -> None:
        """Keep what identifies the run.

        Args:
            identity: What must not change when the run is resumed.
            averages: Whether the best checkpoints stay, to be averaged.
        """
        self.identity, self.averages = identity, averages

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the manifest of the newest checkpoint."""
        output = Path(args.output_dir)
        directory = output / name_of(state.global_step)
        processes.wait()  # each process writes a file
        if not processes.is_main() or not directory.is_dir():
            return
        (directory / PICKLED_ARGUMENTS).unlink(missing_ok=True)
        make_readable(directory)
        seal(directory, identity=self.identity, step=state.global_step)
        best = Path(state.best_model_checkpoint).name if state.best_model_checkpoint else ""
        keep = {directory.name, best} - {""}
        if self.averages:
            keep.update(averaging.kept_names(args, state, always=keep))
        delete_old(output, limit=args.save_total_limit, keep=keep)


def delete_old(output: Path, *, limit: int | None, keep: Collection[str]) -> None:
    """Delete the oldest checkpoints of a run; a folder that it did not write stays, and does not count.

    The trainer's own method goes by the time in the file system, which a copy or a clock can change. It also deletes
    before the newest checkpoint has its manifest, so that a crash can leave none that is valid.

    Args:
        output: The run folder.
        limit: How many checkpoints may stay; None for all.
        keep: Names of those that are never deleted.
    """
    if not limit or limit < 0:
        return
    found = [directory for directory in named_like_checkpoints(output).values() if is_own(directory)]
    protected = [directory for directory in found if directory.name in keep]
    others = [directory for directory in found if directory.name not in keep]
    for directory in others[: max(len(found) - max(limit, len(protected)), 0)]:
        _delete(directory)


def _delete(directory: Path) -> None:
    """Delete a checkpoint so that, after a crash, what is left of it is not taken for a checkpoint."""
    doomed = free_path(directory.with_name(f".deleted-{directory.name}"))
    directory.rename(doomed)
    _remove(doomed)


def seal(directory: Path, *, identity: Identity, step: int) -> None:
    """Write the manifest of a checkpoint, once all its files are on the disk."""
    files = {}
    (directory / UNFINISHED).unlink(missing_ok=True)
    for path in sorted(path for path in directory.rglob("*") if path.is_file() and path.name != MANIFEST):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        files[str(path.relative_to(directory))] = {"size": path.stat().st_size, "sha256": file_sha256(path)}
    facts = {"identity": identity.facts, "circumstances": identity.circumstances}
    content = {"format": FORMAT, "step": step, "files": files, **facts}
    content = {**content, OWN: _own_digest(content)}
    write_atomically(directory / MANIFEST, to_json(content, indent=1))


def _own_digest(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest without its own digest."""
    content = {key: value for key, value in manifest.items() if key != OWN}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def verify(directory: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint, after a check of every file.

    Raises:
        BadCheckpoint: It has no manifest, or a file is missing or has other content.
        Incompatible: A newer version of this package wrote it.
    """
    path = directory / MANIFEST
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8") if path.is_file() else "")
        own, expected = manifest[OWN], _own_digest(manifest)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadCheckpoint(f"{directory.name} is not complete: it has no valid {MANIFEST}") from error
    if own != expected:
        raise BadCheckpoint(f"{directory.name} is damaged: the content of {MANIFEST} has changed")
    form = manifest.get("format", FORMAT)
    if isinstance(form, int) and form > FORMAT:
        raise Incompatible(
            f"{directory} has format {form}; this version reads format {FORMAT}. Install the version of finetune-kit "
            "that wrote it, or a newer one."
        )
    try:
        adapter(_Manifest).validate_python(manifest, strict=True)
    except ValueError as error:
        raise BadCheckpoint(f"{directory.name} is damaged: its {MANIFEST} is not as a run writes it") from error
    if directory.name != name_of(manifest["step"]):
        raise BadCheckpoint(f"{directory.name} has another name than the run gave it: {name_of(manifest['step'])}")
    present = {str(path.relative_to(directory)): path for path in directory.rglob("*") if path.is_file()}
    for name in present:
        if name.endswith(_READ_BY_TRAINER) and name not in manifest["files"]:
            raise BadCheckpoint(f"{directory.name} holds {name}, which the run did not write")
    for name, facts in manifest["files"].items():
        if name not in present:
            raise BadCheckpoint(f"{directory.name} lacks {name}")
        found = present[name]
        if found.stat().st_size != facts["size"] or file_sha256(found) != facts["sha256"]:
            raise BadCheckpoint(f"{directory.name} is damaged: the content of {name} has changed")
    step = _trainer_state(directory)["global_step"]
    if step != manifest["step"]:
        raise BadCheckpoint(f"{directory.name} is damaged: its {TRAINER_STATE} is that of step {step}")
    return manifest


def _trainer_state(directory: Path) -> _State:
    """Return the trainer's state in a checkpoint.

    Raises:
        BadCheckpoint: It cannot be read, or the trainer could not continue from it.
    """
    path = directory / TRAINER_STATE
    try:
        state: _State = json.loads(path.read_text(encoding="utf-8") if path.is_file() else "")
        adapter(_State).validate_python(state, strict=True)
        unknown = state.keys() - {each.name for each in fields(TrainerState)}
    except (OSError, ValueError, RecursionError) as error:
        raise BadCheckpoint(f"{directory.name} is damaged: it has no valid {TRAINER_STATE}") from error
    if unknown:
        raise BadCheckpoint(f"{directory.name} is damaged: {min(unknown)[:80]!r} is no key of {TRAINER_STATE}")
    best = state["best_model_checkpoint"]
    if best and not CHECKPOINT.fullmatch(Path(best).name):
        raise BadCheckpoint(f"{directory.name} is damaged: the best one in {TRAINER_STATE} is not a checkpoint")
    return state


def newest(output: Path, identity: Identity, *, accept_changes: bool = False) -> tuple[Path, list[str]]:
    """Return the newest valid checkpoint of a run, and why newer ones were skipped.

    Those without a manifest, which a run was writing when it was killed, are deleted. Damaged ones are renamed to
    ``invalid-checkpoint-N``, so that the trainer does not count them, and deleted when the run succeeds or is resumed
    once more. A folder that the run did not write, but that has the name of a later checkpoint, is renamed to
    ``kept-checkpoint-N``. If no checkpoint is valid, nothing is changed: a damaged one may be all that is left of the
    run.

    Raises:
        BadCheckpoint: There is no valid checkpoint, or the recipe or the data changed.
    """
    skipped: list[str] = []
    invalid: list[Path] = []
    foreign: list[Path] = []
    for directory in reversed(named_like_checkpoints(output).values()):
        if not is_own(directory):
            foreign.append(directory)
            step = step_in_manifest(directory)
            why = "it holds no file of one" if step is None else f"its {MANIFEST} is that of step {step}"
            skipped.append(f"{directory.name} is not a checkpoint of this run: {why}")
            continue
        try:
            manifest = verify_with_best(directory)
        except BadCheckpoint as error:
            skipped.append(str(error))
            invalid.append(directory)
            continue
        changed = identity.changes(manifest)
        for change in changed:
            reason = identity.fixed.get(change.partition(":")[0])
            if reason is not None:
                raise BadCheckpoint(
                    f"cannot resume from {directory}: {change}. {reason} Undo the change, or start again with "
                    "--overwrite."
                )
        if changed and not accept_changes:
            raise BadCheckpoint(
                f"cannot resume from {directory}: the recipe or the data changed.\n  "
                + "\n  ".join(changed)
                + "\nUndo the changes, resume with them by --resume --accept-changes, or start again with --overwrite."
            )
        skipped += [f"resumed with a change: {change}" for change in changed]
        skipped += [f"not equal to the bit, because of {change}" for change in identity.drift(manifest)]
        if left := remove_leftovers(output):
            skipped.append(left)
        for each in foreign:
            kept = each.rename(free_path(each.with_name(f"kept-{each.name}")))
            skipped.append(f"{each.name} is {kept.name} now, because the run can write a checkpoint with its name")
        for each in invalid:
            if (each / MANIFEST).is_file():
                each.rename(free_path(each.with_name(f"invalid-{each.name}")))
        return directory, skipped
    reasons = "".join(f" {reason}." for reason in skipped)
    raise BadCheckpoint(f"{output} has no checkpoint to resume from.{reasons} Start again with --overwrite.")


def verify_with_best(directory: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint, after a check also of the best one that its run would load at the end.

    Raises:
        BadCheckpoint: One of them is missing or damaged.
    """
    manifest = verify(directory)
    best = best_of(directory) if manifest["identity"].get("training.load_best_model_at_end") else None
    if best is None or best.name == directory.name:
        return manifest
    if not best.is_dir():
        raise BadCheckpoint(f"{directory.name} needs {best.name}, the best one so far, which is missing")
    try:
        verify(best)
    except BadCheckpoint as error:
        raise BadCheckpoint(f"{directory.name} needs the best one so far, but {error}") from error
    return manifest


def best_of(directory: Path) -> Path | None:
    """Return the best checkpoint of a run up to a checkpoint, in the same folder; None if there is none.

    The trainer writes its full path, which is that of another folder once the run was moved or copied.

    Raises:
        BadCheckpoint: The trainer's state cannot be read.
    """
    best = _trainer_state(directory)["best_model_checkpoint"]
    return directory.with_name(Path(best).name) if best else None


def begin(directory: Path) -> None:
    """Mark the folder of a checkpoint as one that this run writes, before its first file."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / UNFINISHED).touch()


def remove_leftovers(output: Path) -> str:
    """Delete what a killed run left in its folder; return a sentence about it, or an empty text.

    These are checkpoints without a manifest, checkpoints that were set aside or were being deleted, and files that were
    being written.
    """
    own = [path for path in named_like_checkpoints(output).values() if is_own(path)]
    doomed = [path for path in own if not (path / MANIFEST).is_file()]
    unfinished = set(doomed)
    doomed += sorted(path for path in output.iterdir() if PUT_ASIDE.fullmatch(path.name))
    for place in (output, *(path for path in own if path not in doomed)):
        doomed += sorted(place.glob(SCRATCH))
    names, size = [], 0
    for path in doomed:
        names.append(path.name)
        size += path.lstat().st_size
        if path.is_dir() and not path.is_symlink():
            size += sum(file.lstat().st_size for file in path.rglob("*"))
        (_delete if path in unfinished else _remove)(path)
    if not names:
        return ""
    return f"removed what an earlier start of this run left: {', '.join(names)} ({size / 2**20:.1f} MiB)"


def _remove(path: Path) -> None:
    """Remove a file, or a folder as far as the system lets us."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def free_path(path: Path) -> Path:
    """Return a path that does not exist yet."""
    candidate, count = path, 1
    while os.path.lexists(candidate):
        count += 1
        candidate = path.with_name(f"{path.name}.{count}")
    return candidate
