"""Where two answers that hold their prompt begin to differ: the prompt ends there, at a border of words or turns."""

from __future__ import annotations

import re
import unicodedata
from typing import Any

from finetune_trl.chat.tokens import common_prefix

_TURN = re.compile(
    r"(?:^|\n)(?:assistant|bot|ai|gpt)\s?:|<\|im_start\|>assistant\n|<\|assistant\|>\n?|<start_of_turn>model\n"
    r"|<\|start_header_id\|>assistant<\|end_header_id\|>\n\n|\[/INST\]|### ?(?:response|assistant|answer):\n?",
    re.IGNORECASE,
)
"""What common formats write where an answer begins."""
_WITHOUT_SPACES = (
    "CJK", "HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA", "IDEOGRAPHIC", "THAI", "LAO", "KHMER", "MYANMAR", "TIBETAN",
)  # fmt: skip
"""How the Unicode names of characters begin that are written without spaces between words."""
_APOSTROPHES, _DECIMAL_POINTS = "'’", ".,"
_JOINERS = "\u200c\u200d\ufe0e\ufe0f"
"""Characters that make one sign of two, as in many emoji."""


def common_beginning(chosen: Any, rejected: Any) -> int:
    """Return how many characters, or messages, of two answers are their common prompt; something is left of each."""
    if isinstance(chosen, str):
        return common_text(chosen, rejected)
    common = common_prefix(chosen, rejected)
    return min(common, max(min(len(chosen), len(rejected)) - 1, 0))


def common_text(chosen: str, rejected: str) -> int:
    """Return how many characters two texts are asked with; a space before the cut belongs to the answers.

    If both texts contain the beginning of the same turn of an assistant, the cut is after it. Otherwise it is the last
    border of words before the texts differ. `trl.extract_prompt` cuts at the first character that differs, so that the
    prompt may end inside a word.

    >>> text = "The sky is blue"
    >>> text[:common_text(text, "The sky is bland")]
    'The sky is'
    >>> text[:common_text(text, "The sky is blue and vast")]
    'The sky is'
    >>> text = "Human: Fog?\\n\\nAssistant: It is thick."
    >>> text[:common_text(text, "Human: Fog?\\n\\nAssistant: It is thin.")]
    'Human: Fog?\\n\\nAssistant:'
    """
    common = common_prefix(chosen, rejected)
    turns = [turn.end() for turn in _TURN.finditer(chosen, 0, common)]
    cut = turns[-1] if turns and _leaves_answers(turns[-1], chosen, rejected) else common
    while cut > 0 and not _is_border(cut, chosen, rejected):
        cut -= 1
    ends_with_space = cut > 0 and chosen[cut - 1] == " "
    return cut - 1 if ends_with_space else cut


def _is_border(cut: int, *texts: str) -> bool:
    return _leaves_answers(cut, *texts) and not any(_is_inside_word(text, cut) for text in texts)


def _leaves_answers(cut: int, *texts: str) -> bool:
    return all(text[cut:].strip() for text in texts)


def _is_inside_word(text: str, cut: int) -> bool:
    """Say whether the characters before and after a cut belong to the same word, number or sign."""
    before, after = text[cut - 1], text[cut]
    if before in _JOINERS or after in _JOINERS or unicodedata.category(after).startswith("M"):
        return True
    if _is_letter(before) and _is_letter(after):
        return True
    return _joins_at(text, cut) or _joins_at(text, cut - 1)


def _joins_at(text: str, place: int) -> bool:
    """Say whether the character at a place joins its neighbours to one word: ``don't``, ``3.14``."""
    mark, around = text[place], text[max(place - 1, 0) : place] + text[place + 1 : place + 2]
    if len(around) < 2:
        return False
    if mark in _APOSTROPHES:
        return all(map(_is_letter, around))
    return mark in _DECIMAL_POINTS and all(map(str.isdigit, around))


def _is_letter(character: str) -> bool:
    """Say whether a character is part of a word that spaces separate from the next word."""
    if character != "_" and unicodedata.category(character)[0] not in "LMN":
        return False
    return not unicodedata.name(character, "").startswith(_WITHOUT_SPACES)
