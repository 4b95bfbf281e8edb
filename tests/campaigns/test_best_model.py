"""The best model is the one that brute force finds; the campaign sees another choice."""

from __future__ import annotations

from pathlib import Path

import best_model


def test_the_best_model_is_kept(tmp_path: Path) -> None:
    found = best_model.measure(trained=2, chosen=200, seed=1, folder=tmp_path)
    assert found.problems == []
    assert found.without and found.refused == len(best_model.NAMES) - 1


def test_another_choice_is_seen(tmp_path: Path) -> None:
    def inverted(curve: list[float], *, greater: bool) -> int | None:
        return best_model.best(curve, greater=not greater)

    found = best_model.measure(trained=0, chosen=50, seed=1, folder=tmp_path, brute=inverted)
    assert len(found.problems) > 20
