"""Spoiled recipes and run folders are read or refused; the campaign sees a crash."""

from __future__ import annotations

import random
from pathlib import Path

import fuzz_documents
import pytest

pytestmark = pytest.mark.filterwarnings("ignore")


def test_spoiled_documents_are_read_or_refused(tmp_path: Path) -> None:
    found = fuzz_documents.measure(seed=1, folder=tmp_path, seconds=600, files=40, with_toy=False)
    assert found.crashes == [] and found.hangs == []
    assert found.files == 40 == found.loaded + found.refused and len(found.documents) == 8
    assert found.loaded >= 5 and found.refused >= 5, "both must be common, or the mutations are too weak or too strong"


def test_a_crash_is_seen(tmp_path: Path) -> None:
    def planted(folder: fuzz_documents.Folder, draw: random.Random) -> tuple[fuzz_documents.Use, str]:
        return lambda: {}["planted"], "nothing"

    figures = fuzz_documents.measure(
        seed=1, folder=tmp_path, seconds=600, files=2, with_toy=False, kinds={"planted": planted}
    )
    assert figures.crashed == 2 and figures.loaded == 0
    assert len(figures.crashes) == 1 and figures.crashes[0].startswith("0: planted: nothing: KeyError")
