"""Bottleneck adapters: small trainable modules between the layers of a frozen model."""

from finetune import hookimpl


@hookimpl
def strategies() -> dict[str, str]:
    """Register `bottleneck`."""
    return {"bottleneck": "finetune_adapters.bottleneck:BottleneckStrategy"}
