"""How many bytes weights, gradients and the state of the optimizer take, in one process or shared by several."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from finetune.errors import BadOptions
from finetune.run import NUMBERS_KEPT

BLOCK_4BIT = 64
"""Weights that share a scale in 4 bits. Source: Dettmers et al. 2023, "QLoRA", section 3: block size 64 for weights."""
BLOCK_SCALES = 256
"""Scales that share a scale with double quantization. Source: as above, block size 256 for the scales."""
TABLES = {False: 16 * 4, True: 16 * 4 + 256 * 4 + 4}
"""Bytes of each quantized layer for the 16 values of NF4, and with double quantization for the 256 values of 8-bit
scales and their mean too. Source: `bitsandbytes.functional.QuantState`."""
BLOCK_8BIT = 256
"""Numbers of the state of an 8-bit optimizer that share a scale, and its smallest tensor of 8 bits is `SMALLEST_8BIT`.

Source: Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization"; `bitsandbytes.optim`."""
SMALLEST_8BIT = 4096


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A parameter: its shape, and the bytes of each of its numbers."""

    shape: tuple[int, ...]
    itemsize: int

    @property
    def numbers(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """How many bytes it has."""
        return self.numbers * self.itemsize

    def shard(self, processes: int) -> Tensor:
        """Return the largest part of a process under FSDP2, which cuts the first dimension.

        Source: PyTorch, `torch.distributed.fsdp.fully_shard`: "sharded on dim-0", with padding.
        """
        if not self.shape:
            return self
        first, *rest = self.shape
        return Tensor(shape=(-(-first // processes), *rest), itemsize=self.itemsize)


def four_bit(numbers: int, *, double_quant: bool) -> int:
    """Return the bytes of a weight in NF4.

    Source: Dettmers et al. 2023, "QLoRA", section 3: half a byte for a weight, 4 bytes for the scale of a block; with
    double quantization, a byte for it, and 4 bytes for each 256 of them.

    >>> round(four_bit(4096 * 4096, double_quant=True) / 4096**2 * 8, 3)  # bits for each weight
    4.127
    """
    scales = -(-numbers // BLOCK_4BIT)
    tables = TABLES[double_quant]
    if double_quant:
        return -(-numbers // 2) + scales + 4 * -(-scales // BLOCK_SCALES) + tables
    return -(-numbers // 2) + 4 * scales + tables


def eight_bit(shape: tuple[int, ...]) -> int:
    """Return the bytes of a weight in LLM.int8(): a byte for a weight, and 4 for the scale of a row."""
    return math.prod(shape) + 4 * shape[0]


COUNTER = 4
"""Bytes of the number of steps, or of another single number, which optimizers keep for each tensor."""


def _blockwise(tensor: Tensor, states: int) -> int:
    if tensor.numbers < SMALLEST_8BIT:
        return states * 4 * tensor.numbers
    return states * (tensor.numbers + 4 * -(-tensor.numbers // BLOCK_8BIT))


def _adafactor(tensor: Tensor) -> int:
    """Return the bytes of the row and column means, and of the size of the weights.

    Source: Shazeer & Stern 2018, "Adafactor", algorithm 4; the state of `transformers.Adafactor` without momentum.
    """
    if len(tensor.shape) < 2:
        return 4 * tensor.numbers + COUNTER
    *leading, rows, columns = tensor.shape
    return 4 * math.prod(leading) * (rows + columns) + COUNTER


STATES: Mapping[str, Callable[[Tensor], int]] = {
    "sgd": lambda tensor: 0,
    "adafactor": _adafactor,
    "paged_adamw_32bit": lambda tensor: 2 * 4 * tensor.numbers,
    "lion_32bit": lambda tensor: 4 * tensor.numbers,
    "paged_lion_32bit": lambda tensor: 4 * tensor.numbers,
    **dict.fromkeys(("adamw_bnb_8bit", "adamw_8bit", "paged_adamw_8bit"), lambda tensor: _blockwise(tensor, 2)),
    **dict.fromkeys(("lion_8bit", "paged_lion_8bit"), lambda tensor: _blockwise(tensor, 1)),
}
"""Value of `optim` → bytes of its state for a tensor. Those of `finetune.run.NUMBERS_KEPT` keep whole copies of a
tensor, in its type, and the number of steps in 4 bytes."""
COPIES: Mapping[str, int] = {"adamw_torch": 1}
"""Value of `optim` → how many copies of the trained weights it makes during its update. The fused kernel makes none.

Source: `torch.optim.adamw._multi_tensor_adamw`, which takes the root of all second moments at once."""


def optimizer_state(trained: Iterable[Tensor], optim: str) -> int:
    """Return the bytes of the state of an optimizer.

    Args:
        trained: The tensors that train.
        optim: Value of the training option `optim`.

    Raises:
        BadOptions: The size of its state is not known.
    """
    if optim in STATES:
        return sum(STATES[optim](tensor) for tensor in trained)
    if optim not in NUMBERS_KEPT:
        known = ", ".join(sorted({*STATES, *NUMBERS_KEPT}))
        raise BadOptions(
            f"training: the memory of 'optim': {optim!r} is not known. Plan without --gpu, which measures it, or with "
            f"one of {known}."
        )
    return sum(NUMBERS_KEPT[optim] * tensor.bytes + COUNTER for tensor in trained)


def update_copies(trained: Iterable[Tensor], optim: str) -> int:
    """Return the bytes that an optimizer needs during its update only."""
    return COPIES.get(optim, 0) * sum(tensor.bytes for tensor in trained)


def tensors_of(parameters: Iterable[Any]) -> list[Tensor]:
    """Return the shapes of parameters of PyTorch."""
    return [Tensor(shape=tuple(each.shape), itemsize=each.element_size()) for each in parameters]
