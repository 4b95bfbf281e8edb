"""Scores of tags: published and hand-computed cases, and an independent count."""

from __future__ import annotations

import json
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from finetune.errors import BadData, BadOptions, TrainingFailed
from finetune.interfaces import Columns, Predictions, Preprocessor
from finetune.testing.tokenizers import tokenizer
from finetune_text.token_classification import TokenClassificationPreprocessor
from finetune_text.token_evaluator import TokenClassificationEvaluator

BERT = tokenizer("bert")
TAGS = ("B-MISC", "B-PER", "I-MISC", "I-PER", "O")
WORDS = ("salt", "harbour", "tar", "and", "ropes", "nets", "pier")


def records(truth, guess, labels=TAGS, **options):
    """Return records of a model that answers with these tags."""
    task = TokenClassificationPreprocessor(labels=labels, label_ids=False, tag_counts={}, **options)
    examples = [{"tokens": [WORDS[k % 7] for k in range(len(row))], "ner_tags": list(row)} for row in truth]
    made = task.features({name: [row[name] for row in examples] for name in ("tokens", "ner_tags")}, BERT)
    logits = np.zeros((len(made["labels"]), max(map(len, made["labels"])), len(labels)), np.float32)
    features = []
    for number, (owner, ids) in enumerate(zip(made["overflow_to_sample_mapping"], made["word_ids"], strict=True)):
        features.append({"word_ids": ids, "example": owner})
        for place, word in enumerate(ids):
            if word >= 0:
                logits[number, place, labels.index(guess[owner][word])] = 3
    predictions = Predictions(examples=examples, features=features, outputs=logits, tokenizer=BERT, preprocessor=task)
    return TokenClassificationEvaluator().records(predictions)


SEQEVAL = (
    [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]],
    [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]],
)
"""The example of seqeval's README: F1 0.50, accuracy 0.80, MISC 0.00 and PER 1.00, macro 0.50."""


def test_the_scores_of_seqevals_readme():
    made = records(*SEQEVAL)
    scores = TokenClassificationEvaluator().scores(made)
    expected = {"f1": 0.5, "accuracy": 0.8, "f1_macro": 0.5, "f1/MISC": 0.0, "f1/PER": 1.0, "precision/PER": 1.0}
    assert {name: scores[name] for name in expected} == expected
    assert TokenClassificationEvaluator().details(made) == {
        "types": {
            "MISC": {"support": 1, "predicted": 1, "correct": 0}, "PER": {"support": 1, "predicted": 1, "correct": 1}
        },
        "words": 10,
        "words_without_prediction": 0,
    }  # fmt: skip


def test_records_can_be_read_by_a_person():
    (record,) = records([["B-PER", "I-PER", "O", "B-MISC"]], [["O", "I-PER", "O", "B-MISC"]])
    probability = pytest.approx(np.exp(3) / (np.exp(3) + 4))
    assert record == {
        "prediction": [
            {"entity": "PER", "text": "harbour", "first_word": 1, "last_word": 1, "score": probability},
            {"entity": "MISC", "text": "and", "first_word": 3, "last_word": 3, "score": probability},
        ],
        "tags": ["O", "I-PER", "O", "B-MISC"],
        "reference": [
            {"entity": "PER", "text": "salt harbour", "first_word": 0, "last_word": 1},
            {"entity": "MISC", "text": "and", "first_word": 3, "last_word": 3},
        ],
        "reference_tags": ["B-PER", "I-PER", "O", "B-MISC"],
    }
    assert json.loads(json.dumps(record)) == record


ROWS = st.lists(
    st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), min_size=1, max_size=7), min_size=1, max_size=5
)


def chunks(row):
    """Return the entities of BIO tags, as conlleval finds them: an I begins one after O and after another type."""
    found, before = [], "O"
    for place, tag in enumerate(row):
        if tag != "O" and (tag[0] == "B" or before[2:] != tag[2:]):
            found.append([tag[2:], place, place])
        elif tag != "O":
            found[-1][2] = place
        before = tag
    return {tuple(chunk) for chunk in found}


@given(ROWS)
@settings(max_examples=40, deadline=None)
def test_scores_equal_an_independent_count(rows):
    truth, guess = ([[pair[side] for pair in row] for row in rows] for side in (0, 1))
    scores = TokenClassificationEvaluator().scores(records(truth, guess))
    true, guessed = ({(k, *c) for k, row in enumerate(side) for c in chunks(row)} for side in (truth, guess))
    # One row an entity that either side has: what it is in truth, and what it was taken for
    every = sorted(true | guessed)
    y_true = [entity[1] if entity in true else "-" for entity in every]
    y_guess = [entity[1] if entity in guessed else "-" for entity in every]
    kinds = sorted({entity[1] for entity in every})
    assert scores["accuracy"] == pytest.approx(accuracy_score([*chain(*truth)], [*chain(*guess)]))
    if not kinds:
        assert scores == {**dict.fromkeys(scores, 0.0), "accuracy": 1.0}
        return
    for average, end in (("micro", ""), ("macro", "_macro")):
        expected = precision_recall_fscore_support(y_true, y_guess, labels=kinds, average=average, zero_division=0)
        for name, value in zip(("precision", "recall", "f1"), expected[:3], strict=True):
            assert scores[name + end] == pytest.approx(value)
    single = precision_recall_fscore_support(y_true, y_guess, labels=kinds, average=None, zero_division=0)
    for name, values in zip(("precision", "recall", "f1"), single[:3], strict=True):
        assert [scores[f"{name}/{kind}"] for kind in kinds] == pytest.approx(list(values))


