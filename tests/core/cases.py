"""What the laws and the composition test need to know of each task: one entry a task, defaults for classification."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from finetune.interfaces import Preprocessor


def logits(features: Any, preprocessor: Preprocessor, draw: np.random.Generator) -> Any:
    """Return random logits of one row a feature."""
    return draw.normal(size=(len(features), preprocessor.model_options()["num_labels"])).astype(np.float32)


def spans(features: Any, preprocessor: Preprocessor, draw: np.random.Generator) -> Any:
    """Return random start and end logits of every token."""
    width = max(map(len, features["input_ids"]))
    return tuple(draw.normal(size=(len(features), width)).astype(np.float32) for _ in range(2))


def tags(features: Any, preprocessor: Preprocessor, draw: np.random.Generator) -> Any:
    """Return random logits of every token."""
    shape = (len(features), max(map(len, features["input_ids"])), preprocessor.model_options()["num_labels"])
    return draw.normal(size=shape).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Case:
    """How one task is tried on a tiny model."""

    family: str = "bert"
    """Of `finetune.testing.models.ARCHITECTURES`."""
    words: str = "bert"
    """Family of the tokenizer: of `finetune.testing.tokenizers.FAMILIES`."""
    preprocessor: Mapping[str, Any] = field(default_factory=lambda: {"max_length": 96})
    training: Mapping[str, Any] = field(default_factory=dict)
    """Beside those of the composition test."""
    outputs: Callable[[Any, Preprocessor, np.random.Generator], Any] = logits
    """Random outputs in the form that the evaluator takes."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Strategy → what the refusal must say, where the two cannot go together."""
    learns: bool = True
    """Whether ten steps must lower the logged loss (a policy's loss does not fall)."""


CASES: Mapping[str, Case] = {
    "question-answering": Case(preprocessor={"max_length": 96, "stride": 24}, outputs=spans),
    "token-classification": Case(preprocessor={"max_length": 32}, outputs=tags),
}
"""Task → its case; a task without one is tried as a classifier of short texts."""


def case(task: str) -> Case:
    """Return a task's case."""
    return CASES.get(task, Case())
