"""Low-rank updates beside weights that are stored in 4 or 8 bits."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

import bitsandbytes
import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from peft import LoraConfig
from transformers import BitsAndBytesConfig

from finetune.errors import Incompatible
from finetune.interfaces import Task
from finetune_peft.lora import LoraStrategy
from finetune_peft.strategy import PeftStrategy

HEADS = (
    "classifier", "pre_classifier", "score", "qa_outputs", "lm_head", "cls", "embed_out", "classification_head",
    "vocab_transform", "vocab_projector", "generator_predictions", "generator_lm_head", "lm_predictions", "predictions",
    "logits_proj", ".*pooler.*",
)  # fmt: skip
"""What heads are called: they train whole, or are read out whole, and stay as they are."""


@dataclass(frozen=True, kw_only=True)
class QLoraStrategy(PeftStrategy):
    """Trains as `lora` does, beside a base model whose linear layers are stored in 4 bits (or 8).

    A quarter (an eighth) of the memory for the weights, at some cost in precision and speed. What is saved is the
    adapter alone; the base is quantised anew, to the same bits, wherever it is loaded.

    Source: Dettmers et al. 2023, "QLoRA: Efficient Finetuning of Quantized LLMs".
    """

    method: ClassVar[type[LoraConfig]] = LoraConfig

    bits: Literal[4, 8] = 4
    """Of each stored weight: 4 as NF4, whose values are quantiles of a normal distribution, or 8 as LLM.int8()."""
    double_quant: bool = True
    """Quantise the scales of the 4-bit blocks too: 0.4 bits a weight less."""
    compute_dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """What 4-bit weights are unpacked to for a multiplication; bfloat16 is faster on a GPU that has it."""
    skip_modules: tuple[str, ...] = ()
    """Modules to keep in full precision, beside heads and poolers: ends of their names, or regular expressions."""
    r: int = 8
    """Rank of the update."""
    lora_alpha: float = 16
    """Scale of the update: it is multiplied by `lora_alpha / r`."""
    lora_dropout: float = 0.0
    """Dropout before the update."""
    target_modules: str | tuple[str, ...] | None = "all-linear"
    """Modules to update, as in `lora`: every linear layer, as in the paper."""
    use_dora: bool = False
    """DoRA, as in `lora`."""
    use_rslora: bool = False
    """rsLoRA, as in `lora`."""
    modules_to_save: tuple[str, ...] = ()
    """Modules to train whole, beside the head and whatever the base model lacks."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of `peft.LoraConfig`, verbatim."""

    def load_options(self) -> dict[str, Any]:
        """Return how the base model is to be quantised, and have bitsandbytes leave its weights in their place.

        On CPUs with AVX512-BF16, bitsandbytes 0.50 packs 4-bit weights anew when they are first used without gradients:
        from then on gradients are wrong, and so are saved weights. A layer asks once, when it is made, whether it may.
        """
        bitsandbytes.nn.modules.has_avx512bf16 = lambda: False
        skip = {"llm_int8_skip_modules": [*HEADS, *self.skip_modules]}
        if self.bits == 8:
            return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True, **skip)}
        return {
            "quantization_config": BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=self.double_quant,
                bnb_4bit_compute_dtype=getattr(torch, self.compute_dtype),
                **skip,
            )
        }

    def options(self, model: Any, task: Task, *, whole: Collection[str]) -> dict[str, Any]:
        """Return fields of `peft.LoraConfig`.

        Raises:
            Incompatible: The model was not loaded as `load_options` asks, or something newly initialized is quantised.
        """
        quantised = [name for name, module in model.named_modules() if isinstance(module, Linear4bit | Linear8bitLt)]
        if not quantised:
            raise Incompatible(
                f"strategy: no layer of {type(model).__name__} is quantised, so this would be `lora` under another "
                "name. Load the model with the strategy's load_options(); or use `lora`."
            )
        for name in sorted(whole):
            if any(f"{layer}.".startswith(f"{name}.") for layer in quantised):
                raise Incompatible(
                    f"strategy: {name!r} is missing from the base model and must train whole, which no quantised layer "
                    f"can. Set strategy.skip_modules: [{name!r}]."
                )
        mine = {f.name: getattr(self, f.name) for f in fields(LoraStrategy) if f.name != "config"}
        return LoraStrategy(**mine, config=self.config).options(model, task, whole=whole)

    def wrapped(self, model: Any) -> Any:
        """Return the wrapped model, which keeps to itself that its base is quantised.

        TRL 1.16 would cast what trains to bfloat16, whatever the recipe says; what is saved would then be another
        model than what is loaded.
        """
        model.is_loaded_in_4bit = model.is_loaded_in_8bit = False
        return model
