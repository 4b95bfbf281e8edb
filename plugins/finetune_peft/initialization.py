"""How the low-rank updates begin: what a run can do, and what needs more than a run has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OPTION = "init_lora_weights"
REFUSED: Mapping[str, str] = {
    "eva": "it begins with the activations of training texts. PEFT 0.21 computes them in a step of its own, without "
    "which it begins with random weights and says nothing",
    "corda": "it begins with the activations of training texts, which PEFT 0.21 computes in a step of its own",
    "loftq": "it quantizes the base model itself, and the saved adapter fits no other. Use the strategy qlora",
    "lora_ga": "it begins with the gradients of training texts, which PEFT 0.21 computes in a step of its own",
}
"""Value of the option → why a run cannot begin so."""


def check_initialization(config: Mapping[str, Any]) -> None:
    """Check the way in which the low-rank updates of a recipe begin.

    Args:
        config: Fields of `peft.LoraConfig`.

    Raises:
        ValueError: A run cannot begin so.
    """
    start = config.get(OPTION)
    if not isinstance(start, str):
        return
    if start in REFUSED:
        raise ValueError(f"config: {OPTION}: {start} cannot be used here: {REFUSED[start]}. {INSTEAD}")
    if start.startswith("pissa_niter"):
        raise ValueError(
            f"config: {OPTION}: {start} cannot be used here: it draws random numbers, and the base model would be "
            "divided in another way each time the adapter is loaded. Use pissa, which is exact."
        )


INSTEAD = "Use true, gaussian, orthogonal, pissa or olora."
