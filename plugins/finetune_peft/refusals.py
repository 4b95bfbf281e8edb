"""What can only be refused once the whole job is known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from finetune.errors import Incompatible
from finetune.interfaces import Job
from finetune.kit import build_arguments
from finetune_peft.strategy import PeftStrategy


def refuse(job: Job) -> None:
    """Refuse a job of one of our strategies that would fail in the middle.

    Raises:
        Incompatible: With the reason.
    """
    if not isinstance(job.strategy, PeftStrategy) or not job.model.active_peft_config.is_prompt_learning:
        return
    if job.model.active_peft_config.peft_type == "PREFIX_TUNING":
        refuse_checkpointing(job)
    else:
        refuse_lost_positions(job)
    refuse_crowding(job)


def refuse_checkpointing(job: Job) -> None:
    """Refuse a prefix whose gradients would be lost.

    Raises:
        Incompatible: Activations are recomputed.
    """
    arguments = build_arguments(job)
    if arguments.gradient_checkpointing or arguments.activation_checkpointing:
        raise Incompatible(
            "strategy: prefix tuning keeps its keys and values in a cache, and activation checkpointing lets no cache "
            "through. Set training.activation_checkpointing: false, or use another strategy: `prompt`, say."
        )


def refuse_lost_positions(job: Job) -> None:
    """Refuse virtual tokens before what a decoder writes, where it learnt its positions.

    Raises:
        Incompatible: It did.
    """
    model = job.model.get_base_model()
    if job.model.active_peft_config.task_type == "CAUSAL_LM" and any(positions(model)):
        raise Incompatible(
            f"strategy: {type(model).__name__} learnt a vector for each position, and PEFT drops the positions of a "
            "batch that is padded on the left: what is written to one prompt would depend on the others. Use `prefix`, "
            "which keeps them, or another strategy."
        )


def refuse_crowding(job: Job) -> None:
    """Refuse virtual tokens that push the text beyond the model's last position.

    Raises:
        Incompatible: With how many there may be.
    """
    count = job.model.active_peft_config.num_virtual_tokens
    room = min(positions(job.model.get_base_model()), default=None)
    splits = [features for features in (job.train, job.validation) if features is not None]
    longest = max(job.preprocessor.longest(features) for features in splits)
    if room is not None and longest + count > room:
        raise Incompatible(
            f"strategy: {count} virtual tokens before features of up to {longest} tokens, and the model has {room} "
            f"positions. Set preprocessor.max_length to {room - count} or less, or take fewer virtual tokens."
        )


def positions(model: Any) -> Iterator[int]:
    """Yield how many positions each learnt table of them holds; models that compute them have none."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and name.endswith(("position_embeddings", "wpe", "embed_positions")):
            # RoBERTa and its kin count from padding_idx + 1; BART's tables are longer by an offset
            skipped = getattr(module, "offset", None) or (module.padding_idx or -1) + 1
            yield module.num_embeddings - skipped
