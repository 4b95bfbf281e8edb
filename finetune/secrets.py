"""Credentials in a recipe: they are refused, because a run folder holds the recipe and is meant to be shared."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from finetune.errors import BadRecipe

KEYS = re.compile(r"(?i)(^|_)(token|password|passwd|secret|credentials?|(api|access|private|secret)_?key)$")
"""Options that hold a credential."""

VALUES = re.compile(
    r"\b(hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[0-9A-Z]{16}|xox[abp]-[A-Za-z0-9-]{10,})"
)
"""Texts in the form of a token: of the Hub, OpenAI, GitHub, AWS and Slack."""

VARIABLES = re.compile(r"(TOKEN|API_KEY|SECRET|PASSWORD)$")
"""Environment variables that hold a credential, by the end of their name."""

_SPECIAL_TOKENS = re.compile(r"(?i)^(bos|eos|unk|sep|pad|cls|mask|image|audio|start|end|decoder_start)_token$")
"""Options that name a special token of a tokenizer."""


def refuse(recipe: Mapping[str, Any]) -> None:
    """Check that a recipe holds no credential.

    Raises:
        BadRecipe: It does. The message names the key, and not the value.
    """
    secret = {value for name, value in os.environ.items() if VARIABLES.search(name) and len(value) >= 8}
    for place, value in _texts(recipe, ""):
        section, _, key = place.rpartition(".")
        # the keys of `columns` and `constants` are names of columns, and a column of words is often named `token`
        is_option = not section.endswith(("columns", "constants"))
        named = is_option and KEYS.search(key) is not None and _SPECIAL_TOKENS.match(key) is None
        if named or VALUES.search(value) or any(each in value for each in secret):
            raise BadRecipe(
                f"{place} looks like a credential. The run folder would hold it as readable text. Take it out of the "
                "recipe; for the Hub, set HF_TOKEN or log in with `hf auth login`."
            )


def _texts(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield each text of a recipe with its place: ``model.options.token``."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, below in value.items():
            yield from _texts(below, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list | tuple):
        for number, below in enumerate(value):
            yield from _texts(below, f"{place}[{number}]")
