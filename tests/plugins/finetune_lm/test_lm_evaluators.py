"""Scores of language models: over all tokens of the corpus, compared with sums by hand."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from finetune.errors import BadData, BadOptions, TrainingFailed
from finetune.interfaces import IGNORE_INDEX
from finetune.testing.tokenizers import tokenizer
from finetune.training.losses import TokenCrossEntropy
from finetune_lm.causal import CausalLMPreprocessor
from finetune_lm.causal_evaluator import CausalLMEvaluator
from finetune_lm.masked_evaluator import MaskedLMEvaluator
from finetune_lm.training import nll_and_best, top_fillings


def predictions(texts: list[str], features: list[dict[str, Any]], outputs: Any, words: Any = None) -> Any:
    examples = [{"text": text} for text in texts]
    return SimpleNamespace(
        examples=examples, features=features, outputs=outputs, tokenizer=words, preprocessor=CausalLMPreprocessor()
    )


FEATURES = [
    {"input_ids": [0, 5, 6, 0, 7], "seq_lengths": [4, 1], "example": 0},
    {"input_ids": [7, 8, 0], "seq_lengths": [3], "example": 1},
]
PAD = -100.0
NLL = np.array([[-1, 1.0, 2.0, 0.5, 4.0, PAD], [-1, 3.0, 0.25, PAD, PAD, PAD]], dtype=np.float32)


def test_every_token_counts_for_its_own_document() -> None:
    records = CausalLMEvaluator().records(predictions(["Æ!", "gull"], FEATURES, NLL))
    assert [(record["tokens"], record["bytes"]) for record in records] == [(3, 3), (3, 4)]
    assert [record["nll"] for record in records] == [3.5, 7.25]
    assert [record["prediction"] for record in records] == pytest.approx([math.exp(3.5 / 3), math.exp(7.25 / 3)])


def test_perplexity_and_bits_per_byte_are_of_the_corpus_and_not_a_mean_of_means() -> None:
    records = CausalLMEvaluator().records(predictions(["Æ!", "gull"], FEATURES, NLL))
    scores = CausalLMEvaluator().scores(json.loads(json.dumps(records)))
    assert scores == pytest.approx(
        {"perplexity": math.exp(10.75 / 6), "bits_per_byte": 10.75 / math.log(2) / 7, "tokens": 6}
    )
    assert CausalLMEvaluator().details(records) == {"nll": 10.75, "tokens": 6, "bytes": 7}
    assert not CausalLMEvaluator().greater_is_better


def test_a_preprocessor_without_lengths_or_text_is_refused_by_name() -> None:
    without = [{name: value for name, value in row.items() if name != "seq_lengths"} for row in FEATURES]
    with pytest.raises(BadOptions, match=r"Preprocessor\.features\(\) gives no 'seq_lengths'.*number of tokens"):
        CausalLMEvaluator().records(predictions(["a", "b"], without, NLL))

    class Silent(CausalLMPreprocessor):
        def canonical(self, example: Any) -> Any:
            return {"words": example["text"]}

    nameless = predictions(["a", "b"], FEATURES, NLL)
    nameless.preprocessor = Silent()
    with pytest.raises(BadOptions, match=r"Silent\.canonical\(\) gives no 'text', but only words.*canonical\(\)"):
        CausalLMEvaluator().records(nameless)


def test_a_likelihood_that_is_not_finite_stops_instead_of_counting_as_no_label() -> None:
    for bad in (math.nan, math.inf):
        broken = NLL.copy()
        broken[1, 1] = bad
        with pytest.raises(TrainingFailed, match="block 1 are not finite"):
            CausalLMEvaluator().records(predictions(["a", "b"], FEATURES, broken))


def test_a_hopeless_model_has_a_perplexity_that_json_can_hold() -> None:
    scores = CausalLMEvaluator().scores([{"tokens": 1, "nll": 5000.0, "bytes": 1, "reference": 1.0}])
    assert scores["perplexity"] == pytest.approx(np.finfo(np.float64).max)


def masked(words: Any) -> Any:
    salt, tar, nets = words.convert_tokens_to_ids(["salt", "tar", "nets"])
    features = [{"input_ids": [0, salt, tar, 1, words.mask_token_id, 1], "seq_lengths": [4, 2], "example": 0}]
    nll = np.array([[-1, 0.5, 1.5, -1, -1, -1]], dtype=np.float32)
    guesses = np.array([[-1, salt, nets, -1, -1, -1]])
    ids, shares = np.array([[[nets, tar]]]), np.array([[[0.75, 0.25]]])
    return predictions(["salt tar", "[MASK]"], features, (nll, guesses, ids, shares), words)


def test_masked_tokens_are_decoded_as_words_and_gaps_as_fillings() -> None:
    evaluator, (known, gap) = MaskedLMEvaluator(), MaskedLMEvaluator().records(masked(tokenizer("bert")))
    assert known == {
        "prediction": ["salt", "nets"],
        "reference": ["salt", "tar"],
        "correct": 1,
        "tokens": 2,
        "nll": 2.0,
    }
    assert gap == {
        "prediction": ["nets"],
        "fillings": [[{"token": "nets", "probability": 0.75}, {"token": "tar", "probability": 0.25}]],
    }
    assert evaluator.scores([known, gap]) == {"perplexity": pytest.approx(math.e), "accuracy": 0.5, "tokens": 2}
    assert MaskedLMEvaluator(primary="accuracy").greater_is_better and not evaluator.greater_is_better
    with pytest.raises(BadData, match="has a predicted token"):
        evaluator.scores([gap])


def test_a_primary_score_must_exist() -> None:
    with pytest.raises(ValueError, match="Did you mean 'bits_per_byte'"):
        CausalLMEvaluator(primary="bits_per_bit")
    with pytest.raises(ValueError, match="Choose from: perplexity, accuracy"):
        MaskedLMEvaluator(primary="f1")


@pytest.mark.parametrize("shift", [False, True])
def test_accumulated_batches_of_unequal_size_give_the_gradient_of_one(shift: bool) -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, 9, (4, 6))
    labels[0, 2:] = labels[1, 1:] = labels[:, 0] = IGNORE_INDEX
    logits = torch.randn(4, 6, 9, dtype=torch.float64, requires_grad=True)
    loss, items = TokenCrossEntropy(shift=shift), (labels != IGNORE_INDEX).sum()
    parts = [loss({"logits": logits[rows]}, labels[rows], num_items_in_batch=items) for rows in (slice(1), slice(1, 4))]
    outputs, targets = (logits[:, :-1], labels[:, 1:]) if shift else (logits, labels)
    whole = torch.nn.functional.cross_entropy(outputs.flatten(0, 1).float(), targets.flatten())
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-6)
    assert loss({"logits": logits}, labels).item() == pytest.approx(whole.item(), rel=1e-6)
    ours = torch.autograd.grad(sum(parts), logits)[0]
    torch.testing.assert_close(ours, torch.autograd.grad(whole, logits)[0], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("shift", [False, True])
def test_logits_are_reduced_to_what_log_softmax_says_of_each_label(shift: bool) -> None:
    torch.manual_seed(1)
    labels = torch.randint(0, 9, (3, 5))
    labels[1, 3:] = labels[:, 0] = IGNORE_INDEX
    prompted = torch.randn(3, 7, 9)  # two outputs of a trained prompt stand before the block's
    logits = prompted[:, 2:]
    nll, guess = nll_and_best(prompted, labels, shift=shift)
    for row in range(3):
        for place in range(1, 5):
            at = place - shift
            seen, found = labels[row, place] != IGNORE_INDEX, (nll[row, at], guess[row, at])
            if not seen:
                assert (found[0], found[1]) == (-1, -1)
                continue
            scores = logits[row, at].log_softmax(-1)
            assert found[0].item() == pytest.approx(-scores[labels[row, place]].item(), rel=1e-5)
            assert found[1] == scores.argmax()


def test_gaps_are_filled_in_order_with_the_likeliest_tokens() -> None:
    logits = torch.zeros(2, 4, 8)
    logits[0, 1, 3] = logits[0, 3, 6] = 5.0
    gaps = torch.tensor([[False, True, False, True], [False] * 4])
    ids, shares = top_fillings(logits, gaps)
    assert ids.shape == shares.shape == (2, 2, 5)
    assert ids[0, :, 0].tolist() == [3, 6]
    assert shares[0, 0, 0].item() == pytest.approx(math.exp(5) / (math.exp(5) + 7))
    assert (ids[1] == -1).all() and (shares[1] == -1).all()
    assert top_fillings(logits, torch.zeros(2, 4, dtype=torch.bool))[0].shape == (2, 0, 5)
