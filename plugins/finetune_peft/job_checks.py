"""Checks of a whole job that would otherwise fail in the middle of training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from finetune.errors import Incompatible
from finetune.interfaces import Job
from finetune.kit import base_model_of, build_arguments
from finetune_peft.strategy import PeftStrategy


def check_job(job: Job) -> None:
    """Check a job whose strategy puts virtual tokens before the text; all others pass.

    Raises:
        Incompatible: With the reason and the remedy.
    """
    if not isinstance(job.strategy, PeftStrategy) or not job.model.active_peft_config.is_prompt_learning:
        return
    if job.model.active_peft_config.peft_type == "PREFIX_TUNING":
        check_activation_checkpointing(job)
    else:
        check_learned_positions(job)
    check_room_for_text(job)


def check_activation_checkpointing(job: Job) -> None:
    """Check that the gradients of a prefix are not lost.

    Raises:
        Incompatible: Activation checkpointing is on.
    """
    arguments = build_arguments(job)
    if arguments.gradient_checkpointing or arguments.activation_checkpointing:
        raise Incompatible(
            "strategy: prefix tuning keeps its keys and values in a cache, and activation checkpointing switches the "
            "cache off. Set training.activation_checkpointing: false, or use another strategy, such as `prompt`."
        )


def check_learned_positions(job: Job) -> None:
    """Check that a decoder that gets virtual tokens does not learn its positions.

    Raises:
        Incompatible: It does.
    """
    model = base_model_of(job.model)
    if job.model.active_peft_config.task_type == "CAUSAL_LM" and any(learned_positions(model)):
        raise Incompatible(
            f"strategy: {type(model).__name__} has a learned embedding for each position, and PEFT drops the positions "
            "of a batch that is padded on the left: the text generated for one prompt would depend on the other "
            "prompts. Use `prefix`, which keeps the positions, or another strategy."
        )


def check_room_for_text(job: Job) -> None:
    """Check that virtual tokens and text together fit the model's positions.

    Raises:
        Incompatible: They do not; the message says how long the text may be.
    """
    count = job.model.active_peft_config.num_virtual_tokens
    room = min(learned_positions(base_model_of(job.model)), default=None)
    longest = 0
    for features in (job.train, job.validation):
        if features is not None:
            longest = max(longest, job.preprocessor.longest(features))
    if room is not None and longest + count > room:
        shorten = f"Set preprocessor.max_length to {room - count} or less, or lower" if room > count else "Lower"
        raise Incompatible(
            f"strategy: {count} virtual tokens and features of up to {longest} tokens do not fit: the model has {room} "
            f"positions. {shorten} strategy.num_virtual_tokens."
        )


def learned_positions(model: Any) -> Iterator[int]:
    """Yield the number of positions of each learned table; models that compute positions have none."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and name.endswith(("position_embeddings", "wpe", "embed_positions")):
            # RoBERTa and its relatives count from padding_idx + 1; BART's tables are longer by an offset
            skipped = getattr(module, "offset", None) or (module.padding_idx or -1) + 1
            yield module.num_embeddings - skipped
