"""Let the memory be too small at each of 20 steps, and go on: ``python tests/campaigns/out_of_memory.py``.

Each run has batches of four rows and fails at one step. It is resumed with batches of two rows and twice the
accumulation. The number of updates must be right, and the logged losses must equal those of a run with the small
batches from the start. The models have no dropout: with it, other batches draw other random numbers.
"""

from __future__ import annotations

import argparse
import functools
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import machine_faults
import toy
from command import call
from scorecard import Line, record

STEPS = 20
TOLERANCE = 1e-6
SMALL = ("training.per_device_train_batch_size=2", "training.gradient_accumulation_steps=2")
SAID = ("per_device_train_batch_size 4", "the longest has", "Lower per_device_train_batch_size", "--accept-changes")


@dataclass
class Figures:
    """What happened in all trials."""

    trials: int = 0
    explained: int = 0
    """Runs that ended with exit code 5 and a message that names batch, longest row, remedy and checkpoint."""
    complete: int = 0
    """Resumed runs with the right number of updates."""
    equal: int = 0
    """Resumed runs whose losses equal those of the small batches."""
    trouble: str = ""
    """The first thing that went wrong."""


def prepare(folder: Path) -> Path:
    """Write the model, the data and the recipe of the campaign, and return the recipe."""
    base = toy.base(folder / "base", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    for split, size in (("train", 48), ("test", 4)):
        rows = "".join(json.dumps(row) + "\n" for row in toy.rows(size, seed=size))
        (folder / f"{split}.jsonl").write_text(rows, encoding="utf-8")
    training = {
        "max_steps": STEPS, "save_strategy": "steps", "save_steps": 1, "logging_steps": 1, "eval_strategy": "no",
    }  # fmt: skip
    data = {split: str(folder / f"{split}.jsonl") for split in ("train", "test")}
    quick = {"score_base_model": False, "general_text": "none"}
    task = "text-classification"  # its loss is the mean over the rows of a step; that of `toy` is of each batch
    content = toy.recipe(base, folder / "run", task=task, dataset=data, training=training, **quick)
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(content), encoding="utf-8")  # JSON is YAML
    return path


def losses(run: Path) -> list[float]:
    """Return the loss of each step of a finished run."""
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    assert result["steps"] == STEPS, result["steps"]
    return [entry["loss"] for entry in result["log"] if "loss" in entry]


def measure(steps: list[int], folder: Path, *, rows: int = 2) -> Figures:
    """Return the figures for memory that is too small at some steps.

    Args:
        steps: From 1; one trial for each.
        folder: An empty folder.
        rows: How many rows of a batch the memory holds.
    """
    recipe, found = prepare(folder), Figures()
    straight = folder / "straight"
    ended = call(["train", str(recipe), f"output={straight}", *SMALL], folder=folder)
    assert ended.exit_code == 0, ended.output
    wanted = losses(straight)
    for step in steps:
        output = folder / f"step-{step}"
        words = ["train", str(recipe), f"output={output}"]
        fault = functools.partial(machine_faults.out_of_memory, step, rows)
        ended = call(words, folder=folder, before=fault)
        found.trials += 1
        said = all(words in ended.output for words in SAID if step > 1 or words != "--accept-changes")
        if ended.exit_code == 5 and said and not ended.is_traceback:
            found.explained += 1
        else:
            found.trouble = found.trouble or f"step {step}: exit {ended.exit_code}: {ended.output[-500:]}"
        flags = ["--resume", "--accept-changes"] if step > 1 else ["--overwrite"]
        ended = call([*words, *SMALL, *flags], folder=folder, before=fault)
        if ended.exit_code != 0:
            found.trouble = found.trouble or f"step {step}: exit {ended.exit_code}: {ended.output[-500:]}"
            continue
        found.complete += 1
        pairs = list(zip(losses(output), wanted, strict=True))
        if all(abs(one - other) <= TOLERANCE for one, other in pairs):
            found.equal += 1
        else:
            found.trouble = found.trouble or f"step {step}: losses {pairs}"
    return found


def main() -> None:
    """Measure the line, and record it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=STEPS, help="How many steps, from the first on.")
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(list(range(1, arguments.trials + 1)), Path(folder))
    if found.trouble:
        print(found.trouble)
    record(
        Line(
            name="out of memory",
            goal="at each of 20 steps: exit 5, batch and longest row named; after lowering the batch as the message "
            f"says, the right number of updates, and losses equal to {TOLERANCE:g}",
            stock="with auto_find_batch_size, 30 updates were recorded as 20; without, a traceback",
            ours=f"{found.explained} of {found.trials} explained, {found.complete} complete, {found.equal} with equal "
            "losses",
            met=found.trials >= STEPS and found.trials == found.explained == found.complete == found.equal,
            not_covered="The error is injected on a CPU; no GPU ran out of memory.",
        ),
        started=started,
    )


if __name__ == "__main__":
    main()
