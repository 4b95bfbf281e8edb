"""The figures of the landing page and of the README are those of the page that is made from measurements."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MEASURED = (ROOT / "docs" / "reference" / "reliability.md").read_text(encoding="utf-8")
CLAIMS = {
    "kill -9": ("69 of 69", "100 kills", "17 could not be resumed", "43 kills"),
    "malformed files": ("871 of 871", "705 with file and line", "22 of 55"),
    "damaged checkpoints": ("1234 of 1234", "18 damages", "7 were accepted"),
}
"""Line of the scorecard → what the pages say of it, as the scorecard has it."""
SHOWN = ("69 of 69", "100 times", "17 of 43", "871 of 871", "705 of them", "22 of 55", "1,234 of 1,234", "7 of 18")


@pytest.mark.parametrize("line", CLAIMS)
def test_the_figures_are_those_that_were_measured(line: str) -> None:
    row = next(row for row in MEASURED.splitlines() if re.match(rf"\| ✓ \| {re.escape(line)} \|", row))
    assert [claim for claim in CLAIMS[line] if claim not in row] == []


@pytest.mark.parametrize("page", ["docs/index.md", "README.md"])
def test_both_front_pages_show_the_same_figures(page: str) -> None:
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    assert [figure for figure in SHOWN if figure not in text] == []
    assert "reference/reliability" in text
