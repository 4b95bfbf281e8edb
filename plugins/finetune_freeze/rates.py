"""Learning rates by depth: the head at the full rate, each group below it at a share of the one above."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetune.kit import decay_parameter_names
from finetune_freeze.groups import LayerGroup


def by_depth(groups: Sequence[LayerGroup], *, decay: float) -> list[float]:
    """Return each group's share of the learning rate.

    The last group's is 1; a group whose upper neighbour has η has η · `decay`.

    >>> [group_share for group_share in by_depth([None, None, None], decay=0.5)]
    [0.25, 0.5, 1.0]

    Source: Howard & Ruder 2018, section 3.2, where `decay` is 1 / 2.6.
    """
    return [decay**above for above in reversed(range(len(groups)))]


def parameter_groups(
    model: Any, groups: Sequence[LayerGroup], *, decay: float, learning_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Return the optimizer's groups: for each layer group one with weight decay, and one without for biases and norms.

    The head comes first, because the rate that a trainer logs is that of its first group.
    """
    parameters = dict(model.named_parameters())
    decayed = decay_parameter_names(model)
    shares = by_depth(groups, decay=decay)
    optimized = []
    for group, share in reversed(list(zip(groups, shares, strict=True))):
        with_decay: list[Any] = []
        without_decay: list[Any] = []
        for name in group.parameters:
            if parameters[name].requires_grad:
                chosen = with_decay if name in decayed else without_decay
                chosen.append(parameters[name])
        rate = learning_rate * share
        for amount, members in ((weight_decay, with_decay), (0.0, without_decay)):
            if members:
                optimized.append({"params": members, "lr": rate, "weight_decay": amount})
    return optimized


def described(groups: Sequence[LayerGroup], *, decay: float) -> str:
    """Return the groups with their shares of the rate, from the output to the input, for a note."""
    shares = by_depth(groups, decay=decay)
    lines = [f"{group.name} × {share:.3g}" for group, share in zip(groups, shares, strict=True)]
    return "; ".join(reversed(lines))
