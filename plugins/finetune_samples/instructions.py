"""`harbour-instructions` and `harbour-questions`: instructions with one correct answer, as a chat or in columns."""

from __future__ import annotations

from random import Random
from typing import Any

from finetune_samples.lessons import FAMILIES, Lesson
from finetune_samples.voice import Rows, Sizes, Voice, distinct
from finetune_samples.world import World

SIZES: Sizes = {"train": 4000, "validation": 200, "test": 300}
SYSTEM = "You keep the harbour office of Skerrow. Answer with as few words as you can."
TOLD = 0.1
"""Share of conversations with a system turn."""
CONTINUED = 0.3
"""Share of conversations with a second question, if the lesson has one."""


def instructions(sizes: Sizes, *, seed: int, world: World) -> Rows:
    """Return ``{split: rows}`` of `messages`: a question and its answer, a few with a system turn or a second question.

    The kinds of instructions are the same in every split; no two rows are about the same names.
    """

    def make(split: str, attempt: int) -> tuple[tuple[str, ...], dict[str, Any]]:
        rng, lesson = _drawn(seed, world, split, attempt)
        told, continued = rng.random() < TOLD, rng.random() < CONTINUED
        messages = [{"role": "system", "content": SYSTEM}] if told else []
        for asked, answer in lesson.turns if continued else lesson.turns[:1]:
            messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        return lesson.given, {"messages": messages}

    return distinct(sizes, make)


def questions(sizes: Sizes, *, seed: int, world: World) -> Rows:
    """Return ``{split: rows}`` of `prompt` and `completion`: the first turns of each row of `instructions`."""

    def make(split: str, attempt: int) -> tuple[tuple[str, ...], dict[str, Any]]:
        _, lesson = _drawn(seed, world, split, attempt)
        asked, answer = lesson.turns[0]
        return lesson.given, {"prompt": asked, "completion": answer}

    return distinct(sizes, make)


def _drawn(seed: int, world: World, split: str, attempt: int) -> tuple[Random, Lesson]:
    rng = Random(f"harbour-instructions/{seed}/{split}/{attempt}")
    return rng, rng.choice(FAMILIES)(Voice(rng, world))
