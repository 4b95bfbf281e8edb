"""The code in a card that uses a model with transformers and PEFT alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune.kit import Result, rebuild

CLASS_OF_HEAD = {
    "ForSequenceClassification": "AutoModelForSequenceClassification",
    "ForTokenClassification": "AutoModelForTokenClassification",
    "ForCausalLM": "AutoModelForCausalLM",
    "LMHeadModel": "AutoModelForCausalLM",
}
"""End of a class name of transformers → the class that loads it."""
CLASS_OF_PEFT_TYPE = {
    "SEQ_CLS": "AutoPeftModelForSequenceClassification",
    "TOKEN_CLS": "AutoPeftModelForTokenClassification",
    "CAUSAL_LM": "AutoPeftModelForCausalLM",
}
"""PEFT's task type → the class of PEFT that loads the base model and the adapter."""
PIPELINE = {
    "SequenceClassification": "text-classification",
    "TokenClassification": "token-classification",
    "CausalLM": "text-generation",
}
"""End of the name of such a class → the pipeline of transformers."""
LABELS = ("num_labels", "id2label", "label2id", "problem_type")
"""Arguments of `from_pretrained` that an adapter does not hold: without them, PEFT expects two classes."""
TEXT = "The ferry lands at noon."


def plain_code(result: Result, directory: Path, *, place: str) -> str | None:
    """Return the code that loads a run without this library, and predicts one example.

    Args:
        result: The run's result.
        directory: The run folder.
        place: The folder or Hub id that the code names.

    Returns:
        None if transformers has no pipeline for the task, or cannot load what the strategy saved.
    """
    loader = _loader(directory)
    if loader is None:
        return None
    task = next(task for end, task in PIPELINE.items() if loader.endswith(end))
    preprocessor = rebuild(result.preprocessor, where="preprocessor")
    needs = preprocessor.needs()
    columns = [name for name in needs.required if name not in needs.answers]
    if task == "text-classification" and columns != ["text"]:
        return None
    if not loader.startswith("AutoPeft"):
        return f"from transformers import pipeline\n\nuse = pipeline({task!r}, model={place!r})\nprint(use({TEXT!r}))"
    options = preprocessor.model_options()
    labels = {name: options[name] for name in LABELS if name in options}
    lines = [
        f"from peft import {loader}",
        "from transformers import AutoTokenizer, pipeline",
        "",
        f"folder = {place!r}",
    ]
    if labels:
        lines.append(f"labels = {labels!r}")
    lines += [
        f"model = {loader}.from_pretrained(folder{', **labels' if labels else ''})",
        f"use = pipeline({task!r}, model=model, tokenizer=AutoTokenizer.from_pretrained(folder))",
        f"print(use({TEXT!r}))",
    ]
    return "\n".join(lines)


def _loader(directory: Path) -> str | None:
    """Return the class that loads a run folder, for tasks that have a pipeline."""
    adapter, config = directory / "adapter_config.json", directory / "config.json"
    if adapter.is_file():
        return CLASS_OF_PEFT_TYPE.get(str(_read(adapter).get("task_type")))
    if not config.is_file() or not any(directory.glob("model*.safetensors")):
        return None
    for architecture in _read(config).get("architectures") or []:
        for head, loader in CLASS_OF_HEAD.items():
            if architecture.endswith(head):
                return loader
    return None


def _read(path: Path) -> Mapping[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content
