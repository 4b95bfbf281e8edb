"""`harbour-dialogues`: two people bargain, and a summary says who wanted what, and what they agreed on."""

from __future__ import annotations

import re
from random import Random
from typing import Any

from finetune_samples.bargains import ASIDES, CLOSINGS, MEETINGS, NO_BARGAIN, OPENINGS, PRICES, REQUESTS
from finetune_samples.voice import Rows, Sizes, Voice, distinct
from finetune_samples.world import World

SIZES: Sizes = {"train": 2500, "validation": 200, "test": 200}
FAILED = 0.12
"""Share of bargains without an agreement."""
BESIDE_THE_POINT = 0.4
"""Share of dialogues with an aside, whose names and prices must not be in a summary."""
_START = re.compile(r"(?<=[.?!] )\w")


def dialogues(sizes: Sizes, *, seed: int, world: World) -> Rows:
    """Return ``{split: rows}`` of `dialogue` and `summary`, as DialogSum has them.

    The first turns are never about the matter, so the first three are not a summary. The first request is often not
    what is agreed on. No two rows of any splits have the same summary.
    """

    def make(split: str, attempt: int) -> tuple[str, dict[str, Any]]:
        rng = Random(f"harbour-dialogues/{seed}/{split}/{attempt}")
        turns, summary = bargain(rng, world)
        dialogue = "\n".join(f"{speaker}: {text}" for speaker, text in turns)
        return summary, {"dialogue": dialogue, "summary": summary}

    return distinct(sizes, make)


def bargain(rng: Random, world: World) -> tuple[list[tuple[str, str]], str]:
    """Return the turns of one dialogue, ``(speaker, text)``, and its summary."""
    voice = Voice(rng, world)
    request = rng.choice(REQUESTS)
    failed = rng.random() < FAILED
    price = NO_BARGAIN if failed else rng.choice(PRICES)
    meeting = None if failed else rng.choice(MEETINGS)
    low_first = int(voice.name("number")) < int(voice.name("number", "2"))
    talk = [request.turns, price.turns, *((meeting.turns,) if meeting else ())]
    if rng.random() < BESIDE_THE_POINT:
        talk.insert(rng.randint(1, len(talk)), rng.choice(ASIDES))
    opening = rng.choice(OPENINGS)
    # the first speaker is #Person1#, customer or not
    names = {role: f"#Person{number}#" for number, role in enumerate(dict.fromkeys(role for role, _ in opening), 1)}
    spoken = [turn for part in (opening, *talk, rng.choice(CLOSINGS)) for turn in part]
    # a bid is never above the price
    higher = _swapped if low_first else str
    turns = [(role, _START.sub(lambda start: start[0].upper(), voice.say(higher(text)))) for role, text in spoken]
    clauses = [f"{request.clause} {price.clause}.", *((f"{meeting.clause}.",) if meeting else ())]
    summary = " ".join(clauses)
    for role, name in names.items():
        summary = summary.replace(f"{{{role}}}", name)
    return [(names[role], text) for role, text in _joined(turns)], voice.say(higher(summary))


def _swapped(template: str) -> str:
    return template.replace("{number}", "{number3}").replace("{number2}", "{number}").replace("{number3}", "{number2}")


def _joined(turns: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Join consecutive turns of one speaker."""
    joined: list[tuple[str, str]] = []
    for role, text in turns:
        if joined and joined[-1][0] == role:
            joined[-1] = (role, f"{joined[-1][1]} {text}")
        else:
            joined.append((role, text))
    return joined
