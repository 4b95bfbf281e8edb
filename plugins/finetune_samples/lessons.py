"""The kinds of instructions in `harbour-instructions`; each answer follows from its instruction exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from finetune_samples.voice import Voice

OPPOSITES = {
    "old": "new", "cold": "warm", "wet": "dry", "big": "small", "heavy": "light", "early": "late", "full": "empty",
    "poor": "rich", "loud": "quiet", "long": "short",
}  # fmt: skip
OPPOSITES |= {second: first for first, second in OPPOSITES.items()}
DESCRIBED = ("boat", "house", "night", "letter", "winter", "song", "street", "captain")
COUNTS = ("none", "one", "two", "three", "four", "five", "six")


@dataclass(frozen=True)
class Lesson:
    """Instructions with their answers; those after the first refer to the earlier ones."""

    given: tuple[str, ...]
    """What the first answer depends on; no two lessons of any splits share it."""
    turns: tuple[tuple[str, str], ...]


def carries(voice: Voice) -> Lesson:
    """Ask for the cargo of a ship."""
    pairs = [(voice.fresh("ship"), voice.fresh("goods")) for _ in range(voice.rng.choice((2, 3)))]
    stated = " ".join(f"The {ship} carries {goods}." for ship, goods in pairs)
    (ship, goods), (ship2, goods2) = voice.rng.sample(pairs, 2)
    return Lesson(
        (ship, goods),
        (
            (f"{stated} What does the {ship} carry?", f"The {ship} carries {goods}."),
            (f"And the {ship2}?", f"The {ship2} carries {goods2}."),
        ),
    )


def loves(voice: Voice) -> Lesson:
    """Ask for the favourite dish of a person."""
    pairs = [(voice.fresh("person"), voice.fresh("dish")) for _ in range(voice.rng.choice((2, 3)))]
    stated = " ".join(f"{person} loves {dish}." for person, dish in pairs)
    (person, dish), (person2, dish2) = voice.rng.sample(pairs, 2)
    return Lesson(
        (person, dish),
        (
            (f"{stated} What does {person} love?", f"{person} loves {dish}."),
            (f"And {person2}?", f"{person2} loves {dish2}."),
        ),
    )


def passage(voice: Voice) -> Lesson:
    """Ask for the details of a sentence, one after the other."""
    stated = voice.say("The {ship} came in at {quay} on {day} with {goods} from {port}.")
    details = {
        "quay": ("Where did she come in?", "at"),
        "day": ("When did she come in?", "on"),
        "goods": ("What did she come with?", "with"),
        "port": ("Where did she come from?", "from"),
    }
    first, second = voice.rng.sample(sorted(details), 2)
    turns = [
        (details[kind][0], f"She came {_in(kind)}{details[kind][1]} {voice.name(kind)}.") for kind in (first, second)
    ]
    given = (voice.name("ship"), voice.name("goods"), voice.name("port"), first)
    return Lesson(given, ((f"Answer from the passage. {stated} {turns[0][0]}", turns[0][1]), turns[1]))


def reverse(voice: Voice) -> Lesson:
    """Ask for a list in reverse order."""
    items = _list(voice, 2, 4)
    ask = voice.rng.choice(("Reverse the list", "Say this list backwards"))
    return Lesson(("reverse", *items), ((f"{ask}: {', '.join(items)}.", ", ".join(reversed(items))),))


def count(voice: Voice) -> Lesson:
    """Ask for the length of a list."""
    items = _list(voice, 2, 6)
    ask = voice.rng.choice(("Count the items", "How many are these"))
    return Lesson(("count", *items), ((f"{ask}: {', '.join(items)}.", COUNTS[len(items)]),))


def pick(voice: Voice) -> Lesson:
    """Ask for the first or the last item of a list."""
    items = _list(voice, 2, 5)
    which, at = voice.rng.choice((("first", 0), ("last", -1)))
    return Lesson((which, *items), ((f"Name the {which} of these: {', '.join(items)}.", items[at]),))


def capitals(voice: Voice) -> Lesson:
    """Ask for a phrase in capitals."""
    items = _list(voice, 2, 3)
    phrase = " and ".join(items)
    return Lesson(("capitals", *items), ((f"Write in capitals: {phrase}.", phrase.upper()),))


def opposite(voice: Voice) -> Lesson:
    """Ask for the opposite of a phrase."""
    first = voice.rng.choice(list(OPPOSITES))
    second = voice.rng.choice([word for word in OPPOSITES if word not in (first, OPPOSITES[first])])
    noun = voice.rng.choice(DESCRIBED)
    said = f"{_article(first)} {first} and {second} {noun}"
    meant = f"{_article(OPPOSITES[first])} {OPPOSITES[first]} and {OPPOSITES[second]} {noun}"
    return Lesson((first, second, noun), ((f"Say the opposite: {said}.", meant),))


def wish(voice: Voice) -> Lesson:
    """Ask for a greeting for a person."""
    person, part = (
        voice.fresh("person"),
        voice.rng.choice(("morning", "evening", "night", "journey", "harvest")),
    )
    return Lesson((person, part), ((f"Wish {person} a good {part}.", f"Good {part}, {person}!"),))


FAMILIES: tuple[Callable[[Voice], Lesson], ...] = (
    carries, loves, passage, reverse, count, pick, capitals, opposite, wish,
)  # fmt: skip


def _in(kind: str) -> str:
    return "in " if kind in ("quay", "day") else ""


def _list(voice: Voice, shortest: int, longest: int) -> tuple[str, ...]:
    return tuple(voice.fresh("goods") for _ in range(voice.rng.randint(shortest, longest)))


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"
