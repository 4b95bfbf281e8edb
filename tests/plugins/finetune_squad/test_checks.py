"""What `check` says of bad questions, contexts and answers."""

from __future__ import annotations

import unicodedata

import pytest

from finetune.testing.laws import check_finding
from finetune_squad.preprocessor import SquadPreprocessor

CONTEXT = "The pier and the quay: café 🚢 by the pier, tar."


def row(text="quay", start=None, *, context=CONTEXT, **more):
    start = context.index(text) if start is None else start
    return {"question": "Where?", "context": context, "answers": {"text": [text], "answer_start": [start]}, **more}


def found(*rows, **options):
    findings = list(SquadPreprocessor(**options).check(rows))
    for finding in findings:
        check_finding(finding)
    return findings


def test_good_rows_have_no_findings():
    none = {"text": [], "answer_start": []}
    unanswerable = {**row(), "answers": none, "question": "Why?"}
    assert found(row(), row("tar", question="What?"), unanswerable, row("🚢", question="Which?")) == []


def test_an_answer_that_is_not_at_its_offset_is_shown_with_what_is_there():
    (finding,) = found(row("quay", 16))
    assert finding.code == "answer-not-at-offset"
    assert finding.level == "row"
    assert finding.row == 0
    assert finding.column == "answers.text[0]"
    assert "'quay'" in finding.message
    assert "' qua'" in finding.message
    assert finding.fix.startswith(
        "It occurs once in the context, at 17: set answer_start to 17. Or set preprocessor.fix"
    )


def test_an_answer_that_stands_elsewhere_several_times_or_never_says_so():
    second = CONTEXT.rindex("pier")
    assert f"It occurs 2 times in the context, the nearest at {second}. Or set" in found(row("pier", second - 1))[0].fix
    assert f"It occurs 2 times in the context, nearest at {second}: choose" in found(row("pier", second - 4))[0].fix
    assert "context does not hold it at all" in found(row("harbour", 3))[0].fix


@pytest.mark.parametrize(
    ("text", "start", "unit"),
    [
        ("tar", len(CONTEXT[: CONTEXT.index("tar")].encode()), "bytes of UTF-8"),
        ("tar", CONTEXT.index("tar") + 1, "UTF-16"),
    ],
)
def test_offsets_in_other_units_are_recognised(text, start, unit):
    (finding,) = found(row(text, start))
    assert finding.code in {"answer-not-at-offset", "answer-outside-context"}
    assert unit in finding.fix
    assert f"in characters it is {CONTEXT.index('tar')}" in finding.fix


def test_offsets_that_count_crlf_as_one_are_recognised():
    context = "one\r\ntwo\r\nthree"
    (finding,) = found(row("three", 8, context=context))
    assert "each line end as one character; here it is 10" in finding.fix


def test_another_unicode_form_is_recognised():
    decomposed = unicodedata.normalize("NFD", "café")
    (finding,) = found(row(decomposed, CONTEXT.index("café")))
    assert finding.code == "answer-in-other-unicode-form"
    assert "NFC" in finding.fix


@pytest.mark.parametrize("start", [-1, len(CONTEXT) - 2, 4000])
def test_an_answer_outside_the_context_is_found(start):
    (finding,) = found(row("tar", start))
    assert finding.code == "answer-outside-context"
    assert finding.fix.startswith("It occurs once in the context, at 43: set answer_start to 43. Or set")


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        (None, "answers-malformed"),
        (4, "answers-malformed"),
        ("{'text': [pier]}", "answers-malformed"),
        ("[{'text': 'pier'", "answers-malformed"),
        ("{'text': open('x')}", "answers-malformed"),
        ([["pier", 4]], "answers-malformed"),
        ([{"answer": "pier", "answer_start": 4}], "answers-malformed"),
        ({"text": 4, "answer_start": [4]}, "answers-malformed"),
        ({"text": ["pier"], "answer_start": 4}, "answers-malformed"),
        ({"text": [None], "answer_start": [4]}, "answers-malformed"),
        ({"text": None, "answer_start": None, "odd": 1}, "answers-malformed"),
        ([{"text": None, "answer": "pier", "answer_start": 4}], "answers-malformed"),
        ({"text": ["pier"], "answer_start": []}, "answers-uneven"),
        ({"text": ["pier"]}, "answer-without-offset"),
        (["pier"], "answer-without-offset"),
        ("pier", "answer-without-offset"),
        ({"text": ["pier"], "answer_start": ["4.5"]}, "answer-start-not-integer"),
        ({"text": ["pier"], "answer_start": [4.5]}, "answer-start-not-integer"),
        ({"text": ["pier"], "answer_start": [2.0**53]}, "answer-start-not-integer"),
        ({"text": ["pier"], "answer_start": [float("inf")]}, "answer-start-not-integer"),
        ({"text": ["pier"], "answer_start": [True]}, "answer-start-not-integer"),
        ({"text": [""], "answer_start": [4]}, "answer-empty"),
        ({"text": [" \u200b"], "answer_start": [3]}, "answer-empty"),
    ],
)
def test_malformed_answers_are_found(answers, code):
    (finding,) = found({**row(), "answers": answers})
    assert finding.code == code
    assert finding.fix


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"context": ""}, "context-empty"),
        ({"context": " \u200b\n"}, "context-empty"),
        ({"context": None}, "context-missing"),
        ({"question": "  "}, "question-empty"),
        ({"question": 7}, "question-not-text"),
        ({"question": "\ud83d?"}, "question-surrogate"),
    ],
)
def test_bad_texts_are_found_once(change, code):
    (finding,) = found({**row(), **change})
    assert (finding.code, finding.level) == (code, "row")


