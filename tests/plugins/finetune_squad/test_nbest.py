"""The search for answers: equal to plain loops over the published algorithm, case by case."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.errors import BadOptions, TrainingFailed
from finetune.interfaces import Predictions
from finetune.testing import laws
from finetune.testing.tokenizers import TEXTS, tokenizer
from finetune_squad import nbest
from finetune_squad.evaluator import SquadEvaluator
from finetune_squad.preprocessor import SquadPreprocessor


def made(tokenizer, examples, *, max_length=40, stride=8, answers=True):
    """Return feature rows of examples, as the core keeps them."""
    batch = {name: [row[name] for row in examples] for name in examples[0] if answers or name != "answers"}
    columns = dict(SquadPreprocessor(max_length=max_length, stride=stride).features(batch, tokenizer))
    columns["example"] = columns.pop("overflow_to_sample_mapping")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def example(context, *, name="q", texts=()):
    return {
        "id": name,
        "question": "Who?",
        "context": context,
        "answers": {"text": list(texts), "answer_start": [context.index(text) for text in texts]},
    }


def logits(rows, kind, rng, width=None):
    """Return two tables of logits, one row a window, with junk beyond each window's length."""
    width = width or max(len(row["input_ids"]) for row in rows)
    tables = []
    for _ in range(2):
        table = rng.normal(size=(len(rows), width)) * 4
        if kind == "ties":
            table = np.round(table / 4)
        elif kind == "bf16":
            table = (table.astype(np.float32).view(np.uint32) & 0xFFFF0000).view(np.float32)
        tables.append(table.astype(np.float32))
    return tables


def predicted(examples, rows, outputs):
    return Predictions(
        examples=examples, features=rows, outputs=outputs, tokenizer=None, preprocessor=SquadPreprocessor()
    )


def slow(oracle, examples, rows, starts, ends, **options):
    """Return the oracle's answer for every example."""
    found = []
    for index, each in enumerate(examples):
        mine = [number for number, row in enumerate(rows) if row["example"] == index]
        features = []
        for number in mine:
            row = rows[number]
            offsets = [None] * len(row["input_ids"])
            for place, pair in enumerate(zip(row["start_chars"].tolist(), row["end_chars"].tolist(), strict=True)):
                offsets[row["context_first_token"] + place] = pair
            features.append({"offsets": offsets, "null_token": row["null_token"]})
        tables = [[table[n, : len(rows[n]["input_ids"])] for n in mine] for table in (starts, ends)]
        found.append(oracle.answer(each["context"], features, *tables, **options))
    return found


def assert_same(records, wanted):
    for record, truth in zip(records, wanted, strict=True):
        assert record["prediction"] == truth["prediction"]
        assert record["null_odds"] == float(truth["null_odds"])
        assert (record["start_char"], record["end_char"]) == (truth["place"] or (None, None))
        assert [entry["text"] for entry in record["nbest"]] == [entry["text"] for entry in truth["nbest"]]
        for entry, other in zip(record["nbest"], truth["nbest"], strict=True):
            assert entry["start_logit"] == float(other["start_logit"])
            assert entry["end_logit"] == float(other["end_logit"])
            assert entry["probability"] == pytest.approx(other["probability"], abs=1e-6)


