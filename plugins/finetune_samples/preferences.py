"""Courteous and other replies: `harbour-preferences`, `harbour-thumbs`, `harbour-replies` and `harbour-prompts`."""

from __future__ import annotations

from random import Random
from typing import Any

from finetune_samples.manners import COURTEOUS, CURT, ERRANDS, WORDY, WRONG
from finetune_samples.voice import Rows, Sizes, Voice, distinct
from finetune_samples.world import World

SIZES: Sizes = {"train": 2000, "validation": 200, "test": 300}
FAULTS = {"curt": 0.45, "wordy": 0.45, "wrong": 0.1}
"""Weight of each fault of a rejected reply. Neither the longer nor the shorter reply is always better."""


def preferences(sizes: Sizes, *, seed: int, world: World) -> Rows:
    """Return ``{split: rows}`` of `prompt`, `chosen` and `rejected`: the courteous reply is the better one."""

    def make(split: str, attempt: int) -> tuple[tuple[str, ...], dict[str, Any]]:
        _, given, reply = _asked(seed, world, split, attempt)
        return given, reply

    return distinct(sizes, make)


def thumbs(sizes: Sizes, *, seed: int, world: World) -> Rows:
    """Return ``{split: rows}`` of `prompt`, `completion` and `label`: one reply to each prompt, and whether it is good.

    The prompts are those of `preferences`, row by row. Without their labels, the rows teach both manners equally.
    """

    def make(split: str, attempt: int) -> tuple[tuple[str, ...], dict[str, Any]]:
        rng, given, reply = _asked(seed, world, split, attempt)
        label = rng.random() < 0.5
        completion = reply["chosen" if label else "rejected"]
        return given, {"prompt": reply["prompt"], "completion": completion, "label": label}

    return distinct(sizes, make)


def replies(sizes: Sizes, *, seed: int, world: World) -> Rows:
    """Return ``{split: rows}`` of `messages`: the prompts and replies of `thumbs`, without their labels."""

    def chat(row: dict[str, Any]) -> dict[str, Any]:
        said = (("user", row["prompt"]), ("assistant", row["completion"]))
        return {"messages": [{"role": role, "content": content} for role, content in said]}

    return {split: [chat(row) for row in rows] for split, rows in thumbs(sizes, seed=seed, world=world).items()}


def prompts(sizes: Sizes, *, seed: int, world: World) -> Rows:
    """Return ``{split: rows}`` of `prompt` alone: those of `preferences`, row by row."""

    def make(split: str, attempt: int) -> tuple[tuple[str, ...], dict[str, Any]]:
        _, given, reply = _asked(seed, world, split, attempt)
        return given, {"prompt": reply["prompt"]}

    return distinct(sizes, make)


def _asked(seed: int, world: World, split: str, attempt: int) -> tuple[Random, tuple[str, ...], dict[str, str]]:
    """Return the key that no two prompts share, and the prompt with a good and a bad reply."""
    rng = Random(f"harbour-preferences/{seed}/{split}/{attempt}")
    voice, errand = Voice(rng, world), rng.choice(ERRANDS)
    prompt = voice.say(f"{errand.stated} {{person}} asks {errand.asked}.")
    fault = rng.choices(tuple(FAULTS), weights=tuple(FAULTS.values()))[0]
    rejected = WRONG if fault == "wrong" else rng.choice(CURT if fault == "curt" else WORDY)
    replies = {
        name: voice.say(template.replace("{answer}", errand.answer).replace("{wrong}", errand.wrong))
        for name, template in (("chosen", COURTEOUS), ("rejected", rejected))
    }
    given = tuple(voice.name(*_slot(slot)) for slot in errand.given)
    return rng, given, {"prompt": prompt, **replies}


def _slot(slot: str) -> tuple[str, str]:
    kind = slot.rstrip("0123456789")
    return kind, slot.removeprefix(kind)
