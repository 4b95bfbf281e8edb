"""Divide the names of the town among the splits, so that no two splits share one."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from finetune_samples.world import World

TURNS = {"validation": 8, "test": 9}
"""Split → its position among each ten names; the other eight belong to train."""


def held_out(world: World, splits: Iterable[str], *, kinds: Collection[str]) -> dict[str, World]:
    """Return a world for each split; no name of the given kinds is in two of them.

    Validation and test each get a tenth of these names, train the rest. All splits share the names of other kinds.
    """
    return {
        split: World(
            names={
                kind: tuple(name for at, name in enumerate(names) if kind not in kinds or owner(at) == split)
                for kind, names in world.names.items()
            }
        )
        for split in splits
    }


def owner(at: int) -> str:
    """Return the split to which the name at a position of the list belongs."""
    return next((split for split, turn in TURNS.items() if at % 10 == turn), "train")
