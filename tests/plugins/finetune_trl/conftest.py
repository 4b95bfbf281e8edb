"""Tiny decoders for the tests of these plugins."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from finetune.testing.tokenizers import tokenizer


@pytest.fixture(scope="session")
def llama_base(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that writes a tiny Llama with the tokenizer of a family to a folder."""

    def write(family: str = "roberta", **options: Any) -> Path:
        folder = tmp_path_factory.mktemp("base")
        words = tokenizer(family)
        config = LlamaConfig(
            **{
                "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
                "num_key_value_heads": 2, "max_position_embeddings": 256, "vocab_size": len(words),
                "bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id,
                "pad_token_id": words.pad_token_id, **options,
            }
        )  # fmt: skip
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = LlamaForCausalLM(config)
        model.save_pretrained(folder)
        words.save_pretrained(folder)
        return folder

    return write
