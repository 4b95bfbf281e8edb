"""The page on troubleshooting: each message that it quotes is one that the code prints."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/troubleshooting.md").read_text(encoding="utf-8")
QUOTED = re.findall(r"^\| `([^`]+)` \|", PAGE, flags=re.MULTILINE)


@cache
def texts() -> str:
    """Return all texts of the code without docstrings; ``{}`` stands for a value in an f-string."""
    found = []
    for path in [*(ROOT / "finetune").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if node in docstrings:
                continue
            if isinstance(node, ast.JoinedStr):
                parts = [str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values]
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


@pytest.mark.parametrize("words", QUOTED)
def test_the_code_prints_what_the_page_quotes(words: str) -> None:
    assert words in texts()


def test_the_page_quotes_messages() -> None:
    assert len(QUOTED) > 20 and "no message has these words" not in texts()
