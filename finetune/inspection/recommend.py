"""What to write into a recipe for the user's own data: how to read it, the columns and the base model, with reasons."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from finetune.inspection.look import Look
from finetune.inspection.propose import Proposal
from finetune.interfaces import Task
from finetune.models import PACKAGE
from finetune.plugins import Plugins
from finetune.recipe.short import Chosen

FOREIGN = 0.003
"""Share of letters outside English from which a text is likely to be in another language."""
_LOOKED_AT = 500
"""Texts whose letters are counted."""


STEPS = 200
"""Steps that a new head should train for."""
MOST_EPOCHS = 10
FEW_ROWS = (
    f"enough for about {STEPS} steps, at most {MOST_EPOCHS}: with few rows, a new head needs more than the usual "
    "epochs (Mosbach et al. 2021, Zhang et al. 2021, “Revisiting Few-sample BERT Fine-tuning”)"
)


@dataclass(frozen=True, kw_only=True)
class Base:
    """A base model, and why."""

    path: str
    why: str
    note: str = ""
    """Whether it is on this machine, and what to do if it is not."""


def chosen(seen: Look, proposal: Proposal, plugins: Plugins, *, model: str | None = None) -> tuple[Chosen, Base]:
    """Return what a recipe for a data set says, and its base model.

    Args:
        seen: The look at the data set.
        proposal: The task and its columns.
        plugins: The tasks.
        model: The base model that the user gives.
    """
    task: Task = plugins.find("tasks", proposal.task)
    why = {f"dataset.{key}": _sentence(reason) for key, reason in seen.why.items()}
    dataset = dict(seen.dataset)
    names = proposal.columns
    if seen.without_header:
        blanks = dataset["options"]["names"]
        dataset["options"] = {**dataset["options"], "names": [names.get(name, name) for name in blanks]}
        columns: Mapping[str, str] = {}
    else:
        columns = names
    if columns:
        dataset["columns"] = dict(columns)
        for match in proposal.matches.values():
            why[f"dataset.columns.{match.column}"] = _sentence(match.why)
    if proposal.first and not proposal.checked:
        why["preprocessor"] = _sentence(proposal.first)
    base = Base(path=model, why="you name it") if model else base_model(task, _texts(seen, proposal))
    if not model:
        why["model"] = _sentence(base.why)
    training = _training(task, seen)
    if training:
        why["training.num_train_epochs"] = f"{FEW_ROWS}."
    learned = proposal.form.learned if proposal.form is not None else {}
    return (
        Chosen(
            dataset=dataset,
            model=base.path,
            preprocessor=proposal.options,
            only_for_sample=frozenset(learned),
            training=training,
            why=why,
        ),
        base if not model else Base(path=model, why="", note=where_it_is(model)),
    )


def _training(task: Task, seen: Look) -> dict[str, Any]:
    """Return the options of the training that fit the number of rows."""
    if not seen.complete:
        return {}
    rows = len(seen.rows["train"]) * (1 if "validation" in seen.rows else 0.9)  # a tenth becomes validation
    return training_for(task, rows)


def training_for(task: Task, rows: float) -> dict[str, Any]:
    """Return more epochs for few rows, if the task trains a new head; a language model would learn them by heart.

    Args:
        task: The task.
        rows: The number of training rows.
    """
    if "LM" in task.model_class:
        return {}
    defaults = {"num_train_epochs": 3, "per_device_train_batch_size": 8}  # of transformers
    given = {**defaults, **task.training, **task.starter.get("training", {})}
    batch = given["per_device_train_batch_size"] * given.get("gradient_accumulation_steps", 1)
    epochs = min(MOST_EPOCHS, math.ceil(STEPS * batch / max(rows, 1)))
    return {"num_train_epochs": epochs} if epochs > given["num_train_epochs"] else {}


def base_model(task: Task, texts: Sequence[str]) -> Base:
    """Return a base model for the user's own texts: one of the Hub, or an installed one if the Hub cannot be reached.

    Args:
        task: The task.
        texts: Some of the texts.
    """
    mine = str(task.starter.get("model", {}).get("path", ""))
    if not task.base_models:
        return Base(path=mine, why="the task names it", note=where_it_is(mine))
    foreign = _share_of_foreign_letters(texts)
    is_english = foreign < FOREIGN
    path = task.base_models["en"] if is_english or "any" not in task.base_models else task.base_models["any"]
    why = "a small model of the Hub for English texts"
    if not is_english and "any" in task.base_models:
        why = f"a model of the Hub for many languages, because {foreign:.1%} of the letters are not English ones"
    note = where_it_is(path)
    if is_offline() and not is_cached(path) and mine.startswith(PACKAGE) and _is_installed(mine):
        return Base(
            path=mine,
            why=f"which is installed here. With a network, try {path}, {why}",
            note=note,
        )
    return Base(path=path, why=why, note=note)


def where_it_is(path: str) -> str:
    """Return whether a base model is on this machine, and what to do if it is not; an empty text for a folder."""
    if ":" in path or os.path.exists(path):
        return ""
    if is_cached(path):
        return f"{path} is in the cache of this machine."
    if is_offline():
        return f"{path} is not in the cache of this machine, and HF_HUB_OFFLINE is set, so it cannot be fetched."
    return f"{path} is not in the cache of this machine; it is fetched from the Hub when it is first used."


def is_offline() -> bool:
    """Return whether the user says that there is no network."""
    return os.environ.get("HF_HUB_OFFLINE", "0").upper() in {"1", "ON", "YES", "TRUE"}


def is_cached(path: str) -> bool:
    """Return whether the configuration of a model of the Hub is in the cache of this machine."""
    from transformers.utils import cached_file

    try:
        return cached_file(path, "config.json", local_files_only=True) is not None
    except (OSError, ValueError):
        return False


def _is_installed(path: str) -> bool:
    package = path.removeprefix(PACKAGE).partition("/")[0]
    return find_spec(package) is not None


def _texts(seen: Look, proposal: Proposal) -> list[str]:
    names = {match.column for match in proposal.matches.values()}
    found: list[str] = []
    for column in seen.columns:
        if column.name in names:
            found += column.texts[:_LOOKED_AT]
            found += [part for value in column.values[:_LOOKED_AT] for part in _parts(value)]
    return found


def _parts(value: Any) -> list[str]:
    if isinstance(value, list | tuple):
        return [text for part in value for text in ([part] if isinstance(part, str) else _parts(part))]
    if isinstance(value, dict):
        return [text for part in value.values() for text in ([part] if isinstance(part, str) else _parts(part))]
    return []


def _share_of_foreign_letters(texts: Sequence[str]) -> float:
    letters = foreign = 0
    for text in texts:
        for sign in text[:2_000]:
            if sign.isalpha():
                letters += 1
                foreign += not sign.isascii()
    return foreign / letters if letters else 0.0


def _sentence(text: str) -> str:
    """Return a reason as a sentence."""
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "?", "!")) else ".")
