"""Make a run folder of a model that another program trained, such as `transformers.Trainer` or TRL."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from finetune import api, elsewhere, folder, models, recipe, report
from finetune import base as bases
from finetune import result as results
from finetune.errors import BadOptions, BadRecipe
from finetune.evaluation import held_out
from finetune.interfaces import Record
from finetune.plugins import Plugins
from finetune.progress import Reporter
from finetune.recipe import options
from finetune.result import RECIPE, Result

STATE = "trainer_state.json"
"""Where `transformers.Trainer` keeps its log, and which checkpoint was best."""
_COPIED = (*bases.SAVED, *bases.CONFIGS)
_NOT_KNOWN = (
    "adopted from {place}: another program trained this model. Its training data, its recipe and its base model's "
    "scores are not known here, and whether rows that are scored were in its training data cannot be checked"
)


@dataclass(frozen=True, kw_only=True)
class History:
    """What the files of a training say of it."""

    log: tuple[Mapping[str, Any], ...] = ()
    steps: int = 0
    arguments: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    validation_rows: int | None = None
    """Rows of validation, as the times of evaluation in the log show."""


def model_of(place: Path) -> tuple[Path, str]:
    """Return the folder of the model to adopt, and why it is that one.

    A folder that holds checkpoints alone gives the best of them, by its own record, or else the last.

    Raises:
        BadRecipe: There is no model.
    """
    if not place.is_dir():
        raise BadRecipe(f"there is no folder {str(place)!r}. Name the folder that the other program wrote.")
    if (place / RECIPE).is_file():
        raise BadRecipe(f"{str(place)!r} is the folder of a run already. Use it as it is: finetune report {place}.")
    if any((place / name).is_file() for name in (elsewhere.CONFIG, bases.ADAPTER)):
        return place, ""
    checkpoints = elsewhere.checkpoints(place)
    if not checkpoints:
        raise BadRecipe(
            f"{str(place)!r} holds no model: there is neither {elsewhere.CONFIG} nor {bases.ADAPTER} in it, nor a "
            "checkpoint of Trainer."
        )
    state = _state(checkpoints[-1])
    best = Path(str(state.get("best_model_checkpoint") or "")).name
    for checkpoint in checkpoints:
        if checkpoint.name == best:
            return checkpoint, f"the folder holds checkpoints alone; {best} was the best by its own record"
    return checkpoints[-1], f"the folder holds checkpoints alone; {checkpoints[-1].name} is the last"


def history_of(place: Path, model: Path) -> History:
    """Return what `trainer_state.json` says of a training.

    Args:
        place: The folder that the user named.
        model: The folder of the model; the same, or a checkpoint in it.
    """
    checkpoints = elsewhere.checkpoints(place)
    candidates = [place, *reversed(checkpoints), model]
    found = next((each for each in candidates if (each / STATE).is_file()), None)
    if found is None:
        return History(notes=(f"there is no {STATE}, so nothing is known of the training: no losses, no steps",))
    state = _state(found)
    entries = tuple(entry for entry in state.get("log_history") or () if isinstance(entry, dict))
    arguments = {
        "num_train_epochs": state.get("num_train_epochs"),
        "per_device_train_batch_size": state.get("train_batch_size"),
        "max_steps": state.get("max_steps"),
    }
    rates = [entry["learning_rate"] for entry in entries if isinstance(entry.get("learning_rate"), int | float)]
    if rates:
        arguments["learning_rate"] = max(rates)
    step = state.get("global_step")
    return History(
        log=entries,
        steps=step if isinstance(step, int) else 0,
        arguments={name: value for name, value in arguments.items() if value},
        notes=tuple(_on_checkpoints(state, place, checkpoints)),
        validation_rows=_validation_rows(entries),
    )


def _state(place: Path) -> Mapping[str, Any]:
    return elsewhere.read_json(place / STATE) if (place / STATE).is_file() else {}


def _on_checkpoints(state: Mapping[str, Any], place: Path, checkpoints: list[Path]) -> list[str]:
    """Return which checkpoint was best, and whether it still exists."""
    best, metric = state.get("best_model_checkpoint"), state.get("best_metric")
    if not isinstance(best, str) or not best:
        return ["Trainer did not record which checkpoint was best: load_best_model_at_end was not set"]
    name = Path(best).name
    value = f" (score {metric:g})" if isinstance(metric, int | float) else ""
    if any(checkpoint.name == name for checkpoint in checkpoints):
        return [f"the best checkpoint by the record of Trainer is {name}{value}, which still exists"]
    return [f"the best checkpoint by the record of Trainer was {name}{value}; it is not in {str(place)!r} any more"]


def _validation_rows(entries: tuple[Mapping[str, Any], ...]) -> int | None:
    """Return how many rows an evaluation had: its time multiplied by the rows of a second."""
    for entry in entries:
        seconds, speed = entry.get("eval_runtime"), entry.get("eval_samples_per_second")
        if isinstance(seconds, int | float) and isinstance(speed, int | float):
            return round(seconds * speed)
    return None


def adopt(
    place: str | Path,
    output: str | Path,
    dataset: Any = None,
    *,
    split: str | None = None,
    task: str | None = None,
    base: str | Path | None = None,
    columns: Mapping[str, str] = {},
    preprocessor: Mapping[str, Any] = {},
    evaluator: Mapping[str, Any] = {},
    plugins: Plugins | None = None,
    reporter: Reporter | None = None,
) -> Result:
    """Make a run folder of a model that another program trained.

    The folder of the other program is not changed: model and tokenizer are copied. The losses and the scores in its
    `trainer_state.json` become the log of the run, with the same verdicts on overfitting and underfitting. With a data
    set, the model is scored on it, and the run has scores with intervals, slices, its worst errors and predictions.

    Args:
        place: The folder that `transformers.Trainer`, TRL or PEFT wrote; if it holds checkpoints alone, the best by its
            own record is taken, or else the last.
        output: The run folder to write; it must not exist, or be empty.
        dataset: Rows with answers, as `evaluate` takes them, on which the model is scored as on a test split.
        split: The split of `dataset` to score, as in `evaluate`.
        task: As in `load`.
        base: As in `load`.
        columns: As in `load`.
        preprocessor: As in `load`.
        evaluator: As in `load`.
        plugins: Where names are looked up; None to discover the installed plugins.
        reporter: Shows the progress.

    Returns:
        The result, as it is written.

    Raises:
        BadRecipe: There is no model, or its files do not say enough.
        Incompatible: The model was not trained for the task.
        OutputExists: `output` holds something.
    """
    reporter, started = reporter or Reporter(), datetime.now(UTC).isoformat(timespec="seconds")
    place, output = Path(place).expanduser(), Path(output).expanduser()
    model, why = model_of(place)
    if output.resolve() == place.resolve():
        raise BadOptions(f"output: {str(output)!r} is the folder of the other program. Name a new folder.")
    folder.check(output, resume=False, overwrite=False)
    said: dict[str, Any] = {"columns": columns, "preprocessor": preprocessor, "evaluator": evaluator}
    with reporter.phase("load the model"):
        loaded = api.load(model, task=task, base=base, plugins=plugins, **said)
    history = history_of(place, model)
    notes = [_NOT_KNOWN.format(place=place), *([why] if why else []), *history.notes, *loaded.result.notes[1:]]
    for note in notes:
        reporter.note(note)
    rows = history.validation_rows
    written = {
        "log": history.log,
        "steps": history.steps,
        "arguments": history.arguments or {},
        "notes": notes,
        "adopted_from": str(place.absolute()),
        "started": started,
        "directory": str(output),
        "forgetting": {"not_measured": "another program trained the model"},
        "scales": dict(loaded.plan.evaluator.scales()),
        "total_parameters": sum(parameter.numel() for parameter in loaded.model.parameters()),
        "data_report": {"validation": {"kept": rows}} if rows else {},
    }
    with folder.lock(output):
        try:
            result = _write(loaded, model, written, dataset, split=split, output=output, reporter=reporter)
        except BaseException:  # half a run must not look like a whole one
            folder.empty(output)
            raise
    loaded.plan.plugins.announce("after_run", result=result, directory=output)
    return result


def _write(
    loaded: api.FineTuned,
    model: Path,
    written: dict[str, Any],
    dataset: Any,
    *,
    split: str | None,
    output: Path,
    reporter: Reporter,
) -> Result:
    """Copy the model, score it if there are rows, write the files of the run, and return its result."""
    _copy(model, output)
    loaded.tokenizer.save_pretrained(output)  # an adapter may have none of its own
    if dataset is not None:
        written |= _score(loaded, dataset, split=split, output=output, reporter=reporter, written=written)
    content = {**loaded.plan.resolved(), "output": str(output), "score_base_model": False}
    content["model"]["path"] = models.absolute(loaded.plan.model.path)
    if isinstance(dataset, str | Path):
        content["dataset"]["path"] = {"test": str(dataset)}
    result: Result = replace(
        loaded.result,
        **{"recipe": content, "saved_bytes": folder.size_of_weights(output), **written},
        base={**bases.describe(loaded.plan.model), **bases.describe_saved(output)},
        environment=results.environment(),
        phases=reporter.phases,
    )
    results.write_atomically(output / RECIPE, recipe.dump(content))
    folder.write_lines(output / results.LOG, written["log"])
    report.write(result, output)
    result.save(output)
    return result


def _copy(model: Path, output: Path) -> None:
    """Copy the files of a model."""
    for pattern in _COPIED:
        for path in sorted(model.glob(pattern)):
            if path.is_file():
                shutil.copy2(path, output / path.name)


def _score(
    loaded: api.FineTuned,
    dataset: Any,
    *,
    split: str | None,
    output: Path,
    reporter: Reporter,
    written: Mapping[str, Any],
) -> dict[str, Any]:
    """Score the model on rows, write the predictions, and return the fields of the result."""
    with reporter.phase("read and check the data"):
        to_score = loaded.to_score(dataset, split=split, reporter=reporter)
    plan = to_score.plan
    ((name, rows),) = to_score.examples.splits.items()
    with reporter.phase("score"):
        records: list[Record] = loaded.records_to_score(to_score, reporter=reporter, cache=None)
    examples = replace(
        to_score.examples,
        splits={"test": rows},
        places={"test": to_score.examples.places[name]},
        data_report={"test": to_score.examples.data_report[name]},
        fingerprints={"test": to_score.examples.fingerprints[name]},
    )
    with reporter.phase("compute intervals and slices"):
        found = held_out.describe(plan, examples, records, tokenizer=loaded.tokenizer, output=output)
    found["data_report"] = {**written["data_report"], **found["data_report"]}
    return {**found, "preprocessor": options.describe(plan.preprocessor)}
