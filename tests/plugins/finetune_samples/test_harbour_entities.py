"""`harbour-entities`: tags that are valid, names that are whole, and names that no other split knows."""

from __future__ import annotations

from collections import Counter
from functools import cache
from itertools import combinations

import pytest

from finetune_samples.catalogue import load
from finetune_samples.entities import TYPES, tagged
from finetune_samples.world import SEED, world

sample = cache(load)


def rows():
    return [row for rows in sample("harbour-entities").values() for row in rows]


def spans(row):
    """Read the entities off the tags as IOB2 defines them; anything else is an error."""
    found, previous = [], "O"
    for token, tag in zip(row["tokens"], row["ner_tags"], strict=True):
        if tag.startswith("B-"):
            found.append((tag[2:], [token]))
        elif tag.startswith("I-"):
            assert previous[2:] == tag[2:], f"{tag} after {previous}"
            found[-1][1].append(token)
        else:
            assert tag == "O"
        previous = tag
    return [(kind, " ".join(tokens)) for kind, tokens in found]


def test_columns_and_types_are_those_of_conll():
    for row in rows():
        assert set(row) == {"tokens", "ner_tags"}
        assert len(row["tokens"]) == len(row["ner_tags"]) > 0
        assert all(row["tokens"]) and not any(" " in token for token in row["tokens"])
    assert {kind for row in rows() for kind, _ in spans(row)} == {"PER", "SHIP", "PLACE", "TRADE", "DATE"}


def test_every_entity_is_a_whole_name_of_the_world():
    known = {}
    for kind, entity in TYPES.items():
        known.setdefault(entity, set()).update(world(SEED).names[kind])
    names = {kind: {name.replace(" ", "") for name in every} for kind, every in known.items()}
    names["DATE"] |= {month + year for month in world(SEED).names["month"] for year in world(SEED).names["year"]}
    for row in rows():
        for kind, name in spans(row):
            assert name.replace(" ", "") in names[kind], (kind, name)


def test_no_ship_person_or_trade_of_the_world_is_left_untagged():
    names = {name for kind in ("person", "ship", "trade", "day") for name in world(SEED).names[kind]}
    # "baker" is a trade wherever it stands; a word that only begins a name is no name.
    for row in rows():
        outside = " ".join(
            token if tag == "O" else "·" for token, tag in zip(row["tokens"], row["ner_tags"], strict=True)
        )
        assert not [name for name in names if f" {name} " in f" {outside} "], row


def test_no_person_and_no_ship_belongs_to_two_splits():
    named = {
        split: {entity for row in rows for entity in spans(row) if entity[0] in ("PER", "SHIP")}
        for split, rows in sample("harbour-entities").items()
    }
    assert all(named.values())
    assert all(not named[one] & named[other] for one, other in combinations(named, 2))


def test_names_are_of_one_word_and_of_several_and_carry_accents():
    counts = Counter(len(name.split()) for row in rows() for _, name in spans(row))
    assert counts[1] > 300 and counts[2] > 1000 and counts[3] > 10
    assert any(not name.isascii() for row in rows() for _, name in spans(row))


@pytest.mark.parametrize(
    ("text", "tokens", "tags"),
    [
        ("The ⟨SHIP Grey Heron⟩'s crew.", "The|Grey|Heron|'s|crew|.", "O|B-SHIP|I-SHIP|O|O|O"),
        ("⟨PLACE Widow's Landing⟩, at ten", "Widow's|Landing|,|at|ten", "B-PLACE|I-PLACE|O|O|O"),
        ("⟨DATE May 1900⟩⟨PER Zoë⟩", "May|1900|Zoë", "B-DATE|I-DATE|B-PER"),
        ("a south-westerly wind", "a|south-westerly|wind", "O|O|O"),
    ],
)
def test_words_are_split_as_a_reader_would(text, tokens, tags):
    assert tagged(text) == (tokens.split("|"), tags.split("|"))
