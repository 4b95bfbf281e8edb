"""How much memory a training step takes above the weights: a real step of the real model, on tensors without numbers.

A closed formula for activations holds for one architecture. PyTorch's `meta` device runs the forward and backward pass
of any model without memory and without weights, so that the tensors of a step can be counted instead of derived.
Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models", equation 1, is what the tests
compare the count with, next to the bytes that real steps save.

What differs on a GPU is imitated: `GpuKernels` replaces attention and dropout by kernels with the memory of those of
CUDA, and does what `torch.autocast` does, which has no effect on the `meta` device.
"""

from __future__ import annotations

import contextlib
import importlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812, as everywhere
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

LOWER: frozenset[Any] = frozenset(
    {
        F.linear, F.conv1d, F.conv2d, torch.conv1d, torch.conv2d, F.scaled_dot_product_attention,
        torch.matmul, torch.mm, torch.bmm, torch.addmm, torch.baddbmm, torch.addbmm, torch.einsum,
        torch.Tensor.matmul, torch.Tensor.__matmul__, torch.Tensor.mm, torch.Tensor.bmm, torch.Tensor.addmm,
        torch.Tensor.baddbmm,
    }
)  # fmt: skip
"""Functions that autocast computes in 16 bits.

Source: PyTorch, "Automatic Mixed Precision", CUDA ops that can autocast to float16.
"""
FLOAT32: frozenset[Any] = frozenset(
    {
        F.softmax, torch.softmax, torch.Tensor.softmax, F.log_softmax, torch.log_softmax, torch.Tensor.log_softmax,
        F.layer_norm, torch.layer_norm, F.group_norm, F.cross_entropy, F.nll_loss, F.mse_loss, F.l1_loss,
        F.smooth_l1_loss, F.binary_cross_entropy_with_logits, F.softplus, F.normalize, F.kl_div,
        torch.exp, torch.Tensor.exp, torch.log, torch.Tensor.log, torch.pow, torch.Tensor.pow, torch.Tensor.__pow__,
        torch.rsqrt, torch.Tensor.rsqrt, torch.reciprocal, torch.sum, torch.Tensor.sum, torch.norm, torch.Tensor.norm,
        torch.cumsum, torch.Tensor.cumsum, torch.prod, torch.Tensor.prod,
    }
)  # fmt: skip
"""Functions that autocast computes in 32 bits.

Source: as for `LOWER`, CUDA ops that can autocast to float32.
"""

WITHOUT_NUMBERS: Mapping[Any, Callable[..., Any]] = {
    torch.Tensor.__bool__: lambda _: False,
    torch.Tensor.__int__: lambda _: 0,
    torch.Tensor.item: lambda tensor: False if tensor.dtype is torch.bool else 0,
    torch.equal: lambda *_: True,
    torch.allclose: lambda *_: True,
}
"""What models ask for the numbers of a tensor, and the answer where there are none.

They ask whether a mask hides nothing: it hides something. They compare two outputs: these are equal.
"""


class GpuKernels(TorchFunctionMode):
    """Computes as on a GPU as far as memory is concerned: attention, dropout and autocast.

    - Attention keeps its inputs, its output and one number for each row of its scores, as the flash and the
      memory-efficient kernels do, and not the scores.
    - Dropout keeps a mask of one byte for each number.
    - Autocast computes matrix products in 16 bits, and softmax, norms and losses in 32. It keeps a 16-bit copy of each
      trained weight until the end of the forward pass; backward needs most of them until it has passed.
    """

    def __init__(self, autocast: torch.dtype | None = None, *, fused: bool = True) -> None:
        """Choose what to imitate.

        Args:
            autocast: The type of autocast; None without it.
            fused: Whether dropout, alone and in attention, is that of a GPU; False for that of a CPU.
        """
        super().__init__()
        self.autocast = autocast
        self.fused = fused
        self._copies: dict[int, torch.Tensor] = {}
        self._keeps_copies = False

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if func in WITHOUT_NUMBERS and args[0].is_meta:
            return WITHOUT_NUMBERS[func](*args)
        if self.autocast is not None:
            if func in LOWER:
                args, options = tree_map(self._lower, (args, options))
            elif func in FLOAT32:
                args, options = tree_map(_float32, (args, options))
        if func is F.scaled_dot_product_attention:
            return _attention(*args, fused=self.fused, **options)
        if func is F.dropout and self.fused:
            return _dropout(*args, **options)
        return func(*args, **options)

    def recomputing(self) -> tuple[Any, Any]:
        """Return the contexts of a layer that is computed twice, as the option `context_fn` of PyTorch wants them."""
        return contextlib.nullcontext(), self._again()

    @contextlib.contextmanager
    def _again(self) -> Iterator[None]:
        try:
            with self:
                yield
        finally:
            self.forget_copies()

    def forget_copies(self) -> None:
        """Do what autocast does at its end: keep no copies of weights."""
        if not self._keeps_copies:
            self._copies.clear()

    def copy_weights(self, model: Any) -> None:
        """Take the 16-bit copies of all weights as given, outside of what is counted: FSDP gathers them so."""
        self._keeps_copies = True
        if self.autocast is not None:
            for parameter in model.parameters():
                if parameter.dtype is torch.float32:
                    # a leaf, else backward would keep the gradients of all copies until its end
                    copy = parameter.detach().to(self.autocast)
                    self._copies[id(parameter)] = copy.requires_grad_(parameter.requires_grad)

    @property
    def copies(self) -> list[torch.Tensor]:
        """Return the copies that are taken as given."""
        return list(self._copies.values()) if self._keeps_copies else []

    def _lower(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.dtype is not torch.float32:
            return value
        if id(value) in self._copies:
            return self._copies[id(value)]
        copy = value.to(self.autocast)
        if value.is_leaf and value.requires_grad:
            self._copies[id(value)] = copy
        return copy


def _float32(value: Any) -> Any:
    is_half = isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if is_half else value


def _dropout(values: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
    return torch.native_dropout(values, p, True)[0] if training and p > 0 else values


def _attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    fused: bool,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    if dropout_p > 0 and not fused:  # on a CPU, the fused kernel has no dropout
        math: Any = torch._scaled_dot_product_attention_math
        options = {"scale": scale, "enable_gqa": enable_gqa}
        return math(query, key, value, attn_mask, dropout_p, is_causal, **options)[0]
    if attn_mask is not None and attn_mask.dtype is torch.bool:
        attn_mask = query.new_empty(attn_mask.shape)  # each call makes numbers to add of it, and keeps them
    apply: Callable[..., Any] = _Attention.apply  # upstream leaves it without types
    return apply(query, key, value, attn_mask)


class _Attention(torch.autograd.Function):
    """Attention that keeps what the fused kernels keep.

    Source: Dao et al. 2022, "FlashAttention", algorithm 2: backward reads the inputs, the output and the logarithm of
    the sum of each row.
    """

    @staticmethod
    def forward(ctx: Any, query: Any, key: Any, value: Any, mask: Any) -> Any:
        *batch, heads, length, _ = query.shape
        output = query.new_empty((*batch, length, heads, value.shape[-1])).transpose(
            -3, -2
        )  # as the kernels lay it out
        rows = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, mask, output, rows)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        query, key, value, _, _, rows = ctx.saved_tensors
        torch.empty_like(rows)  # the sums of the gradient times the output
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value), None


