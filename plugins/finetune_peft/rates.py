"""Learning rates of PEFT's methods: a multiple of that of full fine-tuning, or one by the size of the model."""

from __future__ import annotations

from finetune.interfaces import Base, Suggestion

SMALL = 50_000_000
"""Parameters below which a rate that was measured on MiniLM is used."""
HIGHEST = 5e-3
"""The highest rate of a low-rank update that was measured."""
MEASURED = "measured on MiniLM, see the page “Which strategy”"


def ten_times(base: Base) -> Suggestion:
    """Return ten times the learning rate of full fine-tuning, at most `HIGHEST`, for low-rank updates.

    Hu et al. 2021, appendix D, have 4e-4 to 5e-4 for RoBERTa-base, and Dettmers et al. 2023 have 2e-4 for models of 7
    billion parameters, which are ten times the usual rates of full fine-tuning.
    """
    source = f"ten times that of full fine-tuning (Schulman et al. 2025, “LoRA Without Regret”), which is {full(base)}"
    if 10 * base.learning_rate > HIGHEST:
        source = f"at most {HIGHEST:g}, the highest rate that was measured; otherwise {source}"
    return Suggestion(training={"learning_rate": min(10 * base.learning_rate, HIGHEST)}, source=source)


def full(base: Base) -> str:
    """Return the rate of full fine-tuning, with its source."""
    return f"{base.learning_rate:g}: {base.source}"


def by_size(base: Base, *, measured: float, published: float, source: str) -> Suggestion:
    """Return a rate that does not depend on that of full fine-tuning.

    Args:
        base: The base model.
        measured: The rate for models like MiniLM.
        published: The rate for larger models.
        source: Where the published rate comes from.
    """
    if base.parameters < SMALL:
        return Suggestion(training={"learning_rate": measured}, source=MEASURED)
    return Suggestion(training={"learning_rate": published}, source=source)
