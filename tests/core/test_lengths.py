"""Features that are longer than the texts that a model was made for are reported by `check` and `train`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, GPT2Config, LEDConfig, LlamaConfig, T5Config

import finetune
from finetune.cli import main
from finetune.data import lengths
from finetune.data.features import Features
from finetune.models import context_length
from finetune.testing.laws import check_finding
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune_text.classification import TextClassificationPreprocessor

LLAMA = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
SCALED = {"factor": 4.0, "original_max_position_embeddings": 64}


@pytest.mark.parametrize(
    ("config", "length"),
    [
        (LlamaConfig(max_position_embeddings=64), 64),
        (LlamaConfig(max_position_embeddings=64, rope_parameters={"rope_type": "linear", "factor": 2.0}), 128),
        (LlamaConfig(max_position_embeddings=64, rope_parameters={"rope_type": "yarn", **SCALED}), 256),
        (LlamaConfig(max_position_embeddings=256, rope_parameters={"rope_type": "yarn", **SCALED}), 256),
        (LlamaConfig(max_position_embeddings=128, rope_parameters={"rope_type": "llama3", **LLAMA, **SCALED}), 128),
        (LEDConfig(max_encoder_position_embeddings=256, max_decoder_position_embeddings=64), 256),
        (BertConfig(max_position_embeddings=64), 64),
        (GPT2Config(n_positions=64), 64),
        (T5Config(), None),
    ],
)
def test_the_length_is_that_of_the_configuration_and_the_scaling(config: Any, length: int | None) -> None:
    assert context_length(config) == length


@given(st.integers(1, 300), st.integers(1, 300))
def test_a_finding_says_by_how_much_the_longest_features_are_too_long(longest: int, positions: int) -> None:
    part = Features(examples=Dataset.from_dict({}), features=Dataset.from_dict({}), counts={}, longest=longest)
    config = LlamaConfig(max_position_embeddings=positions)
    found = list(lengths.check(part, config=config, preprocessor=TextClassificationPreprocessor(), split="test"))
    assert bool(found) == (longest > positions)
    for finding in found:
        check_finding(finding)
        assert f"up to {longest} tokens, but the model was made for {positions} positions" in finding.message
        assert finding.split == "test" and f"preprocessor.max_length to {positions} or less" in finding.fix


@pytest.mark.parametrize(("family", "trains"), [("llama", True), ("bert", False)])
def test_check_and_train_report_texts_that_are_too_long(family: str, trains: bool, tmp_path: Path) -> None:
    words = tokenizer(family, vocab_size=400)
    tiny_model(family, words, tmp_path / "base", max_position_embeddings=16)
    data = tmp_path / "data.jsonl"
    rows = [{"text": f"{'tar ' * 20}{number}", "label": "ab"[number % 2]} for number in range(8)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    recipe = {
        "task": "text-classification", "model": str(tmp_path / "base"), "dataset": str(data), "strategy": "full",
        "output": str(tmp_path / "run"), "general_text": "none", "training": {"max_steps": 1, "report_to": "none"},
    }  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")
    checked = CliRunner().invoke(main, ["check", str(tmp_path / "recipe.yaml")])
    assert checked.exit_code == 0 and lengths.CODE in checked.output
    if not trains:
        with pytest.raises(finetune.errors.BadOptions, match="has 16 positions"):
            finetune.train(**recipe)
        return
    result = finetune.train(**recipe)
    assert result.findings[lengths.CODE] == 2
    assert any("made for 16 positions" in note for note in result.notes)
