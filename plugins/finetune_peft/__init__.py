"""Parameter-efficient strategies of PEFT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from finetune import hookimpl
from finetune.hookspecs import Command

if TYPE_CHECKING:
    from finetune.interfaces import Job


@hookimpl
def strategies() -> Mapping[str, str]:
    """Register one strategy for each method."""
    return {
        "lora": "finetune_peft.lora:LoraStrategy",
        "qlora": "finetune_peft.qlora:QLoraStrategy",
        "prefix": "finetune_peft.prefix:PrefixStrategy",
        "prompt": "finetune_peft.prompt:PromptStrategy",
        "ptuning": "finetune_peft.ptuning:PTuningStrategy",
        "ia3": "finetune_peft.ia3:IA3Strategy",
        "layernorm": "finetune_peft.layernorm:LayerNormStrategy",
        "peft": "finetune_peft.any_type:AnyPeftStrategy",
    }


@hookimpl
def commands() -> Mapping[str, Command]:
    """Register `merge`."""
    return {"merge": Command("finetune_peft.merge_command:command", group="use")}


@hookimpl
def requirements() -> Mapping[str, Mapping[str, str]]:
    """Return what the strategies need: PEFT, and bitsandbytes for `qlora`."""
    return {
        "*": {"peft": "finetune-kit[peft]"},
        "qlora": {"peft": "finetune-kit[qlora]", "bitsandbytes": "finetune-kit[qlora]"},
    }


@hookimpl
def before_training(job: Job) -> None:
    """Check jobs that train virtual tokens."""
    from finetune_peft.job_checks import check_job

    check_job(job)
