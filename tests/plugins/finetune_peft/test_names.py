"""A name that matches no module is an error, also if PEFT would train without it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peft import IA3Config, LNTuningConfig, LoraConfig, PromptTuningConfig, get_peft_model
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

from finetune.errors import BadOptions
from finetune_peft.names import check_names
from finetune_peft.strategy import suppress_warnings


def decoder() -> Any:
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=32, **size))


def encoder() -> Any:
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return BertForSequenceClassification(BertConfig(vocab_size=32, **size))


DECODER = decoder()
MODULES = [name for name, _ in DECODER.named_modules() if name]
ENDINGS = sorted({name.split(".", start)[-1] for name in MODULES for start in range(name.count(".") + 1)})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (LoraConfig(modules_to_save=["lm_heads"]), "modules_to_save 'lm_heads' names no .*LlamaForC.* mean 'lm_head'"),
        (LoraConfig(modules_to_save=["lm_head", "norn"]), "modules_to_save 'norn' names no module .* mean 'norm'"),
        (LoraConfig(modules_to_save=["head"]), "modules_to_save 'head' names no module"),  # PEFT takes `lm_head` for it
        (LoraConfig(target_modules=["q_proj", "valu_proj"]), "target_modules 'valu_proj' names .* mean 'v_proj'"),
        (LoraConfig(target_modules=["self_attn.q_prj"]), "target_modules 'self_attn.q_prj' .* mean 'self_attn.q_proj'"),
        (LoraConfig(target_modules=["zzz"]), "linear layers end in q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj"),
        (LoraConfig(target_modules="q_proj"), r"regular expression that matches no complete .* a list: \[q_proj\]"),
        (LoraConfig(target_modules=".*_porj"), "'.*_porj' is a regular expression that matches no complete name"),
        (LoraConfig(exclude_modules=["lm_haed"]), "exclude_modules 'lm_haed' names no module .* mean 'lm_head'"),
        (LoraConfig(rank_pattern={"k_poj": 4}), "rank_pattern 'k_poj' names no module .* mean 'k_proj'"),
        (LoraConfig(alpha_pattern={"^model.layers.7.*": 4}), "alpha_pattern"),
        (LoraConfig(target_modules="*_proj"), r"strategy: '\*_proj' is not a regular expression: nothing to repeat"),
        (LoraConfig(rank_pattern={"*.q_proj": 2}), "is not a regular expression"),
        (LoraConfig(trainable_token_indices={"embed_token": [1]}), "trainable_token_indices 'embed_token' .* mean"),
        (
            LoraConfig(target_modules=[], target_parameters=["q_proj.wieght"]),
            "target_parameters 'q_proj.wieght' names no parameter .* mean 'q_proj.weight'",
        ),
        (
            IA3Config(target_modules=["k_proj", "v_proj", "down_porj"], feedforward_modules=["down_porj"]),
            r"target_modules 'down_porj' (.|\n)*feedforward_modules 'down_porj' names no module",
        ),
        (LNTuningConfig(target_modules=["input_layernorn"]), "mean 'input_layernorm'"),
        (PromptTuningConfig(modules_to_save=["lm_hed"]), "modules_to_save 'lm_hed' names no module .* mean 'lm_head'"),
    ],
)
def test_a_name_that_matches_nothing_is_an_error_with_the_nearest(config: Any, message: str) -> None:
    with pytest.raises(BadOptions, match=message):
        check_names(decoder(), config)


def test_every_unknown_name_has_a_line() -> None:
    config = LoraConfig(target_modules=["valu_proj", "q_proj"], modules_to_save=["lm_heads"])
    with pytest.raises(BadOptions) as error:
        check_names(decoder(), config)
    lines = str(error.value).splitlines()
    assert [line.split()[1] for line in lines] == ["target_modules", "modules_to_save"]


@pytest.mark.parametrize(
    "config",
    [
        LoraConfig(),
        LoraConfig(target_modules="all-linear"),
        LoraConfig(target_modules="All-Linear"),
        LoraConfig(target_modules=r".*\.(q|v)_proj", modules_to_save=["lm_head", "model.norm"]),
        LoraConfig(target_modules=["q_proj"], rank_pattern={"q_proj": 2, r"^model\.layers\.0.*": 4}),
        LoraConfig(target_modules=[], target_parameters=["q_proj.weight"]),
        LoraConfig(trainable_token_indices=[1, 2]),
        PromptTuningConfig(),
    ],
)
def test_names_of_the_model_pass(config: Any) -> None:
    check_names(decoder(), config)


def test_a_head_of_several_parts_may_be_named_by_its_part() -> None:
    check_names(encoder(), LoraConfig(modules_to_save=["pooler.dense", "classifier"]))


@given(name=st.sampled_from(ENDINGS), edit=st.integers(0, 99), letter=st.sampled_from("aqz_"))
def test_a_module_passes_and_its_misspelling_is_never_trained_without(name: str, edit: int, letter: str) -> None:
    check_names(DECODER, LoraConfig(modules_to_save=[name]))
    place = edit % (len(name) + 1)
    misspelt = f"{name[:place]}{letter}{name[place:]}"
    if misspelt in ENDINGS:
        return
    with pytest.raises(BadOptions, match="modules_to_save"):
        check_names(DECODER, LoraConfig(modules_to_save=[misspelt]))


@pytest.mark.parametrize("name", ["lm_head", "norm", "layers.0.mlp"])
def test_what_is_accepted_is_what_peft_trains(name: str) -> None:
    config = LoraConfig(target_modules=["q_proj"], modules_to_save=[name])
    check_names(decoder(), config)
    with suppress_warnings():
        wrapped = get_peft_model(decoder(), config)
    assert any(f"{name}.modules_to_save" in each for each, _ in wrapped.named_parameters())
