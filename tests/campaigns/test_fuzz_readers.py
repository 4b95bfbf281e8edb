"""Spoiled data files are read or refused; the campaign sees a reader that crashes, and one that hangs."""

from __future__ import annotations

import time
from pathlib import Path

import fuzz_readers
import mutations
import pytest

from finetune.errors import BadData

SOME = [
    fuzz_readers.Pair("text-classification", "csv"),
    fuzz_readers.Pair("question-answering", "squad"),
    fuzz_readers.Pair("token-classification", "conll"),
    fuzz_readers.Pair("sft", "jsonl"),
    fuzz_readers.Pair("multi-label-classification", "parquet"),
]


@pytest.mark.filterwarnings("ignore")
def test_spoiled_files_are_read_or_refused(tmp_path: Path) -> None:
    found = fuzz_readers.measure(seed=1, folder=tmp_path, seconds=600, files=40, pairs=SOME)
    assert found.crashes == [] and found.hangs == []
    assert found.files == 40 == found.loaded + found.refused and found.pairs == set(SOME)
    assert found.loaded >= 5 and found.refused >= 5, "both must be common, or the mutations are too weak or too strong"


def test_a_reader_that_crashes_or_hangs_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutations, "PATIENCE", 0.05)
    calls = []

    def crooked(pair: fuzz_readers.Pair, path: Path, source: object) -> None:
        calls.append(path.read_bytes())
        if path.stem == "2":
            raise KeyError("planted")
        if path.stem == "3":
            raise BadData("refused")
        while path.stem == "4":
            time.sleep(0)  # computes without an end

    found = fuzz_readers.measure(seed=1, folder=tmp_path, seconds=600, files=6, pairs=SOME[:2], read=crooked)
    assert len(calls) == 2 + 6
    assert (found.loaded, found.refused, found.crashed) == (3, 1, 1)
    assert "KeyError" in found.crashes[0] and found.crashes[0].startswith("2: text-classification, csv: ")
    assert len(found.hangs) == 1 and found.hangs[0].startswith("4: ")
