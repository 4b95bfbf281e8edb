"""Strategies that choose which of the model's parameters train, when, and at which rate."""

from finetune import hookimpl


@hookimpl
def strategies() -> dict[str, str]:
    """Register `full`, `frozen`, `gradual` and `discriminative`."""
    return {
        "full": "finetune_freeze.full:FullStrategy",
        "frozen": "finetune_freeze.frozen:FrozenStrategy",
        "gradual": "finetune_freeze.gradual:GradualStrategy",
        "discriminative": "finetune_freeze.discriminative:DiscriminativeStrategy",
    }
