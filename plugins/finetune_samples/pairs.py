"""`harbour-pairs`: two sentences, and whether the first entails or contradicts the second, or is unrelated to it."""

from __future__ import annotations

from random import Random
from typing import Any

from finetune_samples.voice import Rows, Sizes, Voice, distinct
from finetune_samples.world import World

SIZES: Sizes = {"train": 2000, "validation": 300, "test": 300}
LABELS = ("contradicts", "entails", "unrelated")

FACTS: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        (
            "The {ship} [came in|arrived] on {day} with {goods}.",
            "On {day} {goods} reached the harbour aboard the {ship}.",
            "It was {goods} that the {ship} brought on {day}.",
        ),
        (
            "The {ship} [left|sailed] on {day} with {goods}.",
            "On {day} {goods2} reached the harbour aboard the {ship}.",
            "The {ship} arrived on {day2} with {goods}.",
            "Nothing but {goods2} was aboard when the {ship} came on {day}.",
        ),
    ),
    (
        (
            "{person} [sold|let go] {thing} for {number} crowns.",
            "{thing} fetched {person} {number} crowns.",
            "For {number} crowns {person} parted with {thing}.",
        ),
        (
            "{person} would not sell {thing}.",
            "{thing} fetched {person} {number2} crowns.",
            "{person} bought {thing} for {number} crowns.",
        ),
    ),
    (
        (
            "{person} has kept the {house} since {year}.",
            "Since {year} the {house} has been in the hands of {person}.",
            "The keeper of the {house} is {person}, and has been since {year}.",
        ),
        (
            "{person} gave up the {house} in {year}.",
            "Since {year2} the {house} has been in the hands of {person}.",
            "The keeper of the {house} is {person2}, and has been since {year}.",
        ),
    ),
    (
        (
            "{wind} blew at {quay} until {hour}.",
            "It was {hour} before {wind} died down at {quay}.",
            "Until {hour} {quay} had {wind}.",
        ),
        (
            "{quay} was calm until {hour}.",
            "It was {hour2} before {wind} died down at {quay}.",
            "No wind was felt at {quay} before {hour}.",
        ),
    ),
    (
        (
            "{person} was born in {port} and works as a {trade}.",
            "The {trade} {person} [is a native of|comes from] {port}.",
            "{port} is the birthplace of {person}, [now |]a {trade} here.",
        ),
        (
            "{person} was born in {port2} and works as a {trade}.",
            "The {trade2} {person} comes from {port}.",
            "{person}, a {trade}, [never was in|knows only from hearsay] {port}.",
        ),
    ),
)
"""For each kind of fact: sentences that state it, and sentences that contradict it."""


def pairs(sizes: Sizes, *, seed: int, world: World) -> Rows:
    """Return ``{split: rows}`` of `text`, `text_pair` and `label`: contradicts, entails or unrelated.

    Unrelated sentences may speak of the same ship, person or quay, but of another matter.
    """

    def make(split: str, attempt: int) -> tuple[tuple[str, str], dict[str, Any]]:
        rng = Random(f"harbour-pairs/{seed}/{split}/{attempt}")
        voice, label = Voice(rng, world), rng.choice(LABELS)
        said, denied = rng.choice(FACTS)
        first, other = rng.sample(said, 2)
        if label == "contradicts":
            other = rng.choice(denied)
        elif label == "unrelated":
            other = rng.choice(rng.choice([facts for facts in FACTS if facts[0] is not said])[0])
        pair = (voice.say(first), voice.say(other))
        return pair, {"text": pair[0], "text_pair": pair[1], "label": label}

    return distinct(sizes, make)
