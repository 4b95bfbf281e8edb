"""The teacher of a run: load it, check that it fits, and say what it has seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finetune import base as bases
from finetune import data, models
from finetune.data.preparation import Prepared
from finetune.errors import BadOptions, FinetuneError, Incompatible, listed
from finetune.evaluation import verdicts
from finetune.interfaces import Job
from finetune.plugins import resolve
from finetune.python_objects import ROWS
from finetune.recipe import Teacher
from finetune.result import RECIPE
from finetune.training import checks
from finetune.training.distillation import Distillation
from finetune.user_code import first_line

PROBED = 16
"""Rows of train whose features both tokenizers make, to see whether they are equal."""
FRONT_DOOR = "finetune.api:load"  # by name, because it stands above the run


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """A teacher that fits a run."""

    distillation: Distillation
    described: Mapping[str, Any]
    """What the result says of it; see `Result.teacher`."""
    identity: Mapping[str, Any]
    """What must not change if the run is resumed."""
    notes: tuple[str, ...]
    """What the user must read."""


def load(prepared: Prepared, student: Any, *, longest_target: int | None) -> Loaded | None:
    """Load the teacher of a recipe, and compare it with the student; None if it has none.

    Args:
        prepared: The data and the recipe.
        student: The model to train.
        longest_target: Tokens of the longest target, if the models write targets.

    Raises:
        BadRecipe: There is no such model.
        Incompatible: It was trained for another task, or has other labels or another vocabulary.
    """
    options = prepared.plan.recipe.teacher
    if options is None:
        return None
    opened = _open(options, prepared)
    _check_task(opened, prepared)
    _check_labels(opened, prepared)
    _check_tokenizer(opened, prepared)
    _check_model(opened, prepared, student, longest_target=longest_target)
    device = next(student.parameters()).device
    teacher = opened.model.eval().requires_grad_(False).to(device)
    parameters = sum(each.numel() for each in models.base_model_of(teacher).parameters())
    seen = seen_rows(opened, prepared)
    described = {
        "path": models.absolute(options.path),
        "task": opened.plan.recipe.task,
        "temperature": options.temperature,
        "alpha": options.alpha,
        "parameters": parameters,
        "files": _digests(opened, options.path),
        "seen": seen,
    }
    distillation = Distillation(teacher=teacher, options=options, labels=prepared.plan.task.labels)
    identity = {name: described[name] for name in ("temperature", "alpha", "files")}
    summary = (
        f"teacher: {options.path}, {parameters:,} parameters; loss = {options.alpha:g} × the distance to its outputs "
        f"at temperature {options.temperature:g} + {1 - options.alpha:g} × the loss of the task"
    )
    notes = (summary, verdicts.seen_by_teacher(seen, prepared.leakage))
    return Loaded(distillation=distillation, described=described, identity=identity, notes=notes)


def with_teacher(job: Job, loaded: Loaded | None) -> Job:
    """Return a job that learns from a teacher; the job itself without one."""
    return job if loaded is None else replace(job, distillation=loaded.distillation)


def _open(options: Teacher, prepared: Prepared) -> Any:
    plan = prepared.plan
    is_run = (Path(options.path) / RECIPE).is_file() or (Path(options.path).parent / RECIPE).is_file()
    task = {} if is_run else {"task": plan.recipe.task}
    try:
        return resolve(FRONT_DOOR)(options.path, plugins=plan.plugins, **task)
    except FinetuneError as error:
        raise type(error)(f"teacher: {error}") from error


def _check_task(opened: Any, prepared: Prepared) -> None:
    ours, theirs = prepared.plan.task, opened.plan.task
    if (ours.model_class, ours.problem_type) != (theirs.model_class, theirs.problem_type):
        raise Incompatible(
            f"teacher: {opened.plan.recipe.task!r} is what it was trained for, and this run learns "
            f"{prepared.plan.recipe.task!r}. Name a model that was trained for the same task."
        )


def _check_labels(opened: Any, prepared: Prepared) -> None:
    """Check that both models have the same labels, with the same ids."""
    ours, theirs = (_labels(each) for each in (prepared.plan.preprocessor, opened.plan.preprocessor))
    if ours == theirs:
        return
    more = sorted(set(ours.values()) ^ set(theirs.values()))
    differ = f"only one of them has {listed(more)}" if more else "the same labels have other ids"
    raise Incompatible(
        f"teacher: its labels are {listed(list(theirs.values()))}, and those of the data "
        f"{listed(list(ours.values()))}: {differ}. Both must have the same labels in the "
        "same order of ids; the names of a model of another program stand in its config.json (id2label)."
    )


def _labels(preprocessor: Any) -> dict[int, str]:
    found = preprocessor.model_options().get("id2label") or {}
    return {int(number): str(name) for number, name in found.items()}


def _check_tokenizer(opened: Any, prepared: Prepared) -> None:
    """Check that the teacher's own tokenizer makes the same features, so that it reads what it was trained to read."""
    ours, theirs = prepared.tokenizer.get_vocab(), opened.tokenizer.get_vocab()
    if ours != theirs:
        differing = sorted({*ours.items()} ^ {*theirs.items()}, key=lambda item: item[1])
        raise Incompatible(
            f"teacher: its vocabulary is another one ({len(theirs):,} tokens, and {len(ours):,} here; the first that "
            f"differs is {differing[0][0]!r}). Its outputs can be compared only if both read the same tokens. Use a "
            "student of the same family, such as one with fewer of its layers (model.layers)."
        )
    rows = prepared.features["train"].examples
    batch = rows.select(range(min(PROBED, len(rows))))[:]
    made = []
    for each in (prepared.tokenizer, opened.tokenizer):
        features = prepared.plan.preprocessor.features(batch, each)
        made.append({name: _plain(column) for name, column in features.items()})
    for name in sorted(prepared.plan.task.features & {*made[0], *made[1]}):
        one, other = (each.get(name) for each in made)
        if one != other and not (one is None and not _any(other)):
            raise Incompatible(
                f"teacher: its tokenizer makes another {name} of the rows than that of the student, so it would not "
                "read what it was trained to read. Use a student of the same family, such as one with fewer of its "
                "layers (model.layers)."
            )


