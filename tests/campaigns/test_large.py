"""Large inputs are refused with little memory; the campaign sees a process that takes much."""

from __future__ import annotations

from pathlib import Path

import large
import pytest


def test_large_inputs_are_refused_in_a_moment(tiny_bert: Path, tmp_path: Path) -> None:
    found = large.Figures()
    names = {"900 levels of JSON in an unused column", "3,000 rows with a new key each", "YAML aliases that multiply"}
    chosen = {each.name: each for each in large.REFUSALS if each.name in names}
    large.refuse(chosen, tiny_bert, tmp_path, found, stock_too=False)
    large.score(200, 300, found, most=100)
    assert found.problems == [] and len(found.refused) == 3


def test_a_refusal_that_takes_much_memory_is_seen(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large, "check", large.greedy)
    found = large.Figures()
    large.refuse({"a wide one": large.REFUSALS[0]}, tiny_bert, tmp_path, found, stock_too=False)
    assert len(found.problems) == 1 and "MiB" in found.problems[0]
