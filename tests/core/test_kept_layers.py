"""A smaller model of some layers: which are kept, that they have the weights of the base, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import toy
import transformers
import yaml
from safetensors.torch import load_file
from transformers import AutoConfig

import finetune
from finetune import kept_layers, models
from finetune.errors import BadRecipe, FinetuneError, Incompatible
from finetune.evaluation import verdicts
from finetune.recipe import Model
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer

ENCODER = {"hidden_size": 16, "num_hidden_layers": 6, "num_attention_heads": 2, "intermediate_size": 16}
BART = {"d_model": 16, "encoder_layers": 6, "decoder_layers": 4, "encoder_attention_heads": 2,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}  # fmt: skip
T5 = {"d_model": 16, "num_layers": 6, "num_decoder_layers": 4, "num_heads": 2, "d_kv": 8, "d_ff": 16}
CLASSIFY, WRITE = "AutoModelForSequenceClassification", "AutoModelForSeq2SeqLM"
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": (CLASSIFY, ENCODER),
    "distilbert": (CLASSIFY, {"dim": 16, "n_layers": 6, "n_heads": 2, "hidden_dim": 16}),
    "deberta-v2": ("AutoModelForTokenClassification", ENCODER),
    "longformer": (CLASSIFY, {**ENCODER, "attention_window": 8}),
    "t5": (WRITE, T5),
    "bart": (WRITE, BART),
    "gpt2": ("AutoModelForCausalLM", {"n_embd": 16, "n_layer": 6, "n_head": 2, "bos_token_id": 1, "eos_token_id": 1}),
    "llama": ("AutoModelForCausalLM", {**ENCODER, "num_key_value_heads": 2}),
}


def made(family: str, **changes: Any) -> tuple[Any, Any]:
    """Return a tiny model with random weights, and its class."""
    name, options = FAMILIES[family]
    torch.manual_seed(0)
    model_class = getattr(transformers, name)
    config = AutoConfig.for_model(family, **{"vocab_size": 60, **options, **changes})
    return model_class.from_config(config).eval(), model_class


@pytest.mark.parametrize(
    ("count", "size", "layers"),
    [(6, 12, [0, 2, 4, 7, 9, 11]), (3, 12, [0, 6, 11]), (3, 6, [0, 2, 5]), (2, 6, [0, 5]), (1, 6, [0]), (2, 2, [0, 1])],
)
def test_layers_are_evenly_spaced_as_in_the_published_scripts(count: int, size: int, layers: list[int]) -> None:
    assert kept_layers.evenly_spaced(count, size=size) == layers


@pytest.mark.parametrize("size", range(1, 33))
def test_no_layer_is_kept_twice(size: int) -> None:
    for count in range(1, size + 1):
        numbers = kept_layers.evenly_spaced(count, size=size)
        assert len(set(numbers)) == count and numbers == sorted(numbers) and numbers[-1] < size


@pytest.mark.parametrize("family", FAMILIES)
def test_a_smaller_model_has_the_weights_of_the_layers_that_it_keeps(family: str, tmp_path: Path) -> None:
    model, model_class = made(family)
    found = kept_layers.keep(model, 3, model_class=model_class)
    small = found.model
    before, after = model.state_dict(), small.state_dict()
    chosen = {stack.path: found.described[stack.side]["kept"] for stack in kept_layers.find_stacks(model)}
    assert [0, 2, 5] in chosen.values() and not small.training
    for name, tensor in after.items():
        source = name
        for path, numbers in chosen.items():
            if name.startswith(f"{path}."):
                number, _, rest = name.removeprefix(f"{path}.").partition(".")
                source = f"{path}.{numbers[int(number)]}.{rest}"
        assert torch.equal(tensor, before[source]), name
    small.save_pretrained(tmp_path)
    again = model_class.from_pretrained(tmp_path).eval()
    ids = torch.arange(4, 36).reshape(2, 16)
    batch = {"input_ids": ids, **({"decoder_input_ids": ids[:, :5]} if model.config.is_encoder_decoder else {})}
    with torch.no_grad():
        ones, others = small(**batch)[0], again(**batch)[0]
        assert torch.equal(ones, others) and not torch.equal(ones, model(**batch)[0])


def test_all_layers_are_the_whole_model() -> None:
    model, model_class = made("bert")
    whole = kept_layers.keep(model, 6, model_class=model_class).model
    ids = torch.arange(4, 36).reshape(2, 16)
    with torch.no_grad():
        assert torch.equal(model(ids).logits, whole(ids).logits)


def test_the_layers_compute_one_after_the_other_what_they_did_in_the_whole_model() -> None:
    model, model_class = made("bert")
    small = kept_layers.keep(model, [1, 4], model_class=model_class).model
    ids = torch.arange(4, 36).reshape(2, 16)
    with torch.no_grad():
        hidden = model.bert.embeddings(ids)
        for number in (1, 4):
            hidden = model.bert.encoder.layer[number](hidden)
        by_hand = model.classifier(model.bert.pooler(hidden))
        assert torch.allclose(small(ids).logits, by_hand, atol=1e-6)


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_encoder_and_decoder_can_keep_different_layers(family: str) -> None:
    model, model_class = made(family)
    found = kept_layers.keep(model, {"decoder": 1}, model_class=model_class)
    stacks = {stack.side: stack.size for stack in kept_layers.find_stacks(found.model)}
    assert stacks == {"encoder": 6, "decoder": 1} and found.described == {"decoder": {"kept": [0], "of": 4}}
    found = kept_layers.keep(model, {"encoder": [0, 3], "decoder": [0, 1, 3]}, model_class=model_class)
    assert found.described == {"encoder": {"kept": [0, 3], "of": 6}, "decoder": {"kept": [0, 1, 3], "of": 4}}


@pytest.mark.parametrize(
    ("family", "layers", "message"),
    [
        ("bert", 7, "7 does not fit the model: it has 6 layers, 0 to 5"),
        ("bert", [0, 6], "does not fit the model"),
        ("bert", {"decoder": 2}, "the model has no decoder"),
        ("t5", 5, "the decoder has 4 layers"),
        ("t5", [1, 2], "holds weights that all layers use: keep layer 0"),
    ],
)
def test_layers_that_a_model_has_not_are_refused(family: str, layers: Any, message: str) -> None:
    model, model_class = made(family)
    with pytest.raises(Incompatible, match=r"^model\.layers: ") as raised:
        kept_layers.keep(model, layers, model_class=model_class)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("family", "model_class", "options"),
    [
        ("albert", CLASSIFY, {**ENCODER, "embedding_size": 16}),
        ("funnel", CLASSIFY, {"d_model": 16, "block_sizes": [2, 2], "n_head": 2, "d_head": 8, "d_inner": 16}),
        ("gpt_neo", "AutoModelForCausalLM", {"hidden_size": 16, "num_layers": 6, "num_heads": 2,
                                             "attention_types": [[["global", "local"], 3]],
                                             "bos_token_id": 1, "eos_token_id": 1}),
    ],
)  # fmt: skip
def test_a_family_whose_layers_are_no_list_is_refused_by_name(
    family: str, model_class: str, options: dict[str, Any]
) -> None:
    cls = getattr(transformers, model_class)
    model = cls.from_config(AutoConfig.for_model(family, vocab_size=60, **options))
    with pytest.raises(Incompatible, match=r"^model.layers: .*(Albert|Funnel|GPTNeo)"):
        kept_layers.keep(model, 2, model_class=cls)


@pytest.mark.parametrize("layers", [0, -1, [], [2, 1], [0, 0], [-1, 2], {}, {"middle": 2}, {"encoder": 0}])
def test_what_names_no_layers_is_refused_while_planning(layers: Any, toy_base: Path, tmp_path: Path) -> None:
    recipe = toy.recipe(toy_base, tmp_path / "run", model={"path": str(toy_base), "layers": layers})
    with pytest.raises(BadRecipe, match=r"model\.layers"):
        finetune.train(**recipe)


@pytest.mark.parametrize("layers", ["three", 2.5, [0.5]])
def test_what_is_no_number_is_refused_while_reading(layers: Any, toy_base: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="layers"):
        finetune.train(**toy.recipe(toy_base, tmp_path / "run", model={"path": str(toy_base), "layers": layers}))


def test_a_strategy_that_saves_an_adapter_is_refused(toy_base: Path, tmp_path: Path) -> None:
    recipe = toy.recipe(toy_base, tmp_path / "run", model={"path": str(toy_base), "layers": 1}, strategy="lora")
    with pytest.raises(FinetuneError, match=r"model\.layers: the strategy 'lora' saves its own weights alone"):
        finetune.train(**recipe)


def test_a_run_saves_a_plain_smaller_model_and_says_which_layers(tmp_path: Path) -> None:
    words = tokenizer("bert", [row["text"] for row in toy.rows(50)], vocab_size=200)
    base = tiny_model("bert", words, tmp_path / "base", model_class="AutoModelForMaskedLM", num_hidden_layers=4)
    run = tmp_path / "run"
    training = {"max_steps": 2, "save_strategy": "steps", "save_steps": 1, "learning_rate": 0.0}
    recipe = toy.recipe(
        base,
        run,
        model={"path": str(base), "layers": 2},
        training=training,
        score_base_model=False,
        general_text="none",
    )
    result = finetune.train(**recipe)
    assert result.kept_layers == {"model": {"kept": [0, 3], "of": 4}}
    assert json.loads((run / "config.json").read_text())["num_hidden_layers"] == 2
    saved, before = load_file(run / "model.safetensors"), load_file(base / "model.safetensors")
    name = "bert.encoder.layer.{}.output.dense.weight"
    assert torch.equal(saved[name.format(1)], before[name.format(3)]) and name.format(2) not in saved
    sentence = "Layers that the model keeps of its base model: 0, 3 of 4, counted from 0."
    assert sentence in verdicts.origin(result) and sentence in (run / "README.md").read_text()
    assert yaml.safe_load((run / "recipe.yaml").read_text())["model"]["layers"] == 2
    loaded = finetune.load(run, trust_code=True)
    assert loaded.evaluate(recipe["dataset"]["test"]) == result.scores["test"]
    (run / "result.json").unlink()
    with pytest.raises(FinetuneError, match="model: "):
        finetune.train(**{**recipe, "model": {"path": str(base), "layers": [0, 1]}}, resume=True)
    assert finetune.train(**recipe, resume=True).kept_layers == result.kept_layers


def test_the_layers_of_a_run_can_be_kept(tiny_bert: Path, tmp_path: Path) -> None:
    whole = transformers.AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    whole.save_pretrained(tmp_path)
    found = models.load(Model(path=str(tmp_path), layers=[1]), transformers.AutoModelForSequenceClassification, {})
    assert torch.equal(found.model.classifier.weight, whole.classifier.weight) and not found.newly_initialized


def test_a_new_head_is_named_as_in_the_smaller_model(tiny_bert: Path) -> None:
    found = models.load(Model(path=str(tiny_bert), layers=1), transformers.AutoModelForSequenceClassification, {})
    assert "classifier" in found.newly_initialized and found.kept_layers["model"]["kept"] == [0]
