"""The page on environment variables names each one that the code reads."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
READ = re.compile(r"""environ(?:\.get\(|\.setdefault\(|\[)\s*["']([A-Z][A-Z0-9_]+)["']""")
SET_FOR_A_DEMO = {"OMP_WAIT_POLICY"}
"""Set by `finetune demo` for its own process."""


def test_the_page_names_each_variable_that_the_code_reads() -> None:
    page = (ROOT / "docs/reference/environment-variables.md").read_text(encoding="utf-8")
    found: set[str] = set()
    for path in [*(ROOT / "finetune").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]:
        found |= set(READ.findall(path.read_text(encoding="utf-8")))
    assert len(found) > 8
    assert {name for name in found - SET_FOR_A_DEMO if f"`{name}`" not in page} == set()
