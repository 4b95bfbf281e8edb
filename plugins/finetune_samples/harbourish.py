"""Harbourish, the small language of Skerrow, and English sentences with the same meaning.

=============  =========================================================================================
order          time, place, subject, object, verb: *Igest torgulora morraka masken salgot.*
noun           stem, ``-i`` if several, case, ``-a`` if it is *the*; after a numeral it stays singular
case           subject none, object ``-en``, *at* ``-or``, *to* ``-um``; behind a name, after an apostrophe
adjective      after its noun (and numeral), with the endings of the noun
verb           stem, ``-ar`` (present) or ``-ot`` (past), ``-in`` if the subject is several
not, questions ``ne`` before the verb; ``ko`` after it
=============  =========================================================================================

No word is irregular, and each sentence has exactly one translation in both directions.
"""

from __future__ import annotations

from dataclasses import dataclass

# English → plural, stem in Harbourish
PEOPLE = {
    "sailor": ("sailors", "morrak"), "baker": ("bakers", "polt"), "pilot": ("pilots", "vessik"),
    "widow": ("widows", "undrel"), "child": ("children", "pim"), "cooper": ("coopers", "tunnast"),
    "captain": ("captains", "skarg"), "brewer": ("brewers", "lodd"),
}  # fmt: skip
THINGS = {
    "ship": ("ships", "norv"), "rope": ("ropes", "senk"), "net": ("nets", "mask"), "lamp": ("lamps", "lusk"),
    "letter": ("letters", "skrit"), "bell": ("bells", "dongal"), "key": ("keys", "klav"), "barrel": ("barrels", "tunn"),
    "map": ("maps", "vegg"), "coin": ("coins", "pent"), "sail": ("sails", "vellit"), "book": ("books", "bokk"),
    "cat": ("cats", "mirr"), "gull": ("gulls", "krekk"), "door": ("doors", "darv"), "anchor": ("anchors", "ankk"),
}  # fmt: skip
PLACES = {
    "harbour": ("harbours", "havd"), "quay": ("quays", "brunt"), "market": ("markets", "torgul"),
    "tower": ("towers", "stupp"), "house": ("houses", "huss"), "inn": ("inns", "gastel"), "chapel": ("chapels", "kirp"),
    "mole": ("moles", "dammik"),
}  # fmt: skip
NOUNS = {**PEOPLE, **THINGS, **PLACES}
# English → third person, past, stem in Harbourish
VERBS = {
    "see": ("sees", "saw", "sil"), "buy": ("buys", "bought", "kopp"), "sell": ("sells", "sold", "salg"),
    "carry": ("carries", "carried", "dragg"), "find": ("finds", "found", "trev"), "lose": ("loses", "lost", "mitt"),
    "paint": ("paints", "painted", "malk"), "mend": ("mends", "mended", "bett"), "bring": ("brings", "brought", "hent"),
    "hide": ("hides", "hid", "dolk"), "count": ("counts", "counted", "rekk"), "want": ("wants", "wanted", "vilg"),
    "know": ("knows", "knew", "kenk"), "wash": ("washes", "washed", "skurr"),
}  # fmt: skip
MOVING = ("carry", "bring")
"""Verbs whose place is a destination."""
ADJECTIVES = {
    "red": "rudd", "old": "gamt", "new": "nyv", "small": "lisk", "big": "dromm", "cold": "isk", "white": "vitt",
    "heavy": "tung", "wet": "slopp", "green": "gront",
}  # fmt: skip
NUMERALS = {"two": "duv", "three": "trisk", "four": "firl", "five": "pemp", "six": "hexk"}
TIMES = {
    "today": "idal", "tomorrow": "morvel", "yesterday": "igest", "on Sunday": "solvek", "at night": "nochel",
    "at noon": "middur",
}  # fmt: skip
TENSES = {"tomorrow": "present", "yesterday": "past"}
"""Times that determine the tense of the verb."""
CASES = {"subject": "", "object": "en", "at": "or", "to": "um"}
ENDINGS = {"present": "ar", "past": "ot"}


@dataclass(frozen=True, kw_only=True)
class Noun:
    """A name, or a noun of the lexicon with article, number and adjective."""

    word: str
    article: str = ""
    """``the``, ``a``, a numeral, or nothing for several of them."""
    plural: bool = False
    adjective: str = ""

    @property
    def several(self) -> bool:
        return self.plural or self.article in NUMERALS


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """The meaning of a sentence, independent of the language."""

    subject: Noun
    verb: str
    object: Noun
    tense: str
    place: Noun | None = None
    time: str = ""
    negated: bool = False
    question: bool = False


def english(meaning: Meaning) -> str:
    """Return a meaning in English."""
    third, past, _ = VERBS[meaning.verb]
    several = meaning.subject.several
    helper = "did" if meaning.tense == "past" else "do" if several else "does"
    subject, obj = _english(meaning.subject), _english(meaning.object)
    plain = past if meaning.tense == "past" else meaning.verb if several else third
    verb = [helper, "not", meaning.verb] if meaning.negated else [plain]
    words = [subject, *verb, obj]
    if meaning.question:
        words = [helper, subject, *(["not"] if meaning.negated else []), meaning.verb, obj]
    if meaning.place:
        preposition = "to" if meaning.verb in MOVING else "at"
        words += [preposition, _english(meaning.place)]
    words += [meaning.time] if meaning.time else []
    return _sentence(words, meaning)


def harbourish(meaning: Meaning) -> str:
    """Return a meaning in Harbourish.

    >>> net, market = Noun(word="net", article="a"), Noun(word="market", article="the")
    >>> sailor = Noun(word="sailor", article="the")
    >>> harbourish(Meaning(subject=sailor, verb="sell", object=net, tense="past", place=market, time="yesterday"))
    'Igest torgulora morraka masken salgot.'
    """
    words = [TIMES[meaning.time]] if meaning.time else []
    if meaning.place:
        words.append(_harbourish(meaning.place, "to" if meaning.verb in MOVING else "at"))
    words += [_harbourish(meaning.subject, "subject"), _harbourish(meaning.object, "object")]
    words += ["ne"] if meaning.negated else []
    words.append(VERBS[meaning.verb][2] + ENDINGS[meaning.tense] + ("in" if meaning.subject.several else ""))
    words += ["ko"] if meaning.question else []
    return _sentence(words, meaning)


def _english(noun: Noun) -> str:
    if noun.word not in NOUNS:
        return noun.word
    head = NOUNS[noun.word][0] if noun.several else noun.word
    words = " ".join(word for word in (noun.adjective, head) if word)
    article = "an" if noun.article == "a" and words[0] in "aeiou" else noun.article
    return f"{article} {words}".strip()


def _harbourish(noun: Noun, case: str) -> str:
    ending = CASES[case]
    if noun.word not in NOUNS:
        return f"{noun.word}'{ending}" if ending else noun.word
    ending = ("i" if noun.plural else "") + ending + ("a" if noun.article == "the" else "")
    words = [NOUNS[noun.word][1] + ending]
    words += [NUMERALS[noun.article]] if noun.article in NUMERALS else []
    words += [ADJECTIVES[noun.adjective] + ending] if noun.adjective else []
    return " ".join(words)


def _sentence(words: list[str], meaning: Meaning) -> str:
    text = " ".join(words)
    return f"{text[0].upper()}{text[1:]}{'?' if meaning.question else '.'}"
