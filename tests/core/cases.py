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


def surprises(features: Any, preprocessor: Preprocessor, draw: np.random.Generator) -> Any:
    """Return the random negative log-likelihood of every token but the first."""
    nll = draw.exponential(size=(len(features), max(map(len, features["input_ids"])))).astype(np.float32)
    nll[:, 0] = -1
    return nll


def guesses(features: Any, preprocessor: Preprocessor, draw: np.random.Generator) -> Any:
    """Return random negative log-likelihoods and guesses of some tokens, and no fillings."""
    nll = surprises(features, preprocessor, draw)
    nll[draw.random(nll.shape) < 0.85] = -1
    none = np.zeros((len(features), 0, 5))
    return nll, draw.integers(100, size=nll.shape), none.astype(np.int64), none


def texts(features: Any, preprocessor: Preprocessor, draw: np.random.Generator) -> Any:
    """Return the random ids of a text each, whether it is at its limit, and the loss of the target and its tokens."""
    count = len(features)
    at_limit, tokens = draw.integers(2, size=count), draw.integers(1, 9, size=count)
    return draw.integers(5, 300, size=(count, 8)), at_limit, draw.exponential(size=count), tokens


def replies(features: Any, preprocessor: Preprocessor, draw: np.random.Generator) -> Any:
    """Return the random ids of a reply each, and nll, tokens, hits of the right one and whether the reply ended."""
    count = len(features)
    tokens, hits, ended = draw.integers(5, 9, size=count), draw.integers(5, size=count), draw.integers(2, size=count)
    numbers = np.stack([draw.exponential(size=count), tokens, hits, ended], axis=1).astype(np.float32)
    return draw.integers(5, 300, size=(count, 8)), numbers


def preferences(features: Any, preprocessor: Preprocessor, draw: np.random.Generator) -> Any:
    """Return random log-probabilities of both answers by model and reference, and rewards."""
    return draw.normal(-20, 1, size=(len(features), 2, 2)), draw.normal(size=(len(features), 2))


def opinions(features: Any, preprocessor: Preprocessor, draw: np.random.Generator) -> Any:
    """Return random log-probabilities of one answer by model and reference, and rewards."""
    return draw.normal(-20, 1, size=(len(features), 2)), draw.normal(size=len(features))


def scores(features: Any, preprocessor: Preprocessor, draw: np.random.Generator) -> Any:
    """Return random scores of both answers."""
    return draw.normal(size=(len(features), 2))


def rewarded(features: Any, preprocessor: Preprocessor, draw: np.random.Generator) -> Any:
    """Return random answers and their rewards."""
    return draw.integers(100, size=(len(features), 8)), draw.normal(size=len(features))


def choices(features: Any, preprocessor: Preprocessor, draw: np.random.Generator) -> Any:
    """Return random logits of every choice."""
    return draw.normal(size=(len(features), len(features["input_ids"][0]))).astype(np.float32)


def decided(features: Any, preprocessor: Preprocessor, draw: np.random.Generator) -> Any:
    """Return random logits of every option, and −∞ where a question has fewer."""
    width = max(map(len, features["option_ids"]))
    found = draw.normal(size=(len(features), width)).astype(np.float32)
    for row, ids in zip(found, features["option_ids"], strict=True):
        row[len(ids) :] = -np.inf
    return found


@dataclass(frozen=True, kw_only=True)
class Case:
    """How one task is tried on a tiny model."""

    family: str = "bert"
    """Of `finetune.testing.models.ARCHITECTURES`."""
    words: str = "bert"
    """Family of the tokenizer: of `finetune.testing.tokenizers.FAMILIES`."""
    positions: int = 128
    """How many positions the model has."""
    preprocessor: Mapping[str, Any] = field(default_factory=lambda: {"max_length": 96})
    training: Mapping[str, Any] = field(default_factory=dict)
    """Beside those of the composition test."""
    rows: int = 32
    """Examples that the composition test trains on, two batches an epoch; more where a loss is noisy."""
    generation: Mapping[str, Any] = field(default_factory=dict)
    """How text is written, where the task writes any."""
    outputs: Callable[[Any, Preprocessor, np.random.Generator], Any] = logits
    """Random outputs in the form that the evaluator takes."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Strategy → what the refusal must say, where the two cannot go together."""
    learns: bool = True
    """Whether ten steps must lower the logged loss (a policy's loss does not fall)."""


