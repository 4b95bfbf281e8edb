"""Offsets that are missing or wrong: corrected where there is no doubt, refused where there is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.errors import BadData
from finetune_squad.answers import Form, MalformedAnswers
from finetune_squad.preprocessor import SquadPreprocessor

CONTEXT = "Gulls 🚢 café. The pier and the quay by the pier, tar."
FIRST, SECOND = CONTEXT.index("pier"), CONTEXT.rindex("pier")


def row(text, start, context=CONTEXT):
    return {"question": "Where?", "context": context, "answers": {"text": [text], "answer_start": [start]}}


def fixed(text, start, context=CONTEXT):
    """Return the corrected answer, or None if it is refused."""
    try:
        ((text, start),) = Form(fix_offsets=True).answers(row(text, start, context))
    except MalformedAnswers:
        return None
    return text, start


@pytest.mark.parametrize(
    ("text", "start", "right"),
    [
        ("quay", None, CONTEXT.index("quay")),  # only once there
        ("quay", 0, CONTEXT.index("quay")),
        ("quay", -1, CONTEXT.index("quay")),
        ("quay", 4000, CONTEXT.index("quay")),
        ("pier", FIRST - 1, FIRST),  # the offset of the space before it
        ("pier", SECOND - 1, SECOND),
        ("pier", SECOND + 2, SECOND),
        ("pier", len(CONTEXT[:SECOND].encode()), SECOND),
        ("pier", SECOND + 1, SECOND),  # UTF-16, too
        (" quay\n", CONTEXT.index("quay"), CONTEXT.index("quay")),
        ("pier", None, None),
        ("pier", 0, None),
        ("pier", CONTEXT.index("quay"), None),  # between the two
        ("harbour", 4, None),
    ],
)
def test_an_offset_is_corrected_only_where_there_is_no_doubt(text, start, right):
    assert fixed(text, start) == (None if right is None else (text.strip(), right))


@pytest.mark.parametrize(
    ("context", "text", "start", "right"),
    [
        ("The party begins.", "art", None, None),
        ("It was in 1950.", "5", None, None),
        ("It was 5.", "5", None, 7),
        ("今日は晴れです", "晴れ", None, 3),  # a script without spaces
        ("éé ab ab", "ab", 5, None),  # counted in bytes it is 3, and 6 is next to it
    ],
)
def test_a_part_of_a_word_and_two_readings_of_an_offset_are_doubt(context, text, start, right):
    assert fixed(text, start, context) == (None if right is None else (text, right))


@given(
    parts=st.lists(st.sampled_from(["tar", "rope", "🚢", " ", "é", "\r\n", "a"]), min_size=1, max_size=15),
    start=st.integers(0, 40),
    size=st.integers(1, 8),
    shift=st.sampled_from([None, -2, -1, 1, 2, "utf-8", "utf-16-le"]),
)
@settings(max_examples=300, deadline=None)
def test_a_corrected_answer_is_in_the_context_and_a_single_one_is_found(parts, start, size, shift):
    context = "".join(parts)
    text = context[start : start + size]
    if not text.strip():
        return
    if isinstance(shift, str):
        given_start = len(context[:start].encode(shift)) // (2 if shift == "utf-16-le" else 1)
    else:
        given_start = None if shift is None else start + shift
    found = fixed(text, given_start, context)
    if found is not None:
        assert context.startswith(found[0], found[1])
        assert found[0] in (text, text.strip())
    if sum(context.startswith(text, place) for place in range(len(context))) == 1:
        before, after = context[:start][-1:], context[start + len(text) :][:1]
        is_part = (before.isalnum() and text[0].isalnum()) or (text[-1].isalnum() and after.isalnum())
        assert found == (text, start) or (found is None and is_part)
    assert Form().written(row(text, given_start, context)) == [(text, given_start)]


def test_corrections_are_counted_and_the_rest_stays_bad(family):
    rows = [row("quay", 3), row("pier", None), row("tar", CONTEXT.index("tar"))]
    for number, each in enumerate(rows):
        each["question"] = f"Where, {number}?"
    corrected, bad = sorted(SquadPreprocessor(fix_offsets=True).check(rows), key=lambda finding: finding.row)
    assert (corrected.code, corrected.level, corrected.row, corrected.value) == (
        "offset-corrected",
        "warning",
        0,
        "quay",
    )
    assert corrected.message.startswith("1 questions")
    assert (bad.code, bad.level, bad.row) == ("answer-without-offset", "row", 1)
    assert "2 times" in bad.fix
    codes = [finding.code for finding in SquadPreprocessor().check(rows)]
    assert codes == ["answer-not-at-offset", "answer-without-offset"]


def test_labels_are_at_the_corrected_place(family):
    tokenizer = family("bert")
    right, wrong = row("quay", CONTEXT.index("quay")), row("quay", None)
    batches = [{name: [each[name]] for name in each} for each in (right, wrong)]
    made = [SquadPreprocessor(fix_offsets=True).features(batch, tokenizer) for batch in batches]
    assert made[0]["start_positions"] == made[1]["start_positions"] != [0]
    with pytest.raises(BadData, match="has no answer_start"):
        SquadPreprocessor().features(batches[1], tokenizer)


def test_flat_rows_need_no_offsets_if_all_are_looked_up():
    assert SquadPreprocessor(flat=True, fix_offsets=True).needs().answers == ("answer_text",)
    assert SquadPreprocessor(flat=True).needs().answers == ("answer_text", "answer_start")
    given_row = {"question": "Where?", "context": CONTEXT, "answer_text": "quay"}
    (finding,) = SquadPreprocessor(flat=True, fix_offsets=True).check([given_row])
    assert finding.code == "offset-corrected"
