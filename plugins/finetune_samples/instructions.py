"""`harbour-instructions` and `harbour-questions`: instructions with their one right answer, as a chat or in columns."""

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
"""Share of conversations that go on where they can."""


def instructions(sizes: Sizes, *, seed: int, world: World) -> Rows:
    """Return ``{split: rows}`` of `messages`: a question and its answer, a few with a system turn or a second question.

    The families of instructions are the same in every split; what they are about is in no two rows the same.
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
    """Return ``{split: rows}`` of `prompt` and `completion`: what `instructions` begins with, row by row."""

    def make(split: str, attempt: int) -> tuple[tuple[str, ...], dict[str, Any]]:
        _, lesson = _drawn(seed, world, split, attempt)
        asked, answer = lesson.turns[0]
        return lesson.given, {"prompt": asked, "completion": answer}

    return distinct(sizes, make)


def _drawn(seed: int, world: World, split: str, attempt: int) -> tuple[Random, Lesson]:
    rng = Random(f"harbour-instructions/{seed}/{split}/{attempt}")
    return rng, rng.choice(FAMILIES)(Voice(rng, world))
