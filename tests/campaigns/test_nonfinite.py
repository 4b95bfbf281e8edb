"""The campaign about numbers that are not finite, with few trials."""

from __future__ import annotations

import math
from pathlib import Path

import nonfinite
import pytest
import torch
from safetensors.torch import save_file


def test_a_number_that_is_not_finite_stops_a_run_and_is_not_saved(tmp_path: Path) -> None:
    trials = [("loss", math.inf, 1, 1), ("gradient", math.nan, 3, 4), ("weight", math.nan, 2, 1),
              ("metric", math.nan, 2, 1)]  # fmt: skip
    found = nonfinite.measure(trials, tmp_path, rates=["1e39"])
    assert not found.trouble
    assert found.trials == found.stopped == found.rows == found.clean == 5


def test_the_campaign_notices_a_run_that_goes_on(tmp_path: Path) -> None:
    found = nonfinite.measure([("loss", 0.0, 2, 1)], tmp_path)  # adds nothing
    assert (found.trials, found.stopped) == (1, 0)
    assert "exit 0" in found.trouble


@pytest.mark.parametrize("value", [1.0, math.inf])
def test_a_saved_number_that_is_not_finite_is_found(value: float, tmp_path: Path) -> None:
    (tmp_path / "checkpoint-1").mkdir()
    save_file({"w": torch.tensor([1.0, value])}, tmp_path / "checkpoint-1" / "model.safetensors")
    assert nonfinite.is_clean(tmp_path) == math.isfinite(value)
