"""Text from text: summaries, translations, and any task as text, with T5, BART, mBART, M2M100, NLLB and others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune import hookimpl
from finetune.interfaces import Task

_MODEL = {"path": "sample:seq2seq"}
_TRAINING = {
    "learning_rate": 3e-3,  # for the sample model; other models get theirs
    "num_train_epochs": 3,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 32,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0.1,
    "weight_decay": 0.01,
}


@hookimpl
def tasks() -> Mapping[str, Task]:
    """Register `summarization`, `translation` and `text-to-text`."""
    return {
        "summarization": _task(
            "Write a short text with the content of a long one, or of a dialogue",
            preprocessor="finetune_seq2seq.summarization:SummarizationPreprocessor",
            evaluator="finetune_seq2seq.summarization_evaluator:SummarizationEvaluator",
            starter={
                "dataset": {"path": "sample:harbour-dialogues", "columns": {"dialogue": "document"}},
                "preprocessor": {"max_source_length": 512, "max_target_length": 64, "prefix": ""},
                "training": _TRAINING,
            },
        ),
        "translation": _task(
            "Write a text in another language",
            preprocessor="finetune_seq2seq.translation:TranslationPreprocessor",
            evaluator="finetune_seq2seq.translation_evaluator:TranslationEvaluator",
            starter={
                "dataset": {"path": "sample:harbour-translation"},
                "preprocessor": {
                    "max_source_length": 128,
                    "max_target_length": 128,
                    "source_lang": "en",
                    "target_lang": "hb",
                    "prefix": "",
                },
                "training": {**_TRAINING, "num_train_epochs": 6, "per_device_train_batch_size": 32},
            },
        ),
        "text-to-text": _task(
            "Solve any task as text from text, and several in one model, each with its own prefix",
            preprocessor="finetune_seq2seq.text_to_text:TextToTextPreprocessor",
            evaluator="finetune_seq2seq.text_to_text_evaluator:TextToTextEvaluator",
            starter={
                "dataset": {
                    "path": "sample:harbour-questions",
                    "columns": {"prompt": "source", "completion": "target"},
                },
                "preprocessor": {"max_source_length": 256, "max_target_length": 64, "prefix": "answer: "},
                "training": _TRAINING,
            },
        ),
    }


@hookimpl
def requirements() -> Mapping[str, Mapping[str, str]]:
    """Return what the scores need: rouge-score, sacrebleu or both."""
    return {
        "summarization": {"rouge_score": "finetune-kit[seq2seq]"},
        "translation": {"sacrebleu": "finetune-kit[seq2seq]"},
        "text-to-text": {"rouge_score": "finetune-kit[seq2seq]", "sacrebleu": "finetune-kit[seq2seq]"},
    }


def _task(summary: str, *, preprocessor: str, evaluator: str, starter: Mapping[str, Any]) -> Task:
    """Return a task with what all three have in common."""
    # the order of the sections is their order in the recipe of `finetune init`
    return Task(
        summary=summary,
        model_class="AutoModelForSeq2SeqLM",
        peft_type="SEQ_2_SEQ_LM",
        features=frozenset({"input_ids", "attention_mask", "labels"}),
        labels=frozenset({"labels"}),
        preprocessor=preprocessor,
        evaluator=evaluator,
        trainer="finetune_seq2seq.training:trainer",
        streams=True,
        arguments="transformers:Seq2SeqTrainingArguments",
        training={"predict_with_generate": True},
        generates=True,
        base_models={"en": "google-t5/t5-small", "any": "google/mt5-small"},
        starter={
            "model": _MODEL,
            "dataset": starter["dataset"],
            "training": starter["training"],
            "generation": {"num_beams": 1, "max_new_tokens": 64},
            "preprocessor": starter["preprocessor"],
        },
    )
