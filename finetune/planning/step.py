"""The training step of a recipe without weights: its model on the `meta` device, its trainer, its longest batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import transformers
from accelerate.utils import convert_to_fp32

from finetune import kept_layers, models
from finetune import run as runs
from finetune.data import storage
from finetune.data.preparation import Prepared
from finetune.errors import FinetuneError, Incompatible
from finetune.interfaces import Strategy
from finetune.models import Loaded
from finetune.planning import batches
from finetune.planning.activations import GpuKernels, QuantizedProduct, StepMemory, count_step
from finetune.planning.memory import Tensor, eight_bit, four_bit, tensors_of
from finetune.plugins import resolve
from finetune.progress import Reporter
from finetune.training import trainer as training
from finetune.training import upstream
from finetune.user_code import first_line

FOUR_BIT, EIGHT_BIT = "Params4bit", "Int8Params"
"""Classes of quantized weights of bitsandbytes, which the core does not import."""


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The weights of a model in bytes."""

    trained: tuple[Tensor, ...]
    """The parameters that train."""
    frozen: tuple[Tensor, ...]
    """Those that do not, as far as they are not quantized."""
    quantized: int
    """Bytes of the quantized weights."""
    buffers: int
    """Bytes of the other tensors of the model."""
    numbers: int
    """How many parameters the model has."""
    layer: int
    """Numbers of the largest layer, of which the model has several."""
    rest: int
    """Numbers outside the layers, such as embeddings."""
    others: int = 0
    """Bytes of another model that the trainer loads, such as a reference model."""

    @property
    def weights(self) -> int:
        """Return the bytes of all weights and buffers."""
        return sum(tensor.bytes for tensor in (*self.trained, *self.frozen)) + self.quantized + self.buffers


class StepModel:
    """A recipe's model and trainer on the `meta` device."""

    def __init__(
        self, prepared: Prepared, *, strategy: Strategy | None = None, arguments: Mapping[str, Any] = {}
    ) -> None:
        """Build both.

        Args:
            prepared: The data, and the recipe.
            strategy: Another strategy than that of the recipe.
            arguments: Training options that replace those of the recipe.

        Raises:
            Incompatible: The model or its trainer needs the numbers of the weights.
        """
        plan = prepared.plan
        if plan.recipe.teacher is not None:
            raise Incompatible(
                "teacher: the memory of a run with a teacher is not computed. Plan without --gpu, which loads both "
                "models and measures."
            )
        if strategy is not None:
            plan = replace(plan, strategy=strategy)
        training_options = {**plan.recipe.training, **arguments}
        for name in ("fsdp", "fsdp_config"):  # this process has all weights; `needs_of` divides their sizes
            training_options.pop(name, None)
        recipe = replace(plan.recipe, training=training_options, output=str(storage.folder()))
        self.prepared = replace(prepared, plan=replace(plan, recipe=recipe))
        with models.suppress_output(), _explained(plan.model.path):
            self._build()

    def _build(self) -> None:
        plan = self.prepared.plan
        with torch.device("meta"):
            base = base_model(self.prepared)
            self.new = newly_initialized(base)
            job = runs.make_job(self.prepared, Loaded(model=base, newly_initialized=self.new), Reporter())
        others: list[Any] = []

        def reference() -> Any:
            with torch.device("meta"):
                others.append(base_model(self.prepared))
            return others[-1]

        arguments = {**job.arguments, "gradient_accumulation_steps": 1}
        if arguments.get("fp16"):
            arguments |= {"fp16": False, "bf16": True}  # of the same size, and a CPU can build it
        self.job = replace(job, base=reference, arguments=arguments, callbacks=[])
        self.model = self.job.model
        sizes = sizes_of(self.model)
        _multiply_quantized(self.model)
        with _staying(self.model), GpuKernels():
            self.trainer = resolve(plan.task.trainer)(self.job)
        self.sizes = replace(sizes, others=sum(sizes_of(model).weights for model in others))
        self.arguments = self.trainer.args
        self.accumulated = job.arguments.get("gradient_accumulation_steps", 1)
        self._kernels = GpuKernels(self.autocast)
        if self.arguments.activation_checkpointing:
            options = dict(self.arguments.activation_checkpointing_kwargs or {})
            every = options.get("every_n_layers", 1)
            again = {"use_reentrant": False, "preserve_rng_state": False, "context_fn": self._recomputing}
            self.model.activation_checkpointing_enable(again, every_n_layers=every)
        self.model.train()

    @property
    def longest(self) -> int:
        """Return the tokens of the longest training row."""
        return int(batches.row_lengths(self.job)[0].max())

    @property
    def saved_bytes(self) -> int:
        """Return the bytes of what a checkpoint saves of the model."""
        return runs.room(self.model, self.job.arguments)["model"]

    @property
    def generates_while_training(self) -> bool:
        """Return whether the trainer lets the model write texts, from which it learns."""
        return hasattr(self.arguments, "num_generations")

    @property
    def autocast(self) -> torch.dtype | None:
        """Return the type in which the recipe's autocast computes; None without it."""
        return torch.bfloat16 if self.arguments.bf16 or self.arguments.fp16 else None

    def step(self, *, rows: int, keeps_gradients: bool = True, kernels: GpuKernels | None = None) -> StepMemory:
        """Count the memory of a step with the longest rows of the data.

        Args:
            rows: How many rows the batch has.
            keeps_gradients: False for FSDP, which shares out the gradients, and gathers the weights in 16 bits.
            kernels: What is imitated; None for a GPU with the recipe's autocast.
        """
        self._kernels = kernels or GpuKernels(self.autocast)
        if not keeps_gradients:
            self._kernels.copy_weights(self.model)
        batch = self.batch(rows)
        with models.suppress_output(), _explained(self.prepared.plan.model.path):
            return count_step(
                self.model,
                lambda model: self._loss(model, dict(batch)),
                kernels=self._kernels,
                keeps_gradients=keeps_gradients,
            )

    def _recomputing(self) -> tuple[Any, Any]:
        return self._kernels.recomputing()

    def _loss(self, model: Any, batch: dict[str, Any]) -> Any:
        loss, outputs = self.trainer.compute_loss(model, batch, return_outputs=True)
        if self.autocast is not None:
            convert_to_fp32(outputs)  # accelerate does so with the outputs of a model that it has prepared
        return loss

    def batch(self, rows: int) -> Mapping[str, Any]:
        """Return a batch of the longest rows, on the `meta` device."""
        inputs, targets = batches.row_lengths(self.job)
        longest = np.argsort(-(inputs + targets), kind="stable")[:rows]
        features = training.model_columns(self.job.train, self.job)
        chosen = [features[int(row)] for row in longest]
        chosen += [chosen[0]] * (rows - len(chosen))
        collated = self.trainer.data_collator(chosen)
        return {
            name: value.to("meta") if isinstance(value, torch.Tensor) else value for name, value in collated.items()
        }


@contextmanager
def _explained(path: str) -> Iterator[None]:
    """Turn what a library says about tensors without numbers into one sentence.

    Raises:
        Incompatible: The model, the strategy or the trainer needs the numbers of the weights.
    """
    try:
        yield
    except FinetuneError:
        raise
    except Exception as error:  # any library can fail in any way on tensors without numbers
        raise Incompatible(
            f"the memory for {path!r} cannot be computed without its weights: {first_line(error)}. Plan without --gpu, "
            "which loads the model and measures."
        ) from error


@contextmanager
def _staying(model: Any) -> Iterator[None]:
    """Keep a trainer from moving a model to its device, as it does for a model that is spread over several."""
    model.hf_device_map = {"": "meta", "other": "cpu"}
    try:
        yield
    finally:
        del model.hf_device_map


