"""A finished study that tests share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import studies

from finetune_tune.tune import Tuned, tune


@pytest.fixture(scope="session")
def study(toy_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Tuned:
    """Return a finished study of four trials. Tests must not change it."""
    return tune(studies.recipe(tmp_path_factory.mktemp("tune"), toy_base), trials=4, seeds=2)
