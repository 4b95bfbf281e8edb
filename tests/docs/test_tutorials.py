"""Every tutorial's page is fresh, and a new run says what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import tutorials
from cells import parse
from page import render

SCRIPTS = tutorials.scripts()
QUICK = {"02_sentiment"}
"""Run in the suite; all in `pytest -m slow`, where the bases of the small world are made first."""
NUMBER = re.compile(r"\d+(?:[.,]\d+)*(?:e[-+]?\d+)?")
PASSING = re.compile(r'<p class="ft-meta".*|<div class="ft-output ft-varies" markdown>.*?</div>', re.DOTALL)
"""The time it took, and what may differ between machines."""


def differences(old: str, new: str, *, rel: float = 0.25, abs_: float = 0.05) -> list[tuple[str, str]]:
    """Return the lines that say something else: other words, or numbers that are not near each other."""
    before, after = (PASSING.sub("", text).splitlines() for text in (old, new))
    lines = zip(before, after, strict=False)
    longer = max(before, after, key=len)[min(len(before), len(after)) :]
    return [(a, b) for a, b in lines if not near(a, b, rel=rel, abs_=abs_)] + [("", line) for line in longer]


def near(old: str, new: str, *, rel: float, abs_: float) -> bool:
    """Say whether two lines have the same words and, within reason, the same numbers."""
    if NUMBER.sub("#", old).split() != NUMBER.sub("#", new).split():
        return False
    pairs = zip(NUMBER.findall(old), NUMBER.findall(new), strict=True)
    return all(value(a) == pytest.approx(value(b), rel=rel, abs=abs_) for a, b in pairs)


def value(number: str) -> float:
    """Return a printed number: thousands are separated by commas."""
    return float(number.replace(",", "")) if number.count(".") < 2 else float(number.replace(".", ""))


def test_other_words_and_far_numbers_differ_and_near_numbers_do_not():
    assert differences("accuracy 0.91 of 1,200", "accuracy 0.88 of 1,190") == []
    assert differences("accuracy 0.91", "accuracy 0.61") == [("accuracy 0.91", "accuracy 0.61")]
    assert differences("1,200 rows", "2,400 rows") == [("1,200 rows", "2,400 rows")]
    assert differences("good", "bad") == [("good", "bad")]
    assert differences("one", "one\ntwo") == [("", "two")]
    varies = '<div class="ft-output ft-varies" markdown>\n{}\n</div>'
    assert differences(varies.format("a ship"), varies.format("a boat")) == []


def test_the_index_lists_each_lesson_with_its_time():
    index = SCRIPTS[0].with_name("index.md")
    text = index.read_text(encoding="utf-8")
    table = text[text.index("## All lessons") :]
    assert [script.stem for script in SCRIPTS if f"({script.stem}.md) |" not in table] == []
    assert tutorials.with_times(index) == text, "a lesson was made again, and the index has its old time"


def test_no_page_is_out_of_date():
    assert list(tutorials.check(SCRIPTS)) == []


@pytest.mark.parametrize(
    "script",
    [pytest.param(path, id=path.stem, marks=() if path.stem in QUICK else pytest.mark.slow) for path in SCRIPTS],
)
def test_a_new_run_says_what_the_page_says(script: Path, tmp_path: Path):
    record = tutorials.run(script, tmp_path)
    again = render(script.stem, parse(script.read_text(encoding="utf-8")), record)
    assert differences(tutorials.body(script.with_suffix(".md")), again) == []
