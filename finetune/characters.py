"""Characters that are not seen but change what is seen: they are shown as their escape sequences."""

from __future__ import annotations

import re

_UNSEEN = re.compile(
    "["
    "\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f"  # control characters, without tab and ends of lines
    "\\xad\\u034f\\u180e\\u200b\\u2060-\\u2064\\ufeff"  # of no width
    "\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u206f"  # that change the direction, or end a line
    "\\ufff9-\\ufffb\\U0001d173-\\U0001d17a\\U000e0000-\\U000e007f"  # annotations, music, tags
    "]"
)
"""Those that words need are not here: the joiners of Persian and of emoji, and the selectors of variants."""


def visible(text: str) -> str:
    r"""Return a text in which each unseen character is its escape sequence.

    >>> visible("invoice\u202efdp.exe")
    'invoice\\u202efdp.exe'
    """
    return _UNSEEN.sub(lambda found: ascii(found.group())[1:-1], text)
