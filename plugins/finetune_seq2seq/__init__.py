"""Texts from texts: summaries, translations, and any task as text, with T5, BART, mBART, M2M100, NLLB and the like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune import hookimpl
from finetune.interfaces import Task

_MODEL = {"path": "sample:seq2seq"}
_TRAINING = {
    "learning_rate": 3e-3,  # the base is small and young; a T5 from the Hub takes a tenth of it
    "num_train_epochs": 3,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 32,
    "lr_scheduler_type": "linear",
    "warmup_steps": 0.1,
    "weight_decay": 0.01,
}


@hookimpl
def tasks() -> Mapping[str, Task]:
    return {
        "summarization": _task(
            "A short text that says what a long one or a dialogue says",
            ("summarization:SummarizationPreprocessor", "summarization_evaluator:SummarizationEvaluator"),
            dataset={"path": "sample:harbour-dialogues", "columns": {"dialogue": "document"}},
            preprocessor={"max_source_length": 512, "max_target_length": 64, "prefix": ""},
        ),
        "translation": _task(
            "The same in another language", ("translation:TranslationPreprocessor", "translation_evaluator:TranslationEvaluator"),
            dataset={"path": "sample:harbour-translation"},
            preprocessor={
                "max_source_length": 128, "max_target_length": 128, "source_lang": "en", "target_lang": "hb",
                "prefix": "",
            },
            training={"num_train_epochs": 6, "per_device_train_batch_size": 32},
        ),
        "text-to-text": _task(
            "Any task as text from text, and several in one model, each with its prefix",
            ("text_to_text:TextToTextPreprocessor", "text_to_text_evaluator:TextToTextEvaluator"),
            dataset={"path": "sample:harbour-questions", "columns": {"prompt": "source", "completion": "target"}},
            preprocessor={"max_source_length": 256, "max_target_length": 64, "prefix": "answer: "},
        ),
    }  # fmt: skip


@hookimpl
def requirements() -> Mapping[str, Mapping[str, str]]:
    """Return what the scores need: rouge-score, sacrebleu or both."""
    return {
        "summarization": {"rouge_score": "finetune-kit[seq2seq]"},
        "translation": {"sacrebleu": "finetune-kit[seq2seq]"},
        "text-to-text": {"rouge_score": "finetune-kit[seq2seq]", "sacrebleu": "finetune-kit[seq2seq]"},
    }


def _task(summary: str, nouns: tuple[str, str], *, dataset: Any, preprocessor: Any, training: Any = None) -> Task:
    return Task(
        summary=summary,
        model_class="AutoModelForSeq2SeqLM",
        peft_type="SEQ_2_SEQ_LM",
        features=frozenset({"input_ids", "attention_mask", "labels"}),
        labels=frozenset({"labels"}),
        preprocessor=f"finetune_seq2seq.{nouns[0]}",
        evaluator=f"finetune_seq2seq.{nouns[1]}",
        trainer="finetune_seq2seq.training:trainer",
        arguments="transformers:Seq2SeqTrainingArguments",
        training={"predict_with_generate": True},
        generates=True,
        starter={
            "model": _MODEL,
            "dataset": dataset,
            "training": {**_TRAINING, **(training or {})},
            "generation": {"num_beams": 1, "max_new_tokens": 64},
            "preprocessor": preprocessor,
        },
    )
