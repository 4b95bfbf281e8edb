"""Duplicates are counted as a dictionary would count them, whether the rows are in memory or on the disk."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.data import text_checks
from finetune.kit import DuplicateCounter

ROWS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from([0, 1, "x", -1, -2, None])), max_size=40)


@settings(deadline=None)
@given(rows=ROWS, held=st.sampled_from([3, 7, 1000]), numbered=st.sampled_from([1, 3, 100]), step=st.integers(1, 3))
def test_rows_are_counted_as_a_dictionary_counts_them(rows: Any, held: int, numbered: int, step: int) -> None:
    first: dict[str, Any] = {}
    repeats, conflicts = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_checks, "_HELD", held)
        patch.setattr(text_checks, "_NUMBERED", numbered)
        patch.setattr(text_checks, "_PARTS", 4)
        counter = DuplicateCounter()
        for number, (key, label) in enumerate(rows):
            counter.add(number * step, key, label)
            if key not in first:
                first[key] = label
            elif first[key] == label:
                repeats.append(number * step)
            else:
                conflicts.append(number * step)
        assert (counter.repeats, counter.conflicts) == (len(repeats), len(conflicts))
        found = [*counter.repeat_warning("rows repeat.", column="text")]
        assert [finding.row for finding in found] == repeats[:1]
        found = [*counter.conflict_warning("rows repeat.", column="text")]
        assert [finding.row for finding in found] == conflicts[:1]
