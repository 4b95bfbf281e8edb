"""The decoder, like Llama: it predicts the next token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, default_data_collator

from finetune_samples.induction import look_back
from finetune_samples.pretraining import Feature, blocks


def model(tokenizer: PreTrainedTokenizerFast, size: dict[str, Any]) -> Any:
    """Return an untrained Llama whose input and output embeddings are tied."""
    made = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            tie_word_embeddings=True,
            attention_bias=True,
            initializer_range=0.05,
            rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},  # as in Llama 3
            **size,
        )
    )
    look_back(made)
    return made


def objective(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], seed: int) -> tuple[list[Feature], Any]:
    """Return blocks of text as features, and their collator."""
    return [{"input_ids": block, "labels": block} for block in blocks(tokenizer, texts)], default_data_collator
