"""The folder of a study: what it was begun with, its trials, and who works on them."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from finetune.errors import OutputExists
from finetune.kit import Plan, lock_folder, recipe_to_mapping, to_json, write_atomically
from finetune_tune.evaluations import Races
from finetune_tune.space import Space
from finetune_tune.storage import Trials, open_storage, quiet
from finetune_tune.trial import Settings, Trial, as_mapping

STUDY = "study.json"
TRIALS, EVALUATIONS, CLAIMS = "trials", "evaluations", "claims"
"""Folders of a study: run folders of the trials, their evaluations, and locks of workers."""
WINNER, AS_WRITTEN = "winner", "as-written"
"""Folders of the runs at the end: the recipe of the winner, with the number of its trial, and the recipe as it is
written."""
BEST = "best.yaml"
FORMAT = 1
"""Number of the format of `study.json` and of what the storage holds."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study that is open."""

    plan: Plan
    """The recipe as it is written."""
    space: Space
    settings: Settings
    trials: Trials
    races: Races

    @property
    def output(self) -> Path:
        """The study folder."""
        return Path(self.plan.recipe.output)

    def folder_of(self, trial: Trial) -> Path:
        """Return the run folder of a trial."""
        return self.output / TRIALS / trial.name

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let no other worker decide or record anything within a `with` block."""
        with waiting_for(self.output / CLAIMS / "study"):
            yield

    @contextmanager
    def claim(self, name: str) -> Iterator[bool]:
        """Yield whether this worker is the one that works on a trial or a run.

        The claim is a lock of the system, which ends with the process: the trial of a worker that was killed can be
        claimed at once.
        """
        place = self.output / CLAIMS / name
        place.mkdir(parents=True, exist_ok=True)
        with ExitStack() as held:
            try:
                held.enter_context(lock_folder(place))
            except OutputExists:
                yield False
                return
            yield True

    @contextmanager
    def claimed(self, name: str) -> Iterator[None]:
        """Claim a trial that no worker works on; one that has just recorded it may still hold its claim."""
        with waiting_for(self.output / CLAIMS / name):
            yield

    def write(self, more: Mapping[str, Any]) -> None:
        """Write `study.json`.

        Args:
            more: Further keys: the refused combinations, and what was found at the end.
        """
        content = {
            "format": FORMAT,
            "settings": asdict(self.settings),
            "space": dict(self.space.section),
            "space_source": self.space.source,
            "recipe": recipe_to_mapping(self.plan.recipe),
            "trials": [as_mapping(trial) for trial in self.trials.all()],
            **more,
        }
        write_atomically(self.output / STUDY, to_json(content, indent=1, default=str) + "\n")


def open_study(plan: Plan, space: Space, settings: Settings, *, storage: str | None) -> Study:
    """Return the study of a recipe: a new one, or the one in its folder.

    Raises:
        OutputExists: The folder holds something else, or the study of another recipe.
    """
    output = Path(plan.recipe.output)
    _check_folder(output)
    output.mkdir(parents=True, exist_ok=True)
    with quiet(), waiting_for(output / CLAIMS / "study"):
        trials = Trials.open(open_storage(storage, output), str(output), space.parameters, settings)
        facts, known = _facts(plan, space, settings), trials.facts()
        if known and known != facts and not any(trial.rungs for trial in trials.all()):
            trials = trials.begun_again(settings)  # of a recipe that could not be trained
            _remove_trials(output)
            known = {}
        if known:
            _require_same(known, facts, output)
        else:
            trials.set_facts(facts)
        races = Races(output / EVALUATIONS, plan.evaluator, settings)
        study = Study(plan=plan, space=space, settings=settings, trials=trials, races=races)
        if not (output / STUDY).is_file():
            study.write({})
    return study


@contextmanager
def waiting_for(place: Path) -> Iterator[None]:
    """Hold a lock within a `with` block; wait until no other process holds it."""
    place.mkdir(parents=True, exist_ok=True)  # it stays, so that no worker removes it while another takes its lock
    while True:
        with ExitStack() as held:
            try:
                held.enter_context(lock_folder(place))
            except OutputExists:
                time.sleep(0.02)
                continue
            yield
            return


def _check_folder(output: Path) -> None:
    if not output.exists() or (output / STUDY).is_file():
        return
    if not output.is_dir():
        raise OutputExists(f"output: {str(output)!r} is a file. Name a folder.")
    ours = {CLAIMS, "study.db", "study.db-journal"}
    others = sorted(path.name for path in output.iterdir() if path.name not in ours)
    if others:
        raise OutputExists(
            f"output: {str(output)!r} is not empty and holds no {STUDY}, so it is no study to continue ({others[0]}). "
            "Name another folder: output=FOLDER."
        )


def _remove_trials(output: Path) -> None:
    for name in (TRIALS, EVALUATIONS):
        if (output / name).is_dir():
            shutil.rmtree(output / name)


def _facts(plan: Plan, space: Space, settings: Settings) -> dict[str, Any]:
    """Return what must not change while a study goes on."""
    recipe = recipe_to_mapping(plan.recipe)
    recipe.pop("search", None)
    content = {"format": FORMAT, "recipe": recipe, "space": dict(space.section), "shares": list(settings.shares)}
    plain: dict[str, Any] = json.loads(to_json(content, default=str))
    return plain


def _require_same(known: Mapping[str, Any], facts: Mapping[str, Any], output: Path) -> None:
    changes = [
        f"{key}: {then} then, {now} now" for key, then, now in _differences(known, facts) if key != "recipe.output"
    ]
    if changes:
        raise OutputExists(
            f"output: the study in {str(output)!r} was begun with another recipe or space.\n  "
            + "\n  ".join(changes)
            + "\nName another folder: output=FOLDER."
        )


def _differences(then: Any, now: Any, at: str = "") -> Iterator[tuple[str, Any, Any]]:
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*then, *now]):
            yield from _differences(then.get(key), now.get(key), f"{at}.{key}" if at else str(key))
    elif then != now:
        yield at, then, now


def ended_well(trials: Sequence[Trial], settings: Settings) -> list[Trial]:
    """Return the complete trials, the best first."""
    complete = [trial for trial in trials if trial.state == "complete"]
    return sorted(complete, key=lambda trial: (-settings.sign * trial.rungs[-1].score, trial.number))
