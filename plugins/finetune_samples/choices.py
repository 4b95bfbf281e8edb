"""`harbour-choices`: passages with questions and four answers each, of which one is right."""

from __future__ import annotations

from random import Random
from typing import Any

from finetune_samples.qa import Fact, Passage, write
from finetune_samples.voice import Rows, Sizes, Voice
from finetune_samples.world import World

SIZES: Sizes = {"train": 1200, "validation": 200, "test": 300}
CHOICES = 4
MOST_QUESTIONS = 3
"""Of one passage."""


def choices(sizes: Sizes, *, seed: int, world: World) -> Rows:
    """Return ``{split: rows}`` of `context`, `question`, `choices` and `label`, the position of the right choice.

    No two splits share a passage. The wrong choices are of the kind of the right one. If the passage says the same of
    another subject, that answer is among them: to find the answer in the passage is then not enough.
    """
    seen: set[str] = set()
    return {split: _split(split, size, seed, world, seen) for split, size in sizes.items()}


def _split(split: str, size: int, seed: int, world: World, seen: set[str]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    number = 0
    while len(made) < size:
        rng = Random(f"harbour-choices/{seed}/{split}/{number}")
        passage = write(rng, world)
        number += 1
        if passage.context in seen:
            continue
        seen.add(passage.context)
        for fact in rng.sample(passage.facts, min(MOST_QUESTIONS, len(passage.facts))):
            made.append(_row(passage, fact, rng, world))
    return made[:size]


def _row(passage: Passage, fact: Fact, rng: Random, world: World) -> dict[str, Any]:
    named = passage.domain.named.format(fact.subject)
    question = Voice(rng, world).say(rng.choice(fact.attribute.asks).replace("{s}", named))
    right = _capital(fact.value)
    offered = [right, *_wrong(passage, fact, rng, world)]
    rng.shuffle(offered)
    return {"context": passage.context, "question": question, "choices": offered, "label": offered.index(right)}


def _wrong(passage: Passage, fact: Fact, rng: Random, world: World) -> list[str]:
    """Return the wrong choices: first what the passage says of other subjects, then other values of the same kind."""
    wrong: list[str] = []
    for other in passage.facts:
        if other.attribute is fact.attribute and other.value != fact.value:
            wrong.append(_capital(other.value))
    wrong = list(dict.fromkeys(wrong))[: CHOICES - 1]
    kind = fact.attribute.value
    template = kind if kind.startswith("{") else f"{{{kind}}}"
    while len(wrong) < CHOICES - 1:
        value = Voice(rng, world).say(template)
        if value not in {*wrong, _capital(fact.value)}:
            wrong.append(value)
    return wrong


def _capital(text: str) -> str:
    """Return a text that begins with a capital: how an answer begins in its passage gives nothing away."""
    return text[:1].upper() + text[1:]
