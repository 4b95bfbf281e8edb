"""The page of models says what happens to its cells."""

from __future__ import annotations

import probe
import pytest

WRITTEN = probe.written(probe.PAGE.read_text(encoding="utf-8"))


def test_the_page_is_that_of_the_outcomes() -> None:
    assert probe.PAGE.read_text(encoding="utf-8") == probe.page(probe.read())


def test_the_cells_are_those_of_the_mappings_of_transformers() -> None:
    assert probe.read().keys() == {cell for cell in probe.cells() if probe.reason(cell[0]) is None}


def test_every_cell_that_does_not_work_has_a_cause() -> None:
    silent = [cell for cell, (mark, cause) in WRITTEN.items() if mark not in (probe.WORKS, "not run") and not cause]
    assert WRITTEN and not silent


def test_every_family_is_in_the_page_or_has_a_reason() -> None:
    expected = {cell for cell in probe.cells() if probe.reason(cell[0]) is None}
    assert WRITTEN.keys() == expected


@pytest.mark.parametrize(
    ("family", "task"),
    [
        ("bert", "question-answering"),
        ("bert", "multiple-choice"),
        ("bert", "masked-language-modeling"),
        ("t5", "text-to-text"),
        ("convbert", "token-classification"),
        ("yoso", "question-answering"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_a_cell_ends_as_the_page_says(family: str, task: str) -> None:
    tried = probe.try_cell(family, task)
    assert WRITTEN[family, task] == (tried.outcome, probe.as_written(tried.cause))


@pytest.mark.parametrize(
    ("first", "second", "alike"),
    [
        ({"a": [0.5, "x"]}, {"a": [0.50001, "x"]}, True),
        ({"a": [0.5, "x"]}, {"a": [0.6, "x"]}, False),
        ({"a": [0.5]}, {"a": [0.5, 0.5]}, False),
        ({"a": 1.0}, {"b": 1.0}, False),
        ("x", "y", False),
    ],
)
def test_records_are_alike_but_for_the_last_digits(first: object, second: object, alike: bool) -> None:
    assert probe._alike(first, second) == alike
