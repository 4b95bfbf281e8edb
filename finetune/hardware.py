"""What this machine can do."""

from __future__ import annotations

from pathlib import Path


def bf16_is_fast() -> bool:
    """Tell whether the processor multiplies bfloat16 itself, as far as can be told."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return False
    return "bf16" in flags  # avx512_bf16, amx_bf16, and Arm's bf16
