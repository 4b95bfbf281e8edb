"""The values of a trial, drawn by Optuna from those of the trials before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState, create_trial

from finetune.kit import Parameter
from finetune_tune.storage import distribution_of, quiet
from finetune_tune.trial import Settings, Trial


def draw(space: Sequence[Parameter], trials: Sequence[Trial], settings: Settings, *, number: int) -> dict[str, Any]:
    """Return the values of a new trial: searched key → label or number.

    The sampler (TPE) is made new for each trial, and its seed is that of the study and the number of the trial. So the
    values depend on the recorded trials alone, and not on whether the study was interrupted.

    Args:
        space: What is searched.
        trials: The trials before.
        settings: Those of the study.
        number: The number of the new trial.
    """
    with quiet():
        study = history(space, trials, settings, seed=seed_of(settings, number))
        asked = study.ask()
        chosen: dict[str, Any] = {}
        for parameter in space:
            if parameter.applies(chosen):
                chosen[parameter.key] = _suggested(asked, parameter)
    return chosen


def _suggested(asked: optuna.Trial, parameter: Parameter) -> Any:
    if parameter.values:
        return asked.suggest_categorical(parameter.key, parameter.labels)
    if parameter.is_whole:
        low, high, step = int(parameter.low), int(parameter.high), int(parameter.step or 1)
        return asked.suggest_int(parameter.key, low, high, step=step, log=parameter.log)
    return asked.suggest_float(parameter.key, parameter.low, parameter.high, step=parameter.step, log=parameter.log)


def seed_of(settings: Settings, number: int) -> int:
    """Return the seed of the sampler of a trial."""
    return int(np.random.SeedSequence([settings.seed, number]).generate_state(1)[0])


def history(space: Sequence[Parameter], trials: Sequence[Trial], settings: Settings, *, seed: int = 0) -> optuna.Study:
    """Return a study in memory that holds the trials as samplers of Optuna read them.

    A trial that has not made all its steps is one that was pruned after its last rung.
    """
    by_key = {parameter.key: parameter for parameter in space}
    direction = "maximize" if settings.greater_is_better else "minimize"
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed), direction=direction)
    for trial in trials:
        if trial.state == "incompatible" or (trial.state == "failed" and not trial.rungs):
            state, value = TrialState.FAIL, None
        elif trial.state == "complete":
            state, value = TrialState.COMPLETE, trial.score
        elif trial.rungs:
            state, value = TrialState.PRUNED, trial.score
        else:
            state, value = TrialState.RUNNING, None
        study.add_trial(
            create_trial(
                state=state,
                value=value,
                params=dict(trial.chosen),
                distributions={key: distribution_of(by_key[key]) for key in trial.chosen},
                intermediate_values={place: rung.score for place, rung in enumerate(trial.rungs)},
            )
        )
    return study


def importances(space: Sequence[Parameter], trials: Sequence[Trial], settings: Settings) -> dict[str, float]:
    """Return how much each key explains of the scores at the first rung, where all trials can be compared.

    Only keys that each trial has are known; with fewer than 8 scored trials, none.

    Source: Watanabe et al. 2023, "PED-ANOVA".
    """
    scored = [trial for trial in trials if trial.rungs]
    if len(scored) < FEWEST:
        return {}
    common = [parameter.key for parameter in space if all(parameter.key in trial.chosen for trial in scored)]
    varied = [key for key in common if len({str(trial.chosen[key]) for trial in scored}) > 1]
    if len(varied) < 2:
        return dict.fromkeys(varied, 1.0)
    by_key = {parameter.key: parameter for parameter in space}
    with quiet():
        direction = "maximize" if settings.greater_is_better else "minimize"
        study = optuna.create_study(direction=direction)
        for trial in scored:
            study.add_trial(
                create_trial(
                    value=trial.rungs[0].score,
                    params={key: trial.chosen[key] for key in varied},
                    distributions={key: distribution_of(by_key[key]) for key in varied},
                )
            )
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=varied)
    return {key: float(value) for key, value in found.items()}


FEWEST = 8
"""Fewest trials from which importances are computed."""
