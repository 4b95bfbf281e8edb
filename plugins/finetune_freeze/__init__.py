"""Strategies that choose which of the model's own parameters train."""

from finetune import hookimpl


@hookimpl
def strategies() -> dict[str, str]:
    """Bring `full` and `frozen`."""
    return {"full": "finetune_freeze.full:Full", "frozen": "finetune_freeze.frozen:Frozen"}
