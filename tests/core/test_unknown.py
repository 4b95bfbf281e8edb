"""The share of unknown tokens is counted, and reported for the column that holds them."""

from __future__ import annotations

from typing import Any

import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import CanineTokenizer

from finetune.data import unknown
from finetune.interfaces import Task
from finetune.testing.laws import check_finding
from finetune.testing.tokenizers import FAMILIES, tokenizer
from finetune_seq2seq.text_to_text import TextToTextPreprocessor
from finetune_text.classification import TextClassificationPreprocessor

BERT, T5, LLAMA = tokenizer("bert"), tokenizer("xlm-roberta"), tokenizer("llama")
STRANGE = "አቀደፀ"


def task(generates: bool) -> Task:
    return Task(
        summary="", model_class="", peft_type=None, features=frozenset(), labels=frozenset(), preprocessor="",
        evaluator="", generates=generates,
    )  # fmt: skip


def found(rows: list[dict[str, str]], preprocessor: Any, made: Any, *, generates: bool = False) -> Any:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    features = Dataset.from_dict(preprocessor.fit(rows).features(columns, made))
    counts = unknown.counts(features, made, task(generates))
    examples = Dataset.from_list(rows)
    findings = list(unknown.check(examples, counts, preprocessor=preprocessor, tokenizer=made, split="train"))
    for finding in findings:
        check_finding(finding)
    return counts, {finding.column: finding for finding in findings}


@settings(max_examples=25)
@given(st.lists(st.sampled_from(["tar", STRANGE]), min_size=1, max_size=60))
def test_the_count_and_the_level_follow_the_share(words: list[str]) -> None:
    rows = [{"text": word, "label": "ab"[number % 2]} for number, word in enumerate(words)]
    counts, findings = found(rows, TextClassificationPreprocessor(), BERT)
    strange = words.count(STRANGE)
    share = strange / sum(len(BERT.tokenize(word)) for word in words)
    assert counts == ({"unknown_tokens": strange} if strange else {})
    level = "error" if share >= 0.5 else "warning" if share >= 0.02 else None
    assert (findings["text"].level if findings else None) == level


def test_the_second_text_of_a_pair_is_named() -> None:
    rows = [{"text": "tar", "text_pair": STRANGE, "label": "a"}, {"text": "salt", "text_pair": "tar", "label": "b"}]
    _, findings = found(rows, TextClassificationPreprocessor(), BERT)
    assert list(findings) == ["text_pair"]
    assert findings["text_pair"].value == STRANGE and STRANGE[0] in findings["text_pair"].message


def test_a_single_unknown_character_in_a_target_is_named() -> None:
    rows = [{"source": "salt and tar", "target": "ropes and nets " * 8}] * 20
    counts, findings = found([*rows, {"source": "salt", "target": "the {pier}"}], TextToTextPreprocessor(), T5,
                             generates=True)  # fmt: skip
    assert counts["unknown_target_tokens"] > 0
    assert findings["target"].level == "warning"
    assert "The model can never write them" in findings["target"].message
    assert "{" in findings["target"].message and "}" in findings["target"].message
    assert "source" not in findings


def test_bytes_are_counted_apart() -> None:
    rows = [{"text": STRANGE, "label": "a"}, {"text": "tar", "label": "b"}]
    counts, findings = found(rows, TextClassificationPreprocessor(), LLAMA)
    assert counts == {"byte_tokens": len(STRANGE.encode())} and not findings


@pytest.mark.parametrize("family", FAMILIES)
def test_known_text_has_no_count(family: str) -> None:
    made = tokenizer(family)
    made.pad_token = made.pad_token or made.eos_token
    rows = [{"text": "salt tar", "label": "a"}, {"text": "nets", "label": "b"}]
    assert found(rows, TextClassificationPreprocessor(), made) == ({}, {})


def test_labels_of_a_classifier_are_no_tokens() -> None:
    rows = [{"text": f"tar {label}", "label": label} for label in "abcde"]  # the id of [UNK] is one of theirs
    assert unknown.unknown_id(BERT) in range(5)
    assert found(rows, TextClassificationPreprocessor(), BERT)[0] == {}


def test_a_tokenizer_of_characters_has_no_tokens_of_bytes() -> None:
    characters = CanineTokenizer()
    assert unknown.byte_ids(characters) == []
    features = Dataset.from_dict({"input_ids": [characters("tar")["input_ids"]]})
    assert unknown.counts(features, characters, task(generates=False)) == {}
