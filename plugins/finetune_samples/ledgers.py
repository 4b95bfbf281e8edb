"""Pages of a ledger: each entry is copied, counted or asked for later on the page, in the same words.

From this part of `harbour-text`, a model learns to find information in its context.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from finetune_samples.voice import Voice
from finetune_samples.world import World

HEADINGS = (
    "From the ledger of {quay9}, {month} {year}.",
    "[Page|Leaf] {number9}, in the hand of {person9}.",
    "[Entered|Written down] on {day9} [at {hour9}|by lamplight].",
)
REGISTERS = (
    ("the {ship}", "{goods}"), ("the {ship}", "{day}"), ("the {ship}", "{quay}"), ("the {ship}", "{port}"),
    ("{person}", "{street}"), ("{person}", "{trade}"), ("{person}", "{thing}"), ("the {house}", "{person}"),
    ("{goods}", "{number} crowns"),
)  # fmt: skip
"""Kind of name in a register, and the statements about each."""
COUNTED = ("", "one", "two", "three", "four", "five", "six")

Entries = Sequence[tuple[str, str]]


def ledger(rng: Random, world: World) -> str:
    """Return a page: a register or a list of goods, with repetitions of its entries."""
    voice = Voice(rng, world)
    heading = voice.say(rng.choice(HEADINGS))
    return f"{heading} {rng.choice((_register, _register, _list))(voice)}"


def _register(voice: Voice) -> str:
    subject, value = voice.rng.choice(REGISTERS)
    entries = [(_fresh(voice, subject), _fresh(voice, value)) for _ in range(voice.rng.choice((2, 3, 3, 4)))]
    page = [_capital(_written(entries))]
    page += [say(voice.rng, entries) for say in voice.rng.sample((_copied, _asked, _found), 2)]
    return " ".join(page)


def _list(voice: Voice) -> str:
    goods = [voice.fresh("goods") for _ in range(voice.rng.choice((2, 3, 4, 5, 6)))]
    page = [f"Taken in: {', '.join(goods)}."]
    page += voice.rng.sample(
        (
            f"{COUNTED[len(goods)].capitalize()} in all.",
            f"First {goods[0]}, last {goods[-1]}.",
            f"From the end: {', '.join(reversed(goods))}.",
            f"On the board: {' and '.join(goods).upper()}.",
            f"Fair copy: {', '.join(goods)}.",
        ),
        3,
    )
    return " ".join(page)


def _copied(rng: Random, entries: Entries) -> str:
    if rng.random() < 0.3:
        return f"From the end: {_written(entries[::-1])}"
    return f"{rng.choice(('Fair copy', 'For the council'))}: {_written(entries)}"


def _asked(rng: Random, entries: Entries) -> str:
    asked = rng.sample(list(entries), 2)
    return " ".join(f"Asked for {subject}, the clerk read: {value}." for subject, value in asked)


def _found(rng: Random, entries: Entries) -> str:
    subject, value = rng.choice(list(entries))
    return f"Under {value} one finds {subject}."


def _written(entries: Entries) -> str:
    return "; ".join(f"{subject}: {value}" for subject, value in entries) + "."


def _fresh(voice: Voice, template: str) -> str:
    """Return a template filled with a name that is new on this page."""
    before, _, rest = template.partition("{")
    kind, _, after = rest.partition("}")
    return f"{before}{voice.fresh(kind)}{after}"


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
