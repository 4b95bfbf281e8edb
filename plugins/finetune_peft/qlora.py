"""Low-rank updates of weights that are stored in 4 or 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from peft import LoraConfig
from transformers import BitsAndBytesConfig

from finetune.errors import Incompatible
from finetune.interfaces import Base, Suggestion, Task
from finetune.kit import gpu_has_bf16, replaced, require_upstream
from finetune_peft.lora import LoraStrategy
from finetune_peft.loraplus import LoraPlus
from finetune_peft.rates import MEASURED, SMALL, ten_times

HEADS = (
    "classifier", "pre_classifier", "score", "qa_outputs", "lm_head", "cls", "embed_out", "classification_head",
    "vocab_transform", "vocab_projector", "generator_predictions", "generator_lm_head", "lm_predictions", "predictions",
    "logits_proj", ".*pooler.*",
)  # fmt: skip
"""Names of heads and poolers: they train whole, or their weights are read as they are, so they are not quantized."""


@dataclass(frozen=True, kw_only=True)
class QLoraStrategy(LoraPlus):
    """Trains as `lora` does, on a base model whose linear layers are stored in 4 or 8 bits.

    The weights take an eighth (4 bits) or a quarter (8 bits) of the memory, at some cost in precision and speed. Only
    the adapter is saved. The base model is quantized again, to the same bits, each time it is loaded.

    Source: Dettmers et al. 2023, "QLoRA: Efficient Finetuning of Quantized LLMs".
    """

    memory_rank: ClassVar[int] = 2
    method: ClassVar[type[LoraConfig]] = LoraConfig

    bits: Literal[4, 8] = 4
    """Bits of each stored weight: 4 for NF4, whose values are quantiles of a normal distribution, 8 for LLM.int8()."""
    double_quant: bool = True
    """Quantize the scales of the 4-bit blocks too, which saves 0.4 bits for each weight."""
    compute_dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type to which 4-bit weights are unpacked for a multiplication. `auto` is bfloat16 on a GPU that has it, and else
    float32."""
    skip_modules: tuple[str, ...] = ()
    """Further modules, after heads and poolers, to keep in full precision: ends of names, or regular expressions."""
    r: int = 8
    """Rank of the update."""
    lora_alpha: float = 16
    """Scale of the update: it is multiplied by `lora_alpha / r`."""
    lora_dropout: float = 0.0
    """Dropout probability before the update."""
    target_modules: str | tuple[str, ...] | None = "all-linear"
    """Modules to update, as in `lora`: every linear layer, as in the paper."""
    use_dora: bool = False
    """DoRA, as in `lora`."""
    use_rslora: bool = False
    """rsLoRA, as in `lora`."""
    loraplus_lr_ratio: float | None = None
    """LoRA+, as in `lora`."""
    modules_to_save: tuple[str, ...] = ()
    """Modules to train whole, in addition to the head and to all that the base model lacks."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of `peft.LoraConfig`, verbatim."""

    def suggest(self, task: Task, base: Base) -> Suggestion:
        """Return the learning rate of `lora`; a third of it for small models, which the whole one throws off course."""
        suggested = ten_times(base)
        if base.parameters >= SMALL:
            return suggested
        rate = float(f"{suggested.training['learning_rate'] / 3:.2g}")
        return Suggestion(training={"learning_rate": rate}, source=f"a third of that of lora: {MEASURED}")

    def search_space(self) -> Mapping[str, Any]:
        """Return the ranks that `lora` searches."""
        return LoraStrategy().search_space()

    @classmethod
    def for_adapter(cls, settings: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return None: `lora` loads adapters from elsewhere, whose settings do not say how the base was quantized."""
        return None

    @property
    def _computes_in(self) -> str:
        """Return the type of `compute_dtype` on this machine."""
        if self.compute_dtype != "auto":
            return self.compute_dtype
        return "bfloat16" if gpu_has_bf16() else "float32"

    def load_options(self) -> dict[str, Any]:
        """Return how `from_pretrained` quantizes the base model."""
        options: dict[str, Any] = {"llm_int8_skip_modules": [*HEADS, *self.skip_modules]}
        if self.bits == 8:
            options["load_in_8bit"] = True
        else:
            options |= {
                "load_in_4bit": True,
                "bnb_4bit_quant_type": "nf4",
                "bnb_4bit_use_double_quant": self.double_quant,
                "bnb_4bit_compute_dtype": getattr(torch, self._computes_in),
            }
        make: Callable[..., BitsAndBytesConfig] = BitsAndBytesConfig  # upstream leaves its constructor without types
        return {"quantization_config": make(**options)}

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Keep bitsandbytes from packing 4-bit weights later: a layer asks once, when it is made, whether it may.

        On CPUs with AVX512-BF16, bitsandbytes 0.50 packs the 4-bit weights of a layer when the layer first runs in
        evaluation mode without gradients. After that, gradients are wrong, and so are saved weights. The answer that a
        layer gets here holds as long as the layer exists, in training, in evaluation and when the model is saved.

        Raises:
            UpstreamChanged: bitsandbytes no longer asks in this way.
        """
        with replaced("bitsandbytes.nn.modules", "has_avx512bf16", lambda: False):
            yield

    def load(self, directory: Path, *, model_class: Any, base: str, options: Mapping[str, Any]) -> Any:
        """Load the base model quantized, and the adapter onto it."""
        with self.loading():
            return super().load(directory, model_class=model_class, base=base, options=options)

    def peft_options(self, model: Any, task: Task, *, whole: Collection[str]) -> dict[str, Any]:
        """Return fields of `peft.LoraConfig`.

        Raises:
            Incompatible: The model was not loaded with `load_options`, or a module that must train whole is quantized.
        """
        quantized = [name for name, module in model.named_modules() if isinstance(module, Linear4bit | Linear8bitLt)]
        if not quantized:
            raise Incompatible(
                f"strategy: no layer of {type(model).__name__} is quantized, so this would be `lora` under another "
                "name. Load the model with the strategy's load_options(); or use `lora`."
            )
        for name in sorted(whole):
            if any(f"{layer}.".startswith(f"{name}.") for layer in quantized):
                raise Incompatible(
                    f"strategy: the base model lacks {name!r}, so it must train whole, which a quantized layer cannot. "
                    f"Set strategy.skip_modules: [{name!r}]."
                )
        same_as_lora = {f.name: getattr(self, f.name) for f in fields(LoraStrategy) if f.name != "config"}
        lora = LoraStrategy(**same_as_lora, config=self.config)
        return lora.peft_options(model, task, whole=whole)

    def patch(self, model: Any) -> Any:
        """Return the wrapped model, with its weights kept in place and without its marks of quantization.

        - For a model that was loaded outside `loading`, packing of the weights is switched off here.
        - TRL 1.16 would cast what trains to bfloat16 if it saw the marks, whatever the recipe says. The saved model
          would then differ from the loaded one.

        Raises:
            UpstreamChanged: A layer no longer knows whether it may pack its weights.
        """
        for module in model.modules():
            if isinstance(module, Linear4bit):
                require_upstream("bitsandbytes.nn.Linear4bit", "support_avx512bf16_for_cpu", of=module)
                module.support_avx512bf16_for_cpu = False
        model.is_loaded_in_4bit = model.is_loaded_in_8bit = False
        return model
