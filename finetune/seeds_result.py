"""The result of several seeds, as data: the `result.json` of the folder that holds a run for each of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from finetune import trust
from finetune.errors import BadRecipe
from finetune.files import require_files
from finetune.result import RESULT, Result, to_json, write_atomically
from finetune.seed_folders import seeds_of
from finetune.user_code import first_line

KIND = "seeds"
"""Value of ``kind`` in the `result.json` of several seeds; that of a run has no such field."""
SEEDS_FORMAT = 1
"""Number of the format; it grows when the meaning of a field changes."""


@dataclass(frozen=True, kw_only=True)
class SeedsResult:
    """The scores of the runs of several seeds: their means, and how far they vary between seeds and between rows."""

    recipe: Mapping[str, Any]
    """The recipe, with ``seeds``."""
    seeds: Sequence[int]
    """The seeds."""
    runs: Sequence[str]
    """Name of the run folder of each seed."""
    scores: Mapping[str, Mapping[str, float]]
    """Split → score → mean over the seeds. A score that a seed lacks is left out."""
    seed_scores: Mapping[str, Mapping[str, Sequence[float]]]
    """Split → score → its value with each seed."""
    deviations: Mapping[str, Mapping[str, float]]
    """Split → score → standard deviation between the seeds."""
    intervals: Mapping[str, Mapping[str, Mapping[str, float]]]
    """Held-out split → score → ``low`` and ``high`` of the 95% interval of the mean, for other rows and other seeds."""
    row_intervals: Mapping[str, Mapping[str, Mapping[str, float]]]
    """The same for other rows alone: the models stay."""
    seed_intervals: Mapping[str, Mapping[str, Mapping[str, float]]]
    """The same for other seeds alone: the rows stay."""
    variances: Mapping[str, Mapping[str, Mapping[str, float]]]
    """Held-out split → score → variance of the mean that ``rows`` explain, and what ``seeds`` add to it."""
    base_model_scores: Mapping[str, Mapping[str, float]]
    """Split → score → mean over the seeds, before training; a new head is another one with each seed."""
    baselines: Mapping[str, Mapping[str, Mapping[str, float]]]
    """Held-out split → baseline → score → mean over the seeds."""
    differences: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]
    """Held-out split → ``base_model`` or a baseline → score → ``value`` of fine-tuned − other, as the mean over the
    seeds, and the ``low`` and ``high`` of its 95% interval, for other rows and other seeds."""
    primary: str
    """Name of the score that represents the others."""
    greater_is_better: bool
    """Whether a greater primary score is better."""
    selection_split: str | None
    """Split that selected a checkpoint or a threshold in each run; None if nothing was selected."""
    units: Mapping[str, Mapping[str, Any]]
    """See `Result.units`; the rows are those of every run."""
    data_report: Mapping[str, Mapping[str, int]]
    """See `Result.data_report`."""
    fingerprints: Mapping[str, str]
    """See `Result.fingerprints`."""
    leakage: Mapping[str, Mapping[str, Any]]
    """See `Result.leakage`."""
    trainable_parameters: int
    """Number of parameters that each run trained."""
    total_parameters: int
    """Number of all parameters of a model."""
    steps: Sequence[int]
    """Optimizer updates of each run."""
    training_seconds: Sequence[float]
    """Seconds that each run trained."""
    peak_memory_mb: float
    """Peak memory of the process over all runs, in MiB."""
    environment: Mapping[str, Any]
    """Versions, hardware, threads; those of the last run."""
    scales: Mapping[str, str] = field(default_factory=dict)
    """See `Result.scales`."""
    notes: Sequence[str] = ()
    """What a reader of the result must know."""
    started: str = ""
    """When the first run started, in UTC."""
    directory: str = ""
    """Path of the folder."""
    kind: str = KIND
    """Says that this is no result of a single run."""
    format: int = SEEDS_FORMAT
    """See `SEEDS_FORMAT`."""

    def save(self, directory: Path) -> None:
        """Write `result.json`."""
        write_atomically(directory / RESULT, to_json(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, directory: str | Path) -> SeedsResult:
        """Read the `result.json` of a folder of several seeds.

        Raises:
            BadRecipe: The folder is none, not all of its runs have finished, or the file is damaged.
        """
        path = Path(directory) / RESULT
        require_files(Path(directory))
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise BadRecipe(
                f"{str(directory)!r} has no {RESULT}: the runs of its seeds have not all finished. Wait until they "
                f"end, or continue with `finetune train {directory} --resume`."
            ) from error
        except OSError as error:
            raise BadRecipe(f"{path} cannot be read: {error.strerror}.") from error
        except (ValueError, RecursionError) as error:
            raise BadRecipe(f"{path} is damaged: {first_line(error)}. {_RESTORE}") from error
        if not isinstance(content, dict) or content.get("kind") != KIND:
            raise BadRecipe(f"{path} is not the result of several seeds. {_RESTORE}")
        if content.get("format") != SEEDS_FORMAT:
            raise BadRecipe(
                f"{path} has format {content.get('format')!r}; this version reads format {SEEDS_FORMAT}. Install the "
                "version of finetune-kit that wrote it."
            )
        unknown = sorted(set(content) - {each.name for each in fields(cls)})
        from finetune import result_form  # it imports pydantic, and every command imports this module

        problem = f"unknown fields: {', '.join(unknown)}" if unknown else result_form.seeds_problem(content, cls)
        if problem:
            raise BadRecipe(f"{path} is damaged: {problem}. {_RESTORE}")
        trust.note_foreign(content["recipe"])
        return cls(**{**content, "directory": str(directory)})

    def score(self, split: str) -> float:
        """Return the mean primary score of a split."""
        return self.scores[split][self.primary]


_RESTORE = "Restore the file as it was written, or make it again: `finetune train FOLDER --resume` without the file."


def load_any(directory: str | Path) -> Result | SeedsResult:
    """Read the result of a run, or that of several seeds.

    Raises:
        BadRecipe: The folder holds neither; see `Result.load`.
    """
    return SeedsResult.load(directory) if seeds_of(Path(directory)) else Result.load(directory)


__all__ = ["KIND", "SEEDS_FORMAT", "SeedsResult", "load_any"]
