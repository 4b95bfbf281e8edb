"""Answers that are not at their offset: what the offset counts instead, and the right place where it is certain."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from finetune_squad.spans import has_surrogate

CORRECT_ALL = "Or set preprocessor.fix_offsets: true, which corrects all such rows."
_UNITS = (("utf-8", "bytes of UTF-8", 1), ("utf-16-le", "UTF-16 units, as JavaScript does", 2))
"""Encoding, its name in messages, and how many bytes one unit has."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is wrong with an offset."""

    code: str
    message: str
    fix: str
    place: tuple[str, int] | None = None
    """The answer as the context has it, and its first character there, if there is no doubt."""


def diagnose(context: str, text: str, start: int | None) -> Problem:
    """Return what is wrong with an answer that is not at its offset.

    Examples:
        >>> diagnose("The quay.", "quay", 3).place  # the offset of the space before it
        ('quay', 4)

    Args:
        context: The context.
        text: The answer, with a visible character.
        start: Its offset; None if it has none.
    """
    if start is None:
        fix, place = _by_search(context, text, None)
        message = f"the answer {short(text)} has no answer_start."
        return Problem(code="answer-without-offset", message=message, fix=fix, place=place)
    end = start + len(text)
    if start < 0 or end > len(context):
        code = "answer-outside-context"
        message = f"the answer would be at characters {start} to {end}; the context has {len(context)}."
    else:
        code = "answer-not-at-offset"
        message = (
            f"the answer is {short(text)}, but at answer_start={start} the context says {short(context[start:end])}."
        )
    if has_surrogate(text):
        fix = "Remove the half of a surrogate pair from the answer."
        return Problem(code="answer-surrogate", message=message, fix=fix)
    if text not in context and code == "answer-not-at-offset":
        for form in ("NFC", "NFD"):
            if unicodedata.normalize(form, text) in context:
                fix = f"The context is in Unicode form {form}, the answer is not: normalize both the same way."
                return Problem(code="answer-in-other-unicode-form", message=message, fix=fix)
    recounted = _recounted(context, text, start) if start >= 0 else None
    fix, place = _by_search(context, text, start)
    if recounted is not None:
        unit, right = recounted
        if place is None or place == (text, right):
            return Problem(code=code, message=message, fix=f"{unit} {CORRECT_ALL}", place=(text, right))
        fix = f"It can be at {right} or at {place[1]}: choose the right place, or drop the row."
        return Problem(code=code, message=message, fix=fix)
    return Problem(code=code, message=message, fix=fix, place=place)


def short(text: str) -> str:
    """Return a text in quotes, cut if it is long."""
    return repr(text if len(text) <= 60 else f"{text[:57]}…")


def _recounted(context: str, text: str, start: int) -> tuple[str, int] | None:
    """Return what the offset counts instead of characters, as a sentence, and the right offset."""
    for encoding, unit, size in _UNITS:
        data, wanted = context.encode(encoding, "surrogatepass"), text.encode(encoding)
        if data[start * size :].startswith(wanted):
            right = len(data[: start * size].decode(encoding, "ignore"))
            if context.startswith(text, right):
                return f"answer_start counts {unit}; in characters it is {right}.", right
    unix = context.replace("\r\n", "\n")
    if unix != context and unix.startswith(text, start):
        right = len(context) - len(unix[start:].replace("\n", "\r\n"))
        if context.startswith(text, right):
            return f"answer_start counts each line end as one character; here it is {right}.", right
    return None


def _by_search(context: str, text: str, start: int | None) -> tuple[str, tuple[str, int] | None]:
    """Return what to do, and the place if it is certain: the only one, or the only one that the given span touches."""
    wanted = text if text in context else text.strip()
    places = [match.start() for match in re.finditer(f"(?={re.escape(wanted)})", context)]
    if not wanted or not places:
        return "The context does not hold it at all: correct the answer, or drop the row (dataset.on_bad: drop).", None
    if len(places) == 1 and _is_inside_word(context, wanted, places[0]):
        return f"It occurs only inside a word, at {places[0]}: correct the answer, or drop the row.", None
    if len(places) == 1:
        fix = f"It occurs once in the context, at {places[0]}: set answer_start to {places[0]}. {CORRECT_ALL}"
        return fix, (wanted, places[0])
    if start is None:
        fix = f"It occurs {len(places)} times in the context: set answer_start to the right place, or drop the row."
        return fix, None
    touched = [place for place in places if _touches(context, wanted, place, start)]
    if len(touched) == 1:
        fix = f"It occurs {len(places)} times in the context, the nearest at {touched[0]}. {CORRECT_ALL}"
        return fix, (wanted, touched[0])
    nearest = min(places, key=lambda place: abs(place - start))
    count = f"It occurs {len(places)} times in the context, nearest at {nearest}"
    return f"{count}: choose the right place, or drop the row.", None


def _is_inside_word(context: str, text: str, place: int) -> bool:
    """Return whether a place begins or ends inside a word, in scripts that put spaces between words.

    >>> _is_inside_word("The party", "art", 5), _is_inside_word("The party", "party", 4)
    (True, False)
    """
    end = place + len(text)
    return _glued(context[max(place - 1, 0) : place], text[0]) or _glued(text[-1], context[end : end + 1])


def _glued(left: str, right: str) -> bool:
    return bool(left and right) and left.isalnum() and right.isalnum() and max(left, right) < "\u0590"


def _touches(context: str, text: str, place: int, start: int) -> bool:
    """Return whether a place overlaps the given span, or only white space is between its start and the given one."""
    first, second = min(place, start), max(place, start)
    return second - first < len(text) or not context[max(first, 0) : second].strip()
