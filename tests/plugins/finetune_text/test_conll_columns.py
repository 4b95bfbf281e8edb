"""Columns of CoNLL files: each layout is detected or named by the options, and a doubt is a finding."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune import data
from finetune.errors import BadData
from finetune.interfaces import Finding
from finetune.plugins import discover
from finetune.recipe import Source
from finetune.testing.laws import check_finding
from finetune_text.conll import ConllReader, _from_brackets
from finetune_text.token_classification import TokenClassificationPreprocessor

SENTENCES = [
    [("Inès", "B-PER"), ("sails", "O"), ("to", "O"), ("Port", "B-PLACE"), ("Elm", "I-PLACE"), (".", "O")],
    [("Gulls", "O"), ("circle", "O"), (".", "O")],
    [("Tomás", "B-PER"), ("sleeps", "O"), (".", "O")],
]


def read(text, **options):
    """Return the rows without their lines, and the findings."""
    rows, findings = [], []
    for item in ConllReader(**options).rows([text], file="a.conll"):
        if isinstance(item, Finding):
            check_finding(item)
            findings.append(item)
        else:
            rows.append(item[1])
    return rows, findings


def pairs(rows):
    return [list(zip(row["tokens"], row["ner_tags"], strict=True)) for row in rows]


def refused(text, **options):
    rows, findings = read(text, **options)
    assert rows == [], "a refused file has no rows"
    (finding,) = findings
    assert finding.level == "error"
    return finding


def written(sentences, line, *, before="", end="\n"):
    """Return a file; ``line`` makes the line of a word from its number, the word and its tag."""
    parts = []
    for number, sentence in enumerate(sentences):
        parts.append(before.format(number))
        parts += [line(place, word, tag) + end for place, (word, tag) in enumerate(sentence, 1)]
        parts.append(end)
    return "".join(parts)


def conll_u(place, word, tag, *, misc="_"):
    return "\t".join([str(place), word, word.lower(), tag, f"X{tag}", "_", "0", "root", "_", misc])


PLAIN = {
    "word tag": lambda n, word, tag: f"{word} {tag}",
    "word tab tag": lambda n, word, tag: f"{word}\t{tag}",
    "word,tag": lambda n, word, tag: f"{word},{tag}",
    "CoNLL-2003": lambda n, word, tag: f"{word} NN {'I' if n > 1 else 'B'}-NP {tag}",
    "CoNLL-2003, German": lambda n, word, tag: f"{word} lemma NN I-NC {tag}",
    "MultiCoNER": lambda n, word, tag: f"{word} _ _ {tag}",
}
STATED = {
    "counted": lambda n, word, tag: f"{n}\t{word}\t{tag}",
    "counted from 0": lambda n, word, tag: f"{n - 1} {word} {tag}",
    "counted CoNLL-2003": lambda n, word, tag: f"{n} {word} NN B-NP {tag}",
    "tag first": lambda n, word, tag: f"{tag}\t{word}",
    "tag before a number": lambda n, word, tag: f"{word}\t{tag}\t0.9{n}",
    "trailing tab": lambda n, word, tag: f"{word}\t{tag}\t",
    "two trailing tabs": lambda n, word, tag: f"{word}\t{tag}\t\t",
    "trailing comma": lambda n, word, tag: f"{word},{tag},",
}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("name", PLAIN)
def test_a_usual_layout_is_read_without_a_word(name, end):
    assert read(written(SENTENCES, PLAIN[name], end=end))[1] == []
    assert pairs(read(written(SENTENCES, PLAIN[name], end=end))[0]) == SENTENCES


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("name", STATED)
def test_a_layout_that_is_detected_is_stated(name, end):
    rows, (finding,) = read(written(SENTENCES, STATED[name], end=end))
    assert pairs(rows) == SENTENCES
    assert (finding.level, finding.line) == ("warning", 1)
    assert finding.code == ("empty-column" if "trailing" in name else "columns-detected")


WORDS = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters=' \t\n\r#-",'), min_size=1, max_size=5
).filter(lambda word: word != "O")
MANY = st.lists(
    st.lists(st.tuples(WORDS, st.sampled_from(["O", "B-X", "I-Y"])), min_size=2, max_size=4), min_size=1, max_size=4
).filter(lambda sentences: {"B-X", "O"} <= {tag for sentence in sentences for _, tag in sentence})


@given(MANY, st.sampled_from(sorted({**PLAIN, **STATED})), st.sampled_from(["\n", "\r\n"]))
def test_every_layout_gives_back_the_words_and_tags_that_were_written(sentences, name, end):
    rows, findings = read(written(sentences, {**PLAIN, **STATED}[name], end=end))
    assert pairs(rows) == sentences
    assert all(finding.level == "warning" for finding in findings)


def test_a_counted_file_of_words_alone_has_words_alone():
    rows, findings = read("1\tInès\n2\tsails\n\n1\tGulls\n2\tcircle\n")
    assert rows == [{"tokens": ["Inès", "sails"]}, {"tokens": ["Gulls", "circle"]}]
    assert [finding.code for finding in findings] == ["columns-detected"]


def test_words_that_are_numbers_are_words():
    text = "1\tO\n2\tO\n3\tB-X\n\n1\tO\n2\tB-X\n"
    assert [row["tokens"] for row in read(text)[0]] == [["1", "2", "3"], ["1", "2"]]
    assert read(text)[1] == []


def test_a_quote_in_a_file_with_commas_encloses_a_field_or_is_a_word():
    rows, _ = read('"Elm, Port",B-PLACE\n,,O\n",O\n"\r,O\nsails,O\n')
    assert pairs(rows) == [[("Elm, Port", "B-PLACE"), (",", "O"), ('"', "O"), ('"\r', "O"), ("sails", "O")]]


# ---- doubt


def germeval(n, word, tag):
    return f"{n}\t{word}\t{tag}\t{'B-LOC' if word == 'Port' else 'O'}"


def test_two_columns_of_tags_are_refused_until_the_options_choose():
    text = written(SENTENCES, germeval, before="#\thttp://harbour.example/{} [2024-01-01]\n")
    finding = refused(text)
    assert (finding.code, finding.line) == ("columns-unclear", 1)
    assert finding.message == (
        "the first column counts 1, 2, 3, … in every sentence, and the columns 3 and 4 hold tags."
    )
    assert finding.fix.endswith("such as dataset.options: {word: 2, tag: 3}.")
    for options in ({"word": 2, "tag": 3}, {"tag": 3}, {"tag": "3"}):
        rows, findings = read(text, **options)
        assert (pairs(rows), findings) == (SENTENCES, [])
    rows, _ = read(text, word=2, tag=4)
    assert [row["ner_tags"].count("B-LOC") for row in rows] == [1, 0, 0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (lambda n, word, tag: f"{word}\t{tag}\t{tag}", "the columns 2 and 3 hold tags."),
        (
            lambda n, word, tag: f"{word} NN {word}",
            "the lines have 3 columns, and none holds tags such as O and B-PER.",
        ),
        (
            lambda n, word, tag: f"{n} {word} NN {word}",
            "the first column counts 1, 2, 3, … in every sentence, and no other column holds tags such as O and B-PER.",
        ),
    ],
)
def test_a_doubt_is_refused(line, message):
    finding = refused(written(SENTENCES, line))
    assert (finding.code, finding.message) == ("columns-unclear", message)
    rows, findings = read(written(SENTENCES, line), word=2 if "counts" in message else 1, tag=3)
    assert (len(rows), findings) == (3, [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tag": 3}, "dataset.options.tag is 3, but the lines have 2 columns."),
        ({"word": 0}, "dataset.options.word is 0, but the lines have 2 columns."),
        ({"tag": "NER"}, "dataset.options.tag: the file names no column 'NER'."),
        ({"word": 2}, "column 2 cannot hold both the words and their tags."),
    ],
)
def test_a_column_that_does_not_exist_is_refused(options, message):
    finding = refused(written(SENTENCES, PLAIN["word tag"]), **options)
    assert (finding.code, finding.message) == ("no-such-column", message)


def test_a_sentence_that_stops_counting_is_a_bad_row():
    text = written(SENTENCES * 100, STATED["counted"]) + "1\tGulls\tO\n1\tInès\tB-PER\n"
    rows, (_, finding) = read(text)
    assert len(rows) == 300
    assert (finding.code, finding.level, finding.value) == ("word-number", "row", "1\tInès\tB-PER")
    assert finding.message == "the word has the number '1', but 2 comes next in this sentence."
    assert finding.line == text.count("\n")


@pytest.mark.parametrize("place", [0, 5, 29])
def test_one_sentence_that_does_not_count_does_not_make_words_of_the_numbers(place):
    sentences = [written([sentence], STATED["counted"]) for sentence in SENTENCES * 10]
    sentences.insert(place, "1\tGulls\tO\n1\tInès\tB-PER\n\n")
    rows, findings = read("".join(each.rstrip("\n") + "\n\n" for each in sentences))
    assert pairs(rows) == SENTENCES * 10
    assert [finding.code for finding in findings] == ["columns-detected", "word-number"]


# ---- names


@pytest.mark.parametrize("header", ["Word\tPOS\tTag", "TOKEN\tPOS\tNER", "# global.columns = FORM XPOS NER"])
def test_the_names_of_a_header_are_no_words(header):
    text = header + "\n" + written(SENTENCES, lambda n, word, tag: f"{word}\tNN\t{tag}")
    rows, (finding,) = read(text)
    assert pairs(rows) == SENTENCES
    assert (finding.code, finding.level) == ("columns-detected", "warning")
    name = header.replace("\t", " ").split()[-2]
    assert {tag for row in read(text, tag=name.lower())[0] for tag in row["ner_tags"]} == {"NN"}


def test_a_header_with_commas_names_the_columns():
    rows, (finding,) = read("Word,Tag\n" + written(SENTENCES, PLAIN["word,tag"]))
    assert (pairs(rows), finding.code) == (SENTENCES, "columns-detected")


def test_the_options_can_name_the_columns_of_any_header():
    text = "surface\tkind\tsense\n" + written(SENTENCES, lambda n, word, tag: f"{word}\t{tag}\t{tag}")
    assert pairs(read(text, word="surface", tag="kind")[0]) == SENTENCES
    finding = refused(text, word="surface", tag="knid")
    assert finding.message == "dataset.options.tag: the file names no column 'knid'. Did you mean 'kind'?"
    assert finding.fix == "Its columns are surface, kind, sense. Or give the number."


def test_a_first_sentence_that_looks_like_a_header_is_a_sentence():
    assert pairs(read("Word NE\nhelps VV\n\nForm NN\npos NN\n")[0])[0] == [("Word", "NE"), ("helps", "VV")]


# ---- CoNLL-U


def test_conll_u_gives_forms_and_universal_parts_of_speech():
    tagged = [[("Inès", "PROPN"), ("sails", "VERB")], [("Gulls", "NOUN"), ("circle", "VERB"), (".", "PUNCT")]]
    text = written(tagged, conll_u, before="# sent_id = {}\n# text = …\n")
    rows, findings = read(text)
    assert (pairs(rows), findings) == (tagged, [])
    assert rows[0]["space_after"] == [True, True]
    assert pairs(read(text, tag="xpos")[0])[0] == [("Inès", "XPROPN"), ("sails", "XVERB")]
    assert pairs(read(text, word="LEMMA", tag=4)[0])[0] == [("inès", "PROPN"), ("sails", "VERB")]


def test_tokens_of_several_words_and_empty_nodes_are_no_words():
    lines = [
        conll_u("1-2", "Vámonos", "_", misc="SpaceAfter=No"),
        conll_u(1, "Vamos", "VERB"),
        conll_u(2, "nos", "PRON"),
        conll_u(3, ",", "PUNCT"),
        conll_u("3.1", "y", "CCONJ"),
        conll_u("4-5", "al", "_"),
        conll_u(4, "a", "ADP"),
        conll_u(5, "el", "DET"),
        conll_u(6, "mar", "NOUN", misc="Gloss=sea|SpaceAfter=No"),
        conll_u(7, ".", "PUNCT"),
    ]
    (row,), findings = read("\n".join(lines) + "\n\n")
    assert findings == []
    assert row["tokens"] == ["Vamos", "nos", ",", "a", "el", "mar", "."]
    assert row["ner_tags"] == ["VERB", "PRON", "PUNCT", "ADP", "DET", "NOUN", "PUNCT"]
    assert row["space_after"] == [False, False, True, False, True, False, True]


def test_an_attribute_of_conll_u_can_be_the_tag():
    lines = [conll_u(1, "Inès", "PROPN", misc="name=B-PER|SpaceAfter=No"), conll_u(2, "sails", "VERB")]
    (row,), _ = read("\n".join(lines) + "\n", tag="MISC.name")
    assert row["ner_tags"] == ["B-PER", "O"]


def test_a_part_of_speech_that_is_not_known_is_no_tag():
    (row,), _ = read("\n".join([conll_u(1, "Inès", "PROPN"), conll_u(2, "sails", "_")]))
    assert row["ner_tags"] == ["PROPN", ""]


NODES = st.lists(
    st.tuples(WORDS, st.sampled_from(["NOUN", "VERB", "_"]), st.booleans(), st.integers(0, 2), st.booleans()),
    min_size=2,
    max_size=6,
)
"""Form, tag, whether a space follows, how many words a token joins from here, whether an empty node follows."""


@given(st.lists(NODES, min_size=1, max_size=4))
def test_what_is_written_as_conll_u_is_read(sentences):
    lines, expected = [], []
    for sentence in sentences:
        end, spaces = 0, []
        for place, (form, tag, space, joined, empty) in enumerate(sentence, 1):
            last = min(place + joined, len(sentence))
            if joined and last > place > end:
                end, has_space = last, sentence[last - 1][2]
                lines.append(conll_u(f"{place}-{end}", "x", "_", misc="_" if has_space else "SpaceAfter=No"))
            lines.append(conll_u(place, form, tag, misc="_" if space or place <= end else "SpaceAfter=No"))
            spaces.append(place >= end and space)
            if empty and place >= end:
                lines.append(conll_u(f"{place}.1", "x", "VERB"))
        lines.append("")
        tags = [tag.replace("_", "") for _, tag, *_ in sentence]
        expected.append({"tokens": [form for form, *_ in sentence], "ner_tags": tags, "space_after": spaces})
    assert read("\n".join(lines)) == (expected, [])


# ---- CoNLL-2012

BRACKETS = {"B-PER": "(PER*", "I-PER": "*", "O": "*"}


def conll_2012(sentences, spans):
    """Return a file of OntoNotes; the columns of arguments differ from sentence to sentence."""
    parts = ["#begin document (bc/harbour/00/harbour_0000); part 000\n"]
    for sentence, brackets, verbs in zip(sentences, spans, count(), strict=False):
        for place, ((word, _), bracket) in enumerate(zip(sentence, brackets, strict=True)):
            row = ["bc/harbour", "0", str(place), word, "NN", "*", "-", "-", "-", "Ann", bracket, *["*"] * verbs, "-"]
            parts.append("   ".join(row) + "\n")
        parts.append("\n")
    return "".join([*parts, "#end document\n"])


def test_conll_2012_gives_the_entities_in_brackets_as_bio():
    spans = [["(PER)", "*", "*", "(PLACE*", "*)", "*"], ["*"] * 3, ["(PER)", "*", "*"]]
    text = conll_2012(SENTENCES, spans)
    rows, findings = read(text)
    assert (pairs(rows), findings) == (SENTENCES, [])
    assert set(read(text, tag="pos")[0][0]["ner_tags"]) == {"NN"}
    assert ConllReader().recognises(text[:4096])


@given(st.lists(st.tuples(st.sampled_from(["A", "B", None]), st.integers(1, 3)), min_size=1, max_size=6))
def test_brackets_become_the_tags_that_they_stand_for(entities):
    brackets, tags = [], []
    for kind, words in entities:
        if kind is None:
            brackets += ["*"] * words
            tags += ["O"] * words
        else:
            brackets += [f"({kind})"] if words == 1 else [f"({kind}*", *["*"] * (words - 2), "*)"]
            tags += [f"B-{kind}", *[f"I-{kind}"] * (words - 1)]
    assert _from_brackets(brackets) == tags


@pytest.mark.parametrize(
    ("brackets", "line"),
    [(["*)", "*", "*"], 2), (["(PER*", "*", "*"], 4), (["(PER*", "(GPE)", "*)"], 3), (["*", "PER", "*"], 3)],
)
def test_brackets_without_a_partner_are_a_finding(brackets, line):
    rows, (finding,) = read(conll_2012(SENTENCES[1:2], [brackets]))
    assert rows == []
    assert (finding.code, finding.level, finding.line) == ("broken-brackets", "row", line)


# ---- recognised or not


@pytest.mark.parametrize("name", ["word tag", "word tab tag", "CoNLL-2003", "MultiCoNER"])
def test_tagged_sentences_are_recognised(name):
    assert ConllReader().recognises(written(SENTENCES, PLAIN[name]))


@pytest.mark.parametrize(
    "head",
    [
        "text\tlabel\nInès sails\tO\n",
        "Inès sails.\n\nGulls circle.\n\nTomás sleeps.\n",
        "Inès B-PER\nsails O\n",
        "a\tb\n1\tO\n\n2\tO\n",
        "",
    ],
)
def test_other_files_are_not(head):
    assert not ConllReader().recognises(head)


def loaded(path, **options):
    source = Source(path=str(path), validation_size=0, **options)
    return data.load(source, TokenClassificationPreprocessor(), plugins=discover(), seed=0)


@pytest.mark.parametrize("name", ["train.tsv", "train.conllu", "train.iob2"])
def test_a_file_is_read_by_its_suffix_and_its_content(tmp_path, name):
    path = tmp_path / name
    path.write_text(written(SENTENCES, PLAIN["word tab tag"]), encoding="utf-8")
    assert pairs(loaded(path).splits["train"]) == SENTENCES


def test_tagged_words_in_a_txt_file_need_a_format(tmp_path):
    path = tmp_path / "train.txt"
    path.write_text(written(SENTENCES, PLAIN["word tag"]), encoding="utf-8")
    with pytest.raises(BadData, match=r"can have the formats conll and lines\. Set dataset\.format: conll or lines"):
        loaded(path)
    assert pairs(loaded(path, format="conll").splits["train"]) == SENTENCES


def test_the_recipe_chooses_the_columns(tmp_path):
    path = tmp_path / "train.conll"
    path.write_text(written(SENTENCES, germeval), encoding="utf-8")
    with pytest.raises(BadData, match=r"train\.conll:1: the first column counts 1, 2, 3, … in every sentence"):
        loaded(path)
    assert pairs(loaded(path, options={"word": 2, "tag": 3}).splits["train"]) == SENTENCES


def test_a_first_column_that_numbers_the_sentences_is_left_out():
    lines = "1 Inès B-PER\n1 sails O\n\n2 Gulls O\n2 circle O\n"
    rows, (finding,) = read(lines)
    assert pairs(rows) == [[("Inès", "B-PER"), ("sails", "O")], [("Gulls", "O"), ("circle", "O")]]
    assert (finding.code, finding.level) == ("columns-detected", "warning")
    assert "the first column numbers the sentences" in finding.message
    assert "{word: 2, tag: 3}" in finding.fix
    without = refused(lines.replace("\n\n", "\n"))
    assert (without.code, without.message) == (
        "columns-unclear",
        "the first column numbers the sentences, but no blank line is between them.",
    )
    assert refused("0 Inès NNP B-X B-PER\n0 sails V O O\n\n1 Gulls N O O\n").code == "columns-unclear"


def test_sentences_of_one_word_in_conllu_are_read():
    words = "".join(f"1\t{word}\t_\tINTJ\t_\t_\t0\troot\t_\t_\n\n" for word in ("Ahoy", "Aye"))
    assert read(words) == (
        [{"tokens": [word], "ner_tags": ["INTJ"], "space_after": [True]} for word in ("Ahoy", "Aye")],
        [],
    )


@pytest.mark.parametrize("mark", ["# newdoc", "# newpar", "# newdoc id = 4"])
@pytest.mark.parametrize("separator", [" ", "\t"])
def test_the_beginning_of_a_document_is_a_comment_in_two_columns(mark, separator):
    text = f"{mark}\nInès{separator}B-PER\nsails{separator}O\n\n#{separator}O\n#elm{separator}O\n"
    rows, findings = read(text)
    assert findings == []
    assert rows[0]["tokens"][0] == "Inès"
    assert rows[1] == {"tokens": ["#", "#elm"], "ner_tags": ["O", "O"]}
