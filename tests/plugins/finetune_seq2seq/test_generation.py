"""How text is generated: the model's configuration, what the recipe changes, and contradictions."""

from __future__ import annotations

import pytest
import transformers

from finetune.errors import BadOptions
from finetune.testing.models import tiny_model
from finetune_seq2seq import generation
from finetune_seq2seq.summarization import SummarizationPreprocessor

SHORT = SummarizationPreprocessor(max_source_length=96, max_target_length=24)


@pytest.fixture
def model(bart, tmp_path):
    base = tiny_model("bart", bart, tmp_path, model_class="AutoModelForSeq2SeqLM")
    return transformers.AutoModelForSeq2SeqLM.from_pretrained(base)


def test_the_longest_target_is_the_limit_if_nothing_else_is_given(model, bart):
    found = generation.config(model, bart, SHORT, {})
    assert (found.max_new_tokens, found.max_length, generation.limit(found)) == (24, None, 24)


def test_the_recipe_overrides_the_model_and_leaves_the_rest(model, bart):
    model.generation_config.update(num_beams=4, length_penalty=2.0, max_length=142, no_repeat_ngram_size=3)
    found = generation.config(model, bart, SHORT, {"num_beams": 2, "max_new_tokens": 9})
    assert (found.num_beams, found.length_penalty, found.no_repeat_ngram_size) == (2, 2.0, 3)
    assert (found.max_new_tokens, found.max_length) == (9, None)


def test_a_length_given_is_the_only_one(model, bart):
    model.generation_config.max_new_tokens = 60
    found = generation.config(model, bart, SHORT, {"max_length": 10})
    assert (found.max_new_tokens, found.max_length, generation.limit(found)) == (None, 10, 9)


def test_the_model_is_left_as_it_is(model, bart):
    before = model.generation_config.to_dict()
    generation.config(model, bart, SHORT, {"num_beams": 3, "do_sample": True, "temperature": 0.5})
    assert model.generation_config.to_dict() == before


def test_a_minimum_of_the_model_beyond_the_limit_is_refused(model, bart):
    model.generation_config.min_length = 56
    with pytest.raises(BadOptions, match=r"56 tokens or more .* limit is 24 .*generation\.min_length"):
        generation.config(model, bart, SHORT, {})
    assert generation.config(model, bart, SHORT, {"min_length": 0}).min_length == 0


def test_options_that_contradict_the_models_own_are_refused(model, bart):
    model.generation_config.num_beams = 4
    with pytest.raises(BadOptions, match="num_return_sequences"):
        generation.config(model, bart, SHORT, {"num_beams": 1, "num_return_sequences": 3})


@pytest.mark.parametrize("given", [{"num_beams": 4, "num_return_sequences": 2}, {"return_dict_in_generate": True}])
def test_more_than_one_text_for_a_source_is_refused(given, model, bart):
    with pytest.raises(BadOptions, match="one text is written for each source"):
        generation.config(model, bart, SHORT, given)


@pytest.mark.parametrize(
    ("options", "given", "message"),
    [
        ({"max_source_length": 129}, {}, r"max_source_length is 129, and the model's encoder has 128 positions"),
        ({"max_target_length": 200}, {"max_new_tokens": 8}, r"max_target_length is 200, and the model's decoder"),
        ({}, {"max_new_tokens": 129}, r"generation\.max_new_tokens is 129"),
    ],
)
def test_lengths_beyond_the_models_positions_are_refused(options, given, message, model, bart):
    preprocessor = SummarizationPreprocessor(**{"max_source_length": 96, "max_target_length": 24, **options})
    with pytest.raises(BadOptions, match=message):
        generation.config(model, bart, preprocessor, given)
    most = SummarizationPreprocessor(max_source_length=128, max_target_length=128)
    assert generation.config(model, bart, most, {}).max_new_tokens == 128


def test_relative_positions_have_no_limit(t5, tmp_path):
    base = tiny_model("t5", t5, tmp_path, model_class="AutoModelForSeq2SeqLM")
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(base)
    long = SummarizationPreprocessor(max_source_length=5000, max_target_length=5000)
    assert generation.config(model, t5, long, {}).max_new_tokens == 5000
