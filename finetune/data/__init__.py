"""Read, rename, split, check and drop rows, and account for each of them in the data report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetune.data.examples import Examples, from_rows, left_out
    from finetune.data.findings import CODES, UnreadableError, blank_line
    from finetune.data.leaks import leakage
    from finetune.data.mixture import NAME, load
    from finetune.data.readers.text import LONGEST, lines, too_long

__all__ = [
    "CODES",
    "LONGEST",
    "NAME",
    "Examples",
    "UnreadableError",
    "blank_line",
    "from_rows",
    "leakage",
    "left_out",
    "lines",
    "load",
    "too_long",
]

_PLACES = {
    **dict.fromkeys(("Examples", "from_rows", "left_out"), "examples"),
    **dict.fromkeys(("CODES", "UnreadableError", "blank_line"), "findings"),
    "leakage": "leaks",
    **dict.fromkeys(("NAME", "load"), "mixture"),
    **dict.fromkeys(("LONGEST", "lines", "too_long"), "readers.text"),
}
"""Name → the module that defines it. They are imported late: `examples` needs `datasets`, which takes a second."""


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
