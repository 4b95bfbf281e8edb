"""A cell that holds a list or a mapping is read, whether JSON, Python, numpy or pandas wrote it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.data.cells import parse_cell

TEXT = st.text(max_size=12)
VALUE: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@given(VALUE)
def test_what_json_and_python_write_is_read(value: Any) -> None:
    assert parse_cell(json.dumps(value)) == value
    if isinstance(value, list | dict):
        assert parse_cell(repr(value)) == value


@given(st.lists(st.text("ab'\"\\ ,é", min_size=1, max_size=20), min_size=1, max_size=9))
def test_a_list_of_texts_is_read_as_numpy_prints_it(texts: list[str]) -> None:
    array = np.array(texts, dtype=object)
    assert parse_cell(str(array)) == texts
    assert parse_cell(str({"text": array})) == {"text": texts}


@pytest.mark.parametrize("text", ["", "plain", "[1, 2", "{[1]: 2}", "__import__('os')", "[print(1)]", "(" * 4000])
def test_other_text_is_no_cell_with_a_value(text: str) -> None:
    with pytest.raises(ValueError, match="neither JSON nor a Python literal"):
        parse_cell(text)


def test_a_long_cell_is_not_read_as_python() -> None:
    with pytest.raises(ValueError, match="characters, and is not JSON"):
        parse_cell("['a'," * 250_000)
