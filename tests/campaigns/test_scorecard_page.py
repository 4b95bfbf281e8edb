"""The page of the scorecard says what the records say."""

from __future__ import annotations

import json

import pytest
import scorecard
import scorecard_page


def test_the_page_is_that_of_the_records() -> None:
    written = scorecard_page.PAGE.read_text(encoding="utf-8")
    assert written == scorecard_page.page(), "write it again: python tests/campaigns/scorecard_page.py"


def test_each_record_is_a_line_of_the_scorecard_and_says_on_which_commit() -> None:
    for path in scorecard.RECORDS.glob("*.json"):
        facts = json.loads(path.read_text(encoding="utf-8"))
        assert facts["name"] in scorecard.LINES
        assert facts["command"].startswith("python tests/campaigns/")
        assert len(facts["commit"].rstrip("+")) >= 7
    with pytest.raises(ValueError, match="is no line of the scorecard"):
        scorecard.record(scorecard.Line(name="x", goal="", stock="", ours="", met=True), started=0)
