"""The campaign about memory, with two steps."""

from __future__ import annotations

from pathlib import Path

import out_of_memory


def test_a_run_without_memory_continues_with_smaller_batches(tmp_path: Path) -> None:
    found = out_of_memory.measure([5], tmp_path)
    assert not found.trouble
    assert (found.trials, found.explained, found.complete, found.equal) == (1, 1, 1, 1)


def test_the_campaign_notices_memory_that_is_too_small_for_the_small_batch(tmp_path: Path) -> None:
    found = out_of_memory.measure([2], tmp_path, rows=1)
    assert found.trouble
    assert (found.trials, found.complete) == (1, 0)
