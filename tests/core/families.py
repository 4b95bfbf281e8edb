"""Tiny models of every family of transformers, built from the family's own configuration."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig

SMALL = {
    "vocab_size": 64, "hidden_size": 32, "d_model": 32, "n_embd": 32, "num_hidden_layers": 2, "n_layer": 2,
    "n_layers": 2, "num_layers": 2, "encoder_layers": 2, "decoder_layers": 2, "num_attention_heads": 4, "n_head": 4,
    "n_heads": 4, "num_heads": 4, "encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 64, "ffn_dim": 64, "d_ff": 64, "dff": 64, "n_inner": 64, "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64, "d_inner": 64, "hidden_dim": 64, "dim": 32, "max_position_embeddings": 64,
    "n_positions": 64, "n_ctx": 64, "rotary_dim": 4, "head_dim": 8, "d_kv": 8, "d_head": 8, "emb_dim": 32,
    "word_embed_proj_dim": 32, "embedding_size": 32, "max_encoder_position_embeddings": 64,
    "max_decoder_position_embeddings": 64,
}  # fmt: skip
"""Small values of every name that families give their sizes."""
SPECIAL = {
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2,
    "decoder_start_token_id": 2,
}  # fmt: skip
"""Special tokens, where those of a family are not in a small vocabulary."""
FURTHER: dict[str, dict[str, Any]] = {
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "t5": {"decoder_start_token_id": 0},
    "falcon": {"head_dim": None},
    "longformer": {"attention_window": 8},
    "led": {"attention_window": 8},
    "reformer": {
        "attn_layers": ["local", "lsh"], "axial_pos_shape": [8, 8], "axial_pos_embds_dim": [16, 16],
        "feed_forward_size": 64, "attention_head_size": 8, "num_buckets": 4, "is_decoder": False,
    },
    "perceiver": {
        "d_latents": 32, "num_latents": 8, "num_blocks": 1, "num_self_attends_per_block": 2,
        "num_self_attention_heads": 4, "num_cross_attention_heads": 4, "qk_channels": 32, "v_channels": 32,
    },
    "big_bird": {"block_size": 4, "num_random_blocks": 1},
    "bigbird_pegasus": {"block_size": 4, "num_random_blocks": 1},
}  # fmt: skip
"""What some families need in addition: a value, or None to leave a size out."""


def config_class(family: str) -> Any:
    """Return the class of a family's configuration."""
    return transformers.models.auto.configuration_auto.CONFIG_MAPPING[family]


def tiny_config(family: str, **more: Any) -> Any:
    """Return the configuration of a family with small sizes."""
    cls = config_class(family)
    taken = {*inspect.signature(cls.__init__).parameters, *getattr(cls, "__dataclass_fields__", ())}
    sizes: dict[str, Any] = {name: size for name, size in SMALL.items() if name in taken}
    default = cls()
    for name in SPECIAL:
        if (getattr(default, name, None) or 0) >= SMALL["vocab_size"]:
            sizes[name] = SPECIAL[name]
    for name, value in {**FURTHER.get(family, {}), **more}.items():
        sizes[name] = value
        if value is None:
            del sizes[name]
    return AutoConfig.for_model(family, **sizes)


def tiny(family: str, model_class: str, **more: Any) -> Any:
    """Return a tiny model of a family with random weights, which are always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return getattr(transformers, model_class).from_config(tiny_config(family, **more)).eval()


def write_body(family: str, directory: Path, **more: Any) -> Path:
    """Write a tiny model without a head to a folder, and return the folder."""
    tiny(family, "AutoModel", **more).save_pretrained(directory)
    return directory
