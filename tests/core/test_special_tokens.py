"""Special tokens that are written in a text are read as plain text, by tokenizers of every family."""

from __future__ import annotations

import random
from typing import Any

import pytest

from finetune.data import truncation
from finetune.data.truncation import MODEL_INPUTS, encode_truncated
from finetune.testing.tokenizers import FAMILIES, tokenizer

ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def with_padding(family: str) -> Any:
    made = tokenizer(family)
    if made.pad_token is None:
        made.pad_token = made.eos_token
    return made


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("max_length", [8, 200])
def test_a_written_special_token_gives_no_special_token(family: str, max_length: int) -> None:
    made = with_padding(family)
    special = {getattr(made, role) for role in ROLES} - {None}
    forbidden = set(made.all_special_ids) - {made.unk_token_id}
    texts = ["salt tar", *(f"salt {token}tar{token} and nets" for token in sorted(special)), "ropes"]
    features, _ = encode_truncated(made, texts, max_length=max_length)
    around = [token for token in made("salt")["input_ids"] if token in forbidden]
    for ids in features["input_ids"]:
        assert [token for token in ids if token in forbidden] == around
        assert len(ids) <= max_length
    pairs, _ = encode_truncated(made, texts, texts[::-1], max_length=max_length)
    around = [token for token in made("salt", "tar")["input_ids"] if token in forbidden]
    assert all([token for token in ids if token in forbidden] == around for ids in pairs["input_ids"])


@pytest.mark.parametrize("family", FAMILIES)
def test_other_texts_are_encoded_as_by_the_tokenizer(family: str) -> None:
    made = with_padding(family)
    texts = ["salt tar", f"a {made.unk_token} b", "", "nets <b>old</b>"]
    features, lost = encode_truncated(made, texts, max_length=100)
    for position in (0, 2, 3):
        alone = made(texts[position])
        for name in MODEL_INPUTS:
            if name in alone:
                assert features[name][position] == alone[name]
    assert lost == [0] * 4


def test_markers_that_a_user_adds_keep_their_meaning() -> None:
    made = with_padding("bert")
    made.add_special_tokens({"additional_special_tokens": ["[E1]"]})
    ids = encode_truncated(made, ["[E1] salt", "tar [SEP] salt"], max_length=100)[0]["input_ids"]
    assert made.convert_tokens_to_ids("[E1]") in ids[0]
    assert ids[1].count(made.sep_token_id) == 1


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "xlm-roberta", "albert"])
@pytest.mark.parametrize("side", ["right", "left"])
def test_a_very_long_text_has_the_tokens_of_the_whole_text(
    monkeypatch: pytest.MonkeyPatch, family: str, side: str
) -> None:
    made = tokenizer(family)
    made.truncation_side = side
    draw = random.Random(family + side)
    texts = ["tar", "x" * 6_000, "salt " * 1_500 + "</s> [SEP] tar"]
    for _ in range(2):
        texts.append("".join(draw.choices("salt tar\n\t.,\u4e2d\u0301\U0001f44d[]<s>", k=6_000)))
    whole = encode_truncated(made, texts, max_length=16)
    given = []
    monkeypatch.setattr(truncation, "LONG", 3_000)
    call = type(made).__call__

    def watch(self: Any, *texts: Any, **inputs: Any) -> Any:
        given.append(max(map(len, inputs.get("text", texts))))
        return call(self, *texts, **inputs)

    monkeypatch.setattr(type(made), "__call__", watch)
    assert encode_truncated(made, texts, max_length=16) == whole
    assert any(1_000 < size < 3_000 for size in given) == (side == "right")