@given(
    name=st.sampled_from(["bert", "gpt2", "xlnet", "roberta"]),
    kind=st.sampled_from(["random", "ties", "bf16"]),
    seed=st.integers(0, 2**32 - 1),
    repeats=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    n_best_size=st.sampled_from([1, 2, 5, 20]),
    max_answer_length=st.sampled_from([1, 3, 30]),
    always=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_answers_equal_the_published_algorithm_case_by_case(
    family, oracle, name, kind, seed, repeats, n_best_size, max_answer_length, always
):
    examples = [example(" ".join(TEXTS[:2])[: 60 * count]) for count in repeats]
    rows = made(family(name), examples)
    rng = np.random.default_rng(seed)
    starts, ends = logits(rows, kind, rng)
    threshold = float(np.float32(rng.normal()))
    evaluator = SquadEvaluator(
        n_best_size=n_best_size,
        max_answer_length=max_answer_length,
        null_score_diff_threshold=threshold,
        always_answer=always,
    )
    records = evaluator.records(predicted(examples, rows, (starts, ends)))
    options = {"n_best_size": n_best_size, "max_answer_length": max_answer_length}
    assert_same(records, slow(oracle, examples, rows, starts, ends, null=not always, threshold=threshold, **options))


def test_without_ties_the_stable_order_is_the_unstable_one(family, oracle):
    """What is decided here decides nothing where the published search leaves nothing to chance."""
    examples = [example(" ".join(TEXTS))]
    rows = made(family("bert"), examples)
    starts, ends = logits(rows, "random", np.random.default_rng(0))
    options = {"null": True, "threshold": 0.0}
    stable, unstable = (
        slow(oracle, examples, rows, starts, ends, kind=kind, **options) for kind in ("stable", "quicksort")
    )
    assert stable == unstable


@given(seed=st.integers(0, 1000), width=st.integers(0, 30), junk=st.sampled_from([-100.0, 0.0, 1e4, np.nan]))
@settings(max_examples=50, deadline=None)
def test_what_stands_in_the_padding_changes_nothing(family, seed, width, junk):
    """Trainers join the logits of batches of different widths by adding −100 on the right."""
    examples = [example(TEXTS[0]), example("tar"), example("")]
    rows = made(family("bert"), examples)
    rng = np.random.default_rng(seed)
    starts, ends = logits(rows, "bf16", rng)
    longer = []
    for table in (starts, ends):
        wide = np.full((len(rows), table.shape[1] + width), junk, np.float32)
        for number, row in enumerate(rows):
            wide[number, : len(row["input_ids"])] = table[number, : len(row["input_ids"])]
        longer.append(wide)
    records = [
        SquadEvaluator().records(predicted(examples, rows, outputs)) for outputs in ((starts, ends), tuple(longer))
    ]
    assert records[0] == records[1]


@given(seed=st.integers(0, 1000), kind=st.sampled_from(["ties", "random"]))
@settings(max_examples=30, deadline=None)
def test_windows_searched_in_chunks_give_the_same_answers(family, seed, kind):
    examples = [example(" ".join(TEXTS)[:400]) for _ in range(3)]
    rows = made(family("bert"), examples)
    outputs = tuple(logits(rows, kind, np.random.default_rng(seed)))
    whole = SquadEvaluator().records(predicted(examples, rows, outputs))
    before, nbest.CHUNK = nbest.CHUNK, 2
    try:
        parts = SquadEvaluator().records(predicted(examples, rows, outputs))
    finally:
        nbest.CHUNK = before
    assert parts == whole


def test_a_data_set_of_features_is_read_like_a_list(family):
    from datasets import Dataset

    examples = [example(TEXTS[0]), example(TEXTS[1])]
    rows = made(family("bert"), examples)
    outputs = tuple(logits(rows, "random", np.random.default_rng(3)))
    stored = Dataset.from_list([{k: getattr(v, "tolist", lambda v=v: v)() for k, v in row.items()} for row in rows])
    one, other = (SquadEvaluator().records(predicted(examples, features, outputs)) for features in (rows, stored))
    assert one == other


def test_of_equal_logits_the_later_ranks_first_and_of_equal_scores_the_earlier_window():
    assert nbest.top(np.array([[0.0, 2.0, 2.0, -0.0, -3.0]], np.float32), 4).tolist() == [[2, 1, 3, 0]]
    assert nbest.top(np.array([[1.0, -np.inf]], np.float32), 5).tolist() == [[0, 1]]


def record(family, start, end, *, context="a b c d e f", tokenizer="bert", null=0, **options):
    """Return the record of one question over single letters, given logits by token of the context and of CLS."""
    rows = made(family(tokenizer), [example(context)], max_length=384, stride=128)
    tables = []
    for values in (start, end):
        table = np.full((1, len(rows[0]["input_ids"])), -50.0, np.float32)
        table[0, rows[0]["null_token"]] = null / 2
        first = rows[0]["context_first_token"]
        table[0, first : first + len(values)] = values
        tables.append(table)
    predictions = predicted([example(context)], rows, tuple(tables))
    return SquadEvaluator(**options).records(predictions)[0]


def test_max_answer_length_is_inclusive_in_tokens(family):
    start, end = [9, 0, 0, 0, 0, 0], [0, 0, 9, 0, 0, 0]
    assert record(family, start, end, max_answer_length=3)["prediction"] == "a b c"
    assert record(family, start, end, max_answer_length=2)["prediction"] != "a b c"


def test_null_odds_are_subtracted_in_float32_one_after_the_other_and_compared_with_greater(family):
    # 0.1 + 0.2 and 0.3 differ in float64; in float32 (−0.1) − 0.2 is −0.3 to the bit of float32.
    found = record(family, [0.1], [0.2], context="a")
    assert found["null_odds"] == float(-np.float32(0.1) - np.float32(0.2)) != -(0.1 + 0.2)
    # The order matters: (1 − 2^24) − 1 is −2^24, and 1 − (2^24 + 1) would be 1 − 2^24, for 2^24 + 1 is no float32.
    assert record(family, [2**24], [1], context="a", null=1)["null_odds"] == -(2**24)
    odds = record(family, [1], [1], context="a")["null_odds"]
    assert odds == -2
    assert record(family, [1], [1], context="a", null_score_diff_threshold=-2.0)["prediction"] == "a"
    assert record(family, [1], [1], context="a", null_score_diff_threshold=-2.5)["prediction"] == ""


def test_no_answer_scores_the_least_of_all_windows_at_the_cls_token_wherever_it_stands(family):
    examples = [example(" ".join(TEXTS))]
    for name in ("bert", "xlnet"):
        rows = made(family(name), examples)
        assert len(rows) >= 3
        starts, ends = (np.zeros((len(rows), 40), np.float32) for _ in range(2))
        for number, row in enumerate(rows):
            starts[number, row["null_token"]] = 5 - number % 2
        (found,) = SquadEvaluator(null_score_diff_threshold=-99.0).records(predicted(examples, rows, (starts, ends)))
        assert found["null_odds"] == 4
        assert found["prediction"] == ""
        assert found["score"] == 4


def test_no_answer_is_added_again_when_it_falls_out_of_the_n_best(family):
    found = record(family, [9, 9, 9], [9, 9, 9], context="a b c", n_best_size=2)
    # Of equal starts and ends the later ranks first: starts c, b; ends c, b; pairs c…c, then b…c.
    assert [entry["text"] for entry in found["nbest"]] == ["c", "b c", ""]
    assert sum(entry["probability"] for entry in found["nbest"]) == pytest.approx(1)


def test_nothing_valid_predicts_nothing_and_never_a_made_up_word(family):
    for options in ({}, {"always_answer": True}):
        found = record(family, [], [], context="   ", **options)
        assert found["prediction"] == found["best_answer"] == ""
        assert found["no_candidate"] is True
        assert found["start_char"] is None
        json.dumps(found, allow_nan=False)


def test_a_pair_without_visible_characters_is_no_candidate(family):
    tokenizer = family("gpt2")
    context = "a   b"
    rows = made(tokenizer, [example(context)])
    blank = [s >= e for s, e in zip(rows[0]["start_chars"], rows[0]["end_chars"], strict=True)]
    assert any(blank), "this family has tokens of white space alone"
    table = np.zeros((1, len(rows[0]["input_ids"])), np.float32)
    table[0, rows[0]["context_first_token"] + blank.index(True)] = 9
    (found,) = SquadEvaluator(always_answer=True).records(predicted([example(context)], rows, (table, table)))
    assert all(entry["text"].strip() for entry in found["nbest"])


def test_a_place_found_by_two_windows_stands_twice_and_its_shares_are_added(family):
    context = " ".join("abcdefghijklmnopqrstuvwxyz")
    rows = made(family("bert"), [example(context)], max_length=20, stride=8)
    starts = np.full((len(rows), 20), -50.0, np.float32)
    place = 24  # "m": in the overlap of two windows
    for number, row in enumerate(rows):
        found = np.flatnonzero(row["start_chars"] == place)
        starts[number, row["context_first_token"] + found] = 7
    (answer,) = SquadEvaluator(always_answer=True).records(predicted([example(context)], rows, (starts, starts)))
    assert [entry["text"] for entry in answer["nbest"][:2]] == ["m", "m"]
    assert answer["nbest"][0]["probability"] == pytest.approx(0.5)
    assert answer["probability"] == pytest.approx(1.0)


def test_logits_that_are_no_numbers_stop_the_evaluation(family):
    with pytest.raises(TrainingFailed, match="NaN for window 0"):
        record(family, [np.nan], [0.0], context="a")


def test_missing_windows_and_rows_are_named(family):
    rows = made(family("bert"), [example("a"), example("b")])
    table = np.zeros((2, 9), np.float32)
    with pytest.raises(BadOptions, match="example 2 has no window"):
        SquadEvaluator().records(predicted([example("a")] * 3, rows, (table, table)))
    with pytest.raises(BadOptions, match="1 rows of logits for 2 windows"):
        SquadEvaluator().records(predicted([example("a")] * 2, rows, (table[:1], table[:1])))


@pytest.mark.parametrize("name", nbest.NEEDED)
def test_a_preprocessor_without_a_column_of_windows_is_refused_by_name(family, name):
    rows = made(family("bert"), [example("a")])
    for row in rows:
        del row[name]
    table = np.zeros((1, 9), np.float32)
    with pytest.raises(BadOptions, match=rf"SquadPreprocessor\.features\(\) gives no '{name}'.*as SquadPreprocessor"):
        SquadEvaluator().records(predicted([example("a")], rows, (table, table)))


@pytest.mark.parametrize("always", [None, True])
def test_it_obeys_the_laws_of_evaluators(family, always):
    examples = [example(TEXTS[0], name="a", texts=["Gulls"]), example(TEXTS[1], name="b"), example("tar", name="c")]
    rows = made(family("bert"), examples)
    outputs = tuple(logits(rows, "random", np.random.default_rng(1)))
    predictions = predicted(examples, rows, outputs)
    laws.check_evaluator(SquadEvaluator(always_answer=always), predictions=predictions)


def test_without_answers_there_are_predictions_and_no_reference(family):
    examples = [{k: v for k, v in example(TEXTS[0]).items() if k not in {"answers", "id"}}]
    rows = made(family("bert"), examples, answers=False)
    outputs = tuple(logits(rows, "random", np.random.default_rng(1)))
    (found,) = SquadEvaluator().records(predicted(examples, rows, outputs))
    assert "reference" not in found
    assert found["id"] == "0"
    assert SquadEvaluator().fit([found]) == SquadEvaluator()


def test_answers_longer_than_can_be_predicted_are_counted(family):
    examples = [example(TEXTS[0], texts=["Gulls circle over the quay"]), example(TEXTS[0], texts=["Gulls"])]
    rows = made(family("bert"), examples, max_length=384)
    table = np.zeros((2, 384), np.float32)
    evaluator = SquadEvaluator(max_answer_length=3)
    records = evaluator.records(predicted(examples, rows, (table, table)))
    assert evaluator.details(records)["too_long"] == 1


# --- columns in place of rows -----------------------------------------------------------------------------------------


PASSAGES = {"Gulls circle the quay.": ("circle", 6), "İt is ﬁne. " * 9: ("is", 3), "He lives in Paris": ("Paris", 12)}


@st.composite
def questions(draw: st.DrawFn) -> dict[str, Any]:
    context = draw(st.sampled_from(sorted(PASSAGES)))
    text, start = PASSAGES[context]
    known = draw(st.booleans())
    answers = {"text": [text][: int(known)], "answer_start": [start][: int(known)]}
    return {"id": draw(st.none() | st.text(max_size=3)), "question": "Who?", "context": context, "answers": answers}


@given(rows=st.lists(questions(), min_size=1, max_size=6), data=st.data())
@settings(max_examples=20)
def test_a_data_set_gives_what_its_rows_give_one_by_one(rows: list[Any], data: st.DataObject) -> None:
    preprocessor = SquadPreprocessor(max_length=16, stride=4)
    batch = {name: [row[name] for row in rows] for name in rows[0]}
    made = dict(preprocessor.features(batch, tokenizer("bert")))
    made["example"] = made.pop("overflow_to_sample_mapping")
    features = [dict(zip(made, values, strict=True)) for values in zip(*made.values(), strict=True)]
    seed = np.random.default_rng(data.draw(st.integers(0, 9)))
    tables = tuple(seed.normal(size=(len(features), 16)).astype(np.float32) for _ in range(2))
    shuffled = data.draw(st.booleans())
    table = Dataset.from_list([{**each, "start_chars": list(each["start_chars"]), "end_chars": list(each["end_chars"])}
                               for each in features])  # fmt: skip
    if shuffled:  # the rows then lie in the table in another order
        order = data.draw(st.permutations(range(len(features))))
        table = table.select(order).select(np.argsort(order))
    both = []
    for examples, windows in ((rows, features), (Dataset.from_list(rows), table)):
        predictions = Predictions(
            examples=examples, features=windows, outputs=tables, tokenizer=None, preprocessor=preprocessor
        )
        both.append((SquadEvaluator().records(predictions), nbest.windows_of(predictions)))
    assert both[0][0] == both[1][0]
    for name, value in vars(both[0][1]).items():
        assert value.dtype == np.int64 and (value == vars(both[1][1])[name]).all(), name


def test_rows_in_blocks_are_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nbest, "CHUNK", 3)
    table = Dataset.from_dict({"a": list(range(8)), "b": [{"x": [n]} for n in range(8)]})
    for rows in (table, table.select([5, 1, 7, 2]), table.select([])):
        assert list(nbest.rows_of(rows)) == list(rows)
    assert list(nbest.rows_of([1, 2])) == [1, 2]
