"""`decision.json` and `decision_template.jinja`: with them, transformers loads a run as a decision model."""

from __future__ import annotations

import tempfile
from pathlib import Path

from transformers import AutoTokenizer
from transformers.decision import DecisionConfig

from finetune.kit import Result, write_atomically
from finetune_decision.prompts import config_of

FILE = "decision.json"


def write(result: Result, directory: Path) -> None:
    """Write the settings of a finished run into its folder: labels, temperatures, and the prompt if it is not theirs.

    A folder that has such settings already is a model of another program, whose settings stay.
    """
    if (directory / FILE).exists():
        return
    with tempfile.TemporaryDirectory(dir=directory, prefix=".decision-") as folder:
        settings(result, directory).save_pretrained(folder)
        for path in sorted(Path(folder).iterdir()):
            write_atomically(directory / path.name, path.read_text(encoding="utf-8"))


_WHOLE = """from transformers import pipeline

decide = pipeline("decision", model={place!r})
"""
_ADAPTER = """from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer, pipeline

folder = {place!r}
model = AutoPeftModelForCausalLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
decide = pipeline("decision", model=model, tokenizer=tokenizer, decision_config=folder)
"""
_ASK = """question = {"type": "noul", "instructions": "Does the letter name a day?"}
print(decide({"state": "The ferry sails on Monday.", "questions": {"day": question}}))"""


def plain_code(place: str, *, adapter: bool) -> str:
    """Return the code that asks a model with transformers alone, or with PEFT.

    PEFT loads an adapter, because the loader of transformers 5.23 drops the magnitudes of DoRA. The settings are named,
    because transformers reads those of the base model otherwise.

    Args:
        place: The folder or Hub id of the model.
        adapter: Whether it holds an adapter of another model.
    """
    return (_ADAPTER if adapter else _WHOLE).format(place=place) + _ASK


def settings(result: Result, directory: Path) -> DecisionConfig:
    """Return the settings of a run.

    Args:
        result: Holds the labels and the fitted temperatures.
        directory: Holds the tokenizer.
    """
    tokenizer = AutoTokenizer.from_pretrained(directory)
    config = config_of(tokenizer, result.preprocessor["options"].get("labels") or {})
    config.temperature = dict(result.evaluator["options"].get("temperatures") or {})
    return config
