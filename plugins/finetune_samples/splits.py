"""What a split owns, and shares with no other."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from finetune_samples.world import World

TURNS = {"validation": 8, "test": 9}
"""Of every ten names, which one belongs to a split; the others are train's."""


def held_out(world: World, splits: Iterable[str], *, kinds: Collection[str]) -> dict[str, World]:
    """Return a world for every split, so that no name of the given kinds stands in two of them.

    Validation and test each own a tenth of the names, train the rest; of the other kinds all own all.
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
    """Return the split that the name at a place of the list belongs to."""
    return next((split for split, turn in TURNS.items() if at % 10 == turn), "train")
