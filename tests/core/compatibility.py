"""The page of compatibility: written from what the composition test saw, and read back to be held to it."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import yaml
from variants import Variant

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "compatibility.md"
TRAINS, FAILS = "trains", "fails"
Cell = tuple[str, str]
"""A task and a variant of a strategy."""
VERSIONS = ("torch", "transformers", "peft", "trl", "accelerate", "bitsandbytes")


@dataclass(frozen=True, kw_only=True)
class Trap:
    """Something that goes wrong without a word in the libraries we build on, and what holds it here."""

    what: str
    cells: Sequence[Cell] = ()
    """Cells in which it happened; the suite tries them."""
    tests: Sequence[str] = ()
    """Further tests: ``path::function``."""


def page(outcomes: Mapping[Cell, str], variants: Mapping[str, Variant], traps: Sequence[Trap], command: str) -> str:
    """Return the whole page.

    Args:
        outcomes: Cell → `TRAINS`, `FAILS`, or the words of the refusal.
        variants: In the order of the columns.
        traps: With what holds them.
        command: What was run to learn all this.
    """
    refusals = list(dict.fromkeys(words for words in outcomes.values() if words not in (TRAINS, FAILS)))
    numbers = {words: number for number, words in enumerate(refusals, start=1)}
    marks = {TRAINS: "✓", FAILS: "**fails**", **{words: f"[^{number}]" for words, number in numbers.items()}}
    tasks = list(dict.fromkeys(task for task, _ in outcomes))
    counts = {
        "cells": len(outcomes),
        "train": sum(outcome == TRAINS for outcome in outcomes.values()),
        "are refused": sum(outcome in numbers for outcome in outcomes.values()),
        "fail": sum(outcome == FAILS for outcome in outcomes.values()),
    }
    parts = [
        HEAD.format(command=command),
        table(["Task", *(f"`{name}`" for name in variants)],
              [[f"`{task}`", *(marks[outcomes[task, name]] for name in variants)] for task in tasks]),
        f"Of {counts['cells']} cells, {counts['train']} train, {counts['are refused']} are refused before the first "
        f"step, and {counts['fail']} fail.",
        f"Tried on {datetime.now(UTC).date()} with {', '.join(f'{name} {version(name)}' for name in VERSIONS)}.",
        "## The columns",
        table(["Column", "The recipe's `strategy`"],
              [[f"`{name}`", f"`{_flow(variant.section)}`"] for name, variant in variants.items()]),
        TRAPS,
        table(["Fault", "Tested by"], [[trap.what, _holders(trap)] for trap in traps]),
        *(["## Messages of refused pairs", REFUSED] if refusals else []),
        "\n".join(f"[^{number}]: {_escaped(words)}" for words, number in numbers.items()),
    ]  # fmt: skip
    return "\n\n".join(part for part in parts if part) + "\n"


HEAD = """\
---
hide: [toc]
---

# Compatibility

Every task with every strategy. This page is generated from the results of `{command}`.

A **✓** means that the strategy trained a tiny model of the task's usual kind, and that all of this is true:

- ten steps lowered the loss (for reinforcement learning and multiple choice, they changed the model);
- the parameters that changed, compared bit by bit, are exactly those that the strategy trains; all others are equal to
  those before the first step;
- loaded in a new process, the saved model gives the same outputs, and the same scores, to the bit;
- stopped after five steps and resumed in a new process, the run ends with the same saved weights, to the bit.

A **number** leads to the message that refuses the pair before the first step.

"To the bit" holds with one thread and `MKL_CBWR=AUTO,STRICT`. Without it, a CPU's last digits may depend on the memory
address of a weight. The results may come from several runs of the command, each with some of the cells."""

TRAPS = """\
## Faults that these tests prevent

Combinations of a task and a strategy in which the libraries that we build on fail silently, or with an error from deep
inside. Each is tested by cells of the table, or by its own tests."""

REFUSED = """\
These pairs were tried like all others, and refused with these messages."""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    lines = [head, ["---", *(":-:" if len(head) > 2 else "---" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def written(text: str) -> dict[Cell, str]:
    """Return the outcomes that a page states."""
    words = dict(re.findall(r"^\[\^(\d+)\]: (.*)$", text, flags=re.MULTILINE))
    rows = [[cell.strip(" `") for cell in line.strip("|").split(" | ")] for line in text.splitlines() if "|" in line]
    head = next(row for row in rows if row[0] == "Task")
    found: dict[Cell, str] = {}
    for row in rows[rows.index(head) + 2 :]:
        if len(row) != len(head):
            break
        for name, mark in zip(head[1:], row[1:], strict=True):
            known = {"✓": TRAINS, "**fails**": FAILS}
            found[row[0], name] = known[mark] if mark in known else words[mark.strip("[^]")]
    return found


def as_written(outcome: str) -> str:
    """Return an outcome as the page has it."""
    return outcome if outcome in (TRAINS, FAILS) else _escaped(outcome)


def _escaped(words: str) -> str:
    return re.sub(r"([*_\[\]`])", r"\\\1", html.escape(" ".join(words.split()), quote=False))


def _flow(section: Mapping[str, object]) -> str:
    if len(section) == 1:
        return str(section["name"])
    return yaml.safe_dump(dict(section), default_flow_style=True, sort_keys=False, width=1000).strip()


def _holders(trap: Trap) -> str:
    cells = [f"`{task}` × `{variant}`" for task, variant in trap.cells]
    return "; ".join([*cells, *(f"`{test.rpartition('::')[2]}`" for test in trap.tests)])
