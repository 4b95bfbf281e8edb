"""Answers in every form that people write: each is read as SQuAD's own, or named as wrong."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune import data
from finetune.interfaces import Predictions
from finetune.plugins import discover
from finetune.recipe import Source
from finetune_squad.answers import Form
from finetune_squad.evaluator import SquadEvaluator
from finetune_squad.preprocessor import SquadPreprocessor

CONTEXT = "The old pier stands by the quay."
PIER = [("old pier", 4)]


def read(answers, **options):
    return Form(**options).answers({"context": CONTEXT, "answers": answers})


def flat(text, start, **options):
    return Form(flat=True, **options).answers({"context": CONTEXT, "answer_text": text, "answer_start": start})


SAME = [
    {"text": ["old pier"], "answer_start": [4]},
    {"text": ["old pier"], "answer_start": [4.0]},
    {"text": ["old pier"], "answer_start": ["4"]},
    {"text": ["old pier"], "answer_start": [[4, 12]]},
    {"text": "old pier", "answer_start": 4},
    {"text": "old pier", "answer_start": [4]},
    {"text": "old pier", "answer_start": (4, 12)},
    [{"text": "old pier", "answer_start": 4}],
    [{"text": ["old pier"], "answer_start": [4]}],
    [{"text": "old pier", "answer_start": 4, "answer_id": 7}],
]


@pytest.mark.parametrize("answers", SAME, ids=repr)
def test_every_form_of_an_answer_is_the_same_answer(answers):
    assert read(answers) == PIER
    assert read(json.dumps(answers)) == PIER
    assert read(repr(answers)) == PIER
    assert read(f"  {answers!r}\n") == PIER


def test_what_pandas_writes_of_numpy_arrays_is_read():
    cell = "{'text': array(['old pier', 'pier'], dtype=object), 'answer_start': array([4, 8], dtype=int32)}"
    assert read(cell) == [("old pier", 4), ("pier", 8)]
    assert read("{'text': array([], dtype=object), 'answer_start': array([], dtype=int32)}") == []


@pytest.mark.parametrize(
    "answers",
    [
        {"text": [], "answer_start": []},
        {"text": "", "answer_start": -1},
        {"text": None, "answer_start": None},
        {"text": None, "answer_start": None, "odd": None},
        [],
        "",
        "[]",
        "{'text': [], 'answer_start': []}",
        {"text": ["ANSWERNOTFOUND"], "answer_start": [0]},
        "CANNOTANSWER",
    ],
    ids=repr,
)
def test_no_answer_has_many_forms(answers):
    assert read(answers) == []


@pytest.mark.parametrize(
    "start", [4, 4.0, "4", "4.0", "4.", " 4 ", "(4, 12)", "[4, 12]", (4, 12), [4], "[4]"], ids=repr
)
def test_flat_offsets_are_numbers_floats_texts_or_pairs(start):
    assert flat("old pier", start) == PIER


@pytest.mark.parametrize("start", [None, "", -1, math.nan, 0, 4.0, "(0, 3)"], ids=repr)
@pytest.mark.parametrize("text", [None, "", "ANSWERNOTFOUND"], ids=repr)
def test_flat_rows_without_an_answer_need_no_offset(text, start):
    assert flat(text, start) == []


def test_no_answer_words_are_an_option():
    assert flat("nicht gefunden", None, no_answer_words=("nicht gefunden",)) == []
    row = {"question": "Where?", "context": "ANSWERNOTFOUND", "answer_text": "ANSWERNOTFOUND", "answer_start": "0"}
    (finding,) = SquadPreprocessor(flat=True).check([row])
    assert (finding.code, finding.level, finding.row, finding.value) == (
        "no-answer-word",
        "warning",
        0,
        "ANSWERNOTFOUND",
    )
    assert list(SquadPreprocessor(flat=True, no_answer_words=()).check([row])) == []


words = st.sampled_from(["tar", "quay", "café", "🚢", "  ", ".", "'", '"', "\\", "\n", "a b", "[", "{"])
texts = st.lists(words, min_size=1, max_size=12).map("".join)
WRITERS = [
    lambda pairs: {"text": [text for text, _ in pairs], "answer_start": [start for _, start in pairs]},
    lambda pairs: {"text": [text for text, _ in pairs], "answer_start": [float(start) for _, start in pairs]},
    lambda pairs: [{"text": text, "answer_start": start} for text, start in pairs],
    lambda pairs: [{"text": text, "answer_start": str(start)} for text, start in pairs],
    lambda pairs: [{"text": text, "answer_start": (start, start + len(text))} for text, start in pairs],
]


@given(context=texts, ends=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=3), data=st.data())
@settings(max_examples=200, deadline=None)
def test_any_answers_survive_any_form(context, ends, data):
    pairs = []
    for start, size in ends:
        if context[start : start + size].strip():
            pairs.append((context[start : start + size], start))
    written = data.draw(st.sampled_from(WRITERS))(pairs)
    cell = data.draw(st.sampled_from([lambda value: value, json.dumps, repr]))(written)
    assert Form().answers({"context": context, "answers": cell}) == pairs


def test_a_csv_file_with_cells_of_every_kind_is_checked_and_labelled(tmp_path, family):
    import csv

    cells = ["", json.dumps(SAME[0]), repr(SAME[7]), "[]", repr(SAME[4])]
    with open(tmp_path / "train.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["question", "context", "answers"])
        for number, cell in enumerate(cells):
            writer.writerow([f"Where is it, {number}?", CONTEXT, cell])
    source = Source(path=str(tmp_path / "train.csv"), validation_size=0)
    found = data.load(source, SquadPreprocessor(), plugins=discover(), seed=1)
    assert found.counts == {}
    made = SquadPreprocessor().features(found.splits["train"][:], family("bert"))
    assert [start > 0 for start in made["start_positions"]] == [False, True, True, False, True]


def test_the_evaluator_reads_what_the_preprocessor_reads(family):
    preprocessor = SquadPreprocessor(flat=True, fix_offsets=True)
    rows = [
        {"question": "Where?", "context": CONTEXT, "answer_text": "quay", "answer_start": "26.0"},
        {"question": "Why?", "context": CONTEXT, "answer_text": "ANSWERNOTFOUND", "answer_start": ""},
    ]
    batch = {name: [row[name] for row in rows] for name in rows[0]}
    made = dict(preprocessor.features(batch, family("bert")))
    made["example"] = made.pop("overflow_to_sample_mapping")
    features = [dict(zip(made, values, strict=True)) for values in zip(*made.values(), strict=True)]
    import numpy as np

    logits = np.zeros((2, len(features[0]["input_ids"])), np.float32)
    predictions = Predictions(
        examples=rows, features=features, outputs=(logits, logits), tokenizer=None, preprocessor=preprocessor
    )
    first, second = SquadEvaluator().records(predictions)
    assert (first["reference"], first["reference_start"]) == (["quay"], [27])
    assert second["reference"] == []
    assert (27, 31, "reference") in SquadEvaluator().highlights(first, rows[0])["context"]
    assert SquadEvaluator().slices([first, second], rows)["place of the answer in the text"] == [
        "last third",
        "no answer",
    ]
