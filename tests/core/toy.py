"""A task of two words, a tiny model and a tokenizer, so that a whole run takes a second."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from finetune.checkpoint_folders import MANIFEST, TRAINER_STATE
from finetune.interfaces import Columns, Evaluator, Finding, Preprocessor, Task
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune.training import checkpoints
from finetune.training.checkpoints import Identity

WORDS = {"sea": ("ship", "wave", "harbour"), "land": ("tree", "hill", "road")}


@dataclass(frozen=True, kw_only=True)
class SeaOrLand(Preprocessor):
    """Texts about the sea or the land."""

    def needs(self) -> Columns:
        return Columns(required=("text",), answers=("label",))

    poison: int | None = None
    """Loss call that returns NaN, from 1; None for none."""
    labels: tuple[str, ...] = ()
    """Names."""

    def fit(self, train: Any) -> SeaOrLand:
        return replace(self, labels=tuple(sorted({row["label"] for row in train if row["label"]})))

    def check(self, examples: Any) -> Any:
        for row, example in enumerate(examples):
            if not example["text"].strip():
                yield Finding(code="empty-text", message="The text is empty.", row=row, column="text", value="")

    def features(self, examples: Any, tokenizer: Any) -> Any:
        made = dict(tokenizer(list(examples["text"]), truncation=True, max_length=32))
        if "label" in examples:
            made["labels"] = [self.labels.index(label) for label in examples["label"]]
        return made

    def model_options(self) -> dict[str, Any]:
        return {"num_labels": len(self.labels), "id2label": dict(enumerate(self.labels))}

    def loss(self) -> Any:
        if self.poison is None:
            return None
        calls = iter(range(1, 10**9))

        def poisoned(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
            loss = torch.nn.functional.cross_entropy(outputs.logits, labels)
            return loss * float("nan") if next(calls) == self.poison else loss

        return poisoned


@dataclass(frozen=True, kw_only=True)
class Accuracy(Evaluator):
    """Share of right labels."""

    primary = "accuracy"

    def records(self, predictions: Any) -> list[dict[str, Any]]:
        labels = predictions.preprocessor.labels
        chosen = [labels[int(row.argmax())] for row in predictions.outputs]
        references = [example.get("label") for example in predictions.examples]
        return [{"prediction": p, "reference": r} for p, r in zip(chosen, references, strict=True)]

    def scores(self, records: Any) -> dict[str, float]:
        return {"accuracy": sum(r["prediction"] == r["reference"] for r in records) / len(records)}


TASK = Task(
    summary="Tell sea from land.",
    model_class="AutoModelForSequenceClassification",
    peft_type="SEQ_CLS",
    features=frozenset({"input_ids", "attention_mask", "token_type_ids", "labels"}),
    labels=frozenset({"labels"}),
    preprocessor="toy:SeaOrLand",
    evaluator="toy:Accuracy",
)


def rows(size: int, *, seed: int = 0) -> list[dict[str, str]]:
    """Return texts of eight words with their label."""
    draw = random.Random(seed)
    found = []
    for _ in range(size):
        label = draw.choice(list(WORDS))
        found.append({"text": " ".join(draw.choice([*WORDS[label], "the", "a"]) for _ in range(8)), "label": label})
    return found


def base(directory: Path, **options: Any) -> Path:
    """Write a tiny BERT without a pooler, as many checkpoints on the Hub are."""
    words = tokenizer("bert", [row["text"] for row in rows(50)], vocab_size=200)
    return tiny_model("bert", words, directory, model_class="AutoModelForMaskedLM", **options)


def recipe(base: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """Return the recipe of a run of two steps on rows of its own.

    Args:
        base: Folder of the model.
        output: The run folder.
        **changes: Keys of the recipe; `training` is added to the options that are here.
    """
    training = {"max_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-3, "save_strategy": "no"}
    dataset = {split: rows(size, seed=size) for split, size in (("train", 24), ("validation", 10), ("test", 12))}
    content = {
        "task": "toy:TASK",
        "model": str(base),
        "dataset": dataset,
        "strategy": "full",
        "output": str(output),
        "training": {**training, **changes.pop("training", {})},
    }
    return {**content, **changes}


def copy_checkpoint(source: Path, step: int) -> Path:
    """Copy a checkpoint so that it is the one of another step."""
    copy = shutil.copytree(source, source.with_name(f"checkpoint-{step}"))
    manifest, state = json.loads((copy / MANIFEST).read_text()), json.loads((copy / TRAINER_STATE).read_text())
    (copy / TRAINER_STATE).write_text(json.dumps({**state, "global_step": step}))
    checkpoints.seal(copy, identity=Identity(manifest["identity"], manifest["circumstances"]), step=step)
    return copy
