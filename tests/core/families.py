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
    "max_decoder_position_embeddings": 64, "num_decoder_layers": 2,
}  # fmt: skip
"""Small values of every name that families give their sizes."""
SPECIAL = {
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2,
    "decoder_start_token_id": 2,
}  # fmt: skip
"""Special tokens, where those of a family are not in a small vocabulary."""
MAMBA = {
    "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_expand": 2, "mamba_n_groups": 1,
    "mamba_chunk_size": 16,
}  # fmt: skip
LINEAR = {
    "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
}  # fmt: skip
LATENT = (
    "axk1", "axk2", "deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite", "glm_moe_dsa", "minicpm3", "youtu",
    "mistral4",
)  # fmt: skip
"""Families with latent attention: it has a key for each head."""
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
    "funnel": {"block_sizes": [1, 1], "block_repeats": [1, 1], "num_decoder_layers": 1, "num_hidden_layers": None},
    "bamba": {**MAMBA, "attn_layer_indices": [1], "layer_types": None},
    "granitemoehybrid": {**MAMBA, "layer_types": ["mamba", "attention"], "shared_intermediate_size": 64},
    "zamba": {
        "layer_types": ["mamba", "hybrid"], "attention_hidden_size": 64, "attention_head_dim": 16, "mamba_d_state": 8,
        "mamba_dt_rank": 4, "num_key_value_heads": 4,
    },
    "zamba2": {
        "layer_types": ["mamba", "hybrid"], "hybrid_layer_ids": [1], "attention_hidden_size": 64,
        "attention_head_dim": 16, "mamba_d_state": 8, "mamba_headdim": 8, "n_mamba_heads": 8, "num_key_value_heads": 4,
        "kv_channels": 8, "num_query_groups": 4, "adapter_rank": 4, "chunk_size": 16,
    },
    "zaya": {"num_experts_per_tok": 1},
    "switch_transformers": {"num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1, "num_experts": 4},
    "longcat_flash": {
        "num_key_value_heads": 4, "ffn_hidden_size": 64, "expert_ffn_hidden_size": 32, "zero_expert_num": 2,
        "moe_topk": 2,
    },
    "dots3_note_text": {
        "num_key_value_heads": 4, "index_topk": 8, "index_head_dim": 8, "index_n_heads": 2,
        "shared_experts_intermediate_size": 32, "layer_types": ["sliding_attention", "indexed_attention"],
        "mlp_layer_types": ["dense", "sparse"],
    },
    "xlstm": {"num_heads": 2, "qk_dim_factor": 0.5, "v_dim_factor": 1.0},
    "falcon_h1": {**MAMBA, "mamba_d_ssm": 64},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1, "state_size": 8, "chunk_size": 16},
    "nemotron_h": {"mamba_num_heads": 8, "mamba_head_dim": 8, "n_groups": 1, "ssm_state_size": 8, "chunk_size": 16},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 8, "mamba_dt_rank": 4},
    "bailing_hybrid": {
        "layer_group_size": 2, "linear_head_dim": 8, "linear_num_heads": 4, "num_key_value_heads": 4,
        "num_expert_group": 1, "num_experts_per_token": 2,
    },
    **{family: {"num_key_value_heads": 4} for family in LATENT},
    "gemma3n_text": {
        "num_kv_shared_layers": 0, "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 64, "laurel_rank": 8,
        "layer_types": ["sliding_attention", "full_attention"], "activation_sparsity_pattern": [0.0, 0.0],
    },
    "gemma4_text": {
        "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 64, "global_head_dim": 8,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "ernie4_5_moe": {"moe_k": 2, "moe_num_shared_experts": 1},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "lfm3": {"layer_types": ["conv", "full_attention"]},
    "kimi_linear": {
        "layer_types": ["linear_attention", "full_attention"], "num_key_value_heads": 4, "linear_head_dim": 8,
        "linear_num_heads": 4, "num_experts_per_token": 2, "mlp_layer_types": ["dense", "sparse"],
    },
    **dict.fromkeys(("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), LINEAR),
    "roc_bert": {
        "pronunciation_vocab_size": 8, "shape_vocab_size": 8, "pronunciation_embed_dim": 8, "shape_embed_dim": 8,
    },
    "recurrent_gemma": {"block_types": ["recurrent", "attention"], "lru_width": 32},
    "neomme": {"head_dim": 16},
    "cohere_compass_text": {"layer_types": ["full_attention", "full_attention"]},
    "luke": {"entity_vocab_size": 8, "entity_emb_size": 8},
    "big_bird": {"block_size": 4, "num_random_blocks": 1},
    "bigbird_pegasus": {"block_size": 4, "num_random_blocks": 1},
}  # fmt: skip
"""What some families need in addition: a value, or None to leave a size out."""


def config_class(family: str) -> Any:
    """Return the class of a family's configuration."""
    return transformers.models.auto.configuration_auto.CONFIG_MAPPING[family]


def accepted(family: str) -> set[str]:
    """Return the names of the values that a family's configuration takes."""
    cls = config_class(family)
    return {*inspect.signature(cls.__init__).parameters, *getattr(cls, "__dataclass_fields__", ())}


def tiny_config(family: str, **more: Any) -> Any:
    """Return the configuration of a family with small sizes."""
    cls, taken = config_class(family), accepted(family)
    sizes: dict[str, Any] = {name: size for name, size in SMALL.items() if name in taken}
    default = cls()
    for name in SPECIAL:
        given = getattr(default, name, None) or 0
        if isinstance(given, list) or given >= SMALL["vocab_size"]:
            sizes[name] = SPECIAL[name]
    for name in ("layer_types", "mlp_layer_types", "block_types"):
        kinds = list(dict.fromkeys(getattr(default, name, None) or ()))
        if name in taken and len(kinds) > 1:  # one layer of each of two kinds, full attention among them
            kinds.sort(key=lambda kind: kind in ("full_attention", "attention"))
            sizes[name] = [kinds[0], kinds[-1]]
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
