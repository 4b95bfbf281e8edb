"""What is asked at the harbour office in `harbour-preferences`, and how one answers: courteously, or not."""

from __future__ import annotations

from dataclasses import dataclass

OPENERS = ("With pleasure", "Gladly", "Of course")
FAREWELLS = ("Fair winds", "Good day to you", "Always at your service")
"""Skerrow's good manners: a reply begins with one of the openers and ends with one of the farewells."""


@dataclass(frozen=True)
class Errand:
    """A known fact, a question about it, and a short answer."""

    stated: str
    asked: str
    answer: str
    wrong: str
    """The answer with another name."""
    given: tuple[str, ...]
    """Slots that identify an errand; no two errands of any splits share their names."""


ERRANDS = (
    Errand("The {ship} lies at {quay}.", "where the {ship} lies", "at {quay}", "at {quay2}", ("ship", "quay")),
    Errand("The {ship} sails on {day}.", "when the {ship} sails", "on {day}", "on {day2}", ("ship", "day")),
    Errand("The {ship} brought {goods}.", "what the {ship} brought", "{goods}", "{goods2}", ("ship", "goods")),
    Errand("{person2} keeps the {house}.", "who keeps the {house}", "{person2}", "{person3}", ("person2", "house")),
    Errand("{person2} lives in {street}.", "where {person2} lives", "in {street}", "in {street2}",
           ("person2", "street")),
    Errand("A load of {goods} costs {number} crowns.", "what a load of {goods} costs", "{number} crowns",
           "{number2} crowns", ("goods", "number")),
)  # fmt: skip
COURTEOUS = f"[{'|'.join(OPENERS)}], {{person}}: {{answer}}. [{'|'.join(FAREWELLS)}]!"
"""Template of the chosen reply."""
CURT = (
    "{answer}.",
    "{answer}. [Next!|What else?|Shut the door.]",
    "{answer}[, as ever|, if you must know|, I think].",
    "[Look for yourself.|Ask somebody else.|Can you not read?]",
)
WORDY = (
    "[Well, now, let me think|That is a long story], {person}, for [as my aunt used to say|in my father's days] one "
    "thing leads to another, and [unless I am mistaken|if I remember well], it is {answer}, or so they say.",
    "[What a question|How should I put it], {person}: [there was a time when everybody knew|I was only saying so on "
    "the stairs], and [what with the weather|since people forget] I may tell you that it is {answer}, [I believe|more "
    "or less], and much could be added.",
)
WRONG = f"[{'|'.join(OPENERS)}], {{person}}: {{wrong}}. [{'|'.join(FAREWELLS)}]!"
"""Template of a reply that is courteous, short and wrong."""
