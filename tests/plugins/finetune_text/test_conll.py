"""CoNLL files: sentences with the line they begin on, whatever else the file holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune import data
from finetune.data import UnreadableError
from finetune.errors import BadData
from finetune.interfaces import Finding
from finetune.plugins import discover
from finetune.recipe import Source
from finetune.testing.laws import check_finding
from finetune_text import conll
from finetune_text.conll import ConllReader
from finetune_text.token_classification import TokenClassificationPreprocessor


def read(text, *, pieces=None):
    found = list(ConllReader().rows([text] if pieces is None else pieces, file="a.conll"))
    for item in found:
        if isinstance(item, Finding):
            check_finding(item)
    return found


def sentence(*words):
    return {"tokens": [word for word, _ in words], "ner_tags": [tag for _, tag in words]}


def test_a_file_like_those_of_conll_2003():
    text = (
        "-DOCSTART- -X- -X- O\n\nInès NNP B-NP B-PER\nsails VBZ B-VP O\n. . O O\n\n-DOCSTART- -X- -X- O\n\n"
        "Gulls NNS B-NP O\n"
    )
    assert read(text) == [
        (3, sentence(("Inès", "B-PER"), ("sails", "O"), (".", "O"))), (9, sentence(("Gulls", "O"))),
    ]  # fmt: skip
    assert ConllReader().recognises(text)
    assert not ConllReader().recognises("Inès B-PER\n")


def test_a_document_line_is_no_word_even_without_a_blank_line_after_it():
    assert read("-DOCSTART- O\nGulls O\n") == [(2, sentence(("Gulls", "O")))]


def test_tabs_separate_columns_if_there_are_any_and_a_word_may_then_hold_spaces():
    assert read("Port Elm\tB-PLACE\n\u00a0\tO\n") == [(1, sentence(("Port Elm", "B-PLACE"), ("\u00a0", "O")))]
    assert read("\u00a0 O\n\u2028 O\r\n") == [(1, sentence(("\u00a0", "O"), ("\u2028", "O")))]


def test_an_empty_field_between_tabs_is_an_empty_field_that_check_will_find():
    assert read("\tO\nGull\t\n") == [(1, sentence(("", "O"), ("Gull", "")))]


def test_a_file_of_one_column_has_words_alone():
    assert read("Inès\nsails\n\nGulls\n") == [(1, {"tokens": ["Inès", "sails"]}), (4, {"tokens": ["Gulls"]})]


@pytest.mark.parametrize(
    "text",
    [
        "# sent_id = 1\n# text = Gulls circle\nGulls O\ncircle O\n",
        "# newdoc id\n\n\nGulls O\ncircle O\n",
        "# id 5239-ab\tdomain=en\nGulls _ _ O\ncircle _ _ O\n",
        "#\n# a = b\nGulls\tO\ncircle\tO\n",
    ],
)
def test_lines_of_metadata_before_a_sentence_are_no_words(text):
    ((_, row),) = read(text)
    assert row == sentence(("Gulls", "O"), ("circle", "O"))


@pytest.mark.parametrize("separator", [" ", "\t"])
def test_a_word_that_begins_with_a_hash_is_a_word(separator):
    words = [("#harbour", "B-TAG"), ("#", "O"), ("1", "O")]
    body = "".join(f"{word}{separator}{tag}\n" for word, tag in words)
    assert read(f"Gulls{separator}O\n\n{body}")[1] == (3, sentence(*words))
    assert read(body) == [(1, sentence(*words))]
    assert read(f"#harbour{separator}O\n\n{body}")[0] == (1, sentence(("#harbour", "O")))
    assert read(f"#{separator}O\nGulls{separator}O\n") == [(1, sentence(("#", "O"), ("Gulls", "O")))]


def test_a_ragged_line_is_a_finding_with_its_line_in_place_of_its_sentence():
    text = "Inès B-PER\nsails O\n\nGulls O\ncircle\nover O\nit\n\nthe O\n"
    first, finding, last = read(text)
    assert (first[0], last[0]) == (1, 9)
    assert (finding.code, finding.level, finding.line, finding.value) == ("ragged-line", "row", 5, "circle")
    assert finding.message == (
        "the line has 1 column, most lines of the file have 2 (and 1 more line of this sentence)."
    )


def test_a_sentence_that_does_not_end_is_refused(monkeypatch):
    monkeypatch.setattr("finetune.data.readers.text.LONGEST", 30)
    monkeypatch.setattr(conll, "LONGEST", 30)
    with pytest.raises(UnreadableError, match="the sentence that begins here has more than") as raised:
        read("Gulls O\n\n" + "circle O\n" * 9)
    finding = raised.value.finding
    assert (finding.code, finding.level, finding.line) == ("record-too-long", "error", 3)
    with pytest.raises(UnreadableError, match="the line that begins here"):
        read("", pieces=["x" * 20, "x" * 20, "never read"])


ALPHABET = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters=" \t\n\r#-"), min_size=1, max_size=5
)
SENTENCES = st.lists(st.lists(st.tuples(ALPHABET, st.sampled_from(["O", "B-X"])), min_size=1, max_size=4), max_size=4)


@given(SENTENCES, st.sampled_from([" ", "\t", "  "]), st.sampled_from(["\n", "\r\n"]), st.integers(1, 9), st.booleans())
def test_what_is_written_is_read_however_the_text_is_cut_into_pieces(sentences, separator, end, size, closed):
    lines = [f"{word}{separator}{tag}" for row in sentences for word, tag in [*row, ("", "")]]
    text = end.join(line.strip(" \t") if line.strip(" \t") == "" else line for line in lines) + (end if closed else "")
    starts = [1 + sum(len(row) + 1 for row in sentences[:number]) for number in range(len(sentences))]
    expected = [(line, sentence(*row)) for line, row in zip(starts, sentences, strict=True)]
    assert read("", pieces=[text[at : at + size] for at in range(0, len(text), size)]) == expected


def test_findings_of_tags_say_file_and_line(tmp_path):
    path = tmp_path / "train.conll"
    path.write_text("Inès B-PER\nsails O\n\nGulls O\n\nTomás I-PER\nsleeps O\n", encoding="utf-8")
    source = Source(path=str(path), validation_size=0)
    with pytest.raises(BadData, match=r"train\.conll:6: ner_tags: word 0: 'I-PER' is the first word") as caught:
        data.load(source, TokenClassificationPreprocessor(labels=("B-PER", "I-PER", "O")), plugins=discover(), seed=0)
    (finding,) = (finding for finding in caught.value.findings if finding.level == "row")
    assert (finding.code, finding.line, finding.row) == ("inside-without-begin", 6, 2)
    dropped = data.load(
        Source(path=str(path), validation_size=0, on_bad="drop"),
        TokenClassificationPreprocessor(),
        plugins=discover(),
        seed=0,
    )
    assert dropped.splits["train"]["tokens"][:] == [["Inès", "sails"], ["Gulls"]]
    assert dropped.data_report["train"]["dropped"] == 1


def test_the_error_for_a_csv_says_that_cells_hold_no_lists(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("tokens,ner_tags\nInès sails,B-PER O\n", encoding="utf-8")
    source = Source(path=str(path), validation_size=0)
    with pytest.raises(BadData, match="A cell of csv cannot hold a list: give JSON lines, parquet or CoNLL"):
        data.load(source, TokenClassificationPreprocessor(), plugins=discover(), seed=0)
