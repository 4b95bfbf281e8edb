"""The stored runs of each format work with the same outputs, or are refused in one line."""

from __future__ import annotations

from pathlib import Path

import command
import make_fixtures
import pytest
import upgrades

from finetune.result import FORMAT

FORMATS = sorted(make_fixtures.FIXTURES.glob("format-*"))


def test_each_format_has_a_fixture_and_together_they_are_small() -> None:
    assert [path.name for path in FORMATS] == [f"format-{number}" for number in range(3, FORMAT + 1)]
    for path in FORMATS:
        assert sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) < 300_000


@pytest.mark.parametrize("fixtures", FORMATS, ids=lambda path: path.name)
def test_a_stored_run_works_or_is_refused_in_one_line(fixtures: Path) -> None:
    found = upgrades.outcomes(fixtures)
    wanted = {upgrades.WORKS} if fixtures.name == f"format-{FORMAT}" else {upgrades.WORKS, upgrades.REFUSED}
    assert len(found) == 13 and set(found.values()) <= wanted, found


def test_a_run_of_a_newer_format_is_refused_in_one_line() -> None:
    found = upgrades.newer(FORMATS[-1])
    assert len(found) == 6 and set(found.values()) == {upgrades.REFUSED}, found


def test_other_outputs_and_other_errors_are_noticed() -> None:
    expected = {"predictions": [{"prediction": "sea", "probability": 0.5}], "scores": {"accuracy": 1.0}}
    ended = command.Ended(exit_code=0, output='{"prediction": "sea", "probability": 0.501}\n')
    assert upgrades.judge(ended, lambda text: upgrades.equal("predict", text, expected)) not in upgrades.WORKS
    same = command.Ended(exit_code=0, output='{"prediction": "sea", "probability": 0.50001, "more": 1}\n')
    assert upgrades.judge(same, lambda text: upgrades.equal("predict", text, expected)) == upgrades.WORKS
    for output in ("error: no such file\n", "Traceback (most recent call last)\nerror: this version reads format 3\n"):
        assert upgrades.judge(command.Ended(exit_code=2, output=output), None).startswith("exit 2")
