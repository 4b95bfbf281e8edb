"""Facts of a model card that are not in the result: the licence of the base model, the library, the Hub's task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub.repocard import metadata_load
from yaml import YAMLError

from finetune.errors import BadOptions, BadRecipe, FinetuneError, did_you_mean
from finetune.interfaces import Task
from finetune.kit import Result, SeedsResult, discover, locate, recipe_from_mapping
from finetune_hub.hub_rules import is_model_id

FIELDS = (
    "license",
    "license_name",
    "license_link",
    "language",
    "description",
    "intended_use",
    "limits",
    "dataset_license",
    "dataset_name",
    "base_model",
)
"""What the recipe's `card` section may hold."""
_TAG_OF_CLASS = {
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForQuestionAnswering": "question-answering",
    "AutoModelForMaskedLM": "fill-mask",
    "AutoModelForCausalLM": "text-generation",
}
"""Class of transformers that a task loads → the Hub's pipeline tag."""
_TASKS_OF_THE_HUB = ("summarization", "translation")
"""Tasks of ours whose name is a pipeline tag; the model's class does not tell them apart."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The known facts of a card's metadata; None is unknown."""

    base_model: str | None
    """Its id on the Hub."""
    relation: str
    """The Hub's word: ``finetune`` or ``adapter``."""
    license: Any
    """A text, as the Hub needs it, unless somebody wrote something else."""
    license_source: str
    """Where the licence is stated: the recipe, or the base model's card."""
    library: str
    pipeline_tag: str | None
    fields: Mapping[str, Any] = field(default_factory=dict)
    """The recipe's `card` section."""


def facts_of(result: Result | SeedsResult, directory: Path) -> Facts:
    """Collect the known facts of a run.

    Raises:
        BadOptions: The recipe's `card` section has an unknown field.
    """
    fields = dict(result.recipe.get("card") or {})
    check_fields(fields)
    base_card = _card_of_base(result)
    license_name = fields.get("license") or base_card.get("license")
    is_adapter = (directory / "adapter_config.json").is_file()
    base_model = fields.get("base_model") or _hub_id(result.recipe["model"]["path"])
    if not is_adapter:  # an adapter fits the model that it was trained on, and not the base model of that model
        base_model = base_model or base_card.get("base_model")
    return Facts(
        base_model=base_model,
        relation="adapter" if is_adapter else "finetune",
        license=license_name or None,
        license_source="the recipe" if fields.get("license") else "the base model's card",
        library="peft" if is_adapter else "transformers",
        pipeline_tag=_pipeline_tag(result),
        fields=fields,
    )


def check_fields(fields: Mapping[str, Any]) -> None:
    """Check the names in a recipe's `card` section.

    Raises:
        BadOptions: One is unknown.
    """
    for name in fields:
        if name not in FIELDS:
            hint = did_you_mean(name, FIELDS)
            raise BadOptions(f"card: {name!r} is unknown.{hint} Known fields: {', '.join(FIELDS)}.")


def _hub_id(path: str) -> str | None:
    return path if is_model_id(path) else None


def _card_of_base(result: Result | SeedsResult) -> dict[str, Any]:
    """Return the metadata of the base model's card; empty if its folder has none, or one that cannot be read."""
    model = recipe_from_mapping({**result.recipe, "card": {}}).model
    has_scheme = ":" in model.path and not model.path.startswith("package:")
    if has_scheme:  # to find its folder, a plugin's scheme would make the model
        return {}
    try:
        card = Path(locate(model)) / "README.md"
    except BadRecipe:  # the folder is gone, and with it the card
        return {}
    try:
        return dict(metadata_load(card) or {}) if card.is_file() else {}
    except (OSError, ValueError, LookupError, AttributeError, RecursionError, YAMLError):  # PyYAML raises all of these
        return {}


def task_of(result: Result | SeedsResult) -> Task | None:
    """Return the task of a run; None if it is not installed here."""
    try:
        task: Task = discover().find("tasks", str(result.recipe["task"]))
    except FinetuneError:
        return None
    return task


def model_class_of(result: Result | SeedsResult) -> str | None:
    """Return the ``AutoModelFor…`` class of a run's task; None if the task is not installed here."""
    task = task_of(result)
    return None if task is None else task.model_class


def _pipeline_tag(result: Result | SeedsResult) -> str | None:
    """Return the Hub's name of the task, from its name or from the class of its models."""
    task = result.recipe["task"]
    if task in _TASKS_OF_THE_HUB:
        return str(task)
    return _TAG_OF_CLASS.get(str(model_class_of(result)))
