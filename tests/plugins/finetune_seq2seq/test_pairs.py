"""Sources and targets become tokens, and nothing is lost without being counted."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.errors import BadData, BadOptions, Incompatible
from finetune.interfaces import Evaluator, Preprocessor
from finetune.plugins import resolve
from finetune.recipe.options import document
from finetune_seq2seq import tasks
from finetune_seq2seq.encoding import encode, special_ids
from finetune_seq2seq.summarization import SummarizationPreprocessor
from finetune_seq2seq.translation import TranslationPreprocessor

TEXT = st.text(st.sampled_from("abc déf.\n世界"), min_size=1, max_size=60).filter(str.strip)


@pytest.mark.parametrize(("name", "task"), tasks().items())
def test_every_task_names_classes_that_exist_and_are_documented(name, task):
    for target, base in ((task.preprocessor, Preprocessor), (task.evaluator, Evaluator)):
        cls = resolve(target)
        assert issubclass(cls, base)
        assert all(option.doc for option in document(cls))
        assert cls() == cls()
    assert task.generates
    assert callable(resolve(task.trainer))


def batch(*rows):
    return {name: [row[name] for row in rows] for name in rows[0]}


@settings(deadline=None, max_examples=40)
@given(texts=st.lists(TEXT, min_size=1, max_size=5), most=st.integers(4, 20), target=st.booleans())
def test_what_is_cut_is_counted_to_the_token_and_special_tokens_stay(bart, texts, most, target):
    ids, lost = encode(texts, bart, max_length=most, option="max_source_length", target=target)
    for text, row, gone in zip(texts, ids, lost, strict=True):
        whole = bart.encode(text, add_special_tokens=False)
        begin, end = bart.bos_token_id, bart.eos_token_id
        assert row == [begin, *whole[: most - 2], end]
        assert gone == max(0, len(whole) + 2 - most)


@settings(deadline=None, max_examples=30)
@given(rows=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4))
def test_labels_are_the_target_and_its_end_and_no_padding(t5, rows):
    examples = batch(*({"document": document, "summary": summary} for document, summary in rows))
    made = SummarizationPreprocessor().features(examples, t5)
    for (source, target), ids, mask, labels in zip(
        rows, made["input_ids"], made["attention_mask"], made["labels"], strict=True
    ):
        assert t5.decode(ids) == t5.decode(t5.encode(source))
        assert mask == [1] * len(ids)
        assert labels == t5.encode(target)
        assert labels[-1] == t5.eos_token_id
        assert t5.pad_token_id not in labels


def test_labels_appear_exactly_when_there_are_targets(t5):
    assert "labels" in SummarizationPreprocessor().features({"document": ["a"], "summary": ["b"]}, t5)
    assert "labels" not in SummarizationPreprocessor().features({"document": ["a"]}, t5)
    assert "labels" not in SummarizationPreprocessor().features({"document": ["a"], "summary": [None]}, t5)
    both = TranslationPreprocessor(source_lang="en", target_lang="de")
    assert "labels" in both.features({"translation": [{"en": "a", "de": "b"}]}, t5)
    assert "labels" not in both.features({"translation": [{"en": "a"}]}, t5)
    assert "labels" not in both.features({"translation": [{"en": "a", "de": None}]}, t5)
    assert "labels" not in both.features({"source": ["a"]}, t5)


def test_two_columns_and_one_of_translations_are_the_same(t5):
    preprocessor = TranslationPreprocessor(source_lang="en_XX", target_lang="de_DE")
    cells = {"translation": [{"de": "Nebel.", "en": "Fog."}, {"de": "Salz", "en": "Salt"}]}
    columns = {"source": ["Fog.", "Salt"], "target": ["Nebel.", "Salz"]}
    assert preprocessor.features(cells, t5) == preprocessor.features(columns, t5)
    named = TranslationPreprocessor(source_lang="eng_Latn", target_lang="deu_Latn", keys=("en", "de"))
    assert named.features(cells, t5) == preprocessor.features(columns, t5)


def test_training_uses_the_first_of_several_targets(t5):
    several = SummarizationPreprocessor().features({"document": ["a"], "summary": [["the pier", "tar"]]}, t5)
    assert several["labels"] == [t5.encode("the pier")]


def test_the_prefix_stands_before_every_source_and_a_column_takes_its_place(t5):
    preprocessor = SummarizationPreprocessor(prefix="summarize: ")
    made = preprocessor.features({"document": ["Fog."]}, t5)
    assert made["input_ids"] == [t5.encode("summarize: Fog.")]
    own = preprocessor.features({"document": ["Fog.", "Fog."], "prefix": ["shorten: ", None]}, t5)
    assert own["input_ids"] == [t5.encode("shorten: Fog."), t5.encode("summarize: Fog.")]


def test_the_counts_add_up_what_was_truncated_and_what_is_learned(bart):
    preprocessor = SummarizationPreprocessor(max_source_length=6, max_target_length=5)
    long, short = "tar and salt and nets", "tar"
    made = preprocessor.features({"document": [long, short], "summary": [short, long]}, bart)
    count = {text: len(bart.encode(text)) for text in (long, short)}
    assert count[short] < 5 < 6 < count[long]
    assert preprocessor.counts(made) == {
        "sources_truncated": 1,
        "source_tokens_lost": count[long] - 6,
        "target_tokens": count[short] + 5,
        "targets_truncated": 1,
        "target_tokens_lost": count[long] - 5,
    }
    assert "target_tokens" not in preprocessor.counts(preprocessor.features({"document": [long]}, bart))


def test_a_feature_is_shown_with_what_the_loss_sees(bart):
    made = SummarizationPreprocessor().features({"document": ["salt"], "summary": ["tar"]}, bart)
    assert (
        SummarizationPreprocessor().show({name: made[name][0] for name in made}, bart) == "<s>salt</s> → ⟦<s>tar</s>⟧"
    )
    assert SummarizationPreprocessor().show({"input_ids": made["input_ids"][0]}, bart) == "<s>salt</s>"


def test_a_preprocessor_survives_pickling():
    preprocessor = TranslationPreprocessor(source_lang="en", target_lang="de", prefix="x")
    assert pickle.loads(pickle.dumps(preprocessor)) == preprocessor


def test_a_length_without_room_for_text_is_refused(bart):
    with pytest.raises(BadOptions, match=r"max_target_length 2 leaves no room .* 2 special tokens\. Set it to 3"):
        SummarizationPreprocessor(max_target_length=2).features({"document": ["a"], "summary": ["b"]}, bart)
    assert len(special_ids(bart, target=True)) == 2


def test_a_tokenizer_that_never_ends_a_target_is_refused(build):
    llama = build("llama")
    with pytest.raises(Incompatible, match="would never learn to stop"):
        SummarizationPreprocessor().features({"document": ["a"], "summary": ["b"]}, llama)


def test_a_target_without_a_token_of_text_is_refused(build):
    bert = build("bert")
    assert bert.encode("\u200d", add_special_tokens=False) == []
    with pytest.raises(BadData, match="finds no token of text in 1 targets"):
        SummarizationPreprocessor().features({"document": ["a", "b"], "summary": ["b", "\u200d"]}, bert)


@pytest.mark.parametrize("wrong", [-0.1, 1.0])
def test_a_label_smoothing_beyond_its_range_is_refused(wrong):
    with pytest.raises(ValueError, match="at least 0 and less than 1"):
        SummarizationPreprocessor(label_smoothing=wrong)
