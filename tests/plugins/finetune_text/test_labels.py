"""Labels: how they are read, ordered and numbered, for single and for many."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from datasets import Sequence as ListOf
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.errors import BadData, BadOptions
from finetune.recipe.options import as_options, build
from finetune.testing.tokenizers import tokenizer
from finetune_text.classification import TextClassificationPreprocessor
from finetune_text.labels import as_text, normalized, sort_labels
from finetune_text.multi_label import MultiLabelPreprocessor
from finetune_text.regression import number

NAME = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def bert():
    return tokenizer("bert")


def rows(*labels):
    return [{"text": f"text {number}", "label": label} for number, label in enumerate(labels)]


def batch(*labels):
    return {"text": ["tar"] * len(labels), "label": list(labels)}


@given(st.lists(NAME, min_size=1, max_size=30))
@settings(max_examples=60, deadline=None)
def test_every_label_comes_back_from_its_id(bert, labels):
    fitted = TextClassificationPreprocessor().fit(rows(*labels))
    ids = fitted.features(batch(*labels), bert)["labels"]
    names = fitted.model_options()["id2label"]
    assert [names[position] for position in ids] == labels
    assert {names[position]: position for position in names} == fitted.model_options()["label2id"]


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=30))
@settings(max_examples=40, deadline=None)
def test_integers_are_numbered_by_size_whether_they_are_text_or_not(bert, labels):
    numbers = TextClassificationPreprocessor().fit(rows(*labels))
    texts = TextClassificationPreprocessor().fit(rows(*map(str, labels)))
    assert numbers == texts
    expected = np.unique(labels, return_inverse=True)[1].tolist()
    assert numbers.features(batch(*labels), bert)["labels"] == expected
    assert texts.features(batch(*map(str, labels)), bert)["labels"] == expected


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["pos", "neg"], ("neg", "pos")),
        (["10", "9", "-1"], ("-1", "9", "10")),
        (["007", "7"], ("007", "7")),
        ([2.0, 1.0], ("1", "2")),
        ([True, False], ("False", "True")),
        (["NA", "None", "1e5"], ("1e5", "NA", "None")),
    ],
)
def test_label_names_stand_in_the_order_of_their_ids(labels, expected):
    assert TextClassificationPreprocessor().fit(rows(*labels)).labels == expected


def test_the_order_of_a_class_label_column_is_kept(bert):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["pos", "neg", "mixed"])})
    train = Dataset.from_dict({"text": ["a", "b"], "label": [2, 0]}, features=features)
    fitted = TextClassificationPreprocessor().fit(train)
    assert fitted.labels == ("pos", "neg", "mixed")
    assert fitted.features(batch(2, 0, 1), bert)["labels"] == [2, 0, 1]
    assert fitted.class_counts == {"pos": 1, "neg": 0, "mixed": 1}


def test_class_labels_whose_names_are_numbers_are_not_mistaken_for_them(bert):
    features = Features({"text": Value("string"), "label": ClassLabel(names=["1", "2", "3"])})
    fitted = TextClassificationPreprocessor().fit(
        Dataset.from_dict({"text": ["a"] * 3, "label": [0, 1, 2]}, features=features)
    )
    assert fitted.features(batch(1), bert)["labels"] == [1]  # the label named "2"
    assert fitted.show({"input_ids": [], "labels": 1}, bert) == " → ⟦2⟧"


@pytest.mark.parametrize("values", [(0, 1, 1), ("0", "1", "1")])
def test_positions_in_given_names_are_positions(bert, values):
    fitted = TextClassificationPreprocessor(labels=("neg", "pos")).fit(rows(*values))
    assert fitted.features(batch(*values), bert)["labels"] == [0, 1, 1]
    assert fitted.class_counts == {"neg": 1, "pos": 2}


def test_given_names_fix_the_order(bert):
    fitted = TextClassificationPreprocessor(labels=("pos", "neg")).fit(rows("neg", "pos"))
    assert fitted.features(batch("neg", "pos"), bert)["labels"] == [1, 0]


def test_given_names_that_are_numbers_are_names(bert):
    fitted = TextClassificationPreprocessor(labels=("1", "2")).fit(rows(1, 2))
    assert fitted.features(batch(1, 2), bert)["labels"] == [0, 1]


def test_what_fit_learned_survives_being_written_as_options():
    fitted = TextClassificationPreprocessor(class_weights="balanced").fit(rows("b", "a", "a"))
    assert build(TextClassificationPreprocessor, as_options(fitted), where="preprocessor") == fitted
    multi = MultiLabelPreprocessor().fit(rows(["b"], ["a", "b"], []))
    assert build(MultiLabelPreprocessor, as_options(multi), where="preprocessor") == multi


def test_a_validation_label_does_not_enter_the_label_set(bert):
    fitted = TextClassificationPreprocessor().fit(rows("a", "b"))
    assert [f.code for f in fitted.check(rows("c", "a"))] == ["unseen-label"]
    with pytest.raises(BadData, match="'c' is not one of the labels: a, b"):
        fitted.features(batch("c"), bert)


@given(st.lists(st.lists(st.sampled_from(["fog", "salt", "naïve", "0", "a b"]), unique=True), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_sets_of_labels_come_back_from_their_vectors(bert, labels):
    fitted = MultiLabelPreprocessor(label_form="names").fit(rows(*labels))
    vectors = fitted.features(batch(*labels), bert)["labels"]
    names = fitted.labels
    back = [{name for name, value in zip(names, vector, strict=True) if value == 1.0} for vector in vectors]
    assert back == [set(each) for each in labels]
    joined = ["|".join(each) for each in labels]
    assert (
        MultiLabelPreprocessor(label_form="names").fit(rows(*joined)).features(batch(*joined), bert)["labels"]
        == vectors
    )


def test_a_list_of_class_labels_is_read_by_position(bert):
    features = Features({"text": Value("string"), "label": ListOf(ClassLabel(names=["z", "y", "x"]))})
    train = Dataset.from_dict({"text": ["a", "b"], "label": [[0, 2], []]}, features=features)
    fitted = MultiLabelPreprocessor().fit(train)
    assert fitted.labels == ("z", "y", "x")
    assert fitted.features(batch([0, 2], []), bert)["labels"] == [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    "values", [([0.0, 1.0, 1.0], [0.0, 0.0, 0.0]), ([0, 1, 1], [0, 0, 0]), ([False, True, True], [False] * 3)]
)
def test_vectors_of_zeros_and_ones_are_read_as_vectors(bert, values):
    fitted = MultiLabelPreprocessor(labels=("a", "b", "c")).fit(rows(*values))
    assert fitted.label_form == "vector"
    assert fitted.features(batch(*values), bert)["labels"] == [[0.0, 1.0, 1.0], [0.0, 0.0, 0.0]]


def test_vectors_without_names_are_numbered():
    assert MultiLabelPreprocessor().fit(rows([0, 1, 1], [1, 0, 0])).labels == ("0", "1", "2")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("3.5", 3.5), (" -1 ", -1.0), ("1e5", 1e5), ("3,5", None), ("nan", None), ("inf", None), ("1_0", None), ("", None),
     (True, None), (float("inf"), None), (4, 4.0), (None, None), ("0x1", None)],
)  # fmt: skip
def test_numbers_are_finite_and_plainly_written(text, expected):
    assert number(text) == expected


@given(st.sets(st.one_of(NAME, st.integers(-99, 99).map(str)), min_size=1))
@settings(max_examples=60, deadline=None)
def test_the_order_of_names_does_not_depend_on_the_order_of_rows(names):
    assert sort_labels(names) == sort_labels(sorted(names, reverse=True))
    assert set(sort_labels(names)) == names


def test_what_is_missing_has_no_spelling():
    assert [as_text(value) for value in (None, "", float("nan"))] == [None] * 3
    assert as_text(" ") == " "


def test_case_space_and_unicode_form_do_not_tell_labels_apart():
    assert len({normalized(name) for name in ("Pos", "pos ", "poſ", "P\u006fs", "po\u0073")}) == 1
    assert normalized("é") == normalized("e\u0301")
    assert normalized("pos") != normalized("neg")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"class_weights": {"a": -1.0}}, "class_weights cannot be negative"),
     ({"label_smoothing": 1.0}, "label_smoothing must be at least 0"),
     ({"class_weights": "balance"}, "class_weights"), ({"max_lenght": 3}, "Did you mean 'max_length'")],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(BadOptions, match=message):
        build(TextClassificationPreprocessor, options, where="preprocessor")


def test_a_label_of_thousands_of_digits_is_a_name() -> None:
    names = ["9", "10", "1" * 5000]
    assert set(sort_labels(names)) == set(names)
