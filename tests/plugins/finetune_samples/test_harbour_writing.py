"""The encoder-decoder of the small world learns what its samples are for, by the recipes of `finetune init`."""

from __future__ import annotations

import pytest

import finetune
from finetune.plugins import discover
from finetune.recipe import starter
from finetune_samples.bases import base

# A summary with every fact wrong reaches a ROUGE-L of 0.63, because all summaries have the same sentences.
WANTED = {"summarization": ("rougeL", 0.9, "lead-3"), "translation": ("bleu", 80.0, "copy")}


@pytest.fixture(scope="module")
def cached(tmp_path_factory):
    """Return the folder of the base, in a cache of this test's own."""
    patch = pytest.MonkeyPatch()
    patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    yield base("seq2seq")
    patch.undo()


@pytest.mark.slow
@pytest.mark.parametrize("task", WANTED)
def test_a_starter_recipe_trains_a_model_that_writes_well(task, cached, tmp_path):
    score, least, baseline = WANTED[task]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(starter.write(task, discover(), strategy="full", output=str(tmp_path / "run")), encoding="utf-8")
    result = finetune.train(recipe)
    assert result.recipe["model"]["path"] == "sample:seq2seq"
    assert result.scores["test"][score] >= least
    # Less than half is had without a model or without training.
    assert result.details["test"]["baseline"][baseline][score] < least / 2
    assert result.base_model_scores["test"][score] < least / 2
