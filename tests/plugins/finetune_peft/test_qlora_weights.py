"""4-bit weights stay as they are stored, on processors where bitsandbytes would pack them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
from bitsandbytes.nn import Linear4bit
from transformers import AutoModelForSequenceClassification

from finetune import models
from finetune.errors import UpstreamChanged
from finetune.recipe import Model
from finetune.testing import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune_peft.qlora import QLoraStrategy


def has_avx512bf16() -> bool:
    return True


@pytest.fixture(autouse=True)
def _processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", has_avx512bf16)


def answers(model: Any) -> set[bool]:
    """Return what the 4-bit layers of a model know of the processor."""
    layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
    assert layers
    return {layer.support_avx512bf16_for_cpu for layer in layers}


def load(base: Path, strategy: QLoraStrategy) -> Any:
    return models.load(Model(path=str(base)), AutoModelForSequenceClassification, strategy.load_options()).model


def test_layers_made_while_loading_never_pack_and_the_library_is_as_before(tmp_path: Path) -> None:
    base = tiny_model("bert", tokenizer("bert", vocab_size=200), tmp_path)
    strategy = QLoraStrategy()
    with strategy.loading(), strategy.loading():
        model = load(base, strategy)
    assert answers(model) == {False}
    assert bitsandbytes.nn.modules.has_avx512bf16 is has_avx512bf16
    assert Linear4bit(4, 4).support_avx512bf16_for_cpu
    strategy.load_options()
    assert bitsandbytes.nn.modules.has_avx512bf16 is has_avx512bf16


def test_a_model_that_was_loaded_without_the_strategy_s_context_does_not_pack_either(tmp_path: Path) -> None:
    base = tiny_model("bert", tokenizer("bert", vocab_size=200), tmp_path)
    model = load(base, QLoraStrategy())
    assert answers(model) == {True}
    assert answers(QLoraStrategy().patch(model)) == {False}


def test_a_layer_that_no_longer_asks_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tiny_model("bert", tokenizer("bert", vocab_size=200), tmp_path)
    model = load(base, QLoraStrategy())
    for module in model.modules():
        if isinstance(module, Linear4bit):
            del module.support_avx512bf16_for_cpu
    with pytest.raises(UpstreamChanged, match=r"has no bitsandbytes\.nn\.Linear4bit\.support_avx512bf16_for_cpu"):
        QLoraStrategy().patch(model)
    monkeypatch.delattr(bitsandbytes.nn.modules, "has_avx512bf16")
    with (
        pytest.raises(UpstreamChanged, match=r"has_avx512bf16, which finetune needs .*\"bitsandbytes>=0\.50,<0\.51\""),
        QLoraStrategy().loading(),
    ):
        pytest.fail("the block must not begin")
