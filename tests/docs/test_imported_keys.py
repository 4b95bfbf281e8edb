"""The page with the keys of other tools is what the importers do."""

from __future__ import annotations

import imported_keys


def test_the_page_is_made_of_the_importers_tables() -> None:
    written = imported_keys.PAGE.read_text(encoding="utf-8")
    assert written == imported_keys.page(), "run: python docs/_build/imported_keys.py"
