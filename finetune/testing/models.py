"""Tiny models with random weights: they need no download, and train a few steps in a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers

SIZE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
}

ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertConfig", SIZE),
    "roberta": ("RobertaConfig", {**SIZE, "max_position_embeddings": 130, "type_vocab_size": 1}),
    "electra": ("ElectraConfig", {**SIZE, "embedding_size": 32}),
    "distilbert": (
        "DistilBertConfig",
        {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64, "max_position_embeddings": 128},
    ),
    "deberta": ("DebertaV2Config", {**SIZE, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
    "albert": ("AlbertConfig", {**SIZE, "embedding_size": 16}),
    "gpt2": ("GPT2Config", {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 128}),
    "llama": ("LlamaConfig", {**SIZE, "num_key_value_heads": 2}),
    "mistral": ("MistralConfig", {**SIZE, "num_key_value_heads": 2}),
    "qwen": ("Qwen3Config", {**SIZE, "num_key_value_heads": 2, "head_dim": 16}),
    "t5": ("T5Config", {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}),
    "bart": (
        "BartConfig",
        {
            "d_model": 32,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 2,
            "decoder_attention_heads": 2,
            "encoder_ffn_dim": 64,
            "decoder_ffn_dim": 64,
            "max_position_embeddings": 128,
        },
    ),
}
"""Family → configuration class of transformers, and the options that make it tiny."""


def tiny_model(
    family: str, tokenizer: Any, directory: Path, *, model_class: str = "AutoModel", seed: int = 0, **options: Any
) -> Path:
    """Write a tiny model with random weights and its tokenizer to a folder, and return the folder.

    Args:
        family: One of `ARCHITECTURES`.
        tokenizer: It is saved too, and gives the size of the vocabulary.
        directory: The folder to write, which is returned.
        model_class: The class of transformers. `AutoModel` writes a body without a head. As in many
            checkpoints on the Hub, modules that the class does not have are missing, such as BERT's
            pooler in a masked language model.
        seed: Seed of the weights.
        **options: More fields of the configuration.
    """
    config_class, size = ARCHITECTURES[family]
    special = {
        name: getattr(tokenizer, name)
        for name in ("pad_token_id", "bos_token_id", "eos_token_id")
        if getattr(tokenizer, name) is not None
    }
    start = {"t5": "pad_token_id", "bart": "eos_token_id"}.get(family)
    if start:
        special["decoder_start_token_id"] = getattr(tokenizer, start)
    config = getattr(transformers, config_class)(**{**size, "vocab_size": len(tokenizer), **special, **options})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(transformers, model_class).from_config(config)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory
