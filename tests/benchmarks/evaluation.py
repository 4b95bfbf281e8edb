"""CPU seconds of an evaluation while training: short rows first, beside the order of the file.

python tests/benchmarks/evaluation.py              # SST-2 in batches of 8 and of 64, SQuAD 2.0 in batches of 8

Both evaluate the same rows with MiniLM through `Trainer.evaluate`, with the same scores. The reference is the order of
the file, as the trainer of transformers evaluates. The second comparison is the score of validation after the training:
the reference predicts the rows again.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from ratios import Ratio, compare, main
from training import prepared, sst2

from finetune.interfaces import Job
from finetune.models import suppress_output
from finetune.plugins import resolve
from finetune.progress import Reporter
from finetune.run import prepare_training
from finetune.training.evaluating import Kept, Order
from finetune.training.trainer import predict


def job_of(folder: Path, rows: int, size: int) -> Job:
    """Return a job whose validation split has some rows."""
    content = sst2(folder, 2 * rows // 16)
    content["dataset"]["validation_size"] = 0.5
    content["training"]["per_device_eval_batch_size"] = size
    content["training"]["eval_strategy"] = "epoch"
    ready = prepared(content, folder, 1)
    with suppress_output():
        return prepare_training(ready, Reporter())[0].job


def in_file_order(job: Job) -> Any:
    """Return a trainer that evaluates in the order of the file."""

    def of(features: Any, preprocessor: Any) -> Order:
        return Order(places=np.arange(len(features)))

    kept = Order.of
    Order.of = of  # type: ignore[method-assign,assignment]
    try:
        return resolve(job.task.trainer)(job)
    finally:
        Order.of = kept  # type: ignore[method-assign]


def scores_of(trainer: Any) -> dict[str, float]:
    """Evaluate, and return the scores without the times."""
    found = trainer.evaluate()
    return {name: value for name, value in found.items() if "second" not in name and "time" not in name}


def are_same(one: dict[str, float], other: dict[str, float]) -> bool:
    """Return whether two evaluations gave the same scores up to rounding."""
    return one.keys() == other.keys() and all(np.isclose(one[name], other[name], rtol=1e-5) for name in one)


def lines(repeats: int) -> Iterator[Ratio]:
    """Yield every comparison."""
    for size in (8, 64):
        with tempfile.TemporaryDirectory() as folder:
            job = job_of(Path(folder), 600, size)
            ours, theirs = resolve(job.task.trainer)(job), in_file_order(job)
            count = len(job.validation)  # type: ignore[arg-type]
            yield compare(
                lambda ours=ours: scores_of(ours), lambda theirs=theirs: scores_of(theirs),
                repeats=repeats, same=are_same, work=f"evaluate {count} phrases of SST-2, batches of {size}",
                reference="order of the file", goal=2 if size == 64 else 1.5,
                limit="short texts: little padding in small batches" if size == 8 else "padding alone",
                command="evaluation.py",
            )  # fmt: skip
            if size == 64:
                yield scored_again(ours, job, repeats=repeats)


def scored_again(trainer: Any, job: Job, *, repeats: int) -> Ratio:
    """Compare the score of validation at the end of a run."""
    features, examples = job.validation, job.validation_examples

    def theirs() -> Any:
        trainer.kept = Kept()
        return predict(trainer, examples=examples, features=features, job=job).outputs

    def ours() -> Any:
        trainer.kept.put(made, model=trainer.model)  # the digest of the weights is part of the price
        return predict(trainer, examples=examples, features=features, job=job).outputs

    made = trainer.evaluation_loop(trainer.get_eval_dataloader(), description="Evaluation")
    return compare(
        ours, theirs, repeats=repeats, same=lambda one, other: bool(np.array_equal(one, other)),
        work=f"score {len(features)} phrases after the last evaluation",  # type: ignore[arg-type]
        reference="predict them again", goal=2, limit="two digests of 22.7 million weights", command="evaluation.py",
    )  # fmt: skip


if __name__ == "__main__":
    main(lines, about=str(__doc__))
