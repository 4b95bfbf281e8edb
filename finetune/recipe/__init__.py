"""Recipes: the classes, strict reading and writing, options and their documentation."""

from finetune.recipe.recipe import (
    SEED_FOLDER,
    Choice,
    Model,
    Recipe,
    Source,
    Teacher,
    choose_seeds,
    from_mapping,
    parse,
    parts,
    read,
    seed_folder,
    to_mapping,
)
from finetune.recipe.strict_yaml import LARGEST, MOST_VALUES, dump, load, scalar
from finetune.recipe.trained import AsTrained, as_trained

__all__ = [
    "LARGEST",
    "MOST_VALUES",
    "SEED_FOLDER",
    "AsTrained",
    "Choice",
    "Model",
    "Recipe",
    "Source",
    "Teacher",
    "as_trained",
    "choose_seeds",
    "dump",
    "from_mapping",
    "load",
    "parse",
    "parts",
    "read",
    "scalar",
    "seed_folder",
    "to_mapping",
]
