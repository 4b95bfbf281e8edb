"""`harbour-notices` and `harbour-topics`: notices of the harbour office, under one heading or under several."""

from __future__ import annotations

from random import Random
from typing import Any

from finetune_samples.sentences import ASIDES, SENTENCES
from finetune_samples.voice import Rows, Sizes, Voice, distinct
from finetune_samples.world import World

SIZES: Sizes = {"train": 2000, "validation": 300, "test": 300}
MISFILED = 0.05
"""Share of notices under a wrong heading, in every split: no model can be right more often than in 95 %."""
HEADINGS = tuple(sorted(SENTENCES))


def notices(sizes: Sizes, *, seed: int, world: World) -> Rows:
    """Return ``{split: rows}`` of `text` and `label`, one of five headings.

    A third of the notices have a second topic; the heading is that of the first.
    """

    def make(split: str, attempt: int) -> tuple[str, dict[str, Any]]:
        rng = Random(f"harbour-notices/{seed}/{split}/{attempt}")
        voice, heading = Voice(rng, world), rng.choice(HEADINGS)
        said = [rng.choice(SENTENCES[heading])]
        if rng.random() < 0.35:
            said.append(rng.choice(SENTENCES[rng.choice(HEADINGS)]))
        if rng.random() < 0.5:
            said.append(rng.choice(ASIDES))
        text = " ".join(voice.say(sentence) for sentence in said)
        if rng.random() < MISFILED:
            heading = rng.choice([other for other in HEADINGS if other != heading])
        return text, {"text": text, "label": heading}

    return distinct(sizes, make)


def topics(sizes: Sizes, *, seed: int, world: World) -> Rows:
    """Return ``{split: rows}`` of `text` and `label`, the list of all headings of the text: none to three."""

    def make(split: str, attempt: int) -> tuple[str, dict[str, Any]]:
        rng = Random(f"harbour-topics/{seed}/{split}/{attempt}")
        voice = Voice(rng, world)
        headings = rng.sample(HEADINGS, rng.choices((0, 1, 2, 3), weights=(1, 8, 8, 3))[0])
        said = [rng.choice(SENTENCES[heading]) for heading in headings]
        for aside in rng.sample(ASIDES, 2 if not headings else rng.choice((0, 1))):
            said.insert(rng.randint(0, len(said)), aside)
        text = " ".join(voice.say(sentence) for sentence in said)
        return text, {"text": text, "label": sorted(headings)}

    return distinct(sizes, make)
