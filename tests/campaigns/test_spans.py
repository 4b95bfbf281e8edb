"""Labels give the answer back; the campaign sees labels that are one token short."""

from __future__ import annotations

from typing import Any

import spans


def test_answers_come_back_from_their_labels() -> None:
    found = spans.measure(examples=300, seed=1, families=["bert", "gpt2", "xlm-roberta", "llama"])
    assert found.problems == [], found.problems[:3]
    assert found.examples == 300 and found.labelled > 100 and found.whole > 50


def test_labels_that_are_one_token_short_are_seen() -> None:
    def shorter(window: Any, context: str) -> str | None:
        if window["end_positions"] > window["start_positions"]:
            window = {**window, "end_positions": window["end_positions"] - 1}
        return spans.labelled(window, context)

    found = spans.measure(examples=40, seed=1, families=["bert"], back=shorter)
    assert found.problems
