"""Layer groups: every parameter in one of them, in the order of depth, for every family."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import pytest
import torch
import transformers

from finetune.errors import BadOptions, Incompatible
from finetune.testing.models import ARCHITECTURES
from finetune_freeze.groups import head, last_block, layer_groups, parameters_of

CLASSIFIER, MASKED, CAUSAL, WRITER, ANSWERER = (
    f"AutoModelFor{name}"
    for name in ("SequenceClassification", "MaskedLM", "CausalLM", "Seq2SeqLM", "QuestionAnswering")
)


def built(family: str, model_class: str, **options: Any) -> Any:
    config_class, size = ARCHITECTURES[family]
    special = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0}
    config = getattr(transformers, config_class)(**{**size, "vocab_size": 50, **special, **options})
    return getattr(transformers, model_class).from_config(config)


def encoder(body: str, blocks: str, *more: str) -> list[Any]:
    """Return the groups of a two-layer encoder that classifies: written down by hand, not by the code under test."""
    return [f"{body}.embeddings.*", f"{body}.{blocks}.0.*", f"{body}.{blocks}.1.*", ["classifier.*", *more]]


def decoder(*more: str) -> list[Any]:
    return ["model.embed_tokens.*", "model.layers.0.*", ["model.layers.1.*", "model.norm.*"], *more]


EXPECTED: dict[tuple[str, str], list[Any]] = {
    ("bert", CLASSIFIER): encoder("bert", "encoder.layer", "bert.pooler.*"),
    ("bert", MASKED): ["bert.embeddings.*", "bert.encoder.layer.0.*", "bert.encoder.layer.1.*", "cls.*"],
    ("bert", ANSWERER): ["bert.embeddings.*", "bert.encoder.layer.0.*", "bert.encoder.layer.1.*", "qa_outputs.*"],
    ("roberta", CLASSIFIER): encoder("roberta", "encoder.layer"),
    ("electra", CLASSIFIER): encoder("electra", "encoder.layer"),
    ("distilbert", CLASSIFIER): encoder("distilbert", "transformer.layer", "pre_classifier.*"),
    # its relative positions are written down after the blocks, and read by all of them
    ("deberta", CLASSIFIER): [
        ["deberta.embeddings.*", "deberta.encoder.rel_embeddings.*"],
        *encoder("deberta", "encoder.layer", "pooler.*")[1:],
    ],
    # all layers share one block's weights
    ("albert", CLASSIFIER): [
        ["albert.embeddings.*", "albert.encoder.embedding_hidden_mapping_in.*"],
        "albert.encoder.albert_layer_groups.0.*",
        ["albert.pooler.*", "classifier.*"],
    ],
    # tied: the head's weight is the embeddings'
    ("gpt2", CAUSAL): [
        ["transformer.wte.*", "transformer.wpe.*"],
        "transformer.h.0.*",
        ["transformer.h.1.*", "transformer.ln_f.*"],
    ],
    ("llama", CAUSAL): decoder("lm_head.*"),
    ("llama", CLASSIFIER): decoder("score.*"),
    ("mistral", CAUSAL): decoder("lm_head.*"),
    ("qwen", CAUSAL): decoder("lm_head.*"),
    ("t5", WRITER): [
        "shared.*",
        ["encoder.block.0.*", "decoder.block.0.*"],
        ["encoder.block.1.*", "decoder.block.1.*", "*.final_layer_norm.*"],
    ],
    ("t5", ANSWERER): [
        "shared.*",
        ["encoder.block.0.*", "decoder.block.0.*"],
        ["encoder.block.1.*", "decoder.block.1.*", "*.final_layer_norm.*"],
        "qa_outputs.*",
    ],
    ("t5", CLASSIFIER): [
        "transformer.shared.*",
        ["transformer.encoder.block.0.*", "transformer.decoder.block.0.*"],
        ["transformer.encoder.block.1.*", "transformer.decoder.block.1.*", "transformer.*.final_layer_norm.*"],
        "classification_head.*",
    ],
    # a norm of the embeddings is written down after the blocks
    ("bart", WRITER): [
        ["model.shared.*", "model.*.embed_positions.*", "model.*.layernorm_embedding.*"],
        ["model.encoder.layers.0.*", "model.decoder.layers.0.*"],
        ["model.encoder.layers.1.*", "model.decoder.layers.1.*"],
    ],
}


def test_every_family_that_we_can_build_is_tried() -> None:
    assert {family for family, _ in EXPECTED} == set(ARCHITECTURES)


@pytest.mark.parametrize(("family", "model_class"), list(EXPECTED))
def test_groups_hold_every_parameter_once_in_the_order_of_depth(family: str, model_class: str) -> None:
    model = built(family, model_class)
    names = [name for name, _ in model.named_parameters()]
    groups = layer_groups(model)
    assert sorted(name for group in groups for name in group.parameters) == sorted(names)
    expected = []
    for patterns in EXPECTED[family, model_class]:
        wanted = [patterns] if isinstance(patterns, str) else patterns
        expected.append({name for name in names if any(fnmatchcase(name, pattern) for pattern in wanted)})
    assert [set(group.parameters) for group in groups] == expected


@pytest.mark.parametrize(("family", "model_class"), list(EXPECTED))
def test_no_group_feeds_one_below_it(family: str, model_class: str) -> None:
    # depth measured, not read off names: noise in a group and in all above it leaves what enters its block as it was
    model = built(family, model_class).eval()
    inputs = {"input_ids": torch.tensor([[5, 6, 7, 1]])}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = inputs["input_ids"]
    entering: dict[str, torch.Tensor] = {}

    def note(name: str) -> Any:
        def hook(module: Any, args: Any, kwargs: Any) -> None:
            entering.setdefault(name, (args[0] if args else kwargs["hidden_states"]).detach().clone())

        return hook

    groups = layer_groups(model)
    blocks = [block for group in groups for block in group.name.split(", ") if block not in {"embeddings", "head"}]
    for name in blocks:
        model.get_submodule(name).register_forward_pre_hook(note(name), with_kwargs=True)
    with torch.no_grad():
        model(**inputs)
        before = dict(entering)
        parameters = dict(model.named_parameters())
        for group in reversed(groups):
            for name in group.parameters:
                parameters[name].add_(torch.randn_like(parameters[name]) * 0.1)
            entering.clear()
            model(**inputs)
            # a decoder's block reads what the whole encoder wrote
            for name in group.name.split(", "):
                if name in before and "decoder" not in name:
                    assert torch.equal(entering[name], before[name]), f"{group.name} feeds {name}"
    assert not all(torch.equal(entering[name], before[name]) for name in blocks), "the embeddings feed the first block"


@pytest.mark.parametrize(("family", "model_class"), [("gpt2", CAUSAL), ("t5", WRITER), ("bart", WRITER)])
def test_a_tied_head_is_part_of_the_body(family: str, model_class: str) -> None:
    assert head(built(family, model_class)) == []


def test_the_last_block_is_that_of_the_decoder_with_its_norm() -> None:
    last = last_block(built("t5", WRITER))
    assert {name.partition(".layer.")[0] for name in last} == {"decoder.block.1", "decoder.final_layer_norm.weight"}


def test_encoder_and_decoder_of_different_depths_are_aligned_at_the_top() -> None:
    groups = layer_groups(built("t5", WRITER, num_layers=3, num_decoder_layers=1))
    assert [group.name for group in groups] == [
        "embeddings",
        "encoder.block.0",
        "encoder.block.1",
        "encoder.block.2, decoder.block.0",
    ]


def test_a_final_norm_written_down_before_the_blocks_is_above_them() -> None:
    size = {"hidden_size": 32, "num_hidden_layers": 2, "ffn_dim": 64, "num_attention_heads": 2, "vocab_size": 50}
    model = transformers.AutoModelForCausalLM.from_config(
        transformers.OPTConfig(**size, word_embed_proj_dim=32, pad_token_id=0, bos_token_id=1, eos_token_id=1)
    )
    groups = layer_groups(model)
    assert "model.decoder.final_layer_norm.weight" in groups[-1].parameters
    assert [len(group.parameters) for group in groups] == [2, 16, 18]


def test_what_was_newly_initialized_is_in_the_last_group_wherever_it_is() -> None:
    model = built("bert", CLASSIFIER)
    groups = layer_groups(model, newly_initialized=["bert.encoder.layer.0.output.dense", "classifier"])
    assert set(parameters_of(model, ["bert.encoder.layer.0.output.dense"])) < set(groups[-1].parameters)
    assert sum(len(group.parameters) for group in groups) == len(list(model.parameters()))


def test_a_tied_parameter_has_its_first_name() -> None:
    assert parameters_of(built("t5", WRITER), ["lm_head"]) == ["shared.weight"]


def test_named_groups_hold_what_earlier_ones_left() -> None:
    groups = layer_groups(built("bert", CLASSIFIER), patterns=["*embed*", ["*.layer.0.*", "*.layer.1.*"], "*"])
    assert [group.name for group in groups] == ["*embed*", "*.layer.0.*, *.layer.1.*", "*"]
    assert [len(group.parameters) for group in groups] == [5, 32, 4]


def test_patterns_that_do_not_cover_a_model_are_refused_with_what_they_leave() -> None:
    model = built("bert", CLASSIFIER)
    with pytest.raises(BadOptions, match=r"'\*\.layer\.7\.\*' matches no parameter .*like 'bert\.embeddings\.word"):
        layer_groups(model, patterns=["*embed*", "*.layer.7.*", "*"])
    with pytest.raises(BadOptions, match=r"no group matches bert\.pooler\.dense\.weight.*'\*' at the end"):
        layer_groups(model, patterns=["*embed*", "*.layer.*"])


def test_a_model_without_blocks_is_refused_and_can_be_described() -> None:
    class Plain(transformers.PreTrainedModel):  # type: ignore[misc]
        config_class = transformers.PretrainedConfig

        def __init__(self) -> None:
            super().__init__(transformers.PretrainedConfig())
            self.inner, self.outer = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)

    with pytest.raises(Incompatible, match=r"no list of blocks.*strategy\.groups.*like 'inner\.weight'"):
        layer_groups(Plain())
    assert [len(group.parameters) for group in layer_groups(Plain(), patterns=["inner.*", "outer.*"])] == [2, 2]
