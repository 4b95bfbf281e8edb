"""A csv or tsv file without a header is read by names that the recipe gives."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.data.readers.delimited import CsvReader, TsvReader
from finetune.errors import BadOptions
from finetune.interfaces import Finding
from finetune.recipe.options import build

CELLS = st.text(st.characters(codec="utf-8", exclude_characters='\r\n\t",;|\x00'), min_size=1, max_size=8)
TABLES = st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5)


@given(TABLES, st.sampled_from(",;\t|"))
def test_each_line_is_a_row(table: list[tuple[str, str]], delimiter: str) -> None:
    text = "".join(f"{first}{delimiter}{second}\n" for first, second in table)
    readers = [CsvReader(names=("a", "b"), delimiter=delimiter)]
    readers += [TsvReader(names=("a", "b"))] if delimiter == "\t" else []  # type: ignore[list-item]
    for reader in readers:
        if (reader.quotes and text.lower().startswith('"sep=')) or text.lower().startswith("sep="):
            continue
        rows = list(reader.rows([text], file="x"))
        assert rows == [(line, {"a": row[0], "b": row[1]}) for line, row in enumerate(table, 1)]


def test_a_row_of_another_width_names_the_option() -> None:
    found = list(CsvReader(names=("label", "text")).rows(["pos,Fine.,more\nneg,Bad.\n"], file="x"))
    assert isinstance(found[0], Finding)
    assert found[0].message == "the row has 3 fields, dataset.options.names has 2."
    assert found[1] == (2, {"label": "neg", "text": "Bad."})


@pytest.mark.parametrize("names", [["a", "a"], ["a", " "], ["a", "b\x00"], ["a", "b\r"]])
def test_names_must_be_names(names: list[str]) -> None:
    with pytest.raises(BadOptions, match="all different"):
        build(CsvReader, {"names": names}, where="dataset.options")


def test_the_refusal_of_a_file_without_header_names_the_option(tmp_path: Path) -> None:
    from finetune.data import load
    from finetune.errors import BadData
    from finetune.plugins import discover, resolve
    from finetune.recipe import Source

    plugins = discover()
    path = tmp_path / "held.csv"
    path.write_text("".join(f"{label},A {word} room.\n" for word in ("fine", "cold", "wet") for label in ("1", "2")))
    preprocessor = resolve(plugins.find("tasks", "text-classification").preprocessor)()
    with pytest.raises(BadData) as caught:
        load(Source(path=str(path)), preprocessor, plugins=plugins, seed=1)
    assert "dataset.options: {names: [text, label]}" in caught.value.findings[0].fix
    source = Source(path=str(path), options={"names": ["label", "text"]}, validation_size=0)
    assert load(source, preprocessor, plugins=plugins, seed=1).splits["train"].num_rows == 6
