"""Learning rates by depth: the head at the full rate, each group below it at a share of the one above."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import Trainer

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
    """Return the optimizer's groups: two a layer group, because biases and norms have no weight decay.

    The head comes first: the rate that a trainer logs is that of its first group.
    """
    parameters = dict(model.named_parameters())
    decayed = set(Trainer.get_decay_parameter_names(None, model))
    made = []
    for group, share in reversed(list(zip(groups, by_depth(groups, decay=decay), strict=True))):
        chosen = [name for name in group.parameters if parameters[name].requires_grad]
        for amount, names in (
            (weight_decay, [name for name in chosen if name in decayed]),
            (0.0, [name for name in chosen if name not in decayed]),
        ):
            rate = {"lr": learning_rate * share, "weight_decay": amount}
            made.append({"params": [parameters[name] for name in names], **rate})
    return [group for group in made if group["params"]]


def described(groups: Sequence[LayerGroup], *, decay: float) -> str:
    """Return the groups with their shares of the rate, from the output to the input, as a note has them."""
    shares = zip(groups, by_depth(groups, decay=decay), strict=True)
    return "; ".join(f"{group.name} × {share:.3g}" for group, share in reversed(list(shares)))
