"""The trials of a study in an Optuna storage, which `optuna-dashboard` opens.

Optuna cannot continue a trial that it has ended, so a trial stays ``RUNNING`` there until it has. If a trial continues
after its end, because the study got more trials, Optuna gets another trial for it, whose user attribute ``continues``
is our number of the trial. The user attribute ``finetune`` holds what `finetune_tune.trial` describes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from finetune.errors import BadRecipe
from finetune.kit import Parameter
from finetune_tune.trial import ENDED, Settings, Trial, as_mapping, from_mapping

RECORD = "finetune"
"""Name of the user attribute of trials and of the study that holds what finetune knows of them."""
DATABASE = "study.db"

_STATES = {
    "running": TrialState.RUNNING, "paused": TrialState.RUNNING, "complete": TrialState.COMPLETE,
    "dropped": TrialState.PRUNED, "stopped": TrialState.PRUNED, "incompatible": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}  # fmt: skip


@contextmanager
def quiet() -> Iterator[None]:
    """Show no log of Optuna, and no warning that one of its parts is experimental, within a `with` block."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(before)


def open_storage(place: str | None, output: Path) -> BaseStorage:
    """Return the storage of a study.

    Args:
        place: A URL of a database, or the path of a journal file; None for a file of SQLite in the study folder.
        output: The study folder.

    Raises:
        BadRecipe: The storage cannot be opened.
    """
    url = place or f"sqlite:///{(output / DATABASE).absolute()}"
    try:
        if "://" not in url:
            return JournalStorage(JournalFileBackend(url))
        options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
        return RDBStorage(url, engine_kwargs=options)
    except Exception as error:  # each database driver has its own errors
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BadRecipe(f"--storage: {place or url!r} cannot be opened: {why}.") from error


class Trials:
    """The trials of one study."""

    def __init__(self, storage: BaseStorage, study_id: int, space: Sequence[Parameter]) -> None:
        self.storage = storage
        self.study_id = study_id
        self.space = space

    @classmethod
    def open(cls, storage: BaseStorage, name: str, space: Sequence[Parameter], settings: Settings) -> Trials:
        """Return the trials of a study, which is created if there is none of this name."""
        if name not in {study.study_name for study in storage.get_all_studies()}:
            direction = StudyDirection.MAXIMIZE if settings.greater_is_better else StudyDirection.MINIMIZE
            storage.create_new_study([direction], name)
        return cls(storage, storage.get_study_id_from_name(name), space)

    def begun_again(self, settings: Settings) -> Trials:
        """Return a study of the same name without trials."""
        name = self.storage.get_study_name_from_id(self.study_id)
        self.storage.delete_study(self.study_id)
        return Trials.open(self.storage, name, self.space, settings)

    def facts(self) -> dict[str, Any]:
        """Return what the study was begun with; empty for a new one."""
        found: dict[str, Any] = self.storage.get_study_user_attrs(self.study_id).get(RECORD, {})
        return found

    def set_facts(self, facts: Mapping[str, Any]) -> None:
        """Record what the study was begun with."""
        self.storage.set_study_user_attr(self.study_id, RECORD, dict(facts))

    def all(self) -> list[Trial]:
        """Return the trials in the order of their numbers."""
        newest = self._newest()
        return [from_mapping(newest[number].user_attrs[RECORD]) for number in sorted(newest)]

    def _newest(self) -> dict[int, FrozenTrial]:
        """Return the number of each trial, and the newest trial of Optuna for it."""
        found = {}
        for frozen in self.storage.get_all_trials(self.study_id, deepcopy=False):
            if RECORD in frozen.user_attrs:
                found[int(frozen.user_attrs[RECORD]["number"])] = frozen
        return found

    def add(self, trial: Trial) -> None:
        """Record a new trial, or one that continues after its end, in one transaction."""
        continues = {"continues": trial.number} if trial.rungs else {}
        parameters = {parameter.key: parameter for parameter in self.space}
        frozen = FrozenTrial(
            number=-1,
            state=TrialState.RUNNING,
            value=None,
            datetime_start=datetime.now(),
            datetime_complete=None,
            params=dict(trial.chosen),
            distributions={key: distribution_of(parameters[key]) for key in trial.chosen},
            user_attrs={**continues, RECORD: as_mapping(trial)},
            system_attrs={},
            intermediate_values={place: rung.score for place, rung in enumerate(trial.rungs)},
            trial_id=-1,
        )
        self.storage.create_new_trial(self.study_id, template_trial=frozen)

    def update(self, trial: Trial) -> None:
        """Record how a trial stands; if it has ended, Optuna learns that, too."""
        number = self._newest()[trial.number].number
        identity = self.storage.get_trial_id_from_study_id_trial_number(self.study_id, number)
        for place, rung in enumerate(trial.rungs):
            self.storage.set_trial_intermediate_value(identity, place, rung.score)
        if trial.reason:
            self.storage.set_trial_user_attr(identity, "reason", trial.reason)
        self.storage.set_trial_user_attr(identity, RECORD, as_mapping(trial))
        if trial.state in ENDED:
            values = [trial.rungs[-1].score] if trial.rungs and trial.state != "failed" else None
            self.storage.set_trial_state_values(identity, _STATES[trial.state], values)


def distribution_of(parameter: Parameter) -> BaseDistribution:
    """Return the distribution of Optuna from which the values of a key are drawn."""
    if parameter.values:
        return CategoricalDistribution(parameter.labels)
    if parameter.is_whole:
        step = 1 if parameter.step is None else int(parameter.step)
        return IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log, step=step)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
