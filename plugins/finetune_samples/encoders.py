"""The encoder, like BERT: it predicts masked tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import BertConfig, BertForMaskedLM, DataCollatorForLanguageModeling, PreTrainedTokenizerFast

from finetune_samples.pretraining import BLOCK, Feature

MASKED = 0.15
"""Share of tokens to predict. Source: Devlin et al. 2019, §3.1."""


def model(tokenizer: PreTrainedTokenizerFast, size: dict[str, Any]) -> Any:
    """Return an untrained BERT for masked language modeling."""
    return BertForMaskedLM(BertConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **size))


def objective(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], seed: int) -> tuple[list[Feature], Any]:
    """Return truncated texts as features, and a collator that masks tokens."""
    encoded = tokenizer(list(texts), truncation=True, max_length=BLOCK, return_special_tokens_mask=True)
    names = ("input_ids", "token_type_ids", "attention_mask", "special_tokens_mask")
    features = [dict(zip(names, row, strict=True)) for row in zip(*(encoded[name] for name in names), strict=True)]
    return features, DataCollatorForLanguageModeling(tokenizer, mlm_probability=MASKED)