def test_an_answer_with_half_of_a_surrogate_pair_is_found():
    (finding,) = found(row("\ud83d", 4))
    assert finding.code == "answer-surrogate"
    assert "surrogate pair" in finding.fix


def test_flat_columns_hold_text_that_is_converted():
    flat = {"question": "Where?", "context": CONTEXT, "answer_text": "quay", "answer_start": "17"}
    assert found(flat, {**flat, "question": "Why?", "answer_text": "", "answer_start": ""}, flat=True) == []
    for value in ("1e1", "seventeen", "17.5", "(17, 21, 3)", "(a, b)"):
        (finding,) = found({**flat, "answer_start": value}, flat=True)
        assert finding.code == "answer-start-not-integer"
    for value in ("", None, float("nan")):
        (finding,) = found({**flat, "answer_start": value}, flat=True)
        assert finding.code == "answer-without-offset"
    assert found({**flat, "answer_start": "16"}, flat=True)[0].code == "answer-not-at-offset"


def test_unanswerable_questions_are_bad_only_where_they_are_not_allowed():
    silent = {**row(), "answers": {"text": [], "answer_start": []}}
    assert found(silent) == []
    assert [finding.code for finding in found(silent, allow_unanswerable=False)] == ["no-answer"]


def test_is_impossible_must_agree_with_the_answers():
    silent = {**row(), "answers": {"text": [], "answer_start": []}}
    assert found({**silent, "is_impossible": True}) == []
    assert found(row(is_impossible=False)) == []
    assert found(row(is_impossible=True))[0].code == "impossible-with-answer"
    assert found({**silent, "is_impossible": False})[0].code == "possible-without-answer"


def test_duplicate_ids_are_an_error_and_missing_ones_are_not():
    findings = found(row(id="a"), row("tar", id="b", question="What?"), row("pier", id="a", question="Who?"))
    assert [(f.code, f.level, f.row, f.other, f.value) for f in findings] == [("duplicate-id", "error", 2, 0, "a")]
    assert found(row(id=""), row(id=None), row()) == []


@pytest.mark.parametrize(("answered", "count", "codes"), [(0, 5, ["split-without-answers"]), (0, 4, []), (1, 9, [])])
def test_a_split_without_any_answer_is_a_warning(answered, count, codes):
    none = {"text": [], "answer_start": []}
    rows = [{**row(), "question": f"Why {number}?", "answers": none} for number in range(count)]
    findings = found(*(row(question=f"Where {number}?") for number in range(answered)), *rows)
    assert [finding.code for finding in findings] == codes
    assert all((finding.level, finding.message[:2]) == ("warning", "5 ") for finding in findings)


def test_what_is_odd_and_not_wrong_is_a_warning():
    twice = {"text": ["pier", "quay"], "answer_start": [4, 17]}
    same = {"text": ["quay", "quay"], "answer_start": [17, 17]}
    findings = found(row("tar"), row("quay"), {**row(question="A?"), "answers": twice}, row(" tar", question="B?"))
    assert [(f.code, f.level, f.row, f.other) for f in findings] == [
        ("conflicting-answers", "warning", 1, 0),
        ("several-answers", "warning", 2, None),
        ("answer-outer-space", "warning", 3, None),
    ]
    assert found({**row(), "answers": same}) == []


def test_rows_without_answers_are_checked_as_far_as_they_go():
    assert found({"question": "Where?", "context": CONTEXT}) == []
