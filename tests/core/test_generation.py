"""What a recipe may say about how text is written."""

from __future__ import annotations

from dataclasses import replace

import pytest
import toy

from finetune.errors import BadOptions
from finetune.plan import check_generation
from finetune.recipe import parse

WRITTEN = {"task": "toy:TASK", "model": "m", "dataset": "d.csv", "strategy": "full", "output": "o"}
WRITES = replace(toy.TASK, generates=True)


@pytest.mark.parametrize(
    ("generation", "message"),
    [
        ({"num_beam": 4}, "Did you mean 'num_beams'"),
        ({"max_length": 9, "max_new_tokens": 9}, "give one of max_length, max_new_tokens"),
        ({"guidance_scale": 2.0}, "'guidance_scale' cannot be used here: it needs a second"),
        ({"force_words_ids": [[1]]}, "finetune runs no remote code"),
        ({"temperature": 0.5, "do_sample": False}, "temperature"),
    ],
)
def test_what_would_fail_at_the_first_text_is_refused_before_anything_is_loaded(
    generation: dict[str, object], message: str
) -> None:
    with pytest.raises(BadOptions, match=message):
        check_generation(WRITES, parse({**WRITTEN, "generation": generation}))


def test_a_task_that_writes_nothing_has_no_generation() -> None:
    good = parse({**WRITTEN, "generation": {"num_beams": 4, "max_new_tokens": 20}})
    check_generation(WRITES, good)
    with pytest.raises(BadOptions, match="'toy:TASK' generates no text"):
        check_generation(toy.TASK, good)
