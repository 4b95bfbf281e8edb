"""GPUs that a plan can be made for, and their memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from finetune.errors import UnknownName, did_you_mean

MIB = 2**20
GIB = 2**30
GB = 10**9

RESERVED = int(1.5 * GIB)
"""Bytes of a GPU that a plan leaves free: for the CUDA context, for the libraries of NVIDIA, and for the gaps between
the blocks of PyTorch's allocator. It is a margin, not a measurement."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU."""

    title: str
    """As its vendor writes it."""
    vendor: str
    """Its memory as the vendor writes it."""
    bf16: bool = True
    """Whether it computes in bfloat16."""
    memory: int
    """Bytes that programs can use: as the driver reports it; else the vendor's number in units of 10^9, which is never
    more than that."""


GPUS: Mapping[str, Gpu] = {
    "t4-16gb": Gpu(title="NVIDIA T4", vendor="16 GB", memory=15_360 * MIB, bf16=False),
    "a10-24gb": Gpu(title="NVIDIA A10", vendor="24 GB", memory=23_028 * MIB),
    "l4-24gb": Gpu(title="NVIDIA L4", vendor="24 GB", memory=23_034 * MIB),
    "rtx-3090-24gb": Gpu(title="NVIDIA GeForce RTX 3090", vendor="24 GB", memory=24 * GB),
    "rtx-4090-24gb": Gpu(title="NVIDIA GeForce RTX 4090", vendor="24 GB", memory=24 * GB),
    "rtx-5090-32gb": Gpu(title="NVIDIA GeForce RTX 5090", vendor="32 GB", memory=32 * GB),
    "v100-32gb": Gpu(title="NVIDIA V100", vendor="32 GB", memory=32 * GB, bf16=False),
    "a100-40gb": Gpu(title="NVIDIA A100 40GB", vendor="40 GB", memory=40_960 * MIB),
    "l40s-48gb": Gpu(title="NVIDIA L40S", vendor="48 GB", memory=46_068 * MIB),
    "a100-80gb": Gpu(title="NVIDIA A100 80GB", vendor="80 GB", memory=81_920 * MIB),
    "h100-80gb": Gpu(title="NVIDIA H100", vendor="80 GB", memory=81_559 * MIB),
    "h200-141gb": Gpu(title="NVIDIA H200", vendor="141 GB", memory=143_771 * MIB),
    "b200-180gb": Gpu(title="NVIDIA B200", vendor="180 GB", memory=180 * GB),
    "mi300x-192gb": Gpu(title="AMD Instinct MI300X", vendor="192 GB", memory=192 * GB),
}
"""Name → the GPU. Sources: the vendors' data sheets; for what NVIDIA's driver reports, the table in "Why does an NVIDIA
H100 80GB card offer 85.52 GB?", thundergolfer.com, 2025."""


def find(name: str) -> Gpu:
    """Return a GPU by its name.

    Raises:
        UnknownName: It is not in the table.
    """
    if name.lower() not in GPUS:
        raise UnknownName(f"--gpu: {name!r} is not known.{did_you_mean(name.lower(), GPUS)} Known: {', '.join(GPUS)}.")
    return GPUS[name.lower()]