_UNTYPED = dict.fromkeys(("prefix", "prefix-projection", "prompt", "ptuning"), "PEFT has no type for this task")

_DECODER: dict[str, Any] = {
    "family": "llama",
    "words": "llama",
    "preprocessor": {"max_length": 96},
    "training": {"learning_rate": 1e-2, "per_device_train_batch_size": 32, "per_device_eval_batch_size": 32},
}
_REINFORCED: dict[str, Any] = {
    **_DECODER,
    "preprocessor": {"reward": "finetune_trl.reinforcement.rewards:brevity"},
    "training": {"per_device_train_batch_size": 8, "per_device_eval_batch_size": 32, "max_completion_length": 8},
}

CASES: Mapping[str, Case] = {
    # ten steps are too few for a tiny random model to learn which of four choices is right
    "multiple-choice": Case(outputs=choices, refused=_UNTYPED, learns=False),
    "question-answering": Case(preprocessor={"max_length": 96, "stride": 24}, outputs=spans),
    "token-classification": Case(preprocessor={"max_length": 32}, outputs=tags),
    "masked-language-modeling": Case(
        preprocessor={"max_length": 64}, training={"learning_rate": 2e-2}, rows=128, outputs=guesses
    ),
    "causal-language-modeling": Case(
        family="llama",
        words="llama",
        preprocessor={"max_length": 64},
        training={"learning_rate": 2e-2},
        outputs=surprises,
    ),
    "summarization": Case(
        family="bart",
        words="roberta",
        preprocessor={"max_source_length": 96, "max_target_length": 16},
        training={"learning_rate": 2e-2},
        outputs=texts,
    ),
    "translation": Case(
        family="t5",
        words="xlm-roberta",
        preprocessor={"max_source_length": 96, "max_target_length": 16, "source_lang": "en", "target_lang": "hb"},
        training={"learning_rate": 2e-2},
        outputs=texts,
    ),
    "text-to-text": Case(
        family="t5",
        words="xlm-roberta",
        preprocessor={"max_source_length": 96, "max_target_length": 16},
        training={"learning_rate": 2e-2},
        outputs=texts,
    ),
    "sft": Case(
        family="llama",
        words="gpt2",
        preprocessor={"max_length": 128, "chat_template": "plain", "tolerance": 1.0, "untrained_rows": "keep"},
        training={"learning_rate": 2e-2, "per_device_train_batch_size": 16, "per_device_eval_batch_size": 32},
        generation={"max_new_tokens": 4},
        outputs=replies,
    ),
    "decision": Case(
        family="llama",
        words="gpt2",  # its letters are single tokens
        positions=640,  # nothing of a prompt is cut off
        preprocessor={"max_length": 600, "labels": {"noul": ("Y", "N")}},
        training={"learning_rate": 2e-2, "per_device_train_batch_size": 16, "per_device_eval_batch_size": 32},
        outputs=decided,
    ),
    "dpo": Case(**_DECODER, outputs=preferences),
    "kto": Case(**_DECODER, outputs=opinions),
    "reward": Case(**_DECODER, outputs=scores),
    "rloo": Case(**_REINFORCED, outputs=rewarded, learns=False),
    "grpo": Case(**_REINFORCED, outputs=rewarded, learns=False),
}
"""Task → its case; a task without one is tried as a classifier of short texts."""


def case(task: str) -> Case:
    """Return a task's case."""
    return CASES.get(task, Case())