class QuantizedProduct(torch.autograd.Function):
    """A product with a quantized weight: forward and backward unpack the weight, and forget it again.

    Source: `bitsandbytes.autograd.MatMul4Bit`, which keeps no input, because the weight does not train.
    """

    @staticmethod
    def forward(ctx: Any, inputs: Any, shape: tuple[int, int]) -> Any:
        ctx.shape = shape
        return F.linear(inputs, inputs.new_empty(shape))

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0] @ gradients[0].new_empty(ctx.shape), None


class MemoryCount(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that are made inside a `with` block, and the most that live at one time."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = 0
        """Bytes of the tensors that live now."""
        self.peak = 0
        self.gradients = 0
        """Bytes of the gradients of weights among them."""
        self.gradients_at_peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        known = {_key(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor) and _key(leaf) not in known:
                self._add(leaf)
        return result

    def _add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = _key(tensor)
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self.bytes += self._sizes[key]
        weakref.finalize(storage, self._remove, key)
        if self.bytes > self.peak:
            self.peak, self.gradients_at_peak = self.bytes, self.gradients

    def _remove(self, key: int) -> None:
        self.bytes -= self._sizes.pop(key)


def _key(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


@dataclass(frozen=True, kw_only=True)
class StepMemory:
    """The memory of a step above the weights and the state of the optimizer, in bytes."""

    saved: int
    """What forward keeps for backward."""
    peak: int
    """The most that lives at one time, without the gradients of weights."""
    gradients_at_peak: int
    """The gradients of weights that live at that time."""


@contextlib.contextmanager
def counting_saved(model: Any, others: Iterable[torch.Tensor] = ()) -> Iterator[dict[int, int]]:
    """Count what autograd keeps for backward inside a `with` block, without the weights: storage → bytes.

    Args:
        model: It has the weights.
        others: Further tensors that do not count.
    """
    weights = {_key(tensor) for tensor in (*model.parameters(), *others)}
    found: dict[int, int] = {}
    kept = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if _key(tensor) not in weights:
            kept.append(tensor.untyped_storage())  # so that no later tensor gets its key
            found[_key(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield found


def _without_numbers() -> Any:
    """Return a context in which a mask selects every element, where PyTorch would refuse to say how many."""
    config: Any = importlib.import_module("torch.fx.experimental._config")
    return config.patch(meta_nonzero_assume_all_nonzero=True)


def count_step(
    model: Any,
    loss_of: Callable[[Any], torch.Tensor],
    *,
    kernels: GpuKernels,
    keeps_gradients: bool = True,
) -> StepMemory:
    """Run a step on the `meta` device, and count its memory.

    Args:
        model: A model on the `meta` device, in training mode.
        loss_of: Function from the model to the loss of a batch on the `meta` device.
        kernels: What is imitated.
        keeps_gradients: Whether the gradients of weights stay; FSDP keeps a share of them only.
    """
    memory = MemoryCount()

    def note(parameter: torch.Tensor) -> None:
        if keeps_gradients:
            memory.gradients += parameter.nbytes
        else:
            parameter.grad = None

    trained = [tensor for tensor in (*model.parameters(), *kernels.copies) if tensor.requires_grad]
    hooks = [parameter.register_post_accumulate_grad_hook(note) for parameter in trained]
    try:
        with memory, _without_numbers(), kernels, counting_saved(model, kernels.copies) as saved:
            loss = loss_of(model)
            kernels.forget_copies()
            kept = sum(saved.values())
            saved.clear()
            torch.autograd.backward(loss)  # without the imitation, which is for functions of Python
    finally:
        for hook in hooks:
            hook.remove()
        model.zero_grad(set_to_none=True)
    return StepMemory(
        saved=kept, peak=memory.peak - memory.gradients_at_peak, gradients_at_peak=memory.gradients_at_peak
    )
