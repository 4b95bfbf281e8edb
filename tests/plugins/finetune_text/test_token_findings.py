"""What `check` finds in words and tags: every finding has a case, and good data has none."""

from __future__ import annotations

import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from finetune.testing.laws import check_finding
from finetune_text.token_classification import TokenClassificationPreprocessor

GOOD = [
    {"tokens": ["Inès", "Moreau", "keeps", "it", str(number)], "ner_tags": ["B-PER", "I-PER", "O", "O", "O"]}
    for number in range(6)
]
BILOU = [
    {"tokens": ["Inès", "de", "Moreau", "met", "Tomás", str(number)],
     "ner_tags": ["B-PER", "I-PER", "L-PER", "O", "U-PER", "O"]}
    for number in range(6)
]  # fmt: skip


def found(rows, *, train=None, **options):
    findings = list(TokenClassificationPreprocessor(**options).fit(rows if train is None else train).check(rows))
    for finding in findings:
        check_finding(finding)
    return findings


def only(findings):
    assert len(findings) == 1, [(finding.code, finding.message) for finding in findings]
    return findings[0]


def row(words, tags):
    return {"tokens": words, "ner_tags": tags}


@pytest.mark.parametrize("good", [GOOD, BILOU])
def test_good_rows_have_no_findings(good):
    assert found(good) == []
    assert found(good[:3], train=good) == []


def test_rows_to_predict_have_no_findings():
    assert found([{"tokens": ["a"]}, {"tokens": ["a"]}], train=GOOD) == []
    assert found([{"tokens": "Zoë sails", "ner_tags": None}], train=GOOD) == []


@pytest.mark.parametrize(
    ("words", "code", "level"),
    [
        (None, "tokens-missing", "row"),
        ("Zoë sails", "tokens-not-list", "error"),
        (7, "tokens-not-list", "error"),
        ([], "tokens-empty", "row"),
        (["a", 7], "token-not-text", "error"),
        (["a", None], "token-not-text", "error"),
        (["a", ""], "token-empty", "row"),
        (["a", "\u200b"], "token-invisible", "warning"),
        (["\u00a0", "a"], "token-invisible", "warning"),
    ],
)
def test_words_that_cannot_be_used_are_found(words, code, level):
    tags = ["O"] * (len(words) if isinstance(words, list) else 2)
    finding = only(found([*GOOD, row(words, tags)]))
    assert (finding.code, finding.level, finding.row, finding.column) == (code, level, 6, "tokens")


def test_text_where_lists_belong_says_which_files_can_hold_them():
    finding = only(found([*GOOD, row("Zoë sails", ["B-PER", "O"])]))
    assert "A cell of csv cannot hold a list: give JSON lines, parquet or CoNLL." in finding.fix
    finding = only(found([*GOOD, row(["Zoë"], "B-PER")]))
    assert (finding.code, finding.level, finding.column) == ("tags-not-list", "error", "ner_tags")


@pytest.mark.parametrize("text", ["", "  "])
def test_text_to_predict_without_a_word_is_found(text):
    assert only(found([{"tokens": text}], train=GOOD)).code == "tokens-empty"


@pytest.mark.parametrize(
    ("tags", "code", "level"),
    [
        (None, "tags-missing", "row"),
        (["O"], "tags-uneven", "row"),
        (["O", "O", "O"], "tags-uneven", "row"),
        (["O", None], "tag-missing", "row"),
        (["O", ""], "tag-missing", "row"),
        (["O", 1.5], "tag-not-text", "error"),
        (["O", True], "tag-not-text", "error"),
        (["O", ["O"]], "tag-not-text", "error"),
        (["O", "B-SHIP"], "unseen-tag", "error"),
        (["O", "b-PER"], "unseen-tag", "error"),
        (["O", "I-PER"], "inside-without-begin", "row"),
        (["I-PER", "O"], "inside-without-begin", "row"),
    ],
)
def test_tags_that_cannot_be_used_are_found(tags, code, level):
    finding = only(found([*GOOD, row(["a", "b"], tags)], train=GOOD))
    assert (finding.code, finding.level, finding.row, finding.column) == (code, level, 6, "ner_tags")


def test_an_inside_after_another_type_is_found_with_its_place():
    train = [*GOOD, row(["the", "Gull", "II"], ["O", "B-SHIP", "I-SHIP"])]
    finding = only(found([row(["a", "b", "c"], ["B-PER", "I-SHIP", "O"])], train=train))
    assert (finding.code, finding.row, finding.value) == ("inside-without-begin", 0, "I-SHIP")
    assert finding.message == "word 1: 'I-SHIP' follows 'B-PER'."


