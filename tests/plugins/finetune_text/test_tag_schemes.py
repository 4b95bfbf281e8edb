"""Schemes of tags: data in one scheme give the features that the same entities have in another."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from finetune.testing.laws import check_finding
from finetune.testing.tokenizers import tokenizer
from finetune_text.tags import convert, entities, is_iob1
from finetune_text.token_classification import TokenClassificationPreprocessor

BERT = tokenizer("bert")


def written(sentence, scheme):
    """Return the tags of a sentence of (type, words) pairs; the type is None outside entities."""
    tags, before = [], None
    for kind, words in sentence:
        if kind is None:
            tags += ["O"] * words
        elif scheme == "IOB1":
            tags += [f"{'B' if before == kind else 'I'}-{kind}", *[f"I-{kind}"] * (words - 1)]
        elif scheme == "BIO":
            tags += [f"B-{kind}", *[f"I-{kind}"] * (words - 1)]
        elif words == 1:
            tags += [f"{'U' if scheme == 'BILOU' else 'S'}-{kind}"]
        else:
            inside = {"BILOU": "I", "BIOES": "I", "BMES": "M"}[scheme]
            last = "L" if scheme == "BILOU" else "E"
            tags += [f"B-{kind}", *[f"{inside}-{kind}"] * (words - 2), f"{last}-{kind}"]
        before = kind
    return tags


SENTENCE = st.lists(st.tuples(st.sampled_from([None, "PER", "SHIP"]), st.integers(1, 3)), min_size=1, max_size=5)


def rows_of(sentences, scheme):
    rows = []
    for sentence in sentences:
        tags = written(sentence, scheme)
        rows.append({"tokens": [f"w{number}" for number in range(len(tags))], "ner_tags": tags})
    return rows


def columns(rows):
    return {name: [row[name] for row in rows] for name in rows[0]}


@given(SENTENCE, st.sampled_from(["IOB1", "BIO", "BILOU", "BIOES", "BMES"]), st.sampled_from(["BIO", "BILOU"]))
def test_a_scheme_is_converted_into_another_without_loss(sentence, scheme, other):
    tags = written(sentence, scheme)
    assert convert(tags, other) == written(sentence, other)
    assert entities(convert(tags, other)) == entities(tags)


@given(st.lists(SENTENCE, min_size=1, max_size=4))
def test_iob1_is_known_by_the_whole_of_its_rows(sentences):
    kinds = [kind for sentence in sentences for kind, _ in sentence]
    assert is_iob1(written(sentence, "IOB1") for sentence in sentences) == any(kinds)
    assert not is_iob1(written(sentence, "BIO") for sentence in sentences)


def findings_of(task, rows):
    findings = list(task.check(rows))
    for finding in findings:
        check_finding(finding)
    return [finding for finding in findings if finding.code not in {"duplicate-rows", "label-conflict"}]


@pytest.mark.parametrize(
    ("scheme", "other"), [*product(["IOB1"], [None]), *product(["IOB1", "BIO", "BIOES"], ["BIO", "BILOU"])]
)
@given(sentences=st.lists(SENTENCE, min_size=1, max_size=3))
@settings(max_examples=25, deadline=None)
def test_data_in_one_scheme_give_the_features_of_another(scheme, other, sentences):
    kinds = {kind for sentence in sentences for kind, _ in sentence}
    assume(None in kinds and len(kinds) > 1)
    rows, target = rows_of(sentences, scheme), rows_of(sentences, other or "BIO")
    task = TokenClassificationPreprocessor(scheme=other).fit(rows)
    direct = TokenClassificationPreprocessor(scheme=other or "BIO").fit(target)
    if (scheme, other) == ("BIOES", "BILOU"):
        assert [finding.code for finding in findings_of(task, rows)] == []
        return
    assert (task.labels, task.tag_scheme, task.tag_counts) == (direct.labels, other or "BIO", direct.tag_counts)
    assert task.features(columns(rows), BERT) == direct.features(columns(target), BERT)
    assert [task.canonical(row) for row in rows] == [direct.canonical(row) for row in target]
    codes = ["tags-converted"] if scheme != (other or "BIO") else []
    assert [(finding.code, finding.level) for finding in findings_of(task, rows)] == [
        (code, "warning") for code in codes
    ]


IOB1 = [
    {"tokens": ["Inès", "Moreau", "Tomás", "sails", str(n)], "ner_tags": ["I-PER", "I-PER", "B-PER", "O", "O"]}
    for n in range(4)
]


def test_iob1_is_read_as_bio_with_a_word():
    task = TokenClassificationPreprocessor().fit(IOB1)
    (finding,) = findings_of(task, IOB1)
    assert finding.message == (
        "the tags are IOB1 (I- begins an entity, and B- only one right after another of its type), and are converted "
        "to BIO."
    )
    assert task.canonical(IOB1[0])["tags"] == ["B-PER", "I-PER", "B-PER", "O", "O"]
    assert (task.data_scheme, task.scheme, task.labels) == ("IOB1", "BIO", ("B-PER", "I-PER", "O"))


def test_the_recipe_can_say_that_the_data_are_bio():
    task = TokenClassificationPreprocessor(data_scheme="BIO").fit(IOB1)
    assert {finding.code for finding in findings_of(task, IOB1)} == {"inside-without-begin"}


def test_a_broken_row_is_found_before_it_is_converted():
    good = [{"tokens": ["a", "b"], "ner_tags": ["B-PER", "I-PER"]}, {"tokens": ["a", "c"], "ner_tags": ["B-PER", "O"]}]
    broken = {"tokens": ["a", "d"], "ner_tags": ["O", "I-PER"]}
    task = TokenClassificationPreprocessor(scheme="BILOU").fit([*good, broken])
    assert [(f.code, f.row) for f in findings_of(task, [*good, broken]) if f.level == "row"] == [
        ("inside-without-begin", 2)
    ]
    task = TokenClassificationPreprocessor().fit(IOB1)
    (finding,) = findings_of(task, [{"tokens": ["a"], "ner_tags": ["PER"]}])
    assert (finding.code, finding.value) == ("tag-outside-scheme", "PER")


def test_tags_that_are_numbers_are_not_converted():
    rows = [{"tokens": ["a", "b"], "ner_tags": [0, 2]}, {"tokens": ["c", "b"], "ner_tags": [1, 2]}]
    task = TokenClassificationPreprocessor(labels=("B-PER", "I-PER", "O"), data_scheme="IOB1").fit(rows)
    assert "tags-are-numbers" in {finding.code for finding in findings_of(task, rows)}
