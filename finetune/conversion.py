"""How the settings of another tool become a recipe: what happens to each key, and why."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from finetune.errors import BadRecipe, did_you_mean

Status = Literal["mapped", "unneeded", "missing", "empty"]
"""What happened to a key: the recipe has its value; it needs none; it has no place for it; or the key had no value."""

EMPTY: tuple[Any, ...] = (None, "", [], {})
"""Values that set nothing."""


_TYPES: Mapping[type, str] = {
    int: "a whole number", float: "a number", str: "a text", list: "a list", dict: "a mapping", bool: "true or false",
}  # fmt: skip


@dataclass(frozen=True)
class Key:
    """What becomes of one key of another tool's file."""

    status: Status
    to: str = ""
    """Where its value goes in the recipe: ``training.learning_rate``."""
    note: str = ""
    """For a mapped key, what is different here; otherwise, why it is not needed, or what to do instead."""
    neutral: tuple[Any, ...] = ()
    """Values of a missing key that change nothing, besides false."""
    is_handled: bool = False
    """Whether the code of the importer handles the key, and the table only describes it."""

    takes: tuple[type, ...] = ()
    """Types that its value can have; empty for any. A file with another is refused."""

    def described(self) -> str:
        """Return what becomes of the key, in one line.

        >>> mapped("training.bf16", "`auto` is true").described()
        'training.bf16: `auto` is true'
        """
        what = self.to or {"unneeded": "not needed", "missing": "no place"}.get(self.status, "")
        return ": ".join(filter(None, (what, self.note)))


def mapped(to: str, note: str = "", *, takes: tuple[type, ...] = ()) -> Key:
    """Return the rule of a key whose value goes into the recipe as it is, and the types that it can have."""
    return Key("mapped", to, note, takes=takes)


def handled(to: str, note: str = "", *, takes: tuple[type, ...] = ()) -> Key:
    """Return the description of a key that the code of the importer converts, and the types that its value can have."""
    return Key("mapped", to, note, is_handled=True, takes=takes)


def unneeded(why: str) -> Key:
    """Return the rule of a key that a recipe does not need."""
    return Key("unneeded", note=why)


def missing(what_to_do: str, neutral: tuple[Any, ...] = ()) -> Key:
    """Return the rule of a key that has no place in a recipe, unless its value changes nothing."""
    return Key("missing", note=what_to_do, neutral=neutral)


@dataclass
class Outcome:
    """What happened to one key of the file."""

    status: Status
    notes: list[str] = field(default_factory=list)
    """What is different, why it is not needed, or what to do."""


@dataclass(kw_only=True)
class Conversion:
    """The settings of another tool, the recipe that is made of them, and what happened to each key."""

    tool: str
    """Name of the tool, for messages."""
    content: Mapping[str, Any]
    """The settings."""
    folder: Path = Path()
    """The folder that holds the file."""
    lines: Mapping[str, int] = field(default_factory=dict)
    """Key of the file → its line."""
    command: tuple[str, ...] = ()
    """The command of a shell script; see `finetune.recipe.foreign.Foreign`."""
    task: str | None = None
    """The task that the user names, because the file does not."""
    recipe: dict[str, Any] = field(default_factory=dict)
    """The recipe so far."""
    comments: dict[tuple[str, ...], str] = field(default_factory=dict)
    """Place in the recipe → where its value comes from."""
    sources: dict[tuple[str, ...], str] = field(default_factory=dict)
    """Place in the recipe → the key of the file that set it."""
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """Key of the file → what happened to it."""

    def get(self, key: str, default: Any = None) -> Any:
        """Return the value of a key at the top of the file; the default if it is empty or absent."""
        value = self.content.get(key)
        return default if value in EMPTY else value

    def put(self, place: str | Sequence[str], value: Any, *, source: str = "", note: str = "") -> None:
        """Set a value of the recipe.

        Args:
            place: Where: ``"training.learning_rate"``, or the parts of the place.
            value: What.
            source: The key of the file that it comes from; empty for a default of the tool.
            note: What is different from the file, or why the value is set.
        """
        *sections, last = parts = tuple(place.split(".")) if isinstance(place, str) else tuple(place)
        content = self.recipe
        for section in sections:
            content = content.setdefault(section, {})
        content[last] = value
        if source:
            self.sources[parts] = source
            self.tell(source, "mapped", note)
        named = source if source and source.rpartition(".")[2] != last else ""
        self.comments[parts] = f"{named}: {note}" if named and note else named or note

    def remove(self, place: tuple[str, str], status: Status, note: str) -> None:
        """Remove an option of a section, and say why of the key that set it."""
        section, name = place
        del self.recipe[section][name]
        self.comments.pop(place, None)
        source = self.sources.pop(place, "") or f"{section}.{name}"
        if status == "unneeded":
            self.outcomes.pop(source, None)
        self.tell(source, status, note)

    def tell(self, key: str, status: Status, note: str = "") -> None:
        """Say what happened to a key. It counts as missing if any part of it is, and as mapped if any part is."""
        order: tuple[Status, ...] = ("empty", "unneeded", "mapped", "missing")
        known = self.outcomes.setdefault(key, Outcome(status))
        if order.index(status) > order.index(known.status):
            known.status = status
        if note and note not in known.notes:
            known.notes.append(note)

    def refuse(self, key: str, message: str) -> BadRecipe:
        """Return the error for settings of which no recipe can be made, with the line of the key to blame."""
        return BadRecipe(f"{self.place_of(key)}: {message}")

    def place_of(self, key: str) -> str:
        """Return a key with its line."""
        return f"{key} (line {self.lines[key]})" if key in self.lines else key

    def follow(self, keys: Mapping[str, Key]) -> None:
        """Treat each key at the top of the file that has no outcome yet as a table says."""
        for name, value in self.content.items():
            if name in self.outcomes:
                continue
            if value in EMPTY:
                self.tell(name, "empty")
                continue
            rule = keys.get(name)
            if rule is None:
                continue
            if rule.status == "missing" and (value is False or value in rule.neutral):
                self.tell(name, "unneeded", "It is off.")
            elif rule.status == "mapped" and not rule.is_handled:
                self.put(rule.to, value, source=name, note=rule.note)
            else:
                self.tell(name, rule.status, rule.note)

    def check_types(self, keys: Mapping[str, Key]) -> None:
        """Check that the values have the types that a table names.

        Raises:
            BadRecipe: One has another. The message names the key and its line.
        """
        for name, value in self.content.items():
            takes = keys[name].takes if name in keys else ()
            is_wrong = not isinstance(value, takes) or (isinstance(value, bool) and bool not in takes)
            if takes and value not in EMPTY and is_wrong:
                expected = " or ".join(_TYPES[each] for each in takes)
                raise self.refuse(name, f"{value!r} is not a value that {self.tool} takes. Write {expected}.")

    def finish(self, keys: Collection[str]) -> None:
        """Say of each key that has no outcome that nothing knows it, and which known key is the nearest."""
        for name, value in self.content.items():
            if name in self.outcomes:
                continue
            if value in EMPTY:
                self.tell(name, "empty")
            else:
                note = f"The importer does not know this key of {self.tool}.{did_you_mean(name, keys)}"
                self.tell(name, "missing", note)
