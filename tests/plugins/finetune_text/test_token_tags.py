"""Tag schemes: which entities tags mark, against a port of conlleval's own rules, and what breaks a scheme."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_text.tags import Entity, entities, problems, scheme_of

TYPES = ("PER", "SHIP", "B-52")
LETTERS = {"BIO": "BI", "BILOU": "BILU", "BIOES": "BIES"}


def any_tags(scheme):
    return st.lists(st.sampled_from(["O", *(f"{letter}-{kind}" for letter in LETTERS[scheme] for kind in TYPES)]))


def ends_chunk(prev_tag, tag, prev_type, type_):
    """conlleval.pl's endOfChunk, as seqeval ports it, rule by rule."""
    rules = [prev_tag == "E", prev_tag == "S"]
    rules += [
        (prev_tag, tag) == pair for pair in (("B", "B"), ("B", "S"), ("B", "O"), ("I", "B"), ("I", "S"), ("I", "O"))
    ]
    rules += [prev_tag not in {"O", "."} and prev_type != type_]
    return any(rules)


def starts_chunk(prev_tag, tag, prev_type, type_):
    """conlleval.pl's startOfChunk."""
    rules = [tag == "B", tag == "S"]
    rules += [
        (prev_tag, tag) == pair for pair in (("E", "E"), ("E", "I"), ("S", "E"), ("S", "I"), ("O", "E"), ("O", "I"))
    ]
    rules += [tag not in {"O", "."} and prev_type != type_]
    return any(rules)


def conlleval(row):
    """seqeval's get_entities; conlleval knows E and S for the last and the only word."""
    chunks, prev_tag, prev_type, begin = [], "O", "", 0
    for place, tag in enumerate([*row, "O"]):
        letter, _, kind = tag.partition("-")
        letter, kind = {"L": "E", "U": "S"}.get(letter, letter), kind or "_"
        if ends_chunk(prev_tag, letter, prev_type, kind):
            chunks.append((prev_type, begin, place - 1))
        if starts_chunk(prev_tag, letter, prev_type, kind):
            begin = place
        prev_tag, prev_type = letter, kind
    return chunks


@given(st.sampled_from(sorted(LETTERS)).flatmap(any_tags))
def test_any_tags_however_broken_mark_the_entities_that_conlleval_finds(row):
    assert [tuple(entity) for entity in entities(row)] == conlleval(row)


@given(st.lists(st.sampled_from(["O", "B", "I"])))
def test_tags_without_a_type_do_too(row):
    assert [tuple(entity) for entity in entities(row)] == conlleval(row)


def written(pieces, scheme):
    """Return the tags and the entities of pieces: a type (or None for outside) and a number of words each."""
    row, marked = [], []
    for kind, size in pieces:
        if kind is None:
            row += ["O"] * size
            continue
        marked.append(Entity(kind, len(row), len(row) + size - 1))
        first, within, last, only = {"BIO": "BIIB", "BILOU": "BILU", "BIOES": "BIES"}[scheme]
        letters = only if size == 1 else first + within * (size - 2) + last
        row += [f"{letter}-{kind}" for letter in letters]
    return row, marked


PIECES = st.lists(st.tuples(st.sampled_from([None, *TYPES]), st.integers(1, 4)))


@pytest.mark.parametrize("scheme", LETTERS)
@given(pieces=PIECES)
def test_entities_written_in_a_scheme_are_read_back_and_nothing_is_wrong_with_them(scheme, pieces):
    row, marked = written(pieces, scheme)
    assert entities(row) == marked
    assert list(problems(row, "BIO" if scheme == "BIO" else "BILOU")) == []


@pytest.mark.parametrize("scheme", LETTERS)
@given(data=st.data())
def test_tags_with_which_nothing_is_wrong_are_those_that_writing_their_entities_gives(scheme, data):
    row = data.draw(any_tags(scheme))
    inside = {place: entity for entity in entities(row) for place in range(entity.first_word, entity.last_word + 1)}
    pieces, place = [], 0
    while place < len(row):
        entity = inside.get(place)
        size = 1 if entity is None else entity.last_word - entity.first_word + 1
        pieces.append((entity and entity.type, size))
        place += size
    sound = not list(problems(row, "BIO" if scheme == "BIO" else "BILOU"))
    assert sound == (written(pieces, scheme)[0] == row)


def test_two_units_of_one_type_are_two_entities():
    """Where seqeval's default mode finds one."""
    assert entities(["U-PER", "U-PER"]) == [Entity("PER", 0, 0), Entity("PER", 1, 1)]
    assert entities(["B-PER", "L-PER", "U-PER"]) == [Entity("PER", 0, 1), Entity("PER", 2, 2)]


def test_a_word_that_was_predicted_nothing_is_outside():
    assert entities(["B-PER", None, "I-PER"]) == [Entity("PER", 0, 0), Entity("PER", 2, 2)]


@pytest.mark.parametrize(
    ("names", "scheme"),
    [
        ({"O", "B-PER", "I-PER"}, "BIO"), ({"O", "I-PER"}, "BIO"), ({"B-PER"}, "BIO"), ({"O", "B", "I"}, "BIO"),
        ({"O", "B-PER", "L-PER", "U-PER"}, "BILOU"), ({"O", "S-PER"}, "BILOU"), ({"O", "B-x", "E-x"}, "BILOU"),
        ({"NOUN", "VERB", "X"}, "none"), ({"B", "I", "S"}, "none"), ({"O"}, "none"), (set(), "none"),
        ({"O", "PER"}, "none"), ({"O", "B-PER", "X-PER"}, "none"), ({"0", "1"}, "none"), ({"O", "B-"}, "none"),
        ({"o", "b-per"}, "none"), ({"O", "B-a\nb"}, "BIO"),
    ],
)  # fmt: skip
def test_the_scheme_is_seen_from_the_tags(names, scheme):
    assert scheme_of(names) == scheme
