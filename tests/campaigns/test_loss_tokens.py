"""The loss is computed on the answers and their end; the campaign sees a token too few and one too many."""

from __future__ import annotations

import loss_tokens
import pytest


def test_exactly_the_answers_are_learned() -> None:
    found = loss_tokens.measure(rows=400, seed=1)
    assert found.problems == [] and set(found.rows) == set(loss_tokens.TASKS), found.problems[:3]


@pytest.mark.parametrize("task", list(loss_tokens.TASKS))
def test_labels_that_lack_a_token_are_seen(task: str) -> None:
    def shorter(labels: list[int]) -> list[int]:
        learned = [place for place, label in enumerate(labels) if label != loss_tokens.IGNORE_INDEX]
        if learned:
            labels[learned[-1]] = loss_tokens.IGNORE_INDEX
        return labels

    found = loss_tokens.measure(rows=loss_tokens.SIZE, seed=1, tasks=[task], change=shorter)
    assert len(found.problems) > loss_tokens.SIZE // 2