def test_a_span_with_the_right_type_and_a_wrong_end_is_wrong():
    scores = TokenClassificationEvaluator().scores(records([["B-PER", "I-PER", "O"]], [["B-PER", "O", "O"]]))
    assert (scores["f1"], scores["accuracy"]) == (0.0, pytest.approx(2 / 3))


def test_bilou_and_bioes_are_scored_alike():
    for last, only in ("LU", "ES"):
        labels = ("O", "B-PER", "I-PER", f"{last}-PER", f"{only}-PER")
        truth = [["B-PER", f"{last}-PER", "O", f"{only}-PER"]]
        guess = [["B-PER", f"{last}-PER", "O", f"{last}-PER"]]  # a lone last word is an entity too
        scores = TokenClassificationEvaluator().scores(records(truth, guess, labels))
        assert (scores["f1"], scores["accuracy"]) == (1.0, 0.75)


def test_without_a_scheme_every_word_is_scored_by_itself_and_f1_is_the_accuracy():
    made = records([["NOUN", "VERB", "NOUN", "ADP"]], [["NOUN", "NOUN", "NOUN", "ADP"]], ("ADP", "NOUN", "VERB"))
    assert made[0]["prediction"] == ["NOUN", "NOUN", "NOUN", "ADP"]
    assert made[0]["reference"] == ["NOUN", "VERB", "NOUN", "ADP"]
    assert made[0]["scores"] == pytest.approx([np.exp(3) / (np.exp(3) + 2)] * 4)
    scores = TokenClassificationEvaluator().scores(made)
    assert scores["f1"] == scores["accuracy"] == 0.75
    assert scores["f1_macro"] == pytest.approx((1 + 0.8 + 0) / 3)  # ADP, NOUN, VERB


def test_the_scheme_that_the_recipe_names_is_the_one_scored():
    truth, guess = [["B-PER", "I-PER"]], [["B-PER", "B-PER"]]
    assert TokenClassificationEvaluator().scores(records(truth, guess))["f1"] == 0.0
    assert TokenClassificationEvaluator().scores(records(truth, guess, scheme="none"))["f1"] == 0.5


def test_a_word_without_tokens_is_predicted_nothing_and_that_is_wrong():
    task = TokenClassificationPreprocessor(labels=TAGS, label_ids=False, tag_counts={})
    example = {"tokens": ["salt", "\u0301", "tar"], "ner_tags": ["B-PER", "I-PER", "O"]}
    logits = np.zeros((1, 4, 5), np.float32)
    logits[0, 1, 1] = logits[0, 2, 4] = 5
    (record,) = TokenClassificationEvaluator().records(
        Predictions(
            examples=[example], features=[{"word_ids": [-1, 0, 2, -1], "example": 0}], outputs=(logits, "more"),
            tokenizer=BERT, preprocessor=task,
        )
    )  # fmt: skip
    assert record["tags"] == ["B-PER", None, "O"]
    assert TokenClassificationEvaluator().scores([record])["accuracy"] == pytest.approx(2 / 3)
    assert TokenClassificationEvaluator().scores([record])["f1"] == 0.0
    assert TokenClassificationEvaluator().details([record])["words_without_prediction"] == 1


def predictions(outputs, preprocessor):
    features = [{"word_ids": [-1, 0, -1], "example": 0}]
    return Predictions(
        examples=[{"tokens": "salt"}], features=features, outputs=outputs, tokenizer=BERT, preprocessor=preprocessor
    )


def test_without_answers_records_have_no_reference_and_cannot_be_scored():
    task = TokenClassificationPreprocessor(labels=TAGS, label_ids=False, tag_counts={})
    (record,) = TokenClassificationEvaluator().records(predictions(np.eye(5, dtype=np.float32)[None, [0, 1, 0]], task))
    assert set(record) == {"prediction", "tags"}
    assert record["prediction"][0]["text"] == "salt"
    with pytest.raises(BadData, match="no example with a label"):
        TokenClassificationEvaluator().scores([])


