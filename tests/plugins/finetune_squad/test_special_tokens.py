"""A special token that is written in a text is text, whatever the family of the tokenizer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.errors import BadData
from finetune.testing.tokenizers import FAMILIES
from finetune_squad import layout as layouts
from finetune_squad.layout import special_tokens
from finetune_squad.preprocessor import SquadPreprocessor

UNIGRAM = ("xlm-roberta", "deberta", "xlnet")
"""Families whose Unigram vocabulary has the special tokens among its entries, as a text spells them."""


def windows(tokenizer, question, context, answer=None, start=0):
    batch = {"question": [question], "context": [context]}
    if answer is not None:
        batch["answers"] = [{"text": [answer], "answer_start": [start]}]
    return SquadPreprocessor(max_length=60, stride=10).features(batch, tokenizer)


def named(tokenizer):
    """Return the special tokens that the tokenizer has names for."""
    every = special_tokens(tokenizer)
    return {token: every[token] for token in tokenizer.all_special_tokens if token in every}


@pytest.mark.parametrize("name", FAMILIES)
def test_special_tokens_in_texts_are_read_as_text(family, name):
    tokenizer = family(name)
    for token, number in named(tokenizer).items():
        question, context = f"Who {token} keeps it?", f"Old {token} Tomás{token}keeps it {token}"
        bare = windows(tokenizer, "Who keeps it?", "Old Tomás keeps it")["input_ids"][0].tolist()
        made = windows(tokenizer, question, context)["input_ids"][0].tolist()
        assert made.count(number) == bare.count(number), token
        assert len(made) > len(bare)
        assert tokenizer(f"a {token} b").input_ids.count(number) >= 1, "other calls are as before"


@given(
    name=st.sampled_from(FAMILIES),
    parts=st.lists(st.integers(0, 9), min_size=1, max_size=8),
    answer=st.integers(0, 7),
)
@settings(max_examples=150, deadline=None)
def test_labels_are_right_next_to_and_inside_special_tokens(family, name, parts, answer):
    tokenizer = family(name)
    tokens = sorted(named(tokenizer))
    words = ["tar", "quay ", " salt", "the pier "]
    pieces = [tokens[part] if part < len(tokens) else words[part % 4] for part in parts]
    chosen = answer % len(pieces)
    context = " ".join(pieces)
    start = len(" ".join(pieces[:chosen])) + (1 if chosen else 0)
    text = pieces[chosen]
    made = windows(tokenizer, "Where?", context, text, start)
    for window, first in enumerate(made["start_positions"]):
        if first == made["null_token"][window]:
            continue
        offset = made["context_first_token"][window]
        last = made["end_positions"][window]
        begin, end = made["start_chars"][window][first - offset], made["end_chars"][window][last - offset]
        assert text.strip() in context[begin:end]
        break
    else:
        assert len(made["window"]) > 1, "the answer is in no window"


@pytest.mark.parametrize("name", FAMILIES)
def test_a_tokenizer_that_makes_its_own_windows_reads_text_or_refuses_it(family, name, monkeypatch):
    tokenizer = family(name)
    monkeypatch.setattr(layouts, "template_of", lambda tokenizer: None)
    token = tokenizer.sep_token or tokenizer.eos_token
    bare = windows(tokenizer, "Who keeps it?", "Old Tomás keeps it")["input_ids"][0].tolist()
    number = tokenizer.convert_tokens_to_ids(token)
    if name in UNIGRAM:
        with pytest.raises(BadData, match="always reads it as a special token"):
            windows(tokenizer, "Who keeps it?", f"Old {token} Tomás")
        return
    made = windows(tokenizer, "Who keeps it?", f"Old {token} Tomás keeps it")["input_ids"][0].tolist()
    assert made.count(number) == bare.count(number)


def test_check_warns_of_what_looks_like_a_special_token():
    rows = [
        {"question": "Where?", "context": "The pier."},
        {"question": "What is <s>?", "context": "The pier </s>."},
        {"question": "Where?", "context": "The [SEP] pier."},
    ]
    (finding,) = SquadPreprocessor().check(rows)
    assert (finding.code, finding.level, finding.row, finding.column, finding.value) == (
        "special-token-in-text",
        "warning",
        1,
        "question",
        "<s>",
    )
    assert finding.message.startswith("2 rows")
