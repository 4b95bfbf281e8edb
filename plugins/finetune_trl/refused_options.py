"""Options of TRL's trainers that would act, or not act, in silence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune.errors import BadOptions
from finetune.interfaces import Job


def ignored(ours: str) -> str:
    """Say of an option for making features what decides instead."""
    return f"would be ignored: the features are made. What decides is {ours}."


_ALWAYS = {
    "model_init_kwargs": "would be ignored: the model is loaded. What decides is model.options.",
    "trust_remote_code": "would be ignored: no code of a model is ever run.",
}
_MOVING = {
    "sync_ref_model": "would move the reference, which no checkpoint holds: a resumed run would end with other "
    "weights. Leave it out: the reference is the pretrained model throughout.",
}
_MADE = {
    **_ALWAYS,
    "max_length": "would cut or drop rows without a count. Set preprocessor.max_length instead.",
    "dataset_num_proc": ignored("the preprocessor"),
    "pad_to_multiple_of": ignored("the preprocessor"),
}
_TOLD_EARLIER = (
    "would be ignored: the reference is asked at every step, and no log-probabilities are kept. Leave it out."
)

KTO: Mapping[str, str] = {
    **_MADE,
    **_MOVING,
    "precompute_ref_log_probs": _TOLD_EARLIER,
    "precompute_ref_batch_size": _TOLD_EARLIER,
}
DPO: Mapping[str, str] = {
    **KTO,
    "pad_token": ignored("model.tokenizer"),
    "truncation_mode": ignored("the preprocessor"),
    "padding_free": ignored("the preprocessor"),
}
REWARD: Mapping[str, str] = {
    **_MADE,
    "pad_token": ignored("model.tokenizer"),
    "eos_token": ignored("model.tokenizer"),
    "chat_template_path": ignored("preprocessor.chat_template"),
}
RL: Mapping[str, str] = {
    **_ALWAYS,
    **_MOVING,
    "chat_template_kwargs": ignored("preprocessor.chat_template"),
    "num_generations_eval": "would be ignored: while scoring, each prompt is answered once. Leave it out.",
}
"""Option → why it is refused, after its name; `sft_refusals.PREPARING` is the table of supervised fine-tuning."""


def refuse_options(job: Job, config: Any, reasons: Mapping[str, str]) -> None:
    """Refuse training options that are set to something else than what they are anyway.

    Args:
        job: Whose options.
        config: TRL's class of them, with their defaults.
        reasons: Which are refused, and why.

    Raises:
        BadOptions: One is set.
    """
    for name, reason in reasons.items():
        if name not in job.arguments:
            continue
        # TRL's max_length has a default that is not ours: to name it would be to expect it to act.
        usual = None if name == "max_length" else job.task.training.get(name, getattr(config, name, None))
        value = job.arguments[name]
        if value != usual and not (value is None and name not in job.task.training):
            raise BadOptions(f"training: {name!r} {reason}")
    if job.arguments.get("gradient_checkpointing"):
        raise BadOptions("training: call 'gradient_checkpointing' by its new name, 'activation_checkpointing'.")
