"""A preprocessor from outside works with the trainer and the evaluators if it gives what they read."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import transformers

import finetune
from finetune.errors import BadOptions
from finetune.interfaces import Columns, Predictions, Preprocessor
from finetune.testing.models import tiny_model
from finetune_seq2seq import generation
from finetune_seq2seq.collator import Seq2SeqCollator
from finetune_seq2seq.summarization_evaluator import SummarizationEvaluator
from finetune_seq2seq.text_to_text_evaluator import TextToTextEvaluator
from finetune_seq2seq.translation_evaluator import TranslationEvaluator


@dataclass(frozen=True, kw_only=True)
class BarePreprocessor(Preprocessor):
    """Reads questions and answers, and tells the trainer and the evaluators nothing."""

    def needs(self):
        return Columns(required=("question",), answers=("answer",))

    def features(self, examples, tokenizer):
        features = dict(tokenizer(list(examples["question"])))
        if "answer" in examples:
            features["labels"] = tokenizer(text_target=list(examples["answer"]))["input_ids"]
        return features

    def collator(self, tokenizer, model):
        return Seq2SeqCollator(tokenizer, model)


@dataclass(frozen=True, kw_only=True)
class QuestionPreprocessor(BarePreprocessor):
    """Also gives source, target and the longest target."""

    def canonical(self, example):
        return {"source": example["question"], "target": example.get("answer")}

    def trainer_options(self):
        return {"max_target_length": 5}


ROWS = [{"question": f"Is the {boat} late?", "answer": f"the {boat}"} for boat in ("ferry", "tug", "brig", "barge")]


@pytest.fixture
def base(bart, tmp_path):
    return tiny_model("bart", bart, tmp_path / "base", model_class="AutoModelForSeq2SeqLM")


@pytest.mark.parametrize(("task", "score"), [("summarization", "rougeL"), ("text-to-text", "exact_match")])
def test_a_foreign_preprocessor_is_trained_with_and_scored(task, score, base, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "foreign", SimpleNamespace(QuestionPreprocessor=QuestionPreprocessor))
    result = finetune.train(
        task=task,
        model=str(base),
        dataset={"train": ROWS, "test": ROWS},
        strategy="full",
        preprocessor={"name": "foreign:QuestionPreprocessor"},
        training={"max_steps": 1, "save_strategy": "no"},
        score_base_model=False,
        output=str(tmp_path / "run"),
    )
    assert {score, "loss", "at_limit"} <= result.scores["test"].keys()
    assert result.scores["test"]["length"] <= 5
    assert result.baselines["test"]


@pytest.mark.parametrize("evaluator", [SummarizationEvaluator(), TranslationEvaluator(), TextToTextEvaluator()])
def test_evaluators_refuse_a_preprocessor_without_source_or_target_by_name(evaluator, bart):
    @dataclass(frozen=True, kw_only=True)
    class HalfPreprocessor(BarePreprocessor):
        def canonical(self, example):
            return {"source": example["question"]}

    def predictions(preprocessor, *measured):
        outputs = (np.array([[5, 2]]), np.array([0]), *measured)
        return Predictions(examples=ROWS[:1], features=[], outputs=outputs, tokenizer=bart, preprocessor=preprocessor)

    with pytest.raises(
        BadOptions, match=r"BarePreprocessor\.canonical\(\) gives no 'source', but only question, answer"
    ):
        evaluator.records(predictions(BarePreprocessor()))
    loss = (np.array([1.5]), np.array([3]))
    with pytest.raises(BadOptions, match=r"HalfPreprocessor\.canonical\(\) gives no 'target'.*Return both"):
        evaluator.records(predictions(HalfPreprocessor(), *loss))
    (record,) = evaluator.records(predictions(HalfPreprocessor()))  # nothing was measured: an example to predict
    assert "reference" not in record


def test_the_trainer_refuses_a_preprocessor_without_a_limit_unless_the_recipe_has_one(base, bart):
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(base)
    assert generation.config(model, bart, QuestionPreprocessor(), {}).max_new_tokens == 5
    with pytest.raises(
        BadOptions, match=r"BarePreprocessor\.trainer_options\(\) gives no 'max_target_length'.*set gene"
    ):
        generation.config(model, bart, BarePreprocessor(), {})
    assert generation.config(model, bart, BarePreprocessor(), {"max_new_tokens": 7}).max_new_tokens == 7
