"""Masks: how many, which tokens never, what replaces them, and the same masks wherever runs are compared."""

from __future__ import annotations

from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.errors import Incompatible
from finetune.interfaces import IGNORE_INDEX
from finetune.testing.tokenizers import TEXTS, tokenizer
from finetune_lm.collate import MaskAndPad
from finetune_lm.masked import MaskedLMPreprocessor
from finetune_lm.masking import choose_positions, mask_generator

words = cache(tokenizer)
LONG = [" ".join(TEXTS)] * 3


def features(family: str = "bert", texts: Any = LONG, **options: Any) -> list[dict[str, Any]]:
    made = MaskedLMPreprocessor(**{"max_length": 64, **options}).features({"text": list(texts)}, words(family))
    return [dict(zip(made, values, strict=True)) for values in zip(*made.values(), strict=True)]


def collator(family: str = "bert", **options: Any) -> MaskAndPad:
    return MaskedLMPreprocessor(**options).collator(words(family), None)  # type: ignore[arg-type]


@pytest.mark.parametrize("probability", [0.15, 0.5])
@pytest.mark.parametrize("whole", [False, True])
def test_the_share_of_masked_tokens_is_the_probability(probability: float, whole: bool) -> None:
    options = {"mlm_probability": probability, "whole_word_mask": whole}
    special = words("bert").all_special_ids
    for feature in features(**options):
        maskable = sum(token not in special for token in feature["input_ids"])
        masked = collator(**options).masked(feature)["labels"]
        count = int((masked != IGNORE_INDEX).sum())
        wanted = round(maskable * probability)
        assert count == max(1, wanted) if not whole else 1 <= count <= max(1, wanted) + 8


