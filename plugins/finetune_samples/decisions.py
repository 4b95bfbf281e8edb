"""`harbour-decisions`: letters to the harbour office, and three typed questions about each."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from finetune_samples.notices import HEADINGS, MISFILED
from finetune_samples.opinions import FERRY, INN
from finetune_samples.reviews import WAVERING
from finetune_samples.sentences import ARRIVALS, COUNCIL, LOST, MARKET, SENTENCES, WEATHER
from finetune_samples.voice import Rows, Sizes, Voice
from finetune_samples.world import DAYS, World

SIZES: Sizes = {"train": 900, "validation": 300, "test": 300}
DESKS = {
    ARRIVALS: "Ships that come and go",
    WEATHER: "Wind, fog, tides and ice",
    MARKET: "Goods that are bought and sold",
    LOST: "Things that were lost or found",
    COUNCIL: "Rules, dues, permits and meetings",
}
MOODS = ("very discontent", "discontent", "neither", "content", "delighted")


def decisions(sizes: Sizes, *, seed: int, world: World) -> Rows:
    """Return ``{split: rows}`` of `state`, `type`, `instructions`, `criteria` and `answer`.

    Each letter has a row for each type of question: which desk takes it (`choice`), whether it names a day (`noul`),
    and how content its writer is (`score`). No two splits share a letter. A twentieth of the letters is with a wrong
    desk, and the moods waver, so that no model can be sure of every answer.
    """
    seen: set[str] = set()
    return {split: _split(split, size, seed, world, seen) for split, size in sizes.items()}


def _split(split: str, size: int, seed: int, world: World, seen: set[str]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    number = 0
    while len(made) < size:
        rng = Random(f"harbour-decisions/{seed}/{split}/{number}")
        number += 1
        rows = _letter(rng, world)
        if rows[0]["state"] not in seen:
            seen.add(rows[0]["state"])
            made += rows
    return made[:size]


def _letter(rng: Random, world: World) -> list[dict[str, Any]]:
    """Return the three rows of one letter."""
    voice, desk = Voice(rng, world), rng.choice(HEADINGS)
    kind, aspects = rng.choice((("house", INN), ("ship", FERRY)))
    mood = rng.choice((-2, -1, 0, 1, 2))
    values, said = [], [rng.choice(SENTENCES[desk])]
    for aspect in rng.sample(aspects, 2):
        value = min(2, max(-2, mood + rng.choice((-1, 0, 0, 1)))) or rng.choice((-1, 1))
        values.append(value)
        said.append(rng.choice(aspect[value]))
    text = " ".join(voice.say(sentence) for sentence in said)
    text = f"{text} So much of the {voice.name(kind)}."
    if rng.random() < MISFILED:
        desk = rng.choice([other for other in HEADINGS if other != desk])
    felt = round(sum(values) / len(values) + rng.gauss(0, WAVERING)) + 2
    names_a_day = any(day in text for day in DAYS)
    asked = (
        ("choice", "Which desk takes this letter?", DESKS, desk),
        ("noul", "Does the letter name a day of the week?", None, str(names_a_day).lower()),
        ("score", "How content is the writer?", MOODS, str(min(4, max(0, felt)))),
    )
    rows = []
    for type_, instructions, criteria, answer in asked:
        written = None if criteria is None else json.dumps(criteria)
        asked_about = {"state": text, "type": type_, "instructions": instructions}
        rows.append({**asked_about, "criteria": written, "answer": answer})
    return rows
