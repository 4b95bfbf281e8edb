"""Typed decisions: questions about a state, answered with a probability for every option, by any causal model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from finetune import hookimpl
from finetune.interfaces import Task

if TYPE_CHECKING:
    from finetune.result import Result

_NAME = "decision"


@hookimpl
def tasks() -> Mapping[str, Task]:
    """Register `decision`."""
    return {
        _NAME: Task(
            summary="Answer a choice, a yes/no question or a score with probabilities, by any causal model",
            model_class="AutoModelForCausalLM",
            peft_type="CAUSAL_LM",
            features=frozenset({"input_ids", "option_ids", "labels"}),
            labels=frozenset({"labels"}),
            preprocessor="finetune_decision.preprocessor:DecisionPreprocessor",
            evaluator="finetune_decision.evaluator:DecisionEvaluator",
            trainer="finetune_decision.training:decision_trainer",
            plain_code="finetune_decision.configuration:plain_code",
            apis={"/v1/systemone": "finetune_decision.systemone:SystemOne"},
            streams=True,
            starter={
                "model": {"path": "HuggingFaceTB/SmolLM2-135M-Instruct"},
                "dataset": {"path": "sample:harbour-decisions"},
                "preprocessor": {"max_length": 512},
                "training": {
                    "num_train_epochs": 3,
                    "per_device_train_batch_size": 8,
                    "per_device_eval_batch_size": 16,
                    "lr_scheduler_type": "linear",
                    "warmup_steps": 0.1,
                    "weight_decay": 0.01,
                },
            },
        )
    }


@hookimpl
def after_run(result: Result, directory: Path) -> None:
    """Write the configuration with which `transformers.pipeline("decision")` loads the model."""
    if result.recipe["task"] == _NAME:
        from finetune_decision import configuration

        configuration.write(result, directory)
