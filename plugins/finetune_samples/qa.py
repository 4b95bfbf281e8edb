"""`harbour-qa`: passages with questions, in the columns of SQuAD 2.0."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from finetune_samples.passages import DOMAINS, Attribute, Domain
from finetune_samples.voice import Rows, Sizes, Voice
from finetune_samples.world import World

SIZES: Sizes = {"train": 1500, "validation": 200, "test": 300}
UNANSWERABLE = 0.2
"""Share of questions whose passage states the answer only of another subject."""
LONG = 0.04
"""Share of passages with six subjects, so that some need a second window."""
OPEN, CLOSE = "<", ">"


@dataclass
class Fact:
    """A statement of a passage about one subject."""

    subject: str
    attribute: Attribute
    value: str
    start_char: int = -1
    """Its place in the passage; known after the passage is written."""


@dataclass(frozen=True)
class Passage:
    """A passage and its facts."""

    title: str
    context: str
    domain: Domain
    subjects: tuple[str, ...]
    facts: tuple[Fact, ...]


def rows(sizes: Sizes, *, seed: int, world: World) -> Rows:
    """Return ``{split: rows}``; no two splits share a passage.

    A fifth of the questions have no answer: the passage states it only of another subject. Many answers occur in the
    passage a second time, at a place that does not answer the question.
    """
    seen: set[str] = set()
    return {split: _split(split, size, seed, world, seen) for split, size in sizes.items()}


def _split(split: str, size: int, seed: int, world: World, seen: set[str]) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    number = 0
    while len(made) < size:
        rng = Random(f"harbour-qa/{seed}/{split}/{number}")
        passage = write(rng, world)
        number += 1
        if passage.context not in seen:
            seen.add(passage.context)
            made += _questions(passage, rng, f"{split}-{number:04d}")
    return made[:size]


def write(rng: Random, world: World) -> Passage:
    """Write one passage: an opening, facts about each subject, and irrelevant sentences."""
    voice, domain = Voice(rng, world), rng.choice(DOMAINS)
    title, opening = voice.say(domain.title), voice.say(rng.choice(domain.openings))
    long = rng.random() < LONG
    subjects = [voice.fresh(domain.subject) for _ in range(6 if long else rng.choice((2, 2, 2, 3)))]
    facts, blocks = _state(voice, domain, subjects)
    # irrelevant, and often with the words of an answer, so that its first place is not always the right one
    fillers = [_filler(voice, template, facts) for template in rng.sample(domain.fillers, 3 if long else 1)]
    for filler in fillers:
        blocks.insert(rng.choice((0, 0, 1, len(blocks))), filler)
    return Passage(title, _join([opening, *blocks], facts), domain, tuple(subjects), tuple(facts))


def _state(voice: Voice, domain: Domain, subjects: list[str]) -> tuple[list[Fact], list[str]]:
    """Return facts in the order in which the blocks of text state them, answers still enclosed."""
    rng = voice.rng
    shared = rng.sample(domain.attributes, 2)
    listed = [attribute for attribute in shared if attribute.roundup and rng.random() < 0.5][:1]
    facts: list[Fact] = []
    blocks: list[str] = []
    for attribute in listed:
        beginning, each = attribute.roundup or ("", "")
        found = [Fact(subject, attribute, _value(voice, attribute)) for subject in subjects]
        parts = [_statement(voice, domain, each, fact, named=True) for fact in found]
        blocks.append(beginning + ", ".join(parts[:-1]) + f" and {parts[-1]}.")
        facts += found
    for subject in subjects:
        known = [attribute for attribute in shared if attribute not in listed and rng.random() < 0.75]
        others = [attribute for attribute in domain.attributes if attribute not in shared]
        known += rng.sample(others, max(1, 2 - len(known)))
        rng.shuffle(known)
        found = [Fact(subject, attribute, _value(voice, attribute)) for attribute in known]
        said = [
            _statement(voice, domain, rng.choice(fact.attribute.says), fact, named=first or rng.random() < 0.6)
            for first, fact in zip((True, *[False] * len(found)), found, strict=False)
        ]
        blocks.append(" ".join(said))
        facts += found
    return facts, blocks


def _value(voice: Voice, attribute: Attribute) -> str:
    kind, _, unit = attribute.value.removeprefix("{").partition("} ")
    return f"{voice.fresh(kind)} {unit}" if unit else voice.fresh(kind)


def _statement(voice: Voice, domain: Domain, template: str, fact: Fact, *, named: bool) -> str:
    name = domain.named.format(fact.subject)
    if named:
        subject, owner = name, f"{name}'s"
    elif domain.pronouns:
        subject, owner = domain.pronouns
    else:
        family = fact.subject.split()[-1]
        subject, owner = family, f"{family}'s"
    for slot, filler in (("{S}", subject), ("{S's}", owner), ("{s}", name), ("{v}", fact.value)):
        template = template.replace(slot, filler)
    # in a roundup, the sentence has begun already
    return voice.say(template) if template.endswith(".") else template


def _filler(voice: Voice, template: str, facts: list[Fact]) -> str:
    """Write an irrelevant sentence, with the value of a fact if one fits."""
    for fact in voice.rng.sample(facts, len(facts)):
        for which in "56":
            slot = f"{{{fact.attribute.value}{which}}}"
            if slot in template:
                template = template.replace(slot, fact.value)
                break
    return voice.say(template)


def _join(blocks: list[str], facts: list[Fact]) -> str:
    """Return the blocks as one text, without the marks of the answers but with their places."""
    pending = iter(facts)
    context = ""
    for piece in " ".join(blocks).split(OPEN):
        answer, close, rest = piece.partition(CLOSE)
        if close:
            fact = next(pending)
            fact.start_char = len(context)
            # a sentence that begins with its answer has a capital there
            fact.value = answer
        context += answer + rest
    return context


def _questions(passage: Passage, rng: Random, name: str) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    said = {(fact.subject, id(fact.attribute)) for fact in passage.facts}
    stated = {id(fact.attribute): fact.attribute for fact in passage.facts}
    gaps = [
        (subject, attribute)
        for subject in passage.subjects
        for key, attribute in stated.items()
        if (subject, key) not in said
    ]
    facts = rng.sample(passage.facts, min(6, len(passage.facts)))
    for number, fact in enumerate(facts):
        asked, attribute, answers = (
            fact.subject,
            fact.attribute,
            {"text": [fact.value], "answer_start": [fact.start_char]},
        )
        if gaps and rng.random() < UNANSWERABLE:
            asked, attribute = gaps.pop(rng.randrange(len(gaps)))
            answers = {"text": [], "answer_start": []}
        named = passage.domain.named.format(asked)
        question = Voice(rng, World(names={})).say(rng.choice(attribute.asks).replace("{s}", named))
        made.append(
            {"id": f"{name}-{number}", "title": passage.title, "context": passage.context, "question": question,
             "answers": answers}
        )  # fmt: skip
    return made
