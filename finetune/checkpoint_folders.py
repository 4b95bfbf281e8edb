"""Which folders of a run are its checkpoints: by their names, their manifests and what they hold.

Nothing here imports torch or transformers, so that every command can use it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

MANIFEST = "manifest.json"
TRAINER_STATE = "trainer_state.json"
UNFINISHED = ".unfinished"
"""The first file of a checkpoint. It is removed when all others but the manifest are there, so a folder with it is one
that a run was writing, whatever else it holds: PEFT, for example, writes a README first."""

_NAME = "checkpoint-(0|[1-9][0-9]{0,17})"
CHECKPOINT = re.compile(_NAME)
"""Names that the trainer gives to checkpoints. Another name, such as ``checkpoint-good-9``, is the user's."""
PUT_ASIDE = re.compile(rf"(invalid-|torn-|\.deleted-){_NAME}(\.[0-9]+)?")
"""Names of checkpoints that could not be resumed from, or were being deleted; ``torn-`` is of older versions."""

_PARTS = (UNFINISHED, MANIFEST, TRAINER_STATE, "config.json", "adapter_config.json", "optimizer.pt", "*.safetensors")
"""Patterns of files of a checkpoint, by which one without a manifest is known to be one."""


def name_of(step: int) -> str:
    """Return the name of the checkpoint of a step."""
    return f"checkpoint-{step}"


def named_like_checkpoints(output: Path) -> dict[int, Path]:
    """Return step → folder of those in a run folder that have the name of a checkpoint, oldest first; no links."""
    found = {}
    for path in output.iterdir():
        match = CHECKPOINT.fullmatch(path.name)
        if match and path.is_dir() and not path.is_symlink():
            found[int(match[1])] = path
    return dict(sorted(found.items()))


def step_in_manifest(directory: Path) -> int | None:
    """Return the step that the manifest of a folder names; None if there is no manifest that can be read."""
    path = directory / MANIFEST
    if not path.is_file():  # opening a pipe would wait for ever
        return None
    try:
        step = json.loads(path.read_text(encoding="utf-8"))["step"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return step if type(step) is int else None


def is_own(directory: Path) -> bool:
    """Return whether a run wrote a folder that has the name of a checkpoint.

    It did not if the manifest is that of another step, as in a copy that the user made, or if the folder holds only
    other files. A folder that is empty is one that the run was about to write.
    """
    step = step_in_manifest(directory)
    if step is not None:
        return directory.name == name_of(step)
    return any(any(directory.glob(pattern)) for pattern in _PARTS) or not any(directory.iterdir())