def test_a_row_of_iob1_is_one_finding_that_says_so():
    finding = only(found([row(["a", "b", "c"], ["I-PER", "O", "I-PER"])], train=GOOD))
    assert finding.message == "word 0: 'I-PER' is the first word (and 1 more in this row)."
    assert "IOB1" in finding.fix


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (["B-PER", "O"], "word 1: 'O' follows 'B-PER', which is not closed."),
        (["O", "L-PER"], "word 1: 'L-PER' follows 'O'."),
        (["O", "B-PER"], "word 1: 'B-PER' is the last word, and not closed."),
        (["U-PER", "I-PER"], "word 1: 'I-PER' follows 'U-PER' (and 1 more in this row)."),
    ],
)
def test_broken_bilou_is_found(tags, message):
    finding = only(found([row(["a", "b"], tags)], train=BILOU))
    assert (finding.code, finding.level, finding.message) == ("broken-bilou", "row", message)


def test_tags_of_no_scheme_are_found_once_unless_the_recipe_says_so():
    rows = [row(["ropes", "hold", str(number)], ["NOUN", "VERB", "NUM"]) for number in range(5)]
    finding = only(found(rows))
    assert (finding.code, finding.level) == ("tags-without-scheme", "warning")
    assert "(NOUN, NUM, VERB) are neither BIO nor BILOU" in finding.message
    assert found(rows, scheme="none") == []
    assert found(rows[:2], train=rows) == []
    assert {finding.code for finding in found(rows, scheme="BIO")} == {"tag-outside-scheme"}


def test_one_tag_is_too_few_and_a_tag_without_words_is_found():
    rows = [row(["a", str(number)], ["O", "O"]) for number in range(3)]
    finding = only(found(rows))
    assert (finding.code, finding.level, finding.column) == ("one-class", "error", "ner_tags")
    finding = only(found(GOOD, labels=("O", "B-PER", "I-PER", "B-SHIP")))
    assert (finding.code, finding.level, finding.value) == ("tag-without-words", "warning", "B-SHIP")
    assert found(GOOD, labels=("O", "B-PER", "I-PER", "B-SHIP"), label_all=True) == []


def test_tags_that_differ_by_case_are_an_error():
    rows = [*GOOD, row(["a", "b"], ["B-Per", "O"])]
    assert {(finding.code, finding.column) for finding in found(rows)} == {("labels-alike", "ner_tags")}


def test_repeated_sentences_and_contradictory_tags_are_counted():
    codes = {finding.code: finding for finding in found([*GOOD, GOOD[0], row(GOOD[1]["tokens"], ["O"] * 5)])}
    assert set(codes) == {"duplicate-rows", "label-conflict"}
    assert (codes["duplicate-rows"].row, codes["label-conflict"].row) == (6, 7)
    assert codes["duplicate-rows"].column == "tokens"


def encoded(tags, names):
    features = Features({"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=names))})
    words = [[str(number), *["x"] * (len(row) - 1)] for number, row in enumerate(tags)]
    return Dataset.from_dict({"tokens": words, "ner_tags": tags}, features=features)


def test_tags_of_the_hub_are_positions_in_their_names():
    names = ["O", "B-PER", "I-PER"]
    train = encoded([[1, 2, 0], [0, 0], [0, 1]], names)
    fitted = TokenClassificationPreprocessor().fit(train)
    assert (fitted.labels, fitted.label_ids, fitted.tag_scheme) == (("O", "B-PER", "I-PER"), True, "BIO")
    assert fitted.tag_counts == {"O": 4, "B-PER": 2, "I-PER": 1}
    assert list(fitted.check(train)) == []
    (finding,) = fitted.check(encoded([[0, 2]], names))
    assert (finding.code, finding.value) == ("inside-without-begin", "I-PER")
    (finding,) = fitted.check(encoded([[1, 0]], ["B-PER", "O", "I-PER"]))
    assert (finding.code, finding.level) == ("label-order", "error")


def test_numbers_without_names_are_found():
    rows = [row(["a", "b", str(number)], [1, 2, 0]) for number in range(3)]
    finding = only(found(rows))
    assert finding.code == "tags-without-scheme"
    assert "give their names in the option `labels`" in finding.fix
    assert found(rows, labels=("O", "B-PER", "I-PER")) == []
    assert only(found([row(["a"], [3])], train=rows)).code == "unseen-tag"
