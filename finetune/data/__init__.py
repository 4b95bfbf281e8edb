"""Read, rename, split, check and drop rows, and account for each of them in the data report."""

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
