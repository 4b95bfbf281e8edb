"""Parameter-efficient strategies, by PEFT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from finetune import hookimpl

if TYPE_CHECKING:
    from finetune.interfaces import Job


@hookimpl
def strategies() -> Mapping[str, str]:
    return {
        "lora": "finetune_peft.lora:LoraStrategy",
        "qlora": "finetune_peft.qlora:QLoraStrategy",
        "prefix": "finetune_peft.prefix:PrefixStrategy",
        "prompt": "finetune_peft.prompt:PromptStrategy",
        "ptuning": "finetune_peft.ptuning:PTuningStrategy",
        "ia3": "finetune_peft.ia3:IA3Strategy",
        "layernorm": "finetune_peft.layernorm:LayerNormStrategy",
    }


@hookimpl
def commands() -> Mapping[str, str]:
    return {"merge": "finetune_peft.merge_command:command"}


@hookimpl
def before_training(job: Job) -> None:
    from finetune_peft.refusals import refuse

    refuse(job)