def _plain(values: Any) -> Any:
    """Return nested lists and arrays as lists."""
    if hasattr(values, "tolist"):
        return values.tolist()
    return [_plain(each) for each in values] if isinstance(values, list | tuple) else values


def _any(values: Any) -> bool:
    """Return whether any number in nested lists is not 0."""
    if isinstance(values, list):
        return any(_any(each) for each in values)
    return bool(values)


def _check_model(opened: Any, prepared: Prepared, student: Any, *, longest_target: int | None) -> None:
    """Check that the teacher has positions for the features, and begins targets with the same token."""
    longest = max(part.longest for part in prepared.features.values())
    try:
        checks.model_takes_features(
            opened.model, prepared.tokenizer, longest=longest, longest_target=longest_target, padded=False
        )
    except (BadOptions, Incompatible) as error:
        raise Incompatible(f"teacher: {error}") from error
    one, other = (models.base_model_of(model).config for model in (student, opened.model))
    for name in ("decoder_start_token_id", "pad_token_id") if one.is_encoder_decoder else ():
        if getattr(one, name, None) != getattr(other, name, None):
            raise Incompatible(
                f"teacher: its {name} is {getattr(other, name, None)}, and that of the student "
                f"{getattr(one, name, None)}, so their decoders would not read the same."
            )


def _digests(opened: Any, path: str) -> dict[str, str]:
    """Return file → the first digits of its digest, for all files from which the teacher was loaded."""
    sections = [opened.result.base.get("saved_model", {})]
    if Path(path).is_dir() and not sections[0]:
        sections = [bases.describe_saved(Path(path))["saved_model"]]
    if not opened.is_run or opened.plan.strategy.loads_base():
        sections.append(bases.describe(opened.plan.model)["files"])
    found: dict[str, str] = {}
    for number, section in enumerate(sections):
        for name, entry in section.items():
            found[f"base/{name}" if number else name] = entry["sha256"][: bases.DIGITS]
    return found


def seen_rows(opened: Any, prepared: Prepared) -> dict[str, Any]:
    """Return which held-out rows the teacher was trained on.

    The rows of its training are read again, as its recipe says; see `finetune.data.leaks` for what counts as equal.

    Returns:
        Split → counts, as `finetune.data.leakage` gives them; or ``not_known`` with the reason.
    """
    if not opened.is_run or opened.result.adopted_from:
        return {"not_known": "no run of finetune trained it"}
    recipe, held_out = opened.plan.recipe, {}
    for split, part in prepared.features.items():
        if split != "train":
            held_out[split] = part.examples
    if not held_out:
        return {"not_known": "no rows are held out"}
    trained_on = opened.result.fingerprints.get("train")
    if trained_on is not None and trained_on == prepared.examples.fingerprints.get("train"):
        found: Mapping[str, Any] = prepared.leakage
    elif recipe.dataset.path == ROWS or recipe.dataset.streaming:
        return {"not_known": "its rows were streamed, or given in Python"}
    else:
        try:
            examples = data.load(
                recipe.dataset, opened.plan.preprocessor, plugins=prepared.plan.plugins, seed=recipe.data_seed
            )
        except (FinetuneError, OSError) as error:
            return {"not_known": f"its training data cannot be read again: {first_line(error).rstrip('.')}"}
        if examples.fingerprints.get("train") != trained_on:
            return {"not_known": "its training data have changed since"}
        found = data.leakage({"train": examples.splits["train"], **held_out}, prepared.plan.preprocessor)
    counted = ("rows", "exact", "normalized", "near")
    return {split: {name: facts[name] for name in counted} for split, facts in found.items()}
