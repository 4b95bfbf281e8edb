"""The reference pages of everything that has a name are current."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_pages_hold_what_show_prints() -> None:
    spec = importlib.util.spec_from_file_location("names_pages", ROOT / "docs/_build/names.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, text in module.pages().items():
        current = (ROOT / "docs/reference" / name).read_text(encoding="utf-8")
        assert current == text, f"docs/reference/{name} is not current. Run python docs/_build/names.py"
