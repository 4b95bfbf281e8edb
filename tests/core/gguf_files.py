"""Tiny GGUF files, written on the spot from a model of transformers as llama.cpp's converter writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from gguf import GGMLQuantizationType, GGUFWriter, LlamaFileType, TokenType, quantize
from transformers import AutoTokenizer

from finetune.testing import tiny_model
from finetune.testing.tokenizers import tokenizer

TEMPLATE = "{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}\n{% endfor %}"
_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def llama(directory: Path, **options: Any) -> Path:
    """Write a tiny llama of transformers, with the tokenizer of GPT-2's kind, and return its folder."""
    return tiny_model(
        "llama", tokenizer("gpt2"), directory, model_class="AutoModelForCausalLM", tie_word_embeddings=True,
        **{"hidden_size": 64, "intermediate_size": 96, "head_dim": 32, **options},
    )  # fmt: skip


def gguf_of(
    folder: Path,
    file: Path,
    *,
    kind: str = "F32",
    architecture: str = "llama",
    pre: str = "gpt-2",
    template: str | None = TEMPLATE,
    drop: str | None = None,
    add: Mapping[str, Any] = {},
    fields: Mapping[str, str] = {},
) -> Path:
    """Write a llama of transformers as a GGUF file.

    Args:
        folder: The model.
        file: The file to write, which is returned.
        kind: How matrices are stored: ``F32``, ``Q8_0``, ``Q4_1``.
        architecture: What the file says it is.
        pre: Name of the pre-tokenizer.
        template: The chat template.
        drop: Name of a tensor to leave out.
        add: More tensors.
        fields: More fields of the metadata, as texts.
    """
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="float32")
    config = model.config
    writer = GGUFWriter(str(file), architecture)
    writer.add_name("tiny harbour")
    writer.add_license("apache-2.0")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(LlamaFileType[f"MOSTLY_{kind}" if kind != "F32" else "ALL_F32"])
    for name, text in fields.items():
        writer.add_string(name, text)
    _add_tokenizer(writer, folder, pre=pre, template=template)
    for name, weights in _tensors(model):
        if name != drop:
            _add(writer, name, weights, kind)
    for name, weights in add.items():
        _add(writer, name, np.asarray(weights, dtype=np.float32), "F32")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def _add(writer: GGUFWriter, name: str, weights: np.ndarray, kind: str) -> None:
    if kind == "F32" or weights.ndim == 1:
        writer.add_tensor(name, weights)
        return
    stored = GGMLQuantizationType[kind]
    writer.add_tensor(name, quantize(weights, stored), raw_dtype=stored)


def _add_tokenizer(writer: GGUFWriter, folder: Path, *, pre: str, template: str | None) -> None:
    tokens = AutoTokenizer.from_pretrained(folder)
    special = set(tokens.all_special_ids)
    merges = [" ".join(pair) for pair in _merges(tokens)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens.convert_ids_to_tokens(range(len(tokens))))
    writer.add_token_types([TokenType.CONTROL if i in special else TokenType.NORMAL for i in range(len(tokens))])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(tokens.bos_token_id)
    writer.add_eos_token_id(tokens.eos_token_id)
    writer.add_pad_token_id(tokens.pad_token_id)
    writer.add_add_bos_token(False)
    if template is not None:
        writer.add_chat_template(template)


def _merges(tokens: Any) -> list[list[str]]:
    merges: list[list[str]] = json.loads(tokens.backend_tokenizer.to_str())["model"]["merges"]
    return merges


def _tensors(model: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the tensors of a llama under the names of GGUF, the heads permuted as llama.cpp wants them."""
    config = model.config
    yield "token_embd.weight", model.model.embed_tokens.weight.detach().numpy()
    yield "output_norm.weight", model.model.norm.weight.detach().numpy()
    if not config.tie_word_embeddings:
        yield "output.weight", model.lm_head.weight.detach().numpy()
    for number, layer in enumerate(model.model.layers):
        for name, weight in layer.named_parameters():
            module = name.removesuffix(".weight")
            heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(_NAMES[module])
            values = weight.detach()
            yield f"blk.{number}.{_NAMES[module]}.weight", (_permuted(values, heads) if heads else values).numpy()


def _permuted(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Return a projection with the two halves of each head interleaved. Source: llama.cpp, `LlamaModel.permute`."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns).contiguous()
