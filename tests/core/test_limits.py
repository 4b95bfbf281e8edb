"""Answers that are longer than a limit are counted, and reported with the value that is enough."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune import limits
from finetune.interfaces import Limit
from finetune.testing.laws import check_finding


def count(value, lengths):
    return limits.count(Limit(option="evaluator.longest", value=value, lengths=lengths))


def test_the_counts_of_a_hundred_answers():
    found = count(30, [5] * 92 + [31, 35, 40, 41, 42, 50, 60, 200])
    assert found == {
        "option": "evaluator.longest",
        "value": 30,
        "answers": 100,
        "too_long": 8,
        "enough": 200,
        "enough_for_99": 60,
    }
    assert limits.counts([found]) == {"over_longest": 8}
    assert list(limits.sentences({"test": [found]})) == [
        "On test, 8 of 100 answers (8.0%) are longer than evaluator.longest, which is 30, so the model can never give "
        "them in full. Set it to 200 for all answers, or 60 for 99% of them."
    ]


@pytest.mark.parametrize(("too_long", "reported"), [(0, False), (1, False), (2, True), (100, True)])
def test_more_than_one_percent_is_reported(too_long, reported):
    found = count(3, [3] * (100 - too_long) + [4] * too_long)
    findings = list(limits.check({"validation": [found]}))
    for finding in findings:
        check_finding(finding)
    assert [(finding.code, finding.level, finding.split) for finding in findings] == (
        [("answers-over-limit", "warning", "validation")] if reported else []
    )
    assert limits.counts([found]) == ({"over_longest": too_long} if too_long else {})


def test_one_answer_and_no_answer():
    (finding,) = limits.check({"train": [count(3, [4])]})
    assert finding.message == (
        "1 of 1 answers (100.0%) is longer than evaluator.longest, which is 3, so the model can never give it in full."
    )
    assert finding.fix == "Set it to 4 for all answers."
    assert list(limits.check({"train": [count(3, [])]})) == []


@given(st.integers(1, 50), st.lists(st.integers(1, 80), max_size=400))
def test_the_named_values_are_the_least_that_are_enough(value, lengths):
    found = count(value, lengths)
    assert found["too_long"] == len([length for length in lengths if length > value])
    if not lengths:
        return
    assert count(found["enough"], lengths)["too_long"] == 0
    assert count(found["enough"] - 1, lengths)["too_long"] > 0
    most = found["enough_for_99"]
    assert not list(limits.check({"train": [count(most, lengths)]}))
    assert list(limits.check({"train": [count(most - 1, lengths)]}))
