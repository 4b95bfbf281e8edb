"""Packing loses no token, repeats none, and knows the document of each."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers.processors import TemplateProcessing

from finetune.errors import BadOptions, Incompatible
from finetune.interfaces import IGNORE_INDEX
from finetune.testing.tokenizers import tokenizer
from finetune_lm.causal import CausalLMPreprocessor
from finetune_lm.masked import MaskedLMPreprocessor
from finetune_lm.packing import split_into_blocks
from finetune_lm.special_tokens import special_tokens
from finetune_lm.texts import encode
from finetune_lm.token_losses import document_indices

words = cache(tokenizer)
TEXTS = st.lists(
    st.one_of(
        st.text(alphabet="the piersalt tar Æß東京🙂\t\u200b", min_size=1, max_size=40),
        st.sampled_from(["</s>", "[MASK] tide", "salt <s> tar", "[SEP]", "<|endoftext|>", "a [CLS] b [PAD]", "<mask>"]),
    ),
    min_size=1,
    max_size=6,
)
CAUSAL, MASKED = ("gpt2", "llama"), ("bert", "roberta", "xlm-roberta", "deberta", "albert")


def rows(features: Any) -> list[dict[str, Any]]:
    """Return features as `finetune.data.features.make` keeps them."""
    made = [dict(zip(features, values, strict=True)) for values in zip(*features.values(), strict=True)]
    return [{**row, "example": row["overflow_to_sample_mapping"]} for row in made]


@given(st.lists(st.integers(1, 30), max_size=12), st.integers(1, 12), st.booleans())
def test_segments_are_every_token_once_and_in_order(lengths: list[int], room: int, packing: bool) -> None:
    blocks = split_into_blocks(lengths, block_size=room, packing=packing)
    pieced = [(document, token) for block in blocks for document, a, b in block for token in range(a, b)]
    assert pieced == [(document, token) for document, length in enumerate(lengths) for token in range(length)]
    sizes = [sum(b - a for _, a, b in block) for block in blocks]
    assert all(0 < size <= room for size in sizes)
    if packing:
        assert all(size == room for size in sizes[:-1])
    else:
        assert all(len(block) == 1 for block in blocks)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(CAUSAL), TEXTS, st.integers(3, 24), st.booleans())
def test_a_causal_model_predicts_every_token_of_every_document_exactly_once(
    family: str, texts: list[str], max_length: int, packing: bool
) -> None:
    made = CausalLMPreprocessor(max_length=max_length, packing=packing).features({"text": texts}, words(family))
    end, found = words(family).eos_token_id, [[] for _ in texts]
    for row in rows(made):
        assert len(row["input_ids"]) == len(row["labels"]) == sum(row["seq_lengths"]) <= max_length
        assert row["labels"][0] == IGNORE_INDEX
        for place, (document, label) in enumerate(zip(document_indices(row), row["labels"], strict=True)):
            if label == IGNORE_INDEX:
                continue
            assert row["input_ids"][place] == label
            before = found[document][-1:] or [words(family).bos_token_id]
            assert row["input_ids"][place - 1] == before[0], "a token stands after another than in its document"
            found[document].append(label)
    assert found == [[*text.ids, end] for text in encode(texts, words(family))]
    assert CausalLMPreprocessor().counts(made) == {"tokens_predicted": sum(map(len, found))}


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(MASKED), TEXTS, st.integers(6, 24), st.booleans(), st.booleans())
def test_a_masked_model_gets_every_token_of_every_document_exactly_once(
    family: str, texts: list[str], max_length: int, packing: bool, whole: bool
) -> None:
    tok = words(family)
    blocks = MaskedLMPreprocessor(max_length=max_length, packing=packing, whole_word_mask=whole)
    around, found = special_tokens(tok), [[] for _ in texts]
    for row in rows(blocks.features({"text": texts}, tok)):
        ids = row["input_ids"]
        assert len(ids) == sum(row["seq_lengths"]) <= max_length
        assert tuple(ids[: len(around.before)]) == around.before and tuple(ids[-len(around.after) :]) == around.after
        added = {0, *range(len(ids) - len(around.after), len(ids))}
        for place, (document, token) in enumerate(zip(document_indices(row), ids, strict=True)):
            if place not in added and token != tok.sep_token_id:
                found[document].append(token)
    wanted = [text.ids for text in encode(texts, tok, mask_token=tok.mask_token)]
    # a text that holds the mask token is read with its special tokens, and its separators look like ours
    wanted = [[token for token in ids if token != tok.sep_token_id] for ids in wanted]
    assert found == wanted


@settings(deadline=None)
@given(st.sampled_from([*CAUSAL, *MASKED]), TEXTS)
def test_no_text_writes_a_special_token(family: str, texts: list[str]) -> None:
    special = set(words(family).all_special_ids) - {words(family).unk_token_id}
    for text, encoded in zip(texts, encode(texts, words(family)), strict=True):
        assert special.isdisjoint(encoded.ids), text
        if not any(name in text for name in words(family).all_special_tokens):
            assert encoded.ids == words(family)(text, add_special_tokens=False).input_ids


def test_unigram_vocabularies_read_special_tokens_even_when_asked_to_split_them() -> None:
    tok = words("xlm-roberta")
    made = tok("tar </s> salt", add_special_tokens=False, split_special_tokens=True).input_ids
    assert tok.eos_token_id in made, "fixed upstream: _encode_in_parts can go"
    assert tok.eos_token_id not in encode(["tar </s> salt"], tok)[0].ids


@pytest.mark.parametrize("family", MASKED)
def test_one_short_document_is_what_the_tokenizer_makes_of_it(family: str) -> None:
    text = "The harbour wakes, and the first boats come in."
    made = MaskedLMPreprocessor(max_length=128).features({"text": [text]}, words(family))
    assert made["input_ids"] == [words(family)(text).input_ids]


def test_the_documented_examples_are_true() -> None:
    gpt, bert = tokenizer("gpt2"), tokenizer("bert", ["a b c d e"])
    (a, b, c), (d,), end = gpt("a b c").input_ids, gpt("d").input_ids, gpt.eos_token_id
    assert CausalLMPreprocessor(max_length=5).features({"text": ["a b c", "d"]}, gpt) == {
        "input_ids": [[end, a, b, c, end], [end, d, end]],
        "labels": [[-100, a, b, c, end], [-100, d, end]],
        "seq_lengths": [[5], [3]],
        "overflow_to_sample_mapping": [0, 1],
    }
    made = MaskedLMPreprocessor(max_length=6).features({"text": ["a b c", "d e"]}, bert)
    assert [bert.convert_ids_to_tokens(ids) for ids in made["input_ids"]] == [
        ["[CLS]", "a", "b", "c", "[SEP]"],
        ["[CLS]", "d", "e", "[SEP]"],
    ]
    assert (made["seq_lengths"], made["overflow_to_sample_mapping"]) == ([[5], [4]], [0, 1])


def test_a_separator_stands_between_documents_that_share_a_block() -> None:
    tok = tokenizer("bert", ["a b c d e"])
    made = MaskedLMPreprocessor(max_length=7).features({"text": ["a b", "c d e"]}, tok)
    assert [tok.decode(ids) for ids in made["input_ids"]] == ["[CLS] a b [SEP] c d [SEP]", "[CLS] e [SEP]"]
    assert made["seq_lengths"] == [[4, 3], [3]]
    assert made["overflow_to_sample_mapping"] == [0, 1]


def test_a_tokenizer_that_puts_bos_before_a_text_has_one_before_every_document_and_it_is_never_predicted() -> None:
    tok = tokenizer("llama")
    made = CausalLMPreprocessor(max_length=64).features({"text": ["tar", "salt"]}, tok)
    (ids,), (labels,) = made["input_ids"], made["labels"]
    assert ids.count(tok.bos_token_id) == 2 and tok.bos_token_id not in labels
    assert [label for label in labels if label != IGNORE_INDEX].count(tok.eos_token_id) == 2
    assert all(before == tok.eos_token_id for before, token in pairwise(ids) if token == tok.bos_token_id)


def test_tokenizers_without_what_it_takes_are_refused_with_the_reason() -> None:
    with pytest.raises(Incompatible, match=r"no mask token.*causal-language-modeling"):
        MaskedLMPreprocessor().features({"text": ["tar"]}, words("gpt2"))
    with pytest.raises(Incompatible, match=r"no end-of-text token \(eos_token\)"):
        CausalLMPreprocessor().features({"text": ["tar"]}, words("bert"))
    lone = tokenizer("bert")
    lone.sep_token = None
    with pytest.raises(Incompatible, match=r"no separator \(sep_token\) and no end-of-text token"):
        MaskedLMPreprocessor().features({"text": ["tar"]}, lone)
    framed = tokenizer("bert")
    special = [(token, framed.convert_tokens_to_ids(token)) for token in ("[CLS]", "[SEP]")]
    framed.backend_tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP] [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=special
    )
    with pytest.raises(BadOptions, match=r"max_length 3 leaves no room for text: .* 3 special tokens\. Set it to 4"):
        MaskedLMPreprocessor(max_length=3).features({"text": ["tar"]}, framed)


def test_a_block_is_shown_with_what_is_predicted_in_brackets() -> None:
    gpt, bert = words("gpt2"), words("bert")
    (row,) = rows(CausalLMPreprocessor().features({"text": ["salt, tar and nets"]}, gpt))
    assert CausalLMPreprocessor().show(row, gpt) == "<|endoftext|>⟦salt, tar and nets<|endoftext|>⟧"
    (row,) = rows(MaskedLMPreprocessor().features({"text": ["salt"]}, bert))
    assert MaskedLMPreprocessor().show(row, bert) == "[CLS] ⟦ salt ⟧ [SEP]"
