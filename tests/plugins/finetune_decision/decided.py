"""Tiny runs of typed decisions, and rows as requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import finetune

Rows = list[dict[str, Any]]


def train(base: Path, output: Path, rows: dict[str, Rows], **recipe: Any) -> Path:
    """Train for a few steps, and return the run folder."""
    training = {"max_steps": 4, "per_device_train_batch_size": 8, "learning_rate": 1e-2, "save_strategy": "no"}
    # as many validation rows as a temperature needs
    dataset = {"train": rows["train"], "validation": [*rows["train"][:60]], "test": rows["test"]}
    finetune.train(
        **{
            "output": output,
            "task": "decision",
            "model": base,
            "dataset": dataset,
            "strategy": "full",
            "preprocessor": {"max_length": 384},
            "training": training,
            "score_base_model": False,
            "general_text": "none",
            **recipe,
        }
    )
    return output


def request_of(row: dict[str, Any]) -> dict[str, Any]:
    """Return the request that asks what a row asks."""
    question = {"type": row["type"], "instructions": row["instructions"]}
    if row["criteria"] is not None:
        question["criteria"] = json.loads(row["criteria"])
    return {"state": row["state"], "questions": {"asked": question}}


def unanswered(rows: Rows) -> Rows:
    """Return rows without their answers."""
    return [{name: value for name, value in row.items() if name != "answer"} for row in rows]


def probabilities_of(answer: dict[str, Any]) -> dict[str, float]:
    """Return the probability of each option of an answer of transformers."""
    if answer["type"] == "noul":
        return {"true": answer["noul"], "false": 1 - answer["noul"]}
    return dict(answer["probabilities"])
