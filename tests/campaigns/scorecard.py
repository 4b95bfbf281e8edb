"""The scorecard of reliability: one line for each promise, measured by a campaign and written to a file.

A campaign is a script of this folder: ``python tests/campaigns/kills.py``. It measures one or more lines and calls
`record` for each. Then ``python tests/campaigns/scorecard_page.py`` writes ``docs/reference/reliability.md`` from the
records.
The suite runs each campaign with few trials, in ``test_*.py`` of this folder, and records nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECORDS = Path(__file__).parent / "results"
"""One JSON file for each line."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the scorecard."""

    name: str
    """Short and unique: ``"kill -9"``."""
    goal: str
    """What has to hold: ``"100 of 100 resume, all equal to the bit"``."""
    stock: str
    """What the same test showed with transformers and TRL alone, or why it was not run there."""
    ours: str
    """What was measured, with counts: ``"104 of 104 resumed, 104 equal to the bit"``."""
    met: bool
    """Whether the goal holds."""
    not_covered: str = ""
    """What the figure does not say."""


LINES = (
    "kill -9", "kill -9 of one process", "after the last step", "failing writes", "damaged checkpoints", "signals",
    "data order", "determinism", "numbers that are not finite", "out of memory", "malformed files", "fuzzed readers",
    "fuzzed recipes and results", "large inputs", "span round trip", "tokens of the loss", "accounting", "leakage",
    "save and load", "hostile files", "secrets", "serving", "best model", "upgrades",
)  # fmt: skip
"""Every line, in the order of the page. A line without a record stands there as not measured."""


def record(line: Line, *, started: float) -> None:
    """Print a line, and write it to its file.

    Args:
        line: What was measured.
        started: `time.monotonic` when the campaign began.
    """
    if line.name not in LINES:
        raise ValueError(f"{line.name!r} is no line of the scorecard")
    facts = {
        **asdict(line),
        "command": " ".join(["python", *_from_root(sys.argv)]),
        "commit": _commit(),
        "seconds": round(time.monotonic() - started),
    }
    RECORDS.mkdir(exist_ok=True)
    path = RECORDS / f"{line.name.replace(' ', '-')}.json"
    path.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{'met    ' if line.met else 'NOT MET'}  {line.name}: {line.ours}  [goal: {line.goal}]")


def _from_root(arguments: Sequence[str]) -> list[str]:
    script = Path(arguments[0]).resolve()
    return [os.path.relpath(script, ROOT), *arguments[1:]]


def _commit() -> str:
    """Return the commit of the working tree, with ``+`` if tracked files differ from it."""
    run = ["git", "-C", str(ROOT)]
    commit = subprocess.run([*run, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
    changed = subprocess.run(
        [*run, "status", "--porcelain", "--untracked-files=no", "--", "finetune", "plugins", "tests"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    changed = "".join(line for line in changed.splitlines() if "tests/campaigns/results/" not in line)
    return commit.strip() + ("+" if changed else "")
