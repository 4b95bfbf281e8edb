"""Planted duplicates are found; the campaign sees a search that misses some, or that reports too many."""

from __future__ import annotations

from typing import Any

import leakage
import pytest


def test_planted_duplicates_are_found() -> None:
    found = leakage.measure(rows=1_000, planted=150, seed=1)
    assert found.is_met and found.planted == {"exact": 50, "normalized": 50, "near": 50}, found


@pytest.mark.parametrize("kind", ["exact", "normalized", "near", "fresh", ""])
def test_a_worse_search_is_seen(kind: str) -> None:
    def find(parts: Any, preprocessor: Any) -> Any:
        found = {}
        for name, rows in parts.items():
            found[name] = {other: len(rows) * (other == name) for other in ("exact", "normalized", "near")}
        if kind:
            found[kind]["near" if kind == "fresh" else kind] += 3 if kind == "fresh" else -3
        return found

    assert leakage.measure(rows=60, planted=60, seed=1, find=find).is_met == (not kind)
