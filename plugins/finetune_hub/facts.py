"""What a card needs to know beyond the result: the base's licence, and what kind of thing the folder holds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub.repocard import metadata_load

from finetune.errors import BadOptions, did_you_mean
from finetune.kit import Result, locate, recipe_from_mapping

WORDS = (
    "license",
    "language",
    "description",
    "intended_use",
    "limits",
    "dataset_license",
    "dataset_name",
    "base_model",
)
"""What the recipe's `card` section may hold."""
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_TAGS = {
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForQuestionAnswering": "question-answering",
    "AutoModelForMaskedLM": "fill-mask",
    "AutoModelForCausalLM": "text-generation",
}
"""Class of transformers → the Hub's name for what it does."""
_OF_THE_HUB = ("summarization", "translation")


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What stands in a card's head, as far as it is known."""

    base_model: str | None
    relation: str
    """The Hub's word: ``finetune`` or ``adapter``."""
    license: str | None
    license_from: str
    """Where the licence is known from: the recipe, or the base's own card."""
    library: str
    pipeline_tag: str | None
    said: Mapping[str, Any] = field(default_factory=dict)
    """The recipe's `card` section."""


def facts_of(result: Result, directory: Path) -> Facts:
    """Gather what is known; nothing is made up.

    Raises:
        BadOptions: The recipe's `card` section has an unknown word.
    """
    said = dict(result.recipe.get("card") or {})
    require_words(said)
    own = _of_base(result)
    inherited = own.get("license")
    adapter = any(directory.glob("adapter_config.json"))
    return Facts(
        base_model=said.get("base_model") or _id(result.recipe["model"]["path"]) or own.get("base_model"),
        relation="adapter" if adapter else "finetune",
        license=said.get("license") or (str(inherited) if inherited else None),
        license_from="the recipe" if said.get("license") else "the base model's card",
        library="peft" if adapter else "transformers",
        pipeline_tag=_pipeline_tag(result, directory),
        said=said,
    )


def require_words(said: Mapping[str, Any]) -> None:
    """Check the words of a recipe's `card` section.

    Raises:
        BadOptions: One is unknown.
    """
    for word in said:
        if word not in WORDS:
            raise BadOptions(f"card: {word!r} is unknown.{did_you_mean(word, WORDS)} There are: {', '.join(WORDS)}.")


def _id(path: str) -> str | None:
    """Return an id of the Hub; a folder or a plugin's name is none."""
    return path if _ID.fullmatch(path) and not Path(path).exists() else None


def _of_base(result: Result) -> dict[str, Any]:
    """Return the metadata of the base model's own card, where its folder holds one."""
    recipe = recipe_from_mapping({**result.recipe, "card": {}})
    path = recipe.model.path
    # a plugin's scheme would make the model first
    folder = Path(locate(recipe.model)) if ":" not in path or path.startswith("package:") else None
    card = folder / "README.md" if folder is not None else None
    return dict(metadata_load(card) or {}) if card is not None and card.is_file() else {}


def _pipeline_tag(result: Result, directory: Path) -> str | None:
    task = result.recipe["task"]
    if task in _OF_THE_HUB:
        return str(task)
    config = directory / "config.json"
    adapter = directory / "adapter_config.json"
    names: list[str] = []
    if config.is_file():
        names = json.loads(config.read_text(encoding="utf-8")).get("architectures") or []
    elif adapter.is_file():
        kind = json.loads(adapter.read_text(encoding="utf-8")).get("task_type")
        return {"SEQ_CLS": "text-classification", "TOKEN_CLS": "token-classification", "CAUSAL_LM": "text-generation",
                "QUESTION_ANS": "question-answering"}.get(str(kind))  # fmt: skip
    ends = {model_class.removeprefix("AutoModel"): tag for model_class, tag in _TAGS.items()}
    found = (tag for name in names for end, tag in ends.items() if name.endswith(end))
    return next(found, None)
