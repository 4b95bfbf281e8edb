"""Every row of a file is kept, dropped or left out; the campaign sees one that is lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import accounting


def test_every_row_is_accounted_for(tmp_path: Path) -> None:
    found = accounting.measure(files=15, seed=1, folder=tmp_path)
    assert found.problems == [] and found.files == 15
    assert found.dropped and found.left_out, "there must be something to account for"


def test_a_row_that_is_lost_is_seen(tmp_path: Path) -> None:
    def losing(*args: Any, **kwargs: Any) -> Any:
        examples = accounting.load(*args, **kwargs)
        counts = examples.data_report["train"]
        less = {**counts, "read": counts["read"] - 1}
        return replace(examples, data_report={**examples.data_report, "train": less})

    found = accounting.measure(files=2, seed=1, folder=tmp_path, read=losing)
    assert len(found.problems) == 4, "rows of train, and the sum"
