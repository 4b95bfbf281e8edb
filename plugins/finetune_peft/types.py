"""PEFT's types of adapters: which one a recipe names, which strategy has it, and which cannot be trained here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peft import PeftConfig, PeftType
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING

from finetune.errors import did_you_mean

OWN: Mapping[str, str] = {"PREFIX_TUNING": "prefix", "PROMPT_TUNING": "prompt", "P_TUNING": "ptuning"}
"""Type → the strategy that has it, with the corrections that virtual tokens need."""
ALSO: Mapping[str, str] = {"LORA": "lora", "IA3": "ia3", "LN_TUNING": "layernorm"}
"""Type → the strategy that has it, too, with defaults for more models."""
REFUSED: Mapping[str, str] = {
    "ADALORA": "it moves rank between layers while it trains, and PEFT does not save what that needs, so that a "
    "resumed run would go another way. Use LORA with rank_pattern",
    "CPT": "its virtual tokens are those of a text with a role for each token, and its loss is another one than the "
    "task's. Use the strategy prompt",
    "CARTRIDGE": "its virtual tokens are the keys and values of a text that the model has read, which no recipe can "
    "state. Use the strategy prefix",
    "LILY": "its router takes the mean over all rows of a batch, so that the answer for one row would depend on the "
    "others. Use LORA or MISS",
    "MULTITASK_PROMPT_TUNING": "each row must say to which of several tasks it belongs, and the rows of a task do not",
    "POLY": "each row must say to which of several tasks it belongs, and the rows of a task do not",
    "XLORA": "it mixes adapters that were trained before, and a run begins with none",
}
"""Type → why it cannot be trained by a run."""


def named(name: str) -> str:
    """Return the type that a recipe names, in any spelling: ``miss`` is ``MISS``.

    Raises:
        ValueError: PEFT has no such type; or it has another strategy, or none here, with the reason.
    """
    known = {kind.value: kind for kind in PeftType if kind in PEFT_TYPE_TO_TUNER_MAPPING}
    found = name.strip().upper().replace("-", "_")
    if found not in known:
        usable = sorted(set(known) - set(OWN) - set(REFUSED))
        raise ValueError(f"type: PEFT has no type {name!r}.{did_you_mean(found, known)} Types: {', '.join(usable)}.")
    if found in OWN:
        raise ValueError(f"type: {found} is the strategy {OWN[found]}. Write: strategy: {OWN[found]}.")
    if found in REFUSED:
        raise ValueError(f"type: {found} cannot be trained here: {REFUSED[found]}.")
    return found


def config_class(kind: str) -> type[PeftConfig]:
    """Return PEFT's configuration of a type."""
    found: type[PeftConfig] = PEFT_TYPE_TO_CONFIG_MAPPING[PeftType(kind)]
    return found


def tuner_class(kind: str) -> Any:
    """Return PEFT's class of models of a type."""
    return PEFT_TYPE_TO_TUNER_MAPPING[PeftType(kind)]


def trainable() -> list[str]:
    """Return the types that the strategy `peft` takes."""
    return sorted({kind.value for kind in PEFT_TYPE_TO_TUNER_MAPPING} - set(OWN) - set(REFUSED))
