"""The campaign about failing writes, with few trials."""

from __future__ import annotations

from pathlib import Path

import failing_writes
import pytest
from command import TRACEBACK, Ended


def test_a_failing_write_is_explained_and_the_run_continues_to_the_bit(tmp_path: Path) -> None:
    found = failing_writes.measure(4, 1, tmp_path, seed=1)
    assert not found.trouble
    assert found.trials == found.explained == 5
    assert found.resumable == found.equal
    assert found.resumable > 0


@pytest.mark.parametrize(
    ("code", "output", "explained"),
    [
        (4, "error: no room", True),
        (0, "score", True),
        (1, "error: no room", False),
        (4, f"{TRACEBACK}\nOSError", False),
        (4, "", False),
    ],
)
def test_the_campaign_notices_what_is_not_explained(code: int, output: str, explained: bool) -> None:
    assert failing_writes.is_explained(Ended(exit_code=code, output=output)) == explained
