"""What of a model is divided together, and the copy that is filled with the whole weights at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
)

from finetune.errors import BadOptions, TrainingFailed
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune.training import sharding
from finetune_peft.strategy import suppress_warnings

CLASSES: dict[str, Any] = {
    "bert": AutoModelForSequenceClassification,
    "bert, masked": AutoModelForMaskedLM,
    "llama": AutoModelForCausalLM,
    "t5": AutoModelForSeq2SeqLM,
    "bart": AutoModelForSeq2SeqLM,
}
LAYERS = {
    "bert": ["BertLayer"], "bert, masked": ["BertLayer"], "llama": ["LlamaDecoderLayer"], "t5": ["T5Block"],
    "bart": ["BartDecoderLayer", "BartEncoderLayer"],
}  # fmt: skip
WORDS = {"bert": "bert", "bert, masked": "bert", "llama": "llama", "t5": "xlm-roberta", "bart": "roberta"}


@pytest.fixture(params=[(family, adapter) for family in CLASSES for adapter in (False, True)], ids=str)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    family, adapter = request.param
    folder = tiny_model(
        family.partition(",")[0],
        tokenizer(WORDS[family], vocab_size=300),
        tmp_path,
        model_class=CLASSES[family].__name__,
    )
    loaded = CLASSES[family].from_pretrained(folder)
    loaded.family = family
    if adapter:
        with suppress_warnings():
            loaded = get_peft_model(loaded, LoraConfig(target_modules="all-linear", r=2))
    return loaded.eval()


def inputs(model: Any) -> dict[str, torch.Tensor]:
    ids = torch.arange(5, 13).reshape(2, 4)
    return {"input_ids": ids, **({"labels": ids} if model.config.is_encoder_decoder else {})}


def test_layers_are_divided_but_for_those_with_embeddings(model: Any) -> None:
    assert sorted(sharding.layers_of(model)) == LAYERS[model.family]
    assert sharding._are_shared_further(model) == (model.family in ("t5", "bart", "bert, masked"))


def test_a_layer_that_cannot_be_divided_is_refused(model: Any) -> None:
    assert sharding._checked(model, ",".join(LAYERS[model.family])) == LAYERS[model.family]
    with pytest.raises(BadOptions, match=r"'XLayer' is no layer of the model.*those of the model are [BLT]"):
        sharding._checked(model, ["XLayer"])
    if model.family == "bert":
        with pytest.raises(BadOptions, match="'BertEmbeddings' holds the embeddings"):
            sharding._checked(model, ["BertEmbeddings"])


@torch.no_grad()
def test_the_filled_copy_is_the_model(model: Any) -> None:
    model.forward = lambda **_: pytest.fail("a wrapper of the model that was copied")
    weights = {name: tensor.clone() + 0.01 for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    copied = sharding.without_weights(model)
    assert all(parameter.is_meta for parameter in copied.parameters())
    del model.forward
    model.load_state_dict(weights, strict=False)
    filled = sharding.filled(copied, weights)
    assert type(filled) is type(model)
    names = dict(model.named_parameters(remove_duplicate=False))
    for name, parameter in filled.named_parameters(remove_duplicate=False):
        assert torch.equal(parameter, names[name]) and parameter.requires_grad == names[name].requires_grad, name
    assert len(list(filled.parameters())) == len(list(model.parameters())), "weights are no longer tied"
    assert torch.equal(filled(**inputs(model)).logits, model(**inputs(model)).logits)


def test_a_missing_weight_is_an_error(model: Any) -> None:
    weights = dict(model.state_dict())
    untied = next(name for name in weights if "norm" in name.lower())
    del weights[untied]
    with pytest.raises(TrainingFailed, match="are missing on the main process"):
        sharding.filled(sharding.without_weights(model), weights)
