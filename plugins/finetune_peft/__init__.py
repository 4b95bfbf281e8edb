"""Parameter-efficient strategies, by PEFT."""

from finetune import hookimpl


@hookimpl
def strategies() -> dict[str, str]:
    """Bring `lora`."""
    return {"lora": "finetune_peft.lora:Lora"}
