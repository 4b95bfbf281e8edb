"""Malformed files are refused before a model is built; the campaign sees one that is not."""

from __future__ import annotations

from pathlib import Path

import malformed
import pytest

from finetune.data.findings import Report


@pytest.fixture
def with_one_base(tiny_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(malformed.small.Recipes, "_base", lambda self, family, words: tiny_bert)


def some(folder: Path, count: int) -> list[malformed.Input]:
    """Return some of the inputs of tasks that a BERT can learn."""
    encoders = {"class", "learned", "number", "several", "tags", "qa", "choice"}
    chosen = [each for each in malformed.inputs(folder) if each.task in encoders]
    return malformed.random.Random(1).sample(chosen, count)


@pytest.mark.usefixtures("with_one_base")
def test_malformed_files_are_refused_with_their_place(tmp_path: Path) -> None:
    found = malformed.measure(some(tmp_path, 25), seed=1, folder=tmp_path)
    assert found.problems == []
    assert found.refused == found.inputs == found.lines + found.whole == 25
    assert found.lines and found.whole


@pytest.mark.usefixtures("with_one_base")
def test_a_fault_that_is_let_through_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nul = next(each for each in malformed.generated() if each.code == "nul" and each.task == "class")
    monkeypatch.setattr(Report, "stop", lambda report: None)
    found = malformed.measure([nul], seed=1, folder=tmp_path)
    assert found.refused == 0 and len(found.problems) == 1
