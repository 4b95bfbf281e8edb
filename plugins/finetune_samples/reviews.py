"""`harbour-ratings` and `harbour-reviews`: reviews of inns and ferries, with a rating or with a label."""

from __future__ import annotations

from random import Random
from typing import Any

from finetune_samples.opinions import FERRY, INN, NEUTRAL
from finetune_samples.voice import Rows, Sizes, Voice, distinct
from finetune_samples.world import World

SIZES: Sizes = {"train": 2000, "validation": 300, "test": 300}
WAVERING = 0.25
"""Standard deviation of the noise in a rating."""
ASPECTS = {"house": INN, "ship": FERRY}


def ratings(sizes: Sizes, *, seed: int, world: World) -> Rows:
    """Return ``{split: rows}`` of `text` and `label`, a rating from 1.0 to 5.0.

    The rating is 3 plus the mean of the aspects in the text, from -2 to 2, plus a little noise.
    """

    def make(split: str, attempt: int) -> tuple[str, dict[str, Any]]:
        rng = Random(f"harbour-ratings/{seed}/{split}/{attempt}")
        voice, kind = Voice(rng, world), rng.choice(("house", "ship"))
        mood = rng.choice((-2, -1, 0, 0, 1, 2))
        aspects = rng.sample(ASPECTS[kind], rng.choice((2, 3, 4)))
        values = [_value(rng, mood) for _ in aspects]
        said = [rng.choice(aspect[value]) for aspect, value in zip(aspects, values, strict=True)]
        if rng.random() < 0.4:
            said.insert(rng.randint(0, len(said)), rng.choice(NEUTRAL))
        text = f"The {voice.name(kind)}. " + " ".join(voice.say(sentence) for sentence in said)
        rating = 3 + sum(values) / len(values) + rng.gauss(0, WAVERING)
        return text, {"text": text, "label": round(min(5.0, max(1.0, rating)), 1)}

    return distinct(sizes, make)


def reviews(sizes: Sizes, *, seed: int, world: World) -> Rows:
    """Return ``{split: rows}`` of `text` and `label`, positive or negative: letters of 60 to 250 tokens.

    They begin with neutral sentences, often concede a point or two to the other side, and give their opinion late: a
    model that truncates at 64 tokens learns nothing.
    """

    def make(split: str, attempt: int) -> tuple[str, dict[str, Any]]:
        rng = Random(f"harbour-reviews/{seed}/{split}/{attempt}")
        voice, label = Voice(rng, world), rng.choice(("negative", "positive"))
        sign = 1 if label == "positive" else -1
        kind = rng.choice(("house", "ship"))
        aspects = rng.sample(ASPECTS[kind], rng.choice((3, 4)))
        conceded = rng.choice((0, 1, 1, 2)) if len(aspects) > 3 else rng.choice((0, 0, 1))
        # if the points are even, the strong words decide
        strengths = (2,) if conceded == 2 else (1, 1, 2)
        values = [-sign if number < conceded else sign * rng.choice(strengths) for number in range(len(aspects))]
        opinions = [rng.choice(aspect[value]) for aspect, value in zip(aspects, values, strict=True)]
        story = rng.sample(NEUTRAL, rng.choice((3, 4, 6, 8, 11)))
        before = rng.randint(len(story) // 2, len(story))
        # the other neutral sentences stand between the opinions
        body = [*opinions]
        for sentence in story[before:]:
            body.insert(rng.randint(0, len(body)), sentence)
        said = [voice.say(sentence) for sentence in (*story[:before], *body)]
        text = f"On the {voice.name(kind)}. " + " ".join(said)
        return text, {"text": text, "label": label}

    return distinct(sizes, make)


def _value(rng: Random, mood: int) -> int:
    """Return the opinion of one aspect in a mood, from -2 to 2 and never 0: there are no texts for 0."""
    value = min(2, max(-2, mood + rng.choice((-1, 0, 0, 1))))
    return value or rng.choice((-1, 1))
