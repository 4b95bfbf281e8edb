"""Collators work in data loader workers, also in those that are started by spawn and unpickle them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

import finetune
from finetune.interfaces import Preprocessor
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import TEXTS, tokenizer
from finetune_lm import tasks
from finetune_lm.causal import CausalLMPreprocessor
from finetune_lm.masked import MaskedLMPreprocessor

MASKED, CAUSAL = "masked-language-modeling", "causal-language-modeling"


def rows(preprocessor: Preprocessor, task: str, family: str) -> list[dict[str, Any]]:
    """Return features with the columns that the trainer leaves to the collator."""
    features = preprocessor.features({"text": list(TEXTS)}, tokenizer(family))
    columns = {name: values for name, values in features.items() if name in tasks()[task].features}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def equal(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_every_collator_makes_the_same_batch_after_pickling() -> None:
    causal = CausalLMPreprocessor(max_length=24)
    masked = MaskedLMPreprocessor(max_length=24, whole_word_mask=True)
    cases = [(causal, CAUSAL, "gpt2"), (causal.for_inference(), CAUSAL, "gpt2"), (masked, MASKED, "bert")]
    for preprocessor, task, family in cases:
        collator = preprocessor.collator(tokenizer(family), None)  # type: ignore[arg-type]
        features = rows(preprocessor, task, family)
        copy = pickle.loads(pickle.dumps(collator))
        assert type(copy) is type(collator)
        assert equal(copy(features), collator(features))


def test_a_spawned_worker_that_outlives_an_epoch_draws_new_masks_in_the_next() -> None:
    masked = MaskedLMPreprocessor(max_length=24)
    features = rows(masked, MASKED, "bert")
    collator = masked.collator(tokenizer("bert"), None).seeded(3)  # type: ignore[arg-type]
    loader = DataLoader(features, batch_size=len(features), collate_fn=collator, num_workers=1,
                        persistent_workers=True, multiprocessing_context="spawn")  # fmt: skip
    batches = []
    for epoch in range(2):
        collator.epoch.fill_(epoch)
        (batch,) = loader
        assert equal(batch, collator(features)), "the worker drew other masks than this process"
        batches.append(batch)
    assert not torch.equal(batches[0]["labels"], batches[1]["labels"])


@pytest.mark.slow
def test_a_run_with_spawned_workers_ends_with_the_scores_of_a_run_without(tmp_path: Path) -> None:
    data = [{"text": f"{text} {number}"} for number, text in enumerate(TEXTS)]
    base = tiny_model("bert", tokenizer("bert"), tmp_path / "base", model_class="AutoModelForMaskedLM")
    spawn = {"dataloader_num_workers": 1, "dataloader_multiprocessing_context": "spawn"}
    scores = []
    for name, loading in (("here", {}), ("spawned", spawn)):
        result = finetune.train(
            task=MASKED,
            model=str(base),
            strategy="full",
            output=str(tmp_path / name),
            dataset={"train": data},  # two loaders: one to train, and one to score the training data
            preprocessor={"max_length": 24},
            training={"num_train_epochs": 1, "learning_rate": 1e-2, "save_strategy": "no", **loading},
            score_base_model=False,
            general_text="none",
        )
        scores.append(result.scores)
    assert scores[0] == scores[1]
    assert scores[0]["train"]["tokens"] > 0
