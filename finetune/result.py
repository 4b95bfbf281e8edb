"""Everything that happened in a run, as data: `result.json`, from which all that is shown is derived."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

from finetune.errors import BadRecipe
from finetune.progress import Phase

RESULT = "result.json"
RECIPE = "recipe.yaml"
PREDICTIONS = "predictions.jsonl"
DROPPED = "dropped.jsonl"
LOG = "log.jsonl"

FORMAT = 2
"""Raised when the meaning of a field changes."""

DISTRIBUTION = "finetune-kit"


@dataclass(frozen=True, kw_only=True)
class Result:
    """Everything that happened."""

    recipe: Mapping[str, Any]
    """The recipe, every option spelt out."""
    scores: Mapping[str, Mapping[str, float]]
    """Split → score → number, after training."""
    base_model_scores: Mapping[str, Mapping[str, float]]
    """The same before the first step; empty where the recipe says so."""
    units: Mapping[str, Mapping[str, Any]]
    """Held-out split → its number of independent units (``size``), and the ``column`` whose equal values are one unit;
    None where each row is. These are drawn anew for the intervals."""
    intervals: Mapping[str, Mapping[str, Mapping[str, float]]]
    """Held-out split → score → ``low`` and ``high`` of its 95 % interval."""
    baselines: Mapping[str, Mapping[str, Mapping[str, float]]]
    """Held-out split → predictor that needs no model → score → number."""
    differences: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]
    """Held-out split → ``base_model`` or a baseline → score → ``value`` of trained − other, ``low`` and ``high``."""
    slices: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]
    """Held-out split → by what → for each value its ``size``, primary ``score``, and ``low`` and ``high`` of that."""
    worst: Mapping[str, Sequence[Mapping[str, Any]]]
    """Held-out split → its worst errors: ``index``, ``cost``, ``example`` and ``record``."""
    forgetting: Mapping[str, Any]
    """Surprise at general text ``before`` and ``after`` training in nats a token, its ``growth``, and what ``guessing``
    would give; or ``why_not``."""
    details: Mapping[str, Mapping[str, Any]]
    """Split → what is not a single number: a confusion matrix."""
    primary: str
    """Name of the score that stands for the others."""
    greater_is_better: bool
    """Whether a greater primary score is a better one."""
    selection_split: str | None
    """Split by which a checkpoint or a threshold was chosen: its scores flatter."""
    data_report: Mapping[str, Mapping[str, int]]
    """Split → what became of it: rows read, bad, dropped, left out and kept; features, tokens, tokens lost."""
    findings: Mapping[str, int]
    """Code → how many."""
    fingerprints: Mapping[str, str]
    """Split → SHA-256 of the content of its kept rows."""
    leakage: Mapping[str, Mapping[str, Any]]
    """Split → of its ``rows``, how many train holds too: ``exact``, ``normalised`` (but for case, punctuation and
    space), ``near`` (None where there were too many to look); the ``columns`` compared, and some near ``pairs``."""
    preprocessor: Mapping[str, Any]
    """The fitted preprocessor: its class and its options."""
    evaluator: Mapping[str, Any]
    """The fitted evaluator: its class and its options."""
    trainable_parameters: int
    """Parameters that trained."""
    total_parameters: int
    """Parameters, wrappers included."""
    newly_initialized: Sequence[str]
    """Modules that the base model lacks."""
    steps: int
    """Optimizer updates, those before a resume included."""
    log: Sequence[Mapping[str, Any]]
    """What the trainer logged, per step."""
    phases: Sequence[Phase]
    """What the run spent, phase by phase."""
    arguments: Mapping[str, Any]
    """Every training argument, upstream's defaults included."""
    environment: Mapping[str, Any]
    """Versions, hardware, threads."""
    saved_bytes: int = 0
    """Size of the weights that were saved: a whole model's, or an adapter's alone; 0 where an older version ran."""
    notes: Sequence[str] = ()
    """What a reader of the result should know: skipped checkpoints, dropped rows."""
    resumed_from: str | None = None
    """Checkpoint that the run went on from."""
    started: str = ""
    """When, in UTC."""
    directory: str = ""
    """Where the run folder was written."""
    format: int = field(default=FORMAT)
    """Format of this record."""

    def save(self, directory: Path) -> None:
        """Write `result.json`."""
        write_atomically(directory / RESULT, self.text())

    def text(self) -> str:
        """Return what `result.json` holds."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def load(cls, directory: str | Path) -> Result:
        """Read the `result.json` of a run folder.

        Raises:
            BadRecipe: The folder holds no finished run, or one of a later version.
        """
        path = Path(directory) / RESULT
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            unfinished = (Path(directory) / RECIPE).is_file()
            why = "its run did not finish; go on with `finetune train --resume`" if unfinished else "it is no run"
            raise BadRecipe(f"{str(directory)!r} holds no {RESULT}: {why}.") from error
        except ValueError as error:
            raise BadRecipe(f"{path} is damaged: {error}.") from error
        known = {f.name for f in fields(cls)}
        if content.get("format") != FORMAT or set(content) - known:
            raise BadRecipe(f"{path} is of format {content.get('format')}; this version reads format {FORMAT}.")
        content["phases"] = [Phase(**phase) for phase in content["phases"]]
        content["directory"] = str(directory)
        return cls(**content)

    @property
    def peak_memory_mb(self) -> float:
        """Highest memory of the process in any phase, in MiB."""
        return max((phase.peak_memory_mb for phase in self.phases), default=0.0)

    def score(self, split: str) -> float:
        """Return the primary score of a split."""
        return self.scores[split][self.primary]


def environment() -> dict[str, Any]:
    """Return versions, hardware and threads."""
    import torch

    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions(),
        "processor": platform.processor() or platform.machine(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": devices,
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
    }


def versions() -> dict[str, str]:
    """Return the versions of this package and of what it requires."""
    needed = [line for line in requires(DISTRIBUTION) or () if "extra ==" not in line]
    names = [DISTRIBUTION, *(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0] for line in needed)]
    return {name: version(name) for name in names}


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that after a crash it is there whole, or as it was."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with scratch.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
