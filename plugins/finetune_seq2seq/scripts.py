"""Scripts that are written without spaces between words, and what scores compare in place of words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache

SPACED, CHINESE, OTHER = "spaced", "chinese", "other"
"""Scripts with spaces between words; Chinese; Japanese, Korean, Thai, Lao, Burmese, Khmer, Tibetan."""

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_KANA = "\u3005\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"
_SOUTH_EAST = "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff\ua9e0-\ua9ff\uaa60-\uaa7f"
_HANGUL = "\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"
_CHINESE, _OTHER = re.compile(f"[{_HAN}]"), re.compile(f"[{_KANA}{_SOUTH_EAST}{_HANGUL}]")
_LETTER = re.compile(r"[^\W\d_]")
KANA_SHARE = 0.05
"""Share of Japanese or Korean letters among those of East Asia from which a text with Chinese characters is not
Chinese: Japanese has at least a third."""


def main_script(references: Sequence[Sequence[str]]) -> str:
    """Return the script of most letters in references: `SPACED`, `CHINESE` or `OTHER`.

    Korean has spaces, but its words are not compared as wholes: particles and endings are written together with them.

    >>> main_script([["The ferry is late."]]), main_script([["渡輪遲到了。"]]), main_script([["船は遅れています。"]])
    ('spaced', 'chinese', 'other')
    """
    letters = chinese = other = 0
    for several in references:
        for text in several:
            letters += len(_LETTER.findall(text))
            chinese += len(_CHINESE.findall(text))
            other += len(_OTHER.findall(text))
    together = chinese + other
    if 2 * together <= letters or not together:
        return SPACED
    return OTHER if other > KANA_SHARE * together else CHINESE


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case; a character of a script without spaces is a word of its own.

    >>> words_of("Grüße, Tomás!"), words_of("渡輪 A1 遲"), words_of("นาวี")
    (['grüße', 'tomás'], ['渡', '輪', 'a1', '遲'], ['น', 'า', 'วี'])
    """
    words: list[str] = _words().findall(text.lower())
    return words


@cache
def _words() -> re.Pattern[str]:
    """Return the pattern of a word: letters, digits and the marks that belong to them."""
    marks = "".join(chr(code) for code in range(0x300, 0x20000) if unicodedata.category(chr(code)).startswith("M"))
    single = f"[{_HAN}{_KANA}{_SOUTH_EAST}]"
    return re.compile(rf"(?=\w){single}[{marks}]*|(?:(?!{single})[\w{marks}])+")
