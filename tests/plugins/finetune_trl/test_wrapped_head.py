"""Output embeddings that TRL's loss cannot read are refused before training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from finetune.errors import Incompatible
from finetune_trl.patched import refuse_wrapped_head


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
def test_trained_tokens_of_tied_embeddings_are_refused(llama_base: Callable[..., Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(llama_base("llama"))
    model.config.tie_word_embeddings = True
    model.tie_weights()
    refuse_wrapped_head(model)
    config = LoraConfig(r=2, target_modules=["q_proj"], trainable_token_indices=[5, 6])
    with pytest.raises(Incompatible, match="Leave out trainable_token_indices, or use a model whose"):
        refuse_wrapped_head(get_peft_model(model, config))
