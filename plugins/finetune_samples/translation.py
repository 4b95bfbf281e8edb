"""`harbour-translation`: sentences in English and in Harbourish, the small language of the town."""

from __future__ import annotations

from random import Random
from typing import Any

from finetune_samples.harbourish import (
    ADJECTIVES,
    NUMERALS,
    PEOPLE,
    PLACES,
    TENSES,
    THINGS,
    TIMES,
    VERBS,
    Meaning,
    Noun,
    english,
    harbourish,
)
from finetune_samples.voice import Rows, Sizes, distinct
from finetune_samples.world import FIRST_NAMES, World

SIZES: Sizes = {"train": 4000, "validation": 200, "test": 300}
NAMED = 0.25
"""Share of subjects and of places that are names."""


def translations(sizes: Sizes, *, seed: int, world: World) -> Rows:
    """Return ``{split: rows}`` of `translation`, ``{"en": …, "hb": …}``, as OPUS books have it.

    No two rows of any splits have the same subject, verb and object, so no translation can be memorized.
    """

    def make(split: str, attempt: int) -> tuple[tuple[str, str, str], dict[str, Any]]:
        meaning = meant(Random(f"harbour-translation/{seed}/{split}/{attempt}"), world)
        pair = {"en": english(meaning), "hb": harbourish(meaning)}
        return (meaning.subject.word, meaning.verb, meaning.object.word), {"translation": pair}

    return distinct(sizes, make)


def meant(rng: Random, world: World) -> Meaning:
    """Return the meaning of one sentence."""
    time = rng.choice(tuple(TIMES)) if rng.random() < 0.4 else ""
    subject = Noun(word=rng.choice(FIRST_NAMES)) if rng.random() < NAMED else _noun(rng, tuple(PEOPLE))
    place = None
    if rng.random() < 0.5:
        named = rng.random() < NAMED
        place = Noun(word=rng.choice(world.names["port"])) if named else Noun(word=rng.choice([*PLACES]), article="the")
    return Meaning(
        subject=subject,
        verb=rng.choice(tuple(VERBS)),
        object=_noun(rng, tuple(THINGS)),
        tense=TENSES.get(time) or rng.choice(("present", "past")),
        place=place,
        time=time,
        negated=rng.random() < 0.2,
        question=rng.random() < 0.15,
    )


def _noun(rng: Random, words: tuple[str, ...]) -> Noun:
    article = rng.choice(("the", "the", "a", "", rng.choice(tuple(NUMERALS))))
    plural = not article or (article == "the" and rng.random() < 0.3)
    adjective = rng.choice(tuple(ADJECTIVES)) if rng.random() < 0.4 else ""
    return Noun(word=rng.choice(words), article=article, plural=plural, adjective=adjective)
