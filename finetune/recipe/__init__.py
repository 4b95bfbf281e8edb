"""Recipes: the classes, strict reading and writing, options and their documentation."""

from finetune.recipe.recipe import (
    Choice,
    Model,
    Recipe,
    Source,
    from_mapping,
    parse,
    parts,
    read,
    to_mapping,
)
from finetune.recipe.strict_yaml import LARGEST, MOST_VALUES, dump, load, scalar

__all__ = [
    "LARGEST",
    "MOST_VALUES",
    "Choice",
    "Model",
    "Recipe",
    "Source",
    "dump",
    "from_mapping",
    "load",
    "parse",
    "parts",
    "read",
    "scalar",
    "to_mapping",
]
