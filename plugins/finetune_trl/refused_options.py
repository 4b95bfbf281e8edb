"""Options of TRL's trainers that would be ignored, or act in a way that no report shows; and required options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finetune.errors import BadOptions
from finetune.interfaces import Job, Preprocessor, Task
from finetune.kit import check_choice, require_key, resolve


def _ignored(instead: str) -> str:
    """Return the reason for an option that makes features, and what to set instead."""
    return f"would be ignored: the preprocessor has made the features. Set {instead} instead."


_FIXED = "would be ignored: the preprocessor has made the features. Leave it out."
_MODEL = {
    "model_init_kwargs": "would be ignored: the model is loaded before. Set model.options instead.",
    "trust_remote_code": "would be ignored: code that comes with a model is never run. Leave it out.",
}
_REFERENCE = {
    "sync_ref_model": "would move the reference, and no checkpoint holds it: a resumed run would end with other "
    "weights. Leave it out: the reference is the pretrained model throughout.",
}
_FEATURES = {
    **_MODEL,
    "max_length": "would cut or drop rows without a count. Set preprocessor.max_length instead.",
    "dataset_num_proc": _FIXED,
    "pad_to_multiple_of": _FIXED,
}
_PRECOMPUTED = (
    "would be ignored: the reference is computed at every step, and its log-probabilities are not kept. Leave it out."
)

SFT: Mapping[str, str] = {
    **_FEATURES,
    "max_length": _ignored("preprocessor.max_length"),
    "chat_template_path": _ignored("preprocessor.chat_template"),
    "packing": _ignored("preprocessor.packing"),
    "eval_packing": _ignored("preprocessor.packing"),
    "completion_only_loss": _ignored("preprocessor.loss_on"),
    "assistant_only_loss": _ignored("preprocessor.loss_on"),
    "dataset_text_field": _ignored("dataset.columns"),
    "eos_token": _ignored("model.tokenizer"),
    "pad_token": _ignored("model.tokenizer"),
    "dataset_kwargs": _FIXED,
    "truncation_mode": _FIXED,
    "shuffle_dataset": _FIXED,
    "packing_strategy": _FIXED,
    "padding_free": _FIXED,
}
KTO: Mapping[str, str] = {
    **_FEATURES,
    **_REFERENCE,
    "precompute_ref_log_probs": _PRECOMPUTED,
    "precompute_ref_batch_size": _PRECOMPUTED,
}
DPO: Mapping[str, str] = {
    **KTO,
    "pad_token": _ignored("model.tokenizer"),
    "truncation_mode": _FIXED,
    "padding_free": _FIXED,
}
REWARD: Mapping[str, str] = {
    **_FEATURES,
    "pad_token": _ignored("model.tokenizer"),
    "eos_token": _ignored("model.tokenizer"),
    "chat_template_path": _ignored("preprocessor.chat_template"),
}
RL: Mapping[str, str] = {
    **_MODEL,
    **_REFERENCE,
    "chat_template_kwargs": _ignored("preprocessor.chat_template"),
    "fsdp": "is not tested with answers that are generated while the run trains. Leave it out.",
    "num_generations_eval": "would be ignored: scoring answers each prompt once. Leave it out.",
}
"""Option → the reason why it is refused, which follows its name in the message."""

GRPO: Mapping[str, str] = {
    **RL,
    "log_completions_hub_repo": "would upload answers while the run trains, and a run is never pushed while it trains. "
    "Leave it out.",
}
"""The same, with what `GRPOConfig` has alone."""


_DPO_LOSSES = (
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm",
)  # fmt: skip
CHOICES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "SFTConfig": {"loss_type": ("nll", "dft")},
    "DPOConfig": {
        "loss_type": _DPO_LOSSES,
        "f_divergence_type": ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence"),
    },
    "KTOConfig": {"loss_type": ("kto", "apo_zero_unpaired")},
    "RewardConfig": {},
    "RLOOConfig": {},
    "GRPOConfig": {
        "loss_type": ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"),
        "importance_sampling_level": ("token", "sequence"),
        "multi_objective_aggregation": ("sum_then_normalize", "normalize_then_sum"),
        "scale_rewards": ("group", "batch", "none"),
    },
}
"""Class of TRL's options → option → the values that it can have. TRL 1.16 looks at them while it trains."""
REFUSED: Mapping[str, Mapping[str, str]] = {
    "SFTConfig": SFT,
    "DPOConfig": DPO,
    "KTOConfig": KTO,
    "RewardConfig": REWARD,
    "RLOOConfig": RL,
    "GRPOConfig": GRPO,
}


def check_training(task: Task, training: Mapping[str, Any]) -> None:
    """Refuse training options before data is read: those that would be ignored, and unknown values.

    Raises:
        BadOptions: See `refuse_options`; or an option cannot have its value.
    """
    config = resolve(task.arguments)
    for name, choices in CHOICES[config.__name__].items():
        check_choice(f"training: {name!r}", training.get(name), choices)
    refuse(task, training, config, REFUSED[config.__name__])


def refuse_options(job: Job, config: Any, reasons: Mapping[str, str]) -> None:
    """Refuse training options that are set to another value than their default.

    Args:
        job: The job whose options are checked.
        config: TRL's class of options, with its defaults.
        reasons: Which options are refused, and why.

    Raises:
        BadOptions: One is set.
    """
    refuse(job.task, job.arguments, config, reasons)


def refuse(task: Task, training: Mapping[str, Any], config: Any, reasons: Mapping[str, str]) -> None:
    """Do the same as `refuse_options` for a task and its training options, without a job."""
    ours = task.training
    for name, reason in reasons.items():
        if name not in training:
            continue
        value = training[name]
        # TRL's default of max_length is not ours: a recipe that names it expects it to act.
        default = None if name == "max_length" else ours.get(name, getattr(config, name, None))
        is_unset = value is None and name not in ours
        if value != default and not is_unset:
            raise BadOptions(f"training: {name!r} {reason}")
    if training.get("gradient_checkpointing"):
        raise BadOptions("training: use the new name of 'gradient_checkpointing', which is 'activation_checkpointing'.")


def required_option(preprocessor: Preprocessor, name: str, *, example: Any) -> Any:
    """Return a trainer option of a preprocessor without which the trainer cannot work.

    Args:
        preprocessor: Gives its `trainer_options`.
        name: The option.
        example: A value, for the message.

    Raises:
        BadOptions: The preprocessor does not give it.
    """
    remedy = f"The trainer of this task needs it. Return {{{name!r}: {example!r}}} there."
    return require_key(preprocessor.trainer_options(), name, preprocessor, method="trainer_options()", remedy=remedy)
