"""Where the head is tied to the embeddings, freezing trains the last block; gradual unfreezing begins with it."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import pytest
import torch
import transformers

from finetune.errors import BadOptions
from finetune.plugins import discover
from finetune.testing.models import ARCHITECTURES
from finetune_freeze.frozen import FrozenStrategy
from finetune_freeze.gradual import GradualStrategy

TASKS: Any = discover().catalogues["tasks"].targets
TIED = {
    "t5": ("AutoModelForSeq2SeqLM", ["decoder.block.1.*", "decoder.final_layer_norm.*"]),
    "bart": ("AutoModelForSeq2SeqLM", ["model.decoder.layers.1.*"]),
    "gpt2": ("AutoModelForCausalLM", ["transformer.h.1.*", "transformer.ln_f.*"]),
    "llama": ("AutoModelForCausalLM", ["model.layers.1.*", "model.norm.*"]),
}
"""Family → class, and what trains: written down by hand."""


def built(family: str) -> Any:
    config_class, size = ARCHITECTURES[family]
    special = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0, "decoder_start_token_id": 0}
    no_dropout = {"dropout_rate": 0.0, "dropout": 0.0, "attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}
    config = getattr(transformers, config_class)(
        **{**size, "vocab_size": 50, "tie_word_embeddings": True, **special, **no_dropout}
    )
    torch.manual_seed(0)
    return getattr(transformers, TIED[family][0]).from_config(config)


def prepared(strategy: Any, family: str) -> Any:
    task = "summarization" if family in {"t5", "bart"} else "causal-language-modeling"
    return strategy.prepare(built(family), TASKS[task])


def training(model: Any) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("family", TIED)
def test_frozen_trains_the_last_block_and_the_norm_after_it_and_says_so(family: str) -> None:
    strategy = FrozenStrategy()
    model = prepared(strategy, family)
    names = {name for name, _ in model.named_parameters()}
    expected = {name for name in names if any(fnmatchcase(name, pattern) for pattern in TIED[family][1])}
    assert training(model) == expected
    assert strategy.notes(model) == [f"frozen except: {', '.join(p.removesuffix('.*') for p in TIED[family][1])}"]


@pytest.mark.parametrize("family", TIED)
def test_ten_steps_of_the_last_block_lower_the_loss(family: str) -> None:
    model = prepared(FrozenStrategy(), family).train()
    ids = torch.tensor([[5, 6, 7, 8, 1], [9, 8, 7, 6, 1]])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(10):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.05, losses


def test_unfrozen_parameters_train_instead_of_the_last_block() -> None:
    assert training(prepared(FrozenStrategy(unfrozen_parameters=("decoder.block.0.*",)), "t5")) == {
        name for name, _ in built("t5").named_parameters() if name.startswith("decoder.block.0.")
    }
    with pytest.raises(BadOptions, match=r"'decoder\.block\.9\.\*' matches no parameter"):
        prepared(FrozenStrategy(unfrozen_parameters=("decoder.block.9.*",)), "t5")


def test_gradual_unfreezing_begins_with_the_last_blocks_and_ends_with_the_tied_embeddings() -> None:
    strategy = GradualStrategy()
    model = prepared(strategy, "t5")
    assert [group.name for stage in strategy.stages(model.layer_groups) for group in stage] == [
        "encoder.block.1, decoder.block.1",
        "encoder.block.0, decoder.block.0",
        "embeddings",
    ]
    always = GradualStrategy(embeddings="always").stages(model.layer_groups)[0]
    assert [group.name for group in always] == ["encoder.block.1, decoder.block.1", "embeddings"]
