"""The folder of several seeds: its recipe has `seeds`, and each seed has a run folder in it.

Every command imports this module, so the functions import `finetune.recipe`, which needs pydantic and PyYAML.
"""

from __future__ import annotations

from pathlib import Path

from finetune.errors import BadRecipe
from finetune.result import RECIPE

BASELINES = "base-and-baselines.jsonl"
"""The file in the run folder of one of several seeds that holds what the base model and the baselines predicted."""


def seeds_of(directory: Path) -> list[int]:
    """Return the seeds of a folder of several seeds; none for any other folder."""
    from finetune import recipe

    file = directory / RECIPE
    if not file.is_file():
        return []
    try:
        content = recipe.load(file.read_text(encoding="utf-8"), name=str(file))
    except (OSError, UnicodeDecodeError, BadRecipe):  # whatever reads the recipe says what is wrong with it
        return []
    seeds = content.get("seeds") if isinstance(content, dict) else None
    return [seed for seed in seeds if isinstance(seed, int)] if isinstance(seeds, list) else []


def folder_above(run: Path) -> Path | None:
    """Return the folder of several seeds that a run folder belongs to; None if it belongs to none."""
    from finetune import recipe

    if not run.name.startswith(recipe.SEED_FOLDER):
        return None
    names = [recipe.seed_folder(seed) for seed in seeds_of(run.absolute().parent)]
    return run.parent if run.name in names else None


def name_one(directory: Path, seeds: list[int]) -> str:
    """Return the sentence that refuses a folder of several seeds where one run is needed.

    >>> name_one(Path("runs/reviews"), [0, 1, 2])
    "'runs/reviews' holds a run for each of 3 seeds. Name one of them: runs/reviews/seed-0."
    """
    from finetune import recipe

    one = directory / recipe.seed_folder(seeds[0])
    return f"{str(directory)!r} holds a run for each of {len(seeds)} seeds. Name one of them: {one}."
