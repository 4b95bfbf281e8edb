"""The examples in the docstrings of the core are right."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import finetune

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(finetune.__path__, "finetune.")
    if not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_in_docstrings_are_right(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
