"""Recipes of every kind whose run takes a second or two, with a checkpoint at every step."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))

import command
import toy
from cases import case

from finetune import recipe as recipes
from finetune.plugins import discover
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer

STEPS = 10
"""Optimizer steps of a run. It ends within its second epoch; with accumulation, within its third."""
HEADS = {"bert": "AutoModelForMaskedLM", "llama": "AutoModelForCausalLM", "t5": "AutoModelForSeq2SeqLM",
         "bart": "AutoModelForSeq2SeqLM"}  # fmt: skip
"""Family → the class whose weights the base model has."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of recipe."""

    task: str = "toy:TASK"
    strategy: Mapping[str, Any] = field(default_factory=lambda: {"name": "full"})
    training: Mapping[str, Any] = field(default_factory=dict)
    preprocessor: Mapping[str, Any] = field(default_factory=dict)


LORA = {"name": "lora", "r": 4}
EVALUATED = {"eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True}

KINDS: Mapping[str, Kind] = {
    "full": Kind(),
    "accumulation": Kind(training={"gradient_accumulation_steps": 4, "per_device_train_batch_size": 2}),
    "grouped by length": Kind(training={"train_sampling_strategy": "group_by_length"}),
    "LoRA": Kind(strategy=LORA),
    "best model": Kind(training=EVALUATED),
    "gradual unfreezing": Kind(strategy={"name": "gradual"}),
    "cached features": Kind(strategy={"name": "frozen", "cache": True}),
    "bottleneck adapter": Kind(strategy={"name": "bottleneck"}),
    "P-tuning": Kind(strategy={"name": "ptuning", "num_virtual_tokens": 4}),
    "question answering": Kind(task="question-answering"),
    "tagging, LoRA": Kind(task="token-classification", strategy=LORA),
    "masked language model": Kind(task="masked-language-modeling"),
    "causal language model": Kind(task="causal-language-modeling"),
    "summarization": Kind(task="summarization"),
    "translation, LoRA": Kind(task="translation", strategy=LORA),
    "packed SFT": Kind(task="sft", preprocessor={"packing": True}),
    "DPO with LoRA": Kind(task="dpo", strategy=LORA),
    "reward model": Kind(task="reward"),
}
"""Name → kind of recipe. The first ones tell texts about the sea from texts about the land; see ``toy.py``."""


class Recipes:
    """Writes recipes, and the base models and data that they name, into one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.base = cache(self._base)

    def write(self, name: str | Kind, output: Path, *, steps: int = STEPS, **training: Any) -> Path:
        """Write the recipe of a kind for a run folder, and return its path, which is next to the folder.

        Args:
            name: One of `KINDS`, or another kind.
            output: The run folder.
            steps: Optimizer steps of the run.
            **training: More training options.
        """
        kind = KINDS[name] if isinstance(name, str) else name
        content = self._toy(output) if kind.task == "toy:TASK" else self._sample(kind.task, output)
        content["strategy"] = dict(kind.strategy)
        content["training"] |= {
            "max_steps": steps, "save_strategy": "steps", "save_steps": 1, "logging_steps": 1, "eval_strategy": "no",
            "lr_scheduler_type": "constant", **kind.training, **training,
        }  # fmt: skip
        content["preprocessor"] = {**content.get("preprocessor", {}), **kind.preprocessor}
        path = output.with_suffix(".yaml")
        path.write_text(recipes.dump(content), encoding="utf-8")
        return path

    def _toy(self, output: Path) -> dict[str, Any]:
        content = toy.recipe(self.base("toy", ""), output, score_base_model=False)
        content["dataset"] = {}
        for split, size in (("train", 28), ("validation", 8), ("test", 8)):
            path = self.folder / f"{split}.jsonl"
            if not path.exists():
                path.write_text("".join(json.dumps(row) + "\n" for row in toy.rows(size, seed=size + len(split))))
            content["dataset"][split] = str(path)
        return content

    def _sample(self, task: str, output: Path) -> dict[str, Any]:
        of, found = case(task), discover().catalogues["tasks"].targets[task]
        return {
            "task": task,
            "model": str(self.base(of.family, of.words)),
            "dataset": {**found.starter["dataset"], "limit": {"train": 30, "validation": 4, "test": 4}},
            "preprocessor": dict(of.preprocessor),
            "generation": {**of.generation},
            "training": {**of.training, "per_device_train_batch_size": 4, "learning_rate": 1e-3},
            "score_base_model": False,
            "general_text": "none",
            "output": str(output),
        }

    def _base(self, family: str, words: str) -> Path:
        """Write a tiny model with dropout, so that its training draws random numbers."""
        where = self.folder / f"{family}-{words}"
        if family == "toy":
            return toy.base(where, hidden_dropout_prob=0.1)
        return tiny_model(family, tokenizer(words, vocab_size=600), where, model_class=HEADS[family])


def has_checkpoint(run: Path) -> bool:
    """Return whether a run has a checkpoint with a manifest."""
    return any(run.glob("checkpoint-*/manifest.json"))


def wait_for_checkpoint(run: Path, running: command.Call) -> None:
    """Wait until a run has its first checkpoint, or ends."""
    while not has_checkpoint(run) and running.process.is_alive():
        time.sleep(0.005)


def digests(run: Path) -> dict[str, str]:
    """Return the SHA-256 of every file in a folder that holds weights or predictions, by its name."""
    found = {}
    for path in sorted(run.glob("*")):
        if path.suffix == ".safetensors" or path.name == "predictions.jsonl":
            found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def scores(run: Path) -> Any:
    """Return the scores and the number of steps that a run recorded."""
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    return result["scores"], result["steps"]


def notes(run: Path) -> list[str]:
    """Return the notes that a run recorded."""
    found: list[str] = json.loads((run / "result.json").read_text(encoding="utf-8"))["notes"]
    return found


def files(folder: Path) -> set[str]:
    """Return every file and folder below a folder, as relative paths."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
