"""Windows: what the tokenizer itself would make, token for token, whatever the family and the batch."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import finetune_squad
from finetune.errors import BadData, BadOptions, Incompatible
from finetune.kit import PadRight
from finetune.recipe.options import build
from finetune.testing import laws
from finetune.testing.tokenizers import FAMILIES, TEXTS
from finetune_squad import layout as layouts
from finetune_squad.layout import Shape, by_overflow, by_template
from finetune_squad.preprocessor import SquadPreprocessor
from finetune_squad.template import template_of

PIECES = (
    *(
        "the pier ",
        "harbour",
        " quay,",
        "a",
        "Z",
        ".",
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "1987",
        "wörd ",
        "café",
        "e\u0301",
    ),
    *(
        "👩‍👩‍👧",
        "🙂",
        "\u200b",
        "\u200d",
        "\ufeff",
        "\u00a0",
        "\u3000",
        "İ",
        "ﬁsh",
        "שָׁלוֹם",
        "مرحبا ",
        "東京",
        "½",
        "[sep]",
        "\x01",
        "\u0301",
    ),
)
texts = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
pairs = st.tuples(st.lists(st.sampled_from(PIECES), max_size=5).map("".join), texts)
families = st.sampled_from(FAMILIES)
SHAPE = {"max_length": 40, "stride": 5}


def shape(max_length=40, stride=5):
    return Shape(max_length=max_length, stride=stride, name=lambda index: f"example {index}")


def rows(features):
    """Return features as rows of plain values."""
    columns = {name: [getattr(v, "tolist", lambda v=v: v)() for v in values] for name, values in features.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def same_layout(one, other):
    """Compare what two layouts say of every window, not how they number the texts."""
    for name in (
        "example",
        "begin",
        "stop",
        "context_first_token",
        "null_token",
        "pointer",
        "input_ids",
        "token_type_ids",
    ):
        assert getattr(one, name).tolist() == getattr(other, name).tolist(), name
    for each in range(len(one.example)):
        for name in ("ids", "start_chars", "end_chars"):
            held = [
                getattr(lay.tokens, name)[slice(*lay.tokens.pointer[lay.text[each] :][:2])].tolist()
                for lay in (one, other)
            ]
            assert held[0] == held[1], name


@given(name=families, batch=st.lists(pairs, min_size=1, max_size=4), leftward=st.booleans())
@settings(max_examples=200, deadline=None)
def test_windows_equal_the_tokenizers_own_token_for_token(family, oracle, name, batch, leftward):
    tokenizer = family(name)
    tokenizer.truncation_side = "left" if leftward else "right"
    made = rows(
        SquadPreprocessor(max_length=60, stride=7).features(
            {"question": [q for q, _ in batch], "context": [c for _, c in batch]}, tokenizer
        )
    )
    wanted = [
        (index, window)
        for index, (question, context) in enumerate(batch)
        for window in oracle.windows(tokenizer, question, context, max_length=60, stride=7)
    ]
    tokenizer.truncation_side = "right"
    assert [row["overflow_to_sample_mapping"] for row in made] == [index for index, _ in wanted]
    for row, (_, window) in zip(made, wanted, strict=True):
        assert row["input_ids"] == window["input_ids"]
        assert row["attention_mask"] == [1] * len(window["input_ids"])
        assert row.get("token_type_ids", window["token_type_ids"]) == window["token_type_ids"]
        held = [place for place, offset in enumerate(window["offsets"]) if offset is not None]
        assert len(row["start_chars"]) == len(held)
        if held:
            assert row["context_first_token"] == held[0]


@given(name=families, batch=st.lists(pairs, min_size=1, max_size=3), leftward=st.booleans())
@settings(max_examples=150, deadline=None)
def test_arithmetic_and_the_tokenizers_own_overflow_agree(family, name, batch, leftward):
    tokenizer = family(name)
    tokenizer.truncation_side = "left" if leftward else "right"
    questions, contexts = [q for q, _ in batch], [c for _, c in batch]
    template = template_of(tokenizer)
    assert template is not None, "every family here follows a plain pattern"
    fast = by_template(template, tokenizer, questions, contexts, shape(60, 7))
    slow = by_overflow(tokenizer, questions, contexts, shape(60, 7))
    tokenizer.truncation_side = "right"
    same_layout(fast, slow)


def test_a_template_that_is_no_plain_pattern_takes_the_slow_way(family, monkeypatch):
    tokenizer = family("deberta")
    batch = {"question": ["Who keeps it?"] * 2, "context": [TEXTS[0] * 3, ""]}
    plain = rows(SquadPreprocessor(**SHAPE).features(batch, tokenizer))
    monkeypatch.setattr(layouts, "template_of", lambda tokenizer: None)
    assert rows(SquadPreprocessor(**SHAPE).features(batch, tokenizer)) == plain


@given(name=families, pair=pairs, stride=st.integers(0, 20))
@settings(max_examples=200, deadline=None)
def test_windows_cover_every_context_token_and_neighbours_overlap_by_exactly_stride(family, name, pair, stride):
    tokenizer = family(name)
    found = layouts.layout(tokenizer, [pair[0]], [pair[1]], shape(80, stride))
    spans = list(zip(found.begin.tolist(), found.stop.tolist(), strict=True))
    assert spans[0][0] == 0
    assert spans[-1][1] == len(found.tokens.ids)
    for (_, stop), (begin, _) in pairwise(spans):
        assert stop - begin == stride
    assert np.diff(found.pointer).max() <= 80


@given(name=families, batch=st.lists(pairs, min_size=2, max_size=4), data=st.data())
@settings(max_examples=100, deadline=None)
def test_features_do_not_depend_on_how_examples_are_batched(family, name, batch, data):
    tokenizer, windows = family(name), SquadPreprocessor(max_length=60, stride=7)
    columns = {"question": [q for q, _ in batch], "context": [c for _, c in batch]}
    places = [data.draw(st.integers(0, max(len(c) - 1, 0))) for _, c in batch]
    columns["answers"] = [
        {"text": [c[p : p + 3]], "answer_start": [p]} if c else {"text": [], "answer_start": []}
        for (_, c), p in zip(batch, places, strict=True)
    ]
    whole = rows(windows.features(columns, tokenizer))
    cut = data.draw(st.integers(1, len(batch) - 1))
    parts = [
        {**row, "overflow_to_sample_mapping": row["overflow_to_sample_mapping"] + offset}
        for offset, part in ((0, slice(0, cut)), (cut, slice(cut, None)))
        for row in rows(windows.features({key: values[part] for key, values in columns.items()}, tokenizer))
    ]
    assert whole == parts


@pytest.mark.parametrize("name", FAMILIES)
def test_empty_and_blank_contexts_are_one_window_without_an_answer(family, name):
    tokenizer = family(name)
    none = {"text": [], "answer_start": []}
    batch = {"question": ["Who?", "Who?", ""], "context": ["", " \n\t ", ""], "answers": [none] * 3}
    made = rows(SquadPreprocessor().features(batch, tokenizer))
    assert len(made) == 3
    for row in made:
        assert row["start_positions"] == row["end_positions"] == row["null_token"]
        assert all(start >= end for start, end in zip(row["start_chars"], row["end_chars"], strict=True))


def test_no_examples_are_no_windows(family):
    made = SquadPreprocessor().features({"question": [], "context": [], "answers": []}, family("bert"))
    assert {len(values) for values in made.values()} == {0}


@pytest.mark.parametrize(("name", "place"), [("bert", 0), ("xlnet", -1), ("llama", 0), ("gpt2", 0), ("roberta", 0)])
def test_no_answer_points_at_the_cls_token_wherever_it_stands(family, name, place):
    tokenizer = family(name)
    batch = {"question": ["Who?"], "context": [TEXTS[0]], "answers": [{"text": [], "answer_start": []}]}
    (row,) = rows(SquadPreprocessor().features(batch, tokenizer))
    assert row["start_positions"] == row["end_positions"] == range(len(row["input_ids"]))[place]
    wanted = tokenizer.cls_token_id if tokenizer.cls_token_id is not None else tokenizer("Who?").input_ids[0]
    assert row["input_ids"][row["null_token"]] == wanted


@pytest.mark.parametrize("slow", [False, True])
def test_a_question_that_leaves_no_room_is_an_error_that_names_it_and_no_panic(family, monkeypatch, slow):
    if slow:
        monkeypatch.setattr(layouts, "template_of", lambda tokenizer: None)
    batch = {"id": ["q7", "q8"], "question": ["Who?", "who " * 60], "context": ["tar " * 80] * 2}
    with pytest.raises(BadData, match="question of example 'q8' leaves 0 of max_length=40") as error:
        SquadPreprocessor(**SHAPE).features(batch, family("bert"))
    assert "max_question_length" in str(error.value)
    # One that leaves room for fewer new tokens than neighbours share would be a panic, too.
    batch["question"][1] = "who " * 33
    with pytest.raises(BadData, match="leaves 4 of max_length=40"):
        SquadPreprocessor(**SHAPE).features(batch, family("bert"))


def test_a_long_question_over_a_short_context_needs_no_windows(family):
    batch = {"question": ["who " * 33], "context": ["tar pier"]}
    assert len(SquadPreprocessor(**SHAPE).features(batch, family("bert"))["window"]) == 1


@pytest.mark.parametrize("name", FAMILIES)
def test_max_question_length_cuts_questions_and_counts_what_was_cut(family, name):
    tokenizer, windows = family(name), SquadPreprocessor(max_length=40, stride=5, max_question_length=6)
    question = "Who keeps the lighthouse by the harbour, and since when?"
    tokens = len(tokenizer(question, add_special_tokens=False).input_ids)
    made = windows.features({"question": [question, "Who?"], "context": [TEXTS[0] * 2] * 2}, tokenizer)
    counts = windows.counts(made)
    assert counts["questions_cut"] == 1
    assert counts["question_tokens_lost"] >= tokens - 6
    assert all(row["context_first_token"] <= 6 + 4 for row in rows(made))


def test_labels_appear_when_answers_do_and_not_otherwise(family):
    batch = {"question": ["Who?"], "context": ["Old Tomás keeps it."]}
    bare = SquadPreprocessor().features(batch, family("bert"))
    assert not {"start_positions", "end_positions", "answer_status"} & set(bare)
    with_answers = {**batch, "answers": [{"text": ["Old Tomás"], "answer_start": [0]}]}
    assert {"start_positions", "end_positions"} <= set(SquadPreprocessor().features(with_answers, family("bert")))
    # A column of nothing, as Arrow fills in what a file lacks, is no answers either.
    assert "start_positions" not in SquadPreprocessor().features({**batch, "answers": [None]}, family("bert"))


def test_flat_columns_give_the_same_features_as_nested_ones(family):
    context = "Old Tomás keeps it."
    nested = {
        "question": ["Who?", "Why?"],
        "context": [context] * 2,
        "answers": [{"text": ["keeps"], "answer_start": [10]}, {"text": [], "answer_start": []}],
    }
    flat = {**nested, "answer_text": ["keeps", ""], "answer_start": ["10", ""]}
    del flat["answers"]
    made = SquadPreprocessor(flat=True).features(flat, family("bert"))
    assert rows(made) == rows(SquadPreprocessor().features(nested, family("bert")))
    assert SquadPreprocessor(flat=True).needs().answers == ("answer_text", "answer_start")
    assert SquadPreprocessor().needs().answers == ("answers",)


def test_an_answer_that_is_not_at_its_place_is_never_labelled_in_silence(family):
    batch = {
        "id": ["q1"],
        "question": ["Who?"],
        "context": ["Old Tomás keeps it."],
        "answers": [{"text": ["keeps"], "answer_start": [11]}],
    }
    with pytest.raises(BadData, match="example 'q1': the answer is 'keeps', but at answer_start=11"):
        SquadPreprocessor().features(batch, family("bert"))


def test_half_a_surrogate_pair_is_named(family):
    with pytest.raises(BadData, match="half of a surrogate pair"):
        SquadPreprocessor().features({"question": ["Who?"], "context": ["tar \ud83d"]}, family("bert"))


def test_a_tokenizer_without_offsets_is_refused(family):
    class Slow:
        is_fast = False

    with pytest.raises(Incompatible, match="Slow does not keep them"):
        SquadPreprocessor().features({"question": ["Who?"], "context": ["tar"]}, Slow())


def test_a_tokenizer_that_was_used_otherwise_before_makes_the_same_windows(family):
    tokenizer = family("bert")
    batch = {"question": ["Who?"], "context": [TEXTS[0] * 3]}
    before = rows(SquadPreprocessor(**SHAPE).features(batch, tokenizer))
    tokenizer("tar", padding="max_length", truncation=True, max_length=8)
    assert rows(SquadPreprocessor(**SHAPE).features(batch, tokenizer)) == before


@pytest.mark.parametrize(("given", "word"), [((100, 100), "less than max_length=100"), ((100, -1), "at least 0")])
def test_a_stride_that_cannot_be_is_refused_at_once(given, word):
    with pytest.raises(BadOptions, match=word):
        build(SquadPreprocessor, {"max_length": given[0], "stride": given[1]}, where="preprocessor")


@pytest.mark.parametrize("name", ["bert", "xlnet", "gpt2"])
def test_it_obeys_the_laws_of_preprocessors(family, name):
    examples = [
        {
            "id": str(place),
            "question": "Who keeps it?",
            "context": text,
            "answers": {"text": [text[4:20].strip()], "answer_start": [text.index(text[4:20].strip())]},
        }
        for place, text in enumerate(TEXTS)
    ]
    task = finetune_squad.tasks()["question-answering"]
    laws.check_preprocessor(
        SquadPreprocessor(max_length=48, stride=8), examples=examples, tokenizer=family(name), task=task
    )
    flat = [
        {**{k: v for k, v in e.items() if k != "answers"}, "answer_text": e["answers"]["text"][0], "answer_start": "4"}
        for e in examples
    ]
    laws.check_preprocessor(
        SquadPreprocessor(max_length=48, stride=8, flat=True), examples=flat, tokenizer=family(name), task=task
    )


def test_counts_are_of_examples_and_not_of_windows(family):
    long = "The pier. " * 60
    none = {"text": [], "answer_start": []}
    batch = {
        "question": ["Who?"] * 4,
        "context": [long, "tar pier", "tar pier", long],
        "answers": [
            {"text": [long[:500]], "answer_start": [0]},  # fits no window
            {"text": ["ar pi"], "answer_start": [1]},  # ends inside two tokens
            {"text": ["tar"], "answer_start": [0]},
            none,
        ],
    }
    windows = SquadPreprocessor(**SHAPE)
    made = windows.features(batch, family("bert"))
    counts = windows.counts(made)
    assert counts == {
        "examples": 4,
        "examples_in_several_windows": 2,
        "answers": 3,
        "answers_widened_to_tokens": 1,
        "answers_narrowed_to_tokens": 0,
        "answers_lost_between_windows": 1,
        "answers_without_tokens": 0,
    }
    cut = len(made["window"]) // 2  # the core counts in batches of features that may cut an example
    parts = [windows.counts({k: v[part] for k, v in made.items()}) for part in (slice(cut), slice(cut, None))]
    assert {name: parts[0][name] + parts[1][name] for name in counts} == counts


@pytest.mark.parametrize("name", FAMILIES)
def test_show_marks_what_the_labels_point_at(family, name):
    context = "Gulls circle over the quay."
    batch = {
        "question": ["Where?", "Who?"],
        "context": [context] * 2,
        "answers": [{"text": ["the quay"], "answer_start": [18]}, {"text": [], "answer_start": []}],
    }
    windows = SquadPreprocessor()
    answered, unanswered = rows(windows.features(batch, family(name)))
    shown = windows.show(answered, family(name))
    marked = shown[shown.index("⟦") + 1 : shown.index("⟧")]
    assert "the quay" in marked if name != "llama" else "the" in marked
    assert "no answer" not in shown
    assert windows.show(unanswered, family(name)).endswith("(no answer here)")


@pytest.mark.parametrize("name", ["bert", "xlnet", "gpt2"])
def test_batches_are_padded_on_the_right_so_that_labels_keep_their_places(family, name):
    tokenizer, windows = family(name), SquadPreprocessor()
    batch = {
        "question": ["Who?"] * 2,
        "context": ["Gulls circle.", TEXTS[1]],
        "answers": [{"text": ["circle"], "answer_start": [6]}, {"text": ["Moreau"], "answer_start": [13]}],
    }
    made = rows(windows.features(batch, tokenizer))
    collator = windows.collator(tokenizer)
    assert isinstance(collator, PadRight)
    model_columns = finetune_squad.tasks()["question-answering"].features
    padded = collator([{name: row[name] for name in row if name in model_columns} for row in made])
    assert padded["input_ids"].shape == padded["attention_mask"].shape
    for number, row in enumerate(made):
        length = len(row["input_ids"])
        assert padded["input_ids"][number, :length].tolist() == row["input_ids"]
        assert padded["attention_mask"][number].tolist() == [1] * length + [0] * (padded["input_ids"].shape[1] - length)
        assert padded["start_positions"][number] == row["start_positions"]
    assert ("token_type_ids" in padded) == ("token_type_ids" in tokenizer.model_input_names)
