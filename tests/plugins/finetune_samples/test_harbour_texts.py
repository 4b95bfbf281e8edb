"""`harbour-text`, `harbour-dialogues`, `harbour-translation`: what is said follows, and is said in one way only."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from random import Random

import pytest

from finetune_samples import harbourish as lexicon
from finetune_samples.catalogue import load
from finetune_samples.harbourish import Meaning, Noun, english, harbourish
from finetune_samples.translation import meant
from finetune_samples.world import SEED, world

sample = cache(load)


def rows(name):
    return [row for rows in sample(name).values() for row in rows]


# Documents


def test_documents_are_of_several_sentences_and_of_a_length_to_pack():
    lengths = sorted(len(row["text"].split()) for row in rows("harbour-text"))
    assert all(len(re.findall(r"[.!?](?: |$)", row["text"])) >= 3 for row in rows("harbour-text"))
    assert lengths[0] > 20 and 40 < lengths[len(lengths) // 2] < 100 and lengths[-1] < 300
    assert sum(lengths) > 150_000


# Dialogues

BESIDE_THE_POINT = re.compile(r"paid \d+ crowns on \w+|Since \w+day")


def turns(row):
    return [line.split(": ", 1) for line in row["dialogue"].split("\n")]


def last(words, text):
    return re.findall(rf"\b({'|'.join(words)})\b", text, re.IGNORECASE)[-1].lower()


def test_speakers_take_turns_as_in_dialogsum():
    for row in rows("harbour-dialogues"):
        assert set(row) == {"dialogue", "summary"}
        speakers = [speaker for speaker, _ in turns(row)]
        assert 7 <= len(speakers) <= 20
        assert speakers == ["#Person1#" if at % 2 == 0 else "#Person2#" for at in range(len(speakers))]


def names_in(text):
    """Find the names of the world in a text, apart from days and hours."""
    return NAMED.findall(text)


KINDS = ("ship", "port", "goods", "thing", "street", "house", "instrument", "figure", "colour", "quay", "few")
NAMES = sorted({name for kind in KINDS for name in world(SEED).names[kind]}, key=len, reverse=True)
NAMED = re.compile("|".join(rf"\b{re.escape(name)}(?!\w)" for name in NAMES))


def test_a_summary_names_nothing_that_was_not_said():
    for row in rows("harbour-dialogues"):
        found = names_in(row["summary"])
        assert len(found) >= 1
        assert all(name.lower() in row["dialogue"].lower() for name in found), row


def test_a_summary_states_the_price_that_was_settled_and_not_the_first_that_was_asked():
    first_is_wrong = 0
    for row in rows("harbour-dialogues"):
        prices = re.findall(r"\d{2,}", BESIDE_THE_POINT.sub("", row["dialogue"]))
        assert re.findall(r"\d{2,}", row["summary"])[-1] == prices[-1], row
        first_is_wrong += prices[0] != prices[-1]
    assert first_is_wrong > 0.2 * len(rows("harbour-dialogues"))


def test_no_bid_is_above_the_price():
    for row in rows("harbour-dialogues"):
        prices = [int(price) for price in re.findall(r"\d{2,}", BESIDE_THE_POINT.sub("", row["dialogue"]))]
        assert max(prices) == prices[0], row


def test_a_summary_states_the_day_and_hour_that_were_settled():
    names = world(SEED).names
    for row in rows("harbour-dialogues"):
        said = BESIDE_THE_POINT.sub("", row["dialogue"])
        settled = re.search(r"They will meet on (\w+) at (\w+) at (.+)\.$", row["summary"])
        if not settled:
            assert "they do not agree" in row["summary"]
            continue
        assert settled[1].lower() == last(names["day"], said), row
        assert settled[2] == last(names["hour"], said), row
        assert settled[3] in said


def test_a_summary_states_who_wants_from_whom():
    asked = re.compile(r"(?:makes|comes to|thought of|ask|price is|take) \d+ crowns", re.IGNORECASE)
    customers = Counter()
    for row in rows("harbour-dialogues"):
        seller = next(speaker for speaker, text in turns(row) if asked.search(text))
        customer = "#Person1#" if seller == "#Person2#" else "#Person2#"
        assert row["summary"].startswith(f"{customer} wants ")
        assert re.search(rf"(?:from|by) {seller} for \d+ crowns", row["summary"])
        customers[customer] += 1
    assert min(customers.values()) > 0.35 * sum(customers.values())


def test_the_first_three_turns_contain_nothing_of_the_summary():
    for row in rows("harbour-dialogues"):
        beginning = " ".join(text for _, text in turns(row)[:3])
        told = [*names_in(row["summary"]), *re.findall(r"\d{2,}|\w+day", row["summary"])]
        assert not [name for name in told if re.search(rf"\b{re.escape(name)}\b", beginning)], row


def test_no_two_dialogues_have_the_same_summary():
    assert len({row["summary"] for row in rows("harbour-dialogues")}) == len(rows("harbour-dialogues"))


# Translation

THE_SAILOR, NET = Noun(word="sailor", article="the"), Noun(word="net", article="a")


@pytest.mark.parametrize(
    ("meaning", "in_english", "in_harbourish"),
    [
        (
            Meaning(subject=THE_SAILOR, verb="sell", object=NET, tense="past", time="yesterday",
                    place=Noun(word="market", article="the")),
            "The sailor sold a net at the market yesterday.", "Igest torgulora morraka masken salgot.",
        ),
        (
            Meaning(subject=Noun(word="child", article="the", plural=True, adjective="old"), verb="see",
                    tense="present", object=Noun(word="anchor", article="a", adjective="heavy"), negated=True),
            "The old children do not see a heavy anchor.", "Pimia gamtia ankken tungen ne silarin.",
        ),
        (
            Meaning(subject=Noun(word="Zoë"), verb="carry", tense="past", place=Noun(word="Kalvø"), question=True,
                    object=Noun(word="barrel", article="three", adjective="wet")),
            "Did Zoë carry three wet barrels to Kalvø?", "Kalvø'um Zoë tunnen trisk sloppen draggot ko?",
        ),
        (
            Meaning(subject=Noun(word="widow", article="two"), verb="know", tense="present",
                    object=Noun(word="map", plural=True), time="today"),
            "Two widows know maps today.", "Idal undrel duv veggien kenkarin.",
        ),
        (
            Meaning(subject=Noun(word="pilot", article="a", adjective="old"), verb="wash",
                    tense="present", object=Noun(word="sail", article="the"), negated=True, question=True),
            "Does an old pilot not wash the sail?", "Vessik gamt vellitena ne skurrar ko?",
        ),
    ],
)  # fmt: skip
def test_the_grammar_by_hand(meaning, in_english, in_harbourish):
    assert english(meaning) == in_english
    assert harbourish(meaning) == in_harbourish


def test_every_sentence_has_one_translation_there_and_back():
    meanings = {meant(Random(number), world(SEED)) for number in range(20_000)}
    there = {english(meaning) for meaning in meanings}
    back = {harbourish(meaning) for meaning in meanings}
    assert len(there) == len(back) == len(meanings) > 19_000


def glosses_of_harbourish(text):
    """Read a sentence by its stems and endings alone."""
    nouns = {stem: word for word, (_, stem) in lexicon.NOUNS.items()}
    verbs = {stem: word for word, (_, _, stem) in lexicon.VERBS.items()}
    plain = {**{stem: word for word, stem in lexicon.NUMERALS.items()}, "ne": "not", "ko": "?"}
    adjectives = {stem: word for word, stem in lexicon.ADJECTIVES.items()}
    for time, word in lexicon.TIMES.items():
        text = re.sub(rf"^{word}\b", f"⟨{time}⟩", text, flags=re.IGNORECASE)
    found = re.findall(r"⟨(.*?)⟩", text)
    for word in re.findall(r"[\w']+", re.sub(r"⟨.*?⟩", "", text)):
        stem = re.fullmatch(r"(\w+?)(i?)(|en|or|um)(a?)", word.lower())
        verb = re.fullmatch(r"(\w+?)(ar|ot)(in)?", word.lower())
        if word.lower() in plain:
            found.append(plain[word.lower()])
        elif verb and verb[1] in verbs:
            found += [verbs[verb[1]], "past" if verb[2] == "ot" else "present"]
        elif stem and stem[1] in nouns:
            found += [nouns[stem[1]], *(["the"] if stem[4] else [])]
        elif stem and stem[1] in adjectives:
            found.append(adjectives[stem[1]])
        else:
            found.append(re.sub(r"'(en|or|um)$", "", word))
    return Counter(found)


def glosses_of_english(text):
    """Read a sentence by a dictionary of English alone."""
    singular = {plural: word for word, (plural, _) in lexicon.NOUNS.items()}
    forms = {word: (word, "present") for word in lexicon.VERBS}
    forms |= {third: (word, "present") for word, (third, _, _) in lexicon.VERBS.items()}
    forms |= {past: (word, "past") for word, (_, past, _) in lexicon.VERBS.items()}
    found, tense = [], None
    for time in lexicon.TIMES:
        if text.rstrip(".?").endswith(time):
            found.append(time)
            text = text.rstrip(".?").removesuffix(time) + text[-1]
    for word in re.findall(r"[\w']+|\?", text):
        lower = word.lower()
        if lower in ("did", "do", "does"):
            tense = "past" if lower == "did" else "present"
        elif lower in forms:
            found += [forms[lower][0], tense or forms[lower][1]]
        elif lower not in ("a", "an", "at", "to"):
            found.append(singular.get(lower, lower if lower in {*singular.values(), *KNOWN} else word))
    return Counter(found)


KNOWN = {*lexicon.NUMERALS, *lexicon.ADJECTIVES, "not", "?", "the"}


def test_both_sides_say_the_same_by_dictionary():
    for row in rows("harbour-translation"):
        pair = row["translation"]
        ours, theirs = glosses_of_harbourish(pair["hb"]), glosses_of_english(pair["en"])
        assert ours == theirs, pair


def test_the_verb_comes_last_and_no_subject_does_the_same_twice():
    stems = {stem for _, _, stem in lexicon.VERBS.values()}
    for row in rows("harbour-translation"):
        assert set(row) == {"translation"} and set(row["translation"]) == {"en", "hb"}
        verb = row["translation"]["hb"].rstrip(".?").removesuffix(" ko").split()[-1]
        assert re.sub("(ar|ot)(in)?$", "", verb) in stems
    acts = [tuple(sorted(glosses_of_english(row["translation"]["en"]).items())) for row in rows("harbour-translation")]
    assert len(set(acts)) == len(acts)


def test_stems_cannot_be_mistaken_for_another_with_an_ending():
    stems = [stem for _, stem in lexicon.NOUNS.values()] + [stem for _, _, stem in lexicon.VERBS.values()]
    stems += [*lexicon.ADJECTIVES.values(), *lexicon.NUMERALS.values(), *lexicon.TIMES.values(), "ne", "ko"]
    endings = {f"{number}{case}{the}" for number in ("", "i") for case in ("", "en", "or", "um") for the in ("", "a")}
    forms = [stem + ending for stem in stems for ending in endings]
    forms += [stem + ending for stem in stems for ending in ("ar", "ot", "arin", "otin")]
    assert len(set(forms)) == len(forms)
