"""The page of PEFT's types: every type with one model of each kind, as the tests of the strategy `peft` saw it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from compatibility import FAILS, TRAINS, Cell, as_written, table

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "peft-types.md"
KINDS: Mapping[str, tuple[str, str, str]] = {
    "encoder": ("bert", "bert", "text-classification"),
    "decoder": ("llama", "gpt2", "causal-language-modeling"),
    "encoder-decoder": ("t5", "xlm-roberta", "text-to-text"),
    "GPT-2": ("gpt2", "gpt2", "causal-language-modeling"),
}
"""Kind of model → its family, the family of its tokenizer, and the task. GPT-2 stores its weights the other way."""
SMALL: Mapping[str, Mapping[str, Any]] = {
    "ADAPTION_PROMPT": {"adapter_len": 4, "adapter_layers": 2},
    "C3A": {"block_size": 8},
    "MISS": {"r": 4},
    "ROAD": {"group_size": 16},
    "SHIRA": {"r": 4},
    "TRAINABLE_TOKENS": {"token_indices": list(range(5, 60))},
    "VBLORA": {"vector_length": 16, "num_vectors": 32},
    "WAVEFT": {"n_frequency": 64},
}
"""Type → options, where the defaults are too large for a tiny model, or where there is none."""
HEAD = """\
# PEFT's types

The strategy `peft` trains any method of PEFT by its type: `strategy: {{name: peft, type: MISS, r: 16}}`. This page is
generated from the results of `{command}`: every type of PEFT {peft} with a tiny model of each kind.

A **✓** means that all of this is true:

- the model trained for ten steps, and what changed is part of what the type trains;
- the saved adapter, loaded again, gives the same outputs to the bit, and the same scores;
- a run that was stopped after five steps and resumed ends with the same weights, to the bit.

A **number** leads to the message that refuses the type before the first step.

The kinds are BERT (`text-classification`), Llama (`causal-language-modeling`), T5 (`text-to-text`), and GPT-2, whose
linear layers are of a class of their own."""


def page(outcomes: Mapping[Cell, str], command: str) -> str:
    """Return the whole page.

    Args:
        outcomes: Type and kind → `TRAINS`, `FAILS`, or the words of the refusal.
        command: What was run to learn all this.
    """
    refusals = list(dict.fromkeys(words for words in outcomes.values() if words not in (TRAINS, FAILS)))
    numbers = {words: number for number, words in enumerate(refusals, start=1)}
    marks = {TRAINS: "✓", FAILS: "**fails**", **{words: f"[^{number}]" for words, number in numbers.items()}}
    rows = []
    for kind in dict.fromkeys(kind for kind, _ in outcomes):
        options = ", ".join(f"{name}: {value}" for name, value in SMALL.get(kind, {}).items() if kind in SMALL)
        shown = "token_indices: 55 ids" if kind == "TRAINABLE_TOKENS" else options
        rows.append([f"`{kind}`", shown, *(marks[outcomes[kind, model]] for model in KINDS)])
    counts = [sum(words == TRAINS for words in outcomes.values()), sum(words in numbers for words in outcomes.values())]
    total = f"Of {len(outcomes)} cells, {counts[0]} train, {counts[1]} are refused before the first step, and"
    parts = [
        HEAD.format(command=command, peft=version("peft")),
        table(["Type", "Options for the tiny models", *KINDS], rows),
        f"{total} {sum(words == FAILS for words in outcomes.values())} fail.",
        f"Tried on {datetime.now(UTC).date()} with peft {version('peft')} and transformers {version('transformers')}.",
        "\n".join(f"[^{number}]: {as_written(words)}" for words, number in numbers.items()),
    ]
    return "\n\n".join(parts) + "\n"
