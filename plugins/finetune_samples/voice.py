"""A small template grammar: choices in brackets, names in braces."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from finetune.errors import FinetuneError
from finetune_samples.world import World

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{([a-z]+)(\d*)\}")
_GAP = re.compile(r" +(?=[.,;?!])")  # left by an empty branch
_SENTENCE = re.compile(r"^\W*\w")

Sizes = dict[str, int]
"""Split → number of rows."""
Rows = dict[str, list[dict[str, Any]]]
"""Split → its rows."""


class Voice:
    """Fills the templates of one text: a slot keeps its name in all sentences, and two slots never share a name."""

    def __init__(self, rng: Random, world: World) -> None:
        self.rng = rng
        self.world = world
        self._said: dict[str, str] = {}
        self._used: set[str] = set()

    def say(self, template: str) -> str:
        """Return a template with one branch of each ``[a|b]`` chosen and each ``{kind}`` replaced by a name.

        ``{ship}`` is the same ship in all texts of one voice; ``{ship2}`` is another. A sentence begins with a capital.
        """
        while _CHOICE.search(template):
            template = _CHOICE.sub(lambda found: self.rng.choice(found[1].split("|")), template)
        text = _SLOT.sub(lambda found: self.name(found[1], found[2]), template)
        text = _GAP.sub("", text)
        return _SENTENCE.sub(lambda found: found[0].upper(), text)

    def name(self, kind: str, which: str = "") -> str:
        """Return the name of a slot; it is drawn at the first use."""
        slot = kind + which
        if slot not in self._said:
            self._said[slot] = self.fresh(kind)
        return self._said[slot]

    def fresh(self, kind: str) -> str:
        """Return a name of a kind that this voice has not used."""
        names = self.world.names[kind]
        name = self.rng.choice(names)
        while name in self._used:
            name = self.rng.choice(names)
        self._used.add(name)
        return name


def distinct(sizes: Sizes, make: Callable[[str, int], tuple[Any, dict[str, Any]]]) -> Rows:
    """Make rows until each split has its size; no row occurs twice in any splits.

    ``make`` takes the split and the number of the attempt, and returns a key that must be distinct and the row.

    Raises:
        FinetuneError: The grammar cannot make so many different texts.
    """
    seen: set[Any] = set()
    return {split: list(_rows(split, size, make, seen)) for split, size in sizes.items()}


def _rows(
    split: str, size: int, make: Callable[[str, int], tuple[Any, dict[str, Any]]], seen: set[Any]
) -> Iterator[dict[str, Any]]:
    made = 0
    for attempt in range(20 * size + 100):
        if made == size:
            return
        key, row = make(split, attempt)
        if key not in seen:
            seen.add(key)
            made += 1
            yield row
    if made < size:
        raise FinetuneError(f"the sample has only {made:,} distinct rows to give for {split!r}, not {size:,}.")