def base_model(prepared: Prepared) -> Any:
    """Return the base model as `finetune.models.load` returns it, on the current device and without its weights."""
    plan = prepared.plan
    given = {**plan.preprocessor.model_options(), **plan.strategy.load_options()}
    options = models.from_pretrained_options(plan.model, given)
    for name in ("use_safetensors", "ignore_mismatched_sizes", "trust_remote_code", "device_map"):
        options.pop(name, None)
    quantization, dtype = options.pop("quantization_config", None), options.pop("dtype", "float32")
    attention = options.pop("attn_implementation", None)
    config, _ = transformers.AutoConfig.from_pretrained(
        models.locate(plan.model), return_unused_kwargs=True, trust_remote_code=False, **options
    )
    dtype = config.dtype if dtype == "auto" else dtype
    chosen = {"dtype": getattr(torch, dtype) if isinstance(dtype, str) else dtype}
    if attention is not None:
        chosen["attn_implementation"] = attention
    model_class = getattr(transformers, plan.task.model_class)
    model = model_class.from_config(config, **chosen)
    if quantization is not None:
        quantizer = upstream.require("transformers.quantizers.AutoHfQuantizer", "from_config")(quantization)
        with plan.strategy.loading():
            quantizer.preprocess_model(model, device_map=None)
        model.hf_quantizer = quantizer
        model.is_loaded_in_4bit = bool(getattr(quantization, "load_in_4bit", False))
    if plan.model.layers is not None:
        model = kept_layers.keep(model, plan.model.layers, model_class=model_class).model
    models.set_pad_token(model, prepared.tokenizer)
    return model


def newly_initialized(model: Any) -> frozenset[str]:
    """Return the modules that a base model most likely lacks: those outside its body.

    Its weights would say which, and a plan does not read them. A model that was saved as this class lacks nothing.
    """
    if type(model).__name__ in (model.config.architectures or ()):
        return frozenset()
    body = f"{model.base_model_prefix}."
    names = [name.rpartition(".")[0] for name, _ in model.named_parameters() if not name.startswith(body)]
    return frozenset(names) if any(name.startswith(body) for name, _ in model.named_parameters()) else frozenset()


def sizes_of(model: Any, *, others: int = 0) -> Sizes:
    """Return the sizes of the weights of a model that a strategy has prepared."""
    trained: list[Any] = []
    frozen: list[Any] = []
    quantized = 0
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            kind = type(parameter).__name__
            if kind == FOUR_BIT:
                quantized += four_bit(parameter.numel(), double_quant=parameter.compress_statistics)
            elif kind == EIGHT_BIT:
                quantized += eight_bit(tuple(parameter.shape))
    for parameter in model.parameters():
        if type(parameter).__name__ not in (FOUR_BIT, EIGHT_BIT):
            (trained if parameter.requires_grad else frozen).append(parameter)
    layer, inside = _layers(model)
    numbers = sum(parameter.numel() for parameter in model.parameters())
    return Sizes(
        trained=tuple(tensors_of(trained)),
        frozen=tuple(tensors_of(frozen)),
        quantized=quantized,
        buffers=sum(buffer.nbytes for buffer in model.buffers()),
        numbers=numbers,
        layer=layer,
        rest=numbers - inside,
        others=others,
    )


def _layers(model: Any) -> tuple[int, int]:
    """Return the numbers of the largest layer, and of all layers together.

    FSDP wraps the classes of `_no_split_modules`, as transformers' trainer does by default.
    """
    names = set(getattr(models.base_model_of(model), "_no_split_modules", None) or ())
    found = [
        sum(parameter.numel() for parameter in module.parameters())
        for module in model.modules()
        if type(module).__name__ in names
    ]
    return max(found, default=0), sum(found)


def _multiply_quantized(model: Any) -> None:
    """Let quantized layers multiply by a weight without numbers."""

    def forward(shape: tuple[int, int], bias: Any, dtype: Any) -> Callable[[Any], Any]:
        def multiply(inputs: Any) -> Any:
            apply: Callable[..., Any] = QuantizedProduct.apply  # upstream leaves it without types
            product = apply(inputs.to(dtype), shape)
            return (product if bias is None else product + bias.to(dtype)).to(inputs.dtype)

        return multiply

    for module in model.modules():
        weight = module._parameters.get("weight")
        if type(weight).__name__ in (FOUR_BIT, EIGHT_BIT):
            dtype = getattr(module, "compute_dtype", None) or torch.float16
            module.forward = forward((module.out_features, module.in_features), module.bias, dtype)
