"""The code in a card that uses a model with transformers and PEFT alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune.kit import Result, rebuild, resolve
from finetune_hub.facts import task_of
from finetune_hub.hub_rules import read_adapter

PIPELINE = {
    "AutoModelForSequenceClassification": "text-classification",
    "AutoModelForTokenClassification": "token-classification",
    "AutoModelForCausalLM": "text-generation",
}
"""Class of transformers → the pipeline that needs a text and nothing else."""
LABELS = ("num_labels", "id2label", "label2id", "problem_type")
"""Arguments of `from_pretrained` that an adapter does not hold: without them, PEFT expects two classes."""
BEFORE_THE_TEXT = ("PROMPT_TUNING", "P_TUNING")
"""PEFT's types of adapters that put virtual tokens before the text."""
FOR_EACH_TOKEN = ("TOKEN_CLS", "QUESTION_ANS")
"""PEFT's task types with one output for each token."""
TEXT = "The ferry lands at noon."


def plain_code(result: Result, directory: Path, *, place: str) -> str | None:
    """Return the code that loads a run without this library, and predicts one example.

    Args:
        result: The run's result.
        directory: The run folder.
        place: The folder or Hub id that the code names.

    Returns:
        None if transformers and PEFT cannot load what the strategy saved, or compute something else with it.
    """
    known = task_of(result)
    adapter = read_adapter(directory)
    if known is None or not (_is_whole(directory) if adapter is None else computes_the_same(adapter)):
        return None
    if known.plain_code is not None:
        if adapter is not None and adapter.get("peft_type") in BEFORE_THE_TEXT:
            return None  # the place that is read moves with the tokens before the text
        return str(resolve(known.plain_code)(place, adapter=adapter is not None))
    model_class = known.model_class
    preprocessor = rebuild(result.preprocessor, where="preprocessor")
    options = preprocessor.model_options()
    labels = {name: options[name] for name in LABELS if name in options}
    needs = preprocessor.needs()
    columns = [name for name in needs.required if name not in needs.answers]
    task = PIPELINE.get(model_class)
    if task == "text-classification" and columns != ["text"]:
        task = None
    longest = getattr(preprocessor, "max_length", None) if task == "text-classification" else None
    call = f"use({TEXT!r})" if longest is None else f"use({TEXT!r}, truncation=True, max_length={longest})"
    if adapter is None and task is not None:
        return f"from transformers import pipeline\n\nuse = pipeline({task!r}, model={place!r})\nprint({call})"
    code = loading_code(model_class, adapter, labels=labels, place=place)
    if task is None:
        return code
    return (
        f"{code.replace('AutoTokenizer', 'AutoTokenizer, pipeline', 1)}\n"
        f"use = pipeline({task!r}, model=model, tokenizer=tokenizer)\nprint({call})"
    )


def loading_code(model_class: str, adapter: Mapping[str, Any] | None, *, labels: Mapping[str, Any], place: str) -> str:
    """Return the code that loads model and tokenizer with transformers, or with PEFT.

    Args:
        model_class: The ``AutoModelFor…`` class of the task.
        adapter: PEFT's configuration in the folder; None if it holds a whole model.
        labels: Those of `LABELS` with which the base model was loaded.
        place: The folder or Hub id that the code names.
    """
    if adapter is None:
        loader, imports = model_class, [f"from transformers import {model_class}, AutoTokenizer"]
    else:
        loader = "AutoPeftModel"  # finds the class of the base model in the configuration
        if adapter.get("task_type"):
            loader = model_class.replace("AutoModel", "AutoPeftModel")
        imports = [f"from peft import {loader}", "from transformers import AutoTokenizer"]
    lines = [*imports, "", f"folder = {place!r}"]
    given = ""
    if labels and adapter is not None:  # a whole model holds its labels
        lines.append(f"labels = {dict(labels)!r}")
        given = ", **labels"
    lines.append(f"model = {loader}.from_pretrained(folder{given})")
    lines.append("tokenizer = AutoTokenizer.from_pretrained(folder)")
    return "\n".join(lines)


def _is_whole(directory: Path) -> bool:
    """Return whether a folder holds a model as transformers saves it."""
    return (directory / "config.json").is_file() and any(directory.glob("model*.safetensors"))


def computes_the_same(adapter: Mapping[str, Any]) -> bool:
    """Return whether PEFT alone computes what a run computes.

    With virtual tokens before the text, the outputs for each token of PEFT 0.21 are shifted by their number.
    """
    return not (adapter.get("peft_type") in BEFORE_THE_TEXT and adapter.get("task_type") in FOR_EACH_TOKEN)