@given(st.lists(st.integers(1, 9), min_size=1, max_size=40), st.floats(0.01, 0.99), st.integers(0, 99))
def test_whole_groups_are_chosen_up_to_the_share_and_always_something(
    sizes: list[int], probability: float, seed: int
) -> None:
    ends = np.cumsum(sizes)
    groups = [np.arange(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    taken = set(choose_positions(groups, probability=probability, generator=np.random.default_rng(seed)).tolist())
    assert taken
    for group in groups:
        assert set(group) <= taken or taken.isdisjoint(group), "a group was split"
    assert len(taken) <= max(1, round(probability * sum(sizes)), min(sizes))


def test_every_token_is_as_likely_to_be_masked_as_another() -> None:
    counts: Counter[int] = Counter()
    groups = [np.array([place]) for place in range(20)]
    for seed in range(2000):
        counts.update(choose_positions(groups, probability=0.15, generator=np.random.default_rng(seed)).tolist())
    # 300 expected each; five standard deviations of a binomial of 2,000 draws
    assert all(abs(counts[place] - 300) < 5 * (2000 * 0.15 * 0.85) ** 0.5 for place in range(20))


@settings(deadline=None, max_examples=50)
@given(st.sampled_from(["bert", "roberta", "xlm-roberta"]), st.integers(0, 50), st.booleans(), st.booleans())
def test_specials_and_padding_are_never_masked_and_words_never_split(
    family: str, epoch: int, whole: bool, fixed: bool
) -> None:
    tok = words(family)
    blocks = features(family, ["The harbour of Port Elm wakes. ☃☃", "salt, tar", *LONG[:1]], whole_word_mask=whole)
    masks = collator(family, whole_word_mask=whole)
    masks.epoch.fill_(epoch)
    batch = (masks.evaluating() if fixed else masks)(blocks)
    width = max(len(block["input_ids"]) for block in blocks)
    assert {tensor.shape for tensor in batch.values()} == {(len(blocks), width)}
    for row, block in enumerate(blocks):
        length = len(block["input_ids"])
        labels, ids = batch["labels"][row].tolist(), batch["input_ids"][row].tolist()
        assert batch["attention_mask"][row].tolist() == [1] * length + [0] * (width - length)
        assert set(labels[length:]) <= {IGNORE_INDEX}
        masked = {place for place in range(length) if labels[place] != IGNORE_INDEX}
        assert masked
        for place, token in enumerate(block["input_ids"]):
            assert labels[place] in {IGNORE_INDEX, token}
            assert place in masked or ids[place] == token, "a token changed that is not predicted"
            assert place not in masked or token not in tok.all_special_ids
            if whole and place in masked:
                same = [p for p, word in enumerate(block["word_ids"]) if word == block["word_ids"][place]]
                assert all(p in masked for p in same if block["input_ids"][p] not in tok.all_special_ids)
        if fixed:
            assert {ids[place] for place in masked} == {tok.mask_token_id}


def test_word_ids_are_those_of_the_tokenizer() -> None:
    (block,) = features("bert", ["Captain Moreau sold mackerel"], whole_word_mask=True)
    of: dict[int, list[int]] = {}
    for token, word in zip(block["input_ids"], block["word_ids"], strict=True):
        of.setdefault(word, []).append(token)
    decoded = [words("bert").decode(tokens) for word, tokens in sorted(of.items()) if word >= 0]
    assert decoded == ["captain", "moreau", "sold", "mackerel"]
    assert of[-1] == [words("bert").cls_token_id, words("bert").sep_token_id]


def test_eight_of_ten_become_the_mask_token_one_a_random_token_and_one_stays() -> None:
    tok, masks, counts = words("bert"), collator(mlm_probability=0.9), Counter[str]()
    for epoch in range(40):
        masks.epoch.fill_(epoch)
        for block in features():
            made = masks.masked(block)
            for before, after, label in zip(block["input_ids"], made["input_ids"], made["labels"], strict=True):
                if label != IGNORE_INDEX:
                    counts["masked" if after == tok.mask_token_id else "same" if after == before else "random"] += 1
                    assert after == tok.mask_token_id or after not in tok.all_special_ids
    total = counts.total()
    assert total > 10_000
    for kind, share in (("masked", 0.8), ("random", 0.1), ("same", 0.1)):
        assert abs(counts[kind] / total - share) < 0.015, counts


def test_masks_change_with_the_epoch_and_the_seed_and_with_nothing_else() -> None:
    (block, *_), masks = features(), collator()

    def labels(of: MaskAndPad, *neighbours: dict[str, Any]) -> list[int]:
        return of([block, *neighbours])["labels"][0, : len(block["input_ids"])].tolist()

    first = labels(masks)
    assert labels(masks, *features("bert", ["salt and tar"])) == first == labels(masks)
    masks.epoch.fill_(1)
    assert labels(masks) != first
    seeded = masks.seeded(7)
    assert int(seeded.epoch) == 0 and int(masks.epoch) == 1
    assert labels(seeded) != first
    fixed = labels(masks.evaluating())
    masks.epoch.fill_(2)
    assert labels(masks.evaluating()) == fixed == labels(masks.seeded(7).evaluating())


def test_the_generator_is_the_same_on_every_machine() -> None:
    # by hand: BLAKE2b of the little-endian numbers, as the seed of PCG64
    import hashlib

    content = b"".join(number.to_bytes(8, "little", signed=True) for number in (3, -1, 5, 6))
    seed = int.from_bytes(hashlib.blake2b(content, digest_size=16).digest(), "little")
    expected = np.random.Generator(np.random.PCG64(seed)).random(3)
    assert mask_generator([5, 6], seed=3, epoch=-1).random(3).tolist() == expected.tolist()


def test_evaluation_masks_nothing_in_a_document_that_contains_mask_tokens() -> None:
    (block,) = features("bert", ["The [MASK] of the harbour", "salt and tar and nets"])
    made = collator().evaluating().masked(block)
    documents = np.repeat(np.arange(2), block["seq_lengths"])
    assert set(documents[made["labels"] != IGNORE_INDEX]) == {1}
    trained = {int(d) for e in range(30) for d in documents[_epoch(collator(), block, e) != IGNORE_INDEX]}
    assert trained == {0, 1}


def _epoch(masks: MaskAndPad, block: dict[str, Any], epoch: int) -> Any:
    masks.epoch.fill_(epoch)
    return masks.masked(block)["labels"]


def test_a_block_without_a_token_to_mask_is_no_error_and_no_loss() -> None:
    blocks = features("bert", ["☃ ☃"])
    batch = collator()(blocks)
    assert (batch["labels"] == IGNORE_INDEX).all()
    logits = torch.randn(*batch["labels"].shape, 10, requires_grad=True)
    loss = MaskedLMPreprocessor().loss()({"logits": logits}, batch["labels"], num_items_in_batch=torch.tensor(0))
    loss.backward()
    assert loss.item() == 0 and logits.grad is not None and not logits.grad.any()


@pytest.mark.parametrize("probability", [0, 1, -0.1])
def test_masking_nothing_or_everything_is_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="mlm_probability must be more than 0"):
        MaskedLMPreprocessor(mlm_probability=probability)


def test_replacement_shares_are_checked() -> None:
    with pytest.raises(ValueError, match="more than 1 together"):
        MaskedLMPreprocessor(mask_replace_prob=0.8, random_replace_prob=0.3)
    with pytest.raises(ValueError, match="negative"):
        MaskedLMPreprocessor(mask_replace_prob=-0.1)


def test_whole_words_need_a_tokenizer_that_knows_them() -> None:
    class Slow:
        is_fast = False

    from finetune_lm.texts import encode

    with pytest.raises(Incompatible, match=r"whole_word_mask needs a fast tokenizer.*Slow is not fast"):
        encode(["tar"], Slow(), words=True)  # type: ignore[arg-type]
