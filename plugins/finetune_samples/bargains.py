"""The turns of the bargains in `harbour-dialogues`, and their clauses for the summary.

Each turn is spoken by ``C``, who wants something, or by ``S``, who has it. The summary consists of the last clauses; it
says only what was agreed on, in the words of the dialogue.
"""

from __future__ import annotations

from dataclasses import dataclass

Turns = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Part:
    """Some turns and their clause in the summary."""

    turns: Turns
    clause: str


OPENINGS: tuple[Turns, ...] = (
    (
        ("C", "Good [morning|evening][, {person}|]. [Is it you|Are you in]?"),
        ("S", "[As you see.|Who else?] [Shut the door|Hold your hat]: {wind}!"),
        ("C", "[It blows through every coat|Mine is in the harbour]."),
        ("S", "[Sit by the stove|Then warm yourself]."),
    ),
    (
        ("S", "[Come in|Step closer][, come in|]! [What brings you here?|You look cold.]"),
        ("C", "[The weather|My feet], [mostly|first of all]. [What a smell of tar|It smells of {goods5} here]!"),
        ("S", "[That is the {ship5}, she leaks|One gets used to it]."),
    ),
    (
        ("C", "[Hello|Good day]! [Do you remember me|We met at {person5}'s wedding]?"),
        ("S", "[How could I forget!|You danced with my aunt.] [And your mother|And the children]?"),
        ("C", "[They thrive|All are well], [thank you|and the goat too]."),
        ("S", "[I am glad|Good to hear]."),
    ),
    (
        ("S", "[Wait|A moment], I am [counting|nearly done]. [So|There]. [What is it?|Now, you.]"),
        ("C", "[You look tired|It is a long queue], [{person}|if I may say so]."),
        ("S", "[Up since {hour5}|The {ship5} came in at {hour5}], [and no breakfast|and not a thank you]."),
    ),
)

REQUESTS: tuple[Part, ...] = (
    Part(
        (
            ("C", "I [need|am looking for|want] {few} loads of {goods}[ before the winter|]."),
            ("S", "[That can be had|I have that in the loft]."),
        ),
        "{C} wants {few} loads of {goods} from {S}",
    ),
    Part(
        (
            ("C", "[Is there a place left|Could I sail with you] on the {ship}? I must get to {port}."),
            ("S", "[There is room below|If you are not seasick], yes."),
        ),
        "{C} wants a passage to {port} on the {ship} from {S}",
    ),
    Part(
        (
            ("C", "I am told you found {thing} in {street}. [It is mine|My aunt left it there]."),
            ("S", "[I did|It lies in my drawer]. [A finder has costs.|There is a reward, I hope?]"),
        ),
        "{C} wants {thing}, found in {street}, from {S}",
    ),
    Part(
        (
            ("C", "[I should like|I need] a bed at the {house}, for {few} nights."),
            ("S", "[There is one by the stove|The quiet one is free]."),
        ),
        "{C} wants a bed at the {house} for {few} nights from {S}",
    ),
    Part(
        (
            ("C", "[You play so well|People praise you]. I would [learn|try] {instrument}[ before I am old|]."),
            ("S", "[It takes patience|Show me your hands]. I teach, yes."),
        ),
        "{C} wants lessons on {instrument} from {S}",
    ),
    Part(
        (
            ("C", "The {ship} has lost her figurehead. [Carve me|I dream of] {figure}, {colour}."),
            ("S", "[With pleasure|In oak, then], [{colour} is in fashion|a {colour} one, yes]."),
        ),
        "{C} wants {figure} carved for the {ship} and painted {colour} by {S}",
    ),
)

PRICES: tuple[Part, ...] = (
    Part(
        (("S", "[That makes|It comes to] {number} crowns."), ("C", "[Agreed|Done|That is fair].")),
        "for {number} crowns",
    ),
    Part(
        (
            ("S", "[I thought of|I ask] {number} crowns."),
            ("C", "[Too dear|I am not an admiral]. {number2}?"),
            ("S", "[{number2}, because it is you|Well, {number2}, and my wife must not know]."),
        ),
        "for {number2} crowns",
    ),
    Part(
        (
            ("S", "[The price is|I take] {number} crowns."),
            ("C", "[I had thought of|What about] {number2}?"),
            ("S", "[Not with me|I have to live]. {number}, [no less|and that is my last word]."),
            ("C", "[So be it|You are hard], {number}."),
        ),
        "for {number} crowns",
    ),
)
NO_BARGAIN = Part(
    (
        ("S", "[The price is|I take] {number} crowns."),
        ("C", "[I had thought of|What about] {number2}?"),
        ("S", "[Not with me|I have to live]. {number}, [no less|and that is my last word]."),
        ("C", "[Then I shall ask elsewhere|Then nothing will come of it]."),
    ),
    "for {number2} crowns, but {S} asks {number} and they do not agree",
)
MEETINGS: tuple[Part, ...] = (
    Part(
        (("C", "When [shall we meet|shall I come]?"), ("S", "On {day} at {hour}, [at {quay}|{quay}].")),
        "They will meet on {day} at {hour} at {quay}",
    ),
    Part(
        (
            ("C", "[Would|Will] {day} do?"),
            ("S", "[{day} is full|Not on {day}]. Come on {day2} at {hour}, [to {quay}|{quay}]."),
            ("C", "[Very well|I shall be there]."),
        ),
        "They will meet on {day2} at {hour} at {quay}",
    ),
    Part(
        (
            ("S", "[I am|You find me] at {quay} on {day}, [from {hour}|{hour}]."),
            ("C", "{hour} is [too early|bad] for me. {hour2}?"),
            ("S", "{hour2}, then."),
        ),
        "They will meet on {day} at {hour2} at {quay}",
    ),
)
ASIDES: tuple[Turns, ...] = (
    (
        ("C", "[My brother|A cousin] paid {number5} crowns on {day5}, [for {goods6}|at {quay5}]."),
        ("S", "[Poor man|Too much]."),
    ),
    (("S", "[By the way|Have you heard], the {ship6} is late from {port5}."), ("C", "[Since {day5}|No wonder].")),
    (("C", "[I see|Here lies] {thing5}."), ("S", "[It belongs to {person6}|It is not for sale].")),
)
CLOSINGS: tuple[Turns, ...] = (
    (("C", "[Thank you|Until then]."), ("S", "[Mind the step|Greet your mother].")),
    (("S", "[Then go well|Off with you now]."), ("C", "[Good day|Fair winds].")),
)
