"""What is wrong with sources and targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from finetune.interfaces import Finding
from finetune.kit import TextWarnings, check_text

COPIES = 0.05
"""Share of rows whose target equals their source, above which we warn."""


def first_target(target: Any) -> Any:
    """Return a target, or the first of several; None if there is none.

    >>> first_target("Fog."), first_target(["Fog.", "Mist."]), first_target([])
    ('Fog.', 'Fog.', None)
    """
    if not isinstance(target, list | tuple):
        return target
    return target[0] if target else None


def check_source(source: Any, row: int, column: str) -> Iterator[Finding]:
    """Yield what is wrong with one source."""
    yield from check_text(source, row=row, column=column, name="source")


def check_target(target: Any, row: int, column: str) -> Iterator[Finding]:
    """Yield what is wrong with one target, or with each of several."""
    targets = list(target) or [""] if isinstance(target, list | tuple) else [target]
    for text in targets:
        yield from check_text(text, row=row, column=column, name="target", missing="error")


@dataclass
class _Occurrences:
    """How often something occurs, and where first."""

    count: int = 0
    row: int | None = None
    value: str | None = None

    def add(self, row: int, value: str) -> None:
        if self.count == 0:
            self.row, self.value = row, value
        self.count += 1

    def warning(self, code: str, message: str, fix: str) -> Finding:
        return Finding(code=code, message=message, fix=fix, level="warning", row=self.row, value=self.value)


class PairWarnings:
    """Counts what is a problem only if many rows have it."""

    def __init__(self) -> None:
        self.rows = 0
        self._copies = _Occurrences()
        self._texts = TextWarnings()
        self._several = _Occurrences()

    def add(self, row: int, source: Any, target: Any, places: tuple[str, str]) -> None:
        """Count one row, whose source and target stand at these places."""
        self.rows += 1
        learned = first_target(target)
        if isinstance(learned, str) and learned == source:
            self._copies.add(row, learned)
        for place, text in zip(places, (source, learned), strict=True):
            self._texts.add(row, place, text)
        if isinstance(target, list | tuple) and len(target) > 1:
            self._several.add(row, str(target))

    def findings(self) -> Iterator[Finding]:
        """Yield one warning for each kind of problem, with its first row."""
        if self._copies.count > COPIES * self.rows:
            yield self._copies.warning(
                "source-equals-target",
                f"the target equals the source in {self._copies.count:,} of {self.rows:,} rows.",
                "Check that the columns are right: such rows teach the model to copy.",
            )
        yield from self._texts.findings(
            special="Those with a role, such as </s>, are read as plain text; markers that a model adds are not."
        )
        if self._several.count:
            yield self._several.warning(
                "several-targets",
                f"{self._several.count:,} rows have several targets.",
                "Training uses the first target; scores use all of them.",
            )
