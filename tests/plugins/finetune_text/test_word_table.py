"""Tables with a word in each row: each sentence is a row, at the line of its first word."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.interfaces import Finding
from finetune_text.word_table import WordTableReader

WORD = st.text("abé,\"'-", min_size=1, max_size=5)
HEAD = "Sentence #,Word,POS,Tag\n"


def read(text: str, **options: Any) -> list[Any]:
    return list(WordTableReader(**options).rows([text], file="a.csv"))


@given(
    st.lists(
        st.lists(st.tuples(WORD, st.sampled_from(["O", "B-geo"])), min_size=1, max_size=5), min_size=1, max_size=6
    ),
    st.booleans(),
)
def test_what_is_written_is_read(sentences: list[list[tuple[str, str]]], in_each_row: bool) -> None:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["Sentence #", "Word", "POS", "Tag"])
    expected, line = [], 2
    for number, sentence in enumerate(sentences, 1):
        row = {"tokens": [word for word, _ in sentence], "ner_tags": [tag for _, tag in sentence]}
        expected.append((line, row))
        line += len(sentence)
        for place, (word, tag) in enumerate(sentence):
            name = f"Sentence: {number}" if in_each_row or place == 0 else ""
            writer.writerow([name, word, "NN", tag])
    assert WordTableReader().recognises(out.getvalue())
    assert read(out.getvalue()) == expected


@pytest.mark.parametrize(
    ("head", "known"),
    [("Sentence #,Word,POS,Tag", True), ('"sentence_id";"token";"ner"', True), ("word,pos,sentence_idx,tag", True),
     ("sentence,word,label", False), ("sentence_id,text,label", False), ("Sentence #,Word", False), ("", False),
     ("a\rb\0", False)],
)  # fmt: skip
def test_a_file_is_known_by_its_first_line(head: str, known: bool) -> None:
    assert WordTableReader().recognises(f"{head}\n1,a,O,O\n") is known


def test_a_sentence_with_a_bad_line_is_a_finding_and_others_are_read() -> None:
    found = read(f"{HEAD}1,a,NN,O\n1,b,NN\n2,c,NN,O\n\n2,d,NN,O\n")
    assert [(item.code, item.line) for item in found if isinstance(item, Finding)] == [
        ("ragged-row", 3), ("blank-line", 5),
    ]  # fmt: skip
    assert [item[1]["tokens"] for item in found if not isinstance(item, Finding)] == [["c", "d"]]


def test_options_name_other_columns_and_one_that_is_missing_is_an_error() -> None:
    text = f"{HEAD}1,a,NN,O\n"
    assert read(text, tag="POS") == [(2, {"tokens": ["a"], "ner_tags": ["NN"]})]
    (finding,) = read(text, tag="NER")
    assert (finding.code, finding.level) == ("no-such-column", "error")
    assert "'NER'; the columns are: Sentence #, Word, POS, Tag" in finding.message
    (finding,) = read("Sentence #,Text,Tag\n1,a,O\n")
    assert "no column is named like a word" in finding.message and "{word: NAME}" in finding.fix
