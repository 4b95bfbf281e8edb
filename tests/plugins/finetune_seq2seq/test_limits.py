"""Targets that are longer than what can be written are counted, whichever option sets the limit."""

from __future__ import annotations

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.interfaces import Predictions
from finetune_seq2seq.summarization import SummarizationPreprocessor
from finetune_seq2seq.summarization_evaluator import SummarizationEvaluator
from finetune_seq2seq.text_to_text_evaluator import TextToTextEvaluator
from finetune_seq2seq.translation_evaluator import TranslationEvaluator

TARGETS = {"labels": [[7, 8, 2], [7, 2], [7, 8, 9, 2]], "target_tokens_lost": [0, 0, 5]}
"""Three, two and nine tokens, the last of which is the end; the third lost five."""


def limits(features, generation, evaluator=None, **options):
    predictions = Predictions(
        examples=[], features=Dataset.from_dict(features), outputs=None, tokenizer=None,
        preprocessor=SummarizationPreprocessor(**options),
    )  # fmt: skip
    found = (evaluator or SummarizationEvaluator()).limits(predictions, generation=generation)
    return [(limit.option, limit.value, list(limit.lengths)) for limit in found]


@pytest.mark.parametrize("evaluator", [SummarizationEvaluator(), TranslationEvaluator(), TextToTextEvaluator()])
@pytest.mark.parametrize(
    ("generation", "wanted"),
    [
        ({}, ("preprocessor.max_target_length", 4, [3, 2, 9])),
        ({"num_beams": 2}, ("preprocessor.max_target_length", 4, [3, 2, 9])),
        ({"max_new_tokens": 6}, ("generation.max_new_tokens", 6, [3, 2, 9])),
        ({"max_length": 6}, ("generation.max_length", 6, [4, 3, 10])),
        ({"max_length": 9, "max_new_tokens": None}, ("generation.max_length", 9, [4, 3, 10])),
    ],
)
def test_the_option_that_limits_is_named(evaluator, generation, wanted):
    assert limits(TARGETS, generation, evaluator, max_target_length=4) == [wanted]


def test_features_without_targets_have_no_limit():
    assert limits({"input_ids": [[3, 2]]}, {}) == []


@settings(deadline=None, max_examples=25)
@given(st.lists(st.text("abc d", min_size=1, max_size=30).filter(str.strip), min_size=1, max_size=4))
def test_a_cut_target_has_its_whole_length(t5, texts):
    rows = {"document": ["the tide"] * len(texts), "summary": texts}
    made = SummarizationPreprocessor(max_target_length=5).features(rows, t5)
    ((_, _, lengths),) = limits(made, {})
    assert lengths == [len(t5.encode(text)) for text in texts]
