"""`harbour-text`: plain documents, for masked and causal language modeling."""

from __future__ import annotations

from random import Random
from typing import Any

from finetune_samples import qa
from finetune_samples.ledgers import ledger
from finetune_samples.opinions import FERRY, INN, NEUTRAL
from finetune_samples.sentences import ASIDES, SENTENCES
from finetune_samples.voice import Rows, Sizes, Voice, distinct
from finetune_samples.world import World

SIZES: Sizes = {"train": 3000, "validation": 200, "test": 200}
NOTICES = tuple(template for templates in SENTENCES.values() for template in templates)


def documents(sizes: Sizes, *, seed: int, world: World) -> Rows:
    """Return ``{split: rows}`` of `text`: passages, notices, letters and ledgers of about 30 to 200 words."""

    def make(split: str, attempt: int) -> tuple[str, dict[str, Any]]:
        rng = Random(f"harbour-text/{seed}/{split}/{attempt}")
        text = rng.choice((_passage, _board, _letter, ledger))(rng, world)
        return text, {"text": text}

    return distinct(sizes, make)


def _passage(rng: Random, world: World) -> str:
    return qa.write(rng, world).context


def _board(rng: Random, world: World) -> str:
    voice = Voice(rng, world)
    said = [*rng.sample(NOTICES, rng.choice((3, 4, 5))), rng.choice(ASIDES)]
    return " ".join(voice.say(template) for template in said)


def _letter(rng: Random, world: World) -> str:
    voice, aspects = Voice(rng, world), rng.choice((INN, FERRY))
    opinions = [rng.choice(aspect[rng.choice((-2, -1, 1, 2))]) for aspect in rng.sample(aspects, rng.choice((2, 3)))]
    said = [*rng.sample(NEUTRAL, rng.choice((2, 3, 4))), *opinions]
    return " ".join(voice.say(template) for template in said)
