"""Features: tokens, what truncation costs, and what a person sees."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import ByT5Tokenizer

from finetune.errors import BadData, BadOptions, Incompatible
from finetune.testing.laws import check_preprocessor
from finetune.testing.tokenizers import FAMILIES, tokenizer
from finetune_text import tasks
from finetune_text.classification import TextClassificationPreprocessor
from finetune_text.multi_label import MultiLabelPreprocessor
from finetune_text.regression import TextRegressionPreprocessor

PADDING = [family for family in FAMILIES if tokenizer(family).pad_token is not None]
TOKENIZERS = {family: tokenizer(family) for family in PADDING} | {"python": ByT5Tokenizer()}
WORDS = st.lists(st.sampled_from(["salt", "harbour", "naïve", "Straße", "🙂", "1987", "ﬁsh"]), max_size=14).map(
    " ".join
)
TASKS = tasks()


@pytest.mark.parametrize("family", TOKENIZERS)
@given(texts=st.lists(WORDS, min_size=1, max_size=6), max_length=st.integers(5, 24))
@settings(max_examples=12, deadline=None)
def test_tokens_lost_are_those_that_tokenizing_without_truncation_has_more(family, texts, max_length):
    used = TOKENIZERS[family]
    features = TextClassificationPreprocessor(max_length=max_length).features({"text": texts}, used)
    whole = [len(used(text)["input_ids"]) for text in texts]
    kept = [min(length, max_length) for length in whole]
    assert [len(ids) for ids in features["input_ids"]] == kept
    assert features["tokens_lost"] == [a - b for a, b in zip(whole, kept, strict=True)]
    counts = TextClassificationPreprocessor().counts(features)
    assert counts == {"truncated": sum(a > max_length for a in whole), "tokens_lost": sum(whole) - sum(kept)}


@pytest.mark.parametrize("family", TOKENIZERS)
@given(pairs=st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=5), max_length=st.integers(6, 24))
@settings(max_examples=12, deadline=None)
def test_tokens_lost_are_right_for_pairs_too(family, pairs, max_length):
    used = TOKENIZERS[family]
    texts, others = map(list, zip(*pairs, strict=True))
    features = TextClassificationPreprocessor(max_length=max_length).features(
        {"text": texts, "text_pair": others}, used
    )
    whole = [len(used([text], [other])["input_ids"][0]) for text, other in pairs]
    assert features["tokens_lost"] == [max(0, length - max_length) for length in whole]
    assert all(len(ids) <= max_length for ids in features["input_ids"])


def test_of_a_pair_the_longer_text_is_cut():
    bert = tokenizer("bert")
    feature = TextClassificationPreprocessor(max_length=8).features({"text": ["tar"], "text_pair": ["salt " * 9]}, bert)
    assert bert.decode(feature["input_ids"][0]).split() == ["[CLS]", "tar", "[SEP]", *["salt"] * 4, "[SEP]"]
    assert feature["tokens_lost"] == [5]


@pytest.mark.parametrize("family", TOKENIZERS)
@given(texts=st.lists(WORDS, min_size=2, max_size=6), data=st.data())
@settings(max_examples=10, deadline=None)
def test_features_do_not_depend_on_how_examples_are_batched(family, texts, data):
    used, task = TOKENIZERS[family], TextClassificationPreprocessor(max_length=9)
    at = data.draw(st.integers(1, len(texts) - 1))
    whole = task.features({"text": texts}, used)
    halves = [task.features({"text": part}, used) for part in (texts[:at], texts[at:])]
    assert {name: [*halves[0][name], *halves[1][name]] for name in whole} == whole


@pytest.mark.parametrize(
    ("name", "preprocessor", "labels"),
    [
        (
            "text-classification",
            TextClassificationPreprocessor(max_length=12, class_weights="balanced"),
            ["a", "b", "a", "b"],
        ),
        ("text-classification", TextClassificationPreprocessor(labels=("neg", "pos")), [0, 1, "1", "0"]),
        ("multi-label-classification", MultiLabelPreprocessor(max_length=12), [["a"], ["b", "a"], [], ["b"]]),
        ("multi-label-classification", MultiLabelPreprocessor(separator=";"), ["a", "b;a", "", "b"]),
        ("text-regression", TextRegressionPreprocessor(max_length=12), ["1.5", 2, 3.0, "-1e1"]),
    ],
)
@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta"])
@pytest.mark.parametrize("paired", [False, True])
def test_the_laws_of_preprocessors_hold(name, preprocessor, labels, family, paired):
    examples = [{"text": f"the pier {'salt ' * number}", "label": label} for number, label in enumerate(labels)]
    if paired:
        examples = [{**example, "text_pair": "who keeps the lighthouse?"} for example in examples]
    check_preprocessor(preprocessor, examples=examples, tokenizer=tokenizer(family), task=TASKS[name])


def test_labels_appear_when_answers_do():
    bert, fitted = tokenizer("bert"), TextClassificationPreprocessor().fit([{"text": "x", "label": "a"}])
    assert "labels" in fitted.features({"text": ["x"], "label": ["a"]}, bert)
    assert "labels" not in fitted.features({"text": ["x"]}, bert)
    assert "labels" not in fitted.features({"text": ["x"], "label": [None]}, bert)
    with pytest.raises(BadData, match="None is not one of the labels"):
        fitted.features({"text": ["x", "y"], "label": ["a", None]}, bert)


def test_bad_labels_never_become_features():
    bert = tokenizer("bert")
    with pytest.raises(BadData, match="'x' is not a number"):
        TextRegressionPreprocessor().features({"text": ["a"], "label": ["x"]}, bert)
    fitted = MultiLabelPreprocessor().fit([{"text": "x", "label": ["a"]}])
    with pytest.raises(BadData, match=r"\['b'\] is not made of the labels: a"):
        fitted.features({"text": ["a"], "label": [["b"]]}, bert)


def test_minus_hundred_is_a_number_and_not_an_ignored_label():
    (value,) = TextRegressionPreprocessor().features({"text": ["x"], "label": [-100]}, tokenizer("bert"))["labels"]
    assert value != -100
    assert value == pytest.approx(-100, abs=1e-4)


def test_show_gives_what_the_model_reads_and_its_label():
    bert = tokenizer("bert")
    single = TextClassificationPreprocessor().fit([{"text": "x", "label": "neg"}, {"text": "x", "label": "pos"}])
    multi = MultiLabelPreprocessor().fit([{"text": "x", "label": ["salt", "fog"]}])
    for preprocessor, label, shown in (
        (single, "pos", "pos"),
        (multi, ["salt", "fog"], "fog, salt"),
        (multi, [], ""),
        (TextRegressionPreprocessor(), "3.50", "3.5"),
    ):
        features = preprocessor.features({"text": ["the tar"], "label": [label]}, bert)
        feature = {name: values[0] for name, values in features.items()}
        assert preprocessor.show(feature, bert) == f"[CLS] the tar [SEP] → ⟦{shown}⟧"
        del feature["labels"]
        assert preprocessor.show(feature, bert) == "[CLS] the tar [SEP]"


def test_a_tokenizer_without_padding_token_is_refused_with_a_way_out():
    gpt2 = tokenizer("bert")
    gpt2.pad_token = None
    with pytest.raises(Incompatible, match=r"has no padding token.*tokenizer\.pad_token = tokenizer\.eos_token"):
        TextClassificationPreprocessor().features({"text": ["x"]}, gpt2)


def test_lengths_that_cannot_be_are_refused():
    bert = tokenizer("bert")
    with pytest.raises(
        BadOptions, match=r"max_length 2 leaves no room for text next to 2 special tokens\. Set it to 3"
    ):
        TextClassificationPreprocessor(max_length=2).features({"text": ["x"]}, bert)
    with pytest.raises(BadOptions, match="Set it to 5"):
        TextClassificationPreprocessor(max_length=4).features({"text": ["x"], "text_pair": ["y"]}, bert)
    bert.model_max_length = 128
    with pytest.raises(BadOptions, match="max_length 256 is more than the 128 tokens that the model takes"):
        TextClassificationPreprocessor().features({"text": ["x"]}, bert)
