"""`harbour-entities`: notices and letters word by word, with the people, ships, places, trades and dates tagged."""

from __future__ import annotations

import re
from random import Random
from typing import Any

from finetune_samples.opinions import NEUTRAL
from finetune_samples.sentences import ASIDES, SENTENCES
from finetune_samples.splits import held_out
from finetune_samples.voice import Rows, Sizes, Voice, distinct
from finetune_samples.world import TRADES, World

SIZES: Sizes = {"train": 1500, "validation": 200, "test": 300}
TYPES = {
    "person": "PER", "ship": "SHIP", "quay": "PLACE", "street": "PLACE", "house": "PLACE", "port": "PLACE",
    "trade": "TRADE", "day": "DATE", "month": "DATE", "year": "DATE",
}  # fmt: skip
"""Kind of name → type of entity; other names are tagged O."""

OF_PEOPLE = (
    "{person}, [a|once a] {trade} in {street}, [sold|lost] the {house} to {person2} in {year}.",
    "[Since|In] {month} {year} the {house} [has been|was] in the hands of {person} and the {trade} {person2}.",
    "The {trade} {person} [left|came home] for {port} aboard the {ship} on {day}.",
    "{person} [of {port} |]was [seen|met] by the {trade} at the {house} on {day}, {quay}.",
    "[Old|Young] {person} [fell in|was pulled out] at {quay} [on {day} |], [with|without] {thing}.",
    "On the {ship} they have {person} to thank, a {trade} [there|since {month}].",
    "A widow of {street} asks the {trade} {person} [about|for] a lantern, a bell and [an anchor|a thistle].",
    "[The promise|The comet|A heron] was seen over {port} in {month}, says {person}.",
)
"""Further templates: trades, houses and dates, and ordinary words that are also in names of ships."""
SAID = (*(template for templates in SENTENCES.values() for template in templates), *ASIDES, *NEUTRAL)

_SLOT = re.compile(r"\{([a-z]+)\d*\}(?: \{year\})?")  # January 1852 is one date
_SAID_OUTRIGHT = re.compile(rf"\b({'|'.join(TRADES)})\b")  # written in a template, not in a slot
_MARKED = re.compile("⟨([A-Z]+) ([^⟩]*)⟩")
_WORD = re.compile(r"'s\b|\w+(?:['-](?!s\b)\w+)*|[^\w\s]")
_NAME = re.compile(r"[\w'-]+|[^\w\s]")


def entities(sizes: Sizes, *, seed: int, world: World) -> Rows:
    """Return ``{split: rows}`` of `tokens` and `ner_tags` in BIO, as CoNLL-2003 has them.

    No two splits share a person or a ship: a model must recognize them by the form of the name and by the context, not
    from memory.
    """
    own = held_out(world, sizes, kinds={"person", "ship"})

    def make(split: str, attempt: int) -> tuple[str, dict[str, Any]]:
        rng = Random(f"harbour-entities/{seed}/{split}/{attempt}")
        voice = Voice(rng, own[split])
        said = [rng.choice(OF_PEOPLE if rng.random() < 0.5 else SAID) for _ in range(rng.choice((1, 1, 2)))]
        text = " ".join(voice.say(_marked(template)) for template in said)
        tokens, tags = tagged(text)
        return " ".join(tokens), {"tokens": tokens, "ner_tags": tags}

    return distinct(sizes, make)


def tagged(text: str) -> tuple[list[str], list[str]]:
    """Return the words of a text and a tag for each; ``⟨TYPE name⟩`` marks an entity.

    >>> tagged("The ⟨SHIP Grey Heron⟩'s crew.")
    (['The', 'Grey', 'Heron', "'s", 'crew', '.'], ['O', 'B-SHIP', 'I-SHIP', 'O', 'O', 'O'])
    """
    tokens: list[str] = []
    tags: list[str] = []
    # split by a pattern with two groups: text, type, name, text, type, name, …, text
    parts = _MARKED.split(text)
    for number in range(0, len(parts), 3):
        words = _WORD.findall(parts[number])
        tokens += words
        tags += ["O"] * len(words)
        if number + 1 < len(parts):
            kind, name = parts[number + 1], _NAME.findall(parts[number + 2])
            tokens += name
            tags += [f"B-{kind}", *[f"I-{kind}"] * (len(name) - 1)]
    return tokens, tags


def _marked(template: str) -> str:
    template = _SAID_OUTRIGHT.sub(r"⟨TRADE \1⟩", template)
    return _SLOT.sub(lambda slot: f"⟨{TYPES[slot[1]]} {slot[0]}⟩" if slot[1] in TYPES else slot[0], template)