def test_outputs_that_cannot_be_tags_are_refused():
    task = TokenClassificationPreprocessor(labels=TAGS, label_ids=False, tag_counts={})
    for shape in ((1, 4, 5), (1, 3, 4), (2, 3, 5)):
        with pytest.raises(TrainingFailed, match=r"expected \(1, 3, 5\)"):
            TokenClassificationEvaluator().records(predictions(np.zeros(shape), task))
    with pytest.raises(TrainingFailed, match="not finite"):
        TokenClassificationEvaluator().records(predictions(np.full((1, 3, 5), np.nan), task))
    with pytest.raises(ValueError, match=r"is not a score of this evaluator\. Did you mean 'f1_macro'"):
        TokenClassificationEvaluator(primary="f1_macr")
    assert TokenClassificationEvaluator(primary="f1/PER").primary == "f1/PER"


class PartsOfSpeech(Preprocessor):
    """A preprocessor of someone else: other columns, other features, no class of ours."""

    def __init__(self, **canonical):
        self.given = canonical

    def needs(self):
        return Columns(required=("sentence",), answers=("pos",))

    def features(self, examples, tokenizer):
        raise AssertionError("the evaluator makes no features")

    def canonical(self, example):
        return self.given or {"tokens": example["sentence"].split(), "tags": example["pos"].split()}

    def model_options(self):
        return {"id2label": {0: "NOUN", 1: "VERB"}}


def of_stranger(preprocessor, feature=None, outputs=None):
    return Predictions(
        examples=[{"sentence": "Gulls circle", "pos": "NOUN VERB"}],
        features=[feature or {"word_ids": [-1, 0, 1, -1], "example": 0, "labels": [-100, 0, 1, -100]}],
        outputs=np.array([[[0, 0], [4, 0], [3, 0], [0, 0]]]) if outputs is None else outputs,
        tokenizer=BERT,
        preprocessor=preprocessor,
    )


def test_a_preprocessor_of_someone_else_that_gives_words_and_tags_is_scored():
    evaluator, predictions = TokenClassificationEvaluator(), of_stranger(PartsOfSpeech())
    (record,) = evaluator.records(predictions)
    assert (record["prediction"], record["reference"]) == (["NOUN", "NOUN"], ["NOUN", "VERB"])
    assert evaluator.scores([record])["accuracy"] == 0.5
    (known,) = evaluator.baselines(predictions, train=predictions)["dictionary"]
    assert known["prediction"] == ["NOUN", "VERB"]


def test_the_scheme_of_someone_elses_tags_is_the_one_that_canonical_gives():
    class Entities(PartsOfSpeech):
        def model_options(self):
            return {"id2label": {0: "B-PER", 1: "I-PER"}}

    canonical = {"tokens": ["Ines", "Moreau"], "tags": ["B-PER", "I-PER"]}
    (record,) = TokenClassificationEvaluator().records(of_stranger(Entities(**canonical)))
    assert [entity["text"] for entity in record["reference"]] == ["Ines Moreau"]
    (record,) = TokenClassificationEvaluator().records(of_stranger(Entities(**canonical, tag_scheme="none")))
    assert record["reference"] == ["B-PER", "I-PER"]


@pytest.mark.parametrize(
    ("preprocessor", "feature", "message"),
    [
        (
            PartsOfSpeech(text="x"),
            None,
            r"PartsOfSpeech\.canonical\(\) gives no 'tokens', but only text\. Override canon",
        ),
        (
            PartsOfSpeech(tokens=["a", "b"]),
            None,
            r"PartsOfSpeech\.canonical\(\) gives no 'tags', but only tokens\. Overr",
        ),
        (
            PartsOfSpeech(),
            {"example": 0},
            r"PartsOfSpeech\.features\(\) gives no 'word_ids', but only example\. Keep a",
        ),
    ],
)
def test_what_is_missing_is_named_with_the_class_the_key_and_the_remedy(preprocessor, feature, message):
    with pytest.raises(BadOptions, match=message):
        TokenClassificationEvaluator().records(of_stranger(preprocessor, feature))


def test_label_names_that_are_missing_are_named_with_the_class_and_the_remedy():
    class Nameless(PartsOfSpeech):
        def model_options(self):
            return {}

    with pytest.raises(
        BadOptions, match=r"Nameless\.model_options\(\) gives no 'id2label', but nothing\. Return the names"
    ):
        TokenClassificationEvaluator().records(of_stranger(Nameless()))


def test_canonical_gives_words_tag_names_and_the_scheme():
    task = TokenClassificationPreprocessor(labels=("O", "B-PER"), label_ids=True, tag_counts={})
    row = {"tokens": "Zoë sails", "ner_tags": [1, 0]}
    assert task.canonical(row) == {"tokens": ["Zoë", "sails"], "tags": ["B-PER", "O"], "tag_scheme": "BIO"}
    assert task.canonical({"tokens": ["Zoë"]}) == {"tokens": ["Zoë"], "tag_scheme": "BIO"}
