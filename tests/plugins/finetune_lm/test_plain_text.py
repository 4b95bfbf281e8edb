"""Plain text files: which lines become which document, and where a bad text stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import finetune_lm.plain as plain
from finetune import data
from finetune.data import UnreadableError
from finetune.errors import BadData
from finetune.interfaces import Finding
from finetune.plugins import discover
from finetune.recipe import Source
from finetune_lm.causal import CausalLMPreprocessor
from finetune_lm.masked import MaskedLMPreprocessor

CONTENT = st.text(alphabet="ab \t\r\n\u2028\x85", max_size=60)


def pieces(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


def rows(reader: Any, text: str, size: int = 7) -> list[tuple[int, str]]:
    made = reader.rows(pieces(text, size), file="x.txt")
    return [(found[0], found[1]["text"]) for found in made if not isinstance(found, Finding)]


@given(CONTENT, st.integers(1, 9))
def test_each_line_that_is_not_blank_is_a_document(text: str, size: int) -> None:
    wanted = [
        (number, line.removesuffix("\r")) for number, line in enumerate(text.split("\n"), 1) if line.strip(" \t\r")
    ]
    assert rows(plain.LinesReader(), text, size) == wanted


@given(CONTENT, st.integers(1, 9))
def test_paragraphs_hold_the_same_lines_and_begin_where_their_first_one_stands(text: str, size: int) -> None:
    found = rows(plain.ParagraphsReader(), text, size)
    lines = rows(plain.LinesReader(), text, size)
    assert [line for _, paragraph in found for line in paragraph.split("\n")] == [line for _, line in lines]
    assert [number for number, _ in found] == [
        number for number, _ in lines if number == 1 or not text.split("\n")[number - 2].strip(" \t\r")
    ]


def test_blank_lines_are_counted_and_numbers_stay_those_of_the_file() -> None:
    text = "one\r\n\r\n\n two \nthree"
    assert rows(plain.LinesReader(), text) == [(1, "one"), (4, " two "), (5, "three")]
    blank = [found.line for found in plain.LinesReader().rows([text], file="x") if isinstance(found, Finding)]
    assert blank == [2, 3]
    assert rows(plain.ParagraphsReader(), text) == [(1, "one"), (4, " two \nthree")]


@pytest.mark.parametrize(("reader", "what"), [(plain.LinesReader(), "line"), (plain.ParagraphsReader(), "paragraph")])
def test_a_file_that_is_one_huge_line_is_an_error_with_its_place(
    reader: Any, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune.data.readers.text.LONGEST", 20)
    monkeypatch.setattr(plain, "LONGEST", 20)
    long = "long " * 9 if what == "line" else "long " * 3 + "\n" + "long " * 3
    before: list[Any] = []
    with pytest.raises(UnreadableError) as raised:
        before.extend(reader.rows(pieces("short\n\n" + long, 8), file="x.txt"))
    finding = raised.value.finding
    assert (finding.code, finding.level, finding.line) == ("record-too-long", "error", 3)
    assert what in finding.message
    assert before[0] == (1, {"text": "short"})


def load(path: Path, preprocessor: Any, **source: Any) -> Any:
    return data.load(Source(path=str(path), validation_size=0, **source), preprocessor, plugins=discover(), seed=0)


def test_a_recipe_reads_text_files_by_their_suffix_and_paragraphs_by_name(tmp_path: Path) -> None:
    path = tmp_path / "harbour.txt"
    path.write_text("The tide turns.\nGulls circle.\n\nSalt and tar.\n")
    found = load(path, CausalLMPreprocessor(max_length=8))
    assert list(found.splits["train"]["text"]) == ["The tide turns.", "Gulls circle.", "Salt and tar."]
    assert found.data_report["train"]["blank_lines"] == 1
    found = load(path, CausalLMPreprocessor(max_length=8), format="paragraphs")
    assert list(found.splits["train"]["text"]) == ["The tide turns.\nGulls circle.", "Salt and tar."]


def test_a_bad_text_is_named_by_its_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "harbour.txt"
    path.write_text("The tide turns.\n\n\u200b\u200b\n")
    with pytest.raises(BadData, match=r"harbour\.txt:3: text: the text has no visible character"):
        load(path, MaskedLMPreprocessor())


def codes(*texts: Any, max_length: int = 16) -> dict[str, tuple[str, int | None]]:
    found = CausalLMPreprocessor(max_length=max_length).check([{"text": text} for text in texts])
    return {finding.code: (finding.level, finding.row) for finding in found}


def test_what_is_wrong_with_texts_is_found() -> None:
    good = "The tide turns twice a day."
    assert codes(good, "Gulls circle.") == {}
    assert codes(good, None) == {"text-missing": ("row", 1)}
    assert codes(good, 7) == {"text-not-text": ("error", 1)}
    assert codes(good, " \n") == {"text-empty": ("row", 1)}
    assert codes(good, "\ud800") == {"text-surrogate": ("error", 1)}
    assert codes(good, "x", good) == {"duplicate-rows": ("warning", 2)}


@pytest.mark.parametrize(
    "token", ["[MASK]", "</s>", "<s>", "<|endoftext|>", "<pad>", "[CLS]", "<|im_end|>", "<extra_id_3>"]
)
def test_special_tokens_written_in_a_text_are_counted(token: str) -> None:
    assert codes("The tide turns twice.", f"x {token}", f"y {token}") == {"special-token-in-text": ("warning", 1)}
    assert codes("The tide <turns> [twice] a <3 day |s|") == {}


def test_a_corpus_that_cannot_fill_a_block_is_warned_of() -> None:
    # 4 + 4 letters and two ends are ten tokens at most
    assert codes("tide", "gull", max_length=10) == {"corpus-smaller-than-block": ("warning", None)}
    assert codes("tide", "gull", max_length=9) == {}
