"""Write ``docs/reference/reliability.md`` from the records of the campaigns.

Run it with ``python tests/campaigns/scorecard_page.py``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from scorecard import LINES, RECORDS, ROOT

PAGE = ROOT / "docs" / "reference" / "reliability.md"

HEAD = """\
# Reliability

What happens when a run is killed, a disk fills, a file is damaged or a stranger sends you a model: measured, with the
command for each line. Stock is transformers, TRL and PEFT alone, measured in the same way.
A line that does not hold says so.

The models are tiny, two layers and random weights, so that thousands of runs fit on two CPU cores. The suite runs a
small version of each campaign. This page is written by `python tests/campaigns/scorecard_page.py`.

| | Line | Stock | finetune | Goal |
| --- | --- | --- | --- | --- |
"""


def page() -> str:
    """Return the page."""
    found = {name: _read(name) for name in LINES}
    rows, commands = [], []
    for name, facts in found.items():
        if facts is None:
            rows.append(f"| – | {name} | | not measured | |")
            continue
        mark = "✓" if facts["met"] else "**not met**"
        cells = [_cell(facts[key]) for key in ("stock", "ours", "goal")]
        rows.append(f"| {mark} | {name} | {' | '.join(cells)} |")
        commands.append(f"| {name} | `{facts['command']}` | {facts['seconds']} s | `{facts['commit']}` |")
    limits = [
        f"* **{name}**: {facts['not_covered']}" for name, facts in found.items() if facts and facts["not_covered"]
    ]
    return (
        HEAD
        + "\n".join(rows)
        + "\n\n## Commands\n\nEach line was measured with its command, on the commit named.\n\n"
        + "| Line | Command | Took | Commit |\n| --- | --- | --- | --- |\n"
        + "\n".join(commands)
        + "\n\n## What the figures do not say\n\n"
        + "* Power loss was not simulated, only processes that die.\n"
        + "* Everything ran on Linux, on a local disk.\n"
        + "\n".join(limits)
        + "\n"
    )


def _read(name: str) -> Mapping[str, Any] | None:
    path = RECORDS / f"{name.replace(' ', '-')}.json"
    if not path.is_file():
        return None
    facts: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return facts


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
