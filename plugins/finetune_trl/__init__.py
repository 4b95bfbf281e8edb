"""Instructions, preferences and rewards, by TRL's trainers."""

from __future__ import annotations

from collections.abc import Mapping

from finetune import hookimpl
from finetune.interfaces import Task

_ON_CPU = {"bf16": False, "activation_checkpointing": False}
"""TRL turns both on everywhere; bf16 is slow on most CPUs, and a small model does not need the second."""
_ON_GPU = {"bf16": True, "activation_checkpointing": True}
"""As TRL's own defaults."""
_CHAT_MODEL = {"path": "HuggingFaceTB/SmolLM2-135M-Instruct"}
_PREFERENCE = 0.05
"""Share of the learning rate of supervised fine-tuning: TRL's defaults are 1e-6 for DPO, KTO, RLOO and GRPO, and 2e-5
for supervised fine-tuning."""

_CHECK = "finetune_trl.refused_options:check_training"
_CHAT = {"max_length": 256, "conversational": True}
_TRAINING = {
    "num_train_epochs": 1,
    "per_device_train_batch_size": 8,
    "per_device_eval_batch_size": 16,
}

_RL = {
    **_ON_CPU,
    "num_generations": 4,
    # scoring answers each prompt once, so its batches need not be multiples of the group size
    "num_generations_eval": 1,
    "max_completion_length": 64,
    "use_vllm": False,
}


@hookimpl
def tasks() -> Mapping[str, Task]:
    """Register `sft`, `dpo`, `kto`, `reward`, `rloo` and `grpo`."""
    return {
        "sft": _sft(),
        "dpo": _dpo(),
        "kto": _kto(),
        "reward": _reward(),
        "rloo": _reinforced("REINFORCE, leave one out: answers that earn a reward", "rloo", "trl:RLOOConfig"),
        "grpo": _reinforced("Group relative policy optimization: answers that earn a reward", "grpo", "trl:GRPOConfig"),
    }


@hookimpl
def requirements() -> Mapping[str, Mapping[str, str]]:
    """Return what every task needs: TRL."""
    return {"*": {"trl": "finetune-kit[llm]"}}


def _sft() -> Task:
    return Task(
        summary="Supervised fine-tuning: follow instructions, in dialogues or prompts with completions",
        model_class="AutoModelForCausalLM",
        peft_type="CAUSAL_LM",
        features=frozenset({"input_ids", "labels", "prompt_ids"}),
        labels=frozenset({"labels"}),
        preprocessor="finetune_trl.sft.preprocessor:SFTPreprocessor",
        evaluator="finetune_trl.sft.evaluator:SFTEvaluator",
        trainer="finetune_trl.sft.trainer:trainer",
        streams=True,
        arguments="trl:SFTConfig",
        check_training=_CHECK,
        training=_ON_CPU,
        training_on_accelerator=_ON_GPU,
        generates=True,
        starter={
            "model": {"path": "HuggingFaceTB/SmolLM2-135M"},
            "dataset": {"path": "sample:harbour-instructions"},
            "preprocessor": {"max_length": 256, "chat_template": "chatml"},
            "training": {
                "num_train_epochs": 2,
                "per_device_train_batch_size": 8,
                "per_device_eval_batch_size": 16,
                "lr_scheduler_type": "cosine",
                "warmup_steps": 0.03,
            },
            "generation": {"max_new_tokens": 64, "do_sample": False},
        },
    )


def _dpo() -> Task:
    return Task(
        summary="Direct preference optimization: prefer the chosen answer of two",
        model_class="AutoModelForCausalLM",
        peft_type="CAUSAL_LM",
        features=frozenset({"prompt_ids", "chosen_ids", "rejected_ids"}),
        labels=frozenset({"chosen_ids", "rejected_ids"}),
        preprocessor="finetune_trl.preference.dpo:DPOPreprocessor",
        evaluator="finetune_trl.preference.evaluator:PreferenceEvaluator",
        trainer="finetune_trl.preference.dpo_trainer:trainer",
        compares_with_base=True,
        arguments="trl:DPOConfig",
        check_training=_CHECK,
        training={**_ON_CPU, "max_length": None},
        training_on_accelerator=_ON_GPU,
        learning_rate_factor=_PREFERENCE,
        generates=True,
        starter={
            "model": _CHAT_MODEL,
            "dataset": {"path": "sample:harbour-preferences"},
            "preprocessor": _CHAT,
            "training": {**_TRAINING, "beta": 0.1},
        },
    )


def _kto() -> Task:
    return Task(
        summary="Kahneman-Tversky optimization: learn from answers labelled desirable or not",
        model_class="AutoModelForCausalLM",
        peft_type="CAUSAL_LM",
        features=frozenset({"prompt_ids", "completion_ids", "label"}),
        labels=frozenset({"completion_ids", "label"}),
        preprocessor="finetune_trl.preference.kto:KTOPreprocessor",
        evaluator="finetune_trl.preference.kto_evaluator:KTOEvaluator",
        trainer="finetune_trl.preference.kto_trainer:trainer",
        compares_with_base=True,
        arguments="trl:KTOConfig",
        check_training=_CHECK,
        training={**_ON_CPU, "max_length": None},
        training_on_accelerator=_ON_GPU,
        learning_rate_factor=_PREFERENCE,
        generates=True,
        starter={
            "model": _CHAT_MODEL,
            "dataset": {"path": "sample:harbour-thumbs"},
            "preprocessor": _CHAT,
            "training": {**_TRAINING, "beta": 0.1},
        },
    )


def _reward() -> Task:
    return Task(
        summary="Reward model: a score for an answer, learned from pairs",
        model_class="AutoModelForSequenceClassification",
        peft_type="SEQ_CLS",
        features=frozenset({"chosen_ids", "rejected_ids", "completion_ids", "margin"}),
        labels=frozenset({"chosen_ids", "rejected_ids"}),
        preprocessor="finetune_trl.preference.reward:RewardPreprocessor",
        evaluator="finetune_trl.preference.evaluator:RewardEvaluator",
        trainer="finetune_trl.preference.reward_trainer:trainer",
        arguments="trl:RewardConfig",
        check_training=_CHECK,
        training={**_ON_CPU, "max_length": None},
        training_on_accelerator=_ON_GPU,
        starter={
            "model": _CHAT_MODEL,
            "dataset": {"path": "sample:harbour-preferences"},
            "preprocessor": _CHAT,
            "training": {**_TRAINING, "learning_rate": 1e-4},
        },
    )


def _reinforced(summary: str, name: str, arguments: str) -> Task:
    return Task(
        summary=summary,
        model_class="AutoModelForCausalLM",
        peft_type="CAUSAL_LM",
        features=frozenset({"input_ids", "prompt", "given"}),
        labels=frozenset(),
        preprocessor="finetune_trl.reinforcement.prompts:RLPreprocessor",
        evaluator="finetune_trl.reinforcement.evaluator:RLEvaluator",
        trainer=f"finetune_trl.reinforcement.trainer:{name}",
        arguments=arguments,
        check_training=_CHECK,
        training=_RL,
        training_on_accelerator=_ON_GPU,
        learning_rate_factor=_PREFERENCE,
        generates=True,
        starter={
            "model": _CHAT_MODEL,
            "dataset": {"path": "sample:harbour-prompts"},
            "preprocessor": {"reward": "finetune_trl.reinforcement.rewards:brevity", "conversational": True},
            # batches of 8 would hold two prompts a step, which is too little to learn which answers are good
            "training": {**_TRAINING, "per_device_train_batch_size": 32},
        },
    )
