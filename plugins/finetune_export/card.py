"""The section of a model card that says what an export changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune.errors import BadData
from finetune.kit import Result
from finetune_export.exporting import FLIPS, PROOF


def section(result: Result, directory: Path) -> str:
    """Return the section as Markdown; an empty text for a folder that was not exported."""
    path = directory / PROOF
    if not path.is_file():
        return ""
    try:
        found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return _text(found)
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise BadData(f"{path} is damaged: {error}. Export again: finetune export.") from error


def _text(found: Mapping[str, Any]) -> str:
    kind = str(found["format"])
    if found["calibrated_on"]:
        kind += f", calibrated on {found['calibrated_on']:,} rows of train"
    lines = [
        f"* Format: {kind}.",
        f"* Compared with its source, through its runtime: {found['verdict']}",
    ]
    if found["proof"]["flips"]:
        lines.append(f"* The rows whose prediction changed are in `{FLIPS}`.")
    rows = []
    for name in ("source", "exported"):
        one, many = found["speed"][name]
        size = found["bytes"][name] / 1e6
        times = f"{one['p50_ms']:.1f} / {one['p99_ms']:.1f} | {many['p50_ms']:.1f} / {many['p99_ms']:.1f}"
        rows.append(f"| {name} | {size:.1f} | {times} | {many['rows_per_second']:.0f} |")
    table = [
        "| model | MB | one row, ms (p50 / p99) | 32 rows, ms (p50 / p99) | rows a second |",
        "|---|---|---|---|---|",
        *rows,
    ]
    threads = f"Measured with {found['threads']} threads on the processor that exported it, without the tokenizer."
    return "\n".join([*lines, "", *table, "", threads])


__all__ = ["section"]
