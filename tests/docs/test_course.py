"""The page of exercises and quizzes is what the course holds."""

from __future__ import annotations

import course


def test_the_page_is_current() -> None:
    assert course.PAGE.read_text(encoding="utf-8") == course.page(), "run: python docs/_build/course.py"
