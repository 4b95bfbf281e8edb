"""Every strategy from the recipe that `finetune init --data` prints, on three real data sets, against other rates.

python tests/benchmarks/defaults.py                            # all of it: 36 recipes, three rates each
python tests/benchmarks/defaults.py --only lora,frozen --data sst2
python tests/benchmarks/defaults.py --write docs/explanation/which-strategy.md

Goal: the printed rate is at most 3 points below the best of a third of it, itself and three times it. The best is
chosen on the rows that are scored, so the goal is a little stricter than it looks. Finished runs stay in a file of JSON
lines (`--kept`), so the command can be stopped and goes on where it was. Its seconds are the processor's.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

import finetune
from finetune.inspection import recommend
from finetune.plugins import discover
from finetune.recipe import starter

HERE = Path(__file__).parent
DATA = Path(os.environ.get("FINETUNE_TEST_DATA", HERE.parents[2] / "shared" / "data"))
TASK = "text-classification"
SETS = ("sst2", "medquad", "imdb")
FACTORS = (1.0, 3.0, 1 / 3)
GOAL = 3.0
"""Points of accuracy below the best rate."""
SCORED = 500
BEGIN, END = "<!-- begin: made by tests/benchmarks/defaults.py -->", "<!-- end: defaults -->"


@dataclass(frozen=True)
class Run:
    """One run: a data set, a strategy and a learning rate."""

    data: str
    strategy: str
    rate: float
    rows: int
    epochs: int

    @property
    def key(self) -> str:
        """Return what identifies the run in the file of finished runs."""
        return json.dumps([self.data, self.strategy, self.rate, self.rows, self.epochs])


def main() -> None:
    """Run what is not kept yet; print the table, or write it into a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="some of the strategies, with commas")
    parser.add_argument("--data", default=",".join(SETS), help="some of the data sets, with commas")
    parser.add_argument("--rows", type=int, default=600, help="training rows")
    parser.add_argument("--epochs", type=int, help="epochs; without it, those that `finetune init --data` prints")
    parser.add_argument("--kept", type=Path, default=Path("defaults.jsonl"), help="where finished runs are kept")
    parser.add_argument("--write", type=Path, help="a page with a place for the table")
    given = parser.parse_args()
    sets = given.data.split(",")
    missing = [name for name in sets if not (DATA / name).is_dir()]
    if missing:
        print(f"skipped: there is no {missing[0]} in {DATA}; FINETUNE_TEST_DATA can name another folder")
        return
    plugins = discover()
    task = plugins.find("tasks", TASK)
    names = given.only.split(",") if given.only else sorted(plugins.catalogues["strategies"].targets)
    kept = read_kept(given.kept)
    lines = []
    for name in names:
        recipe = yaml.safe_load(starter.write(TASK, plugins, strategy=name, output="run"))
        recipe["training"] |= recommend.training_for(task, given.rows)
        if given.epochs is not None:
            recipe["training"]["num_train_epochs"] = given.epochs
        printed = recipe["training"]["learning_rate"]
        for data in sets:
            found = {}
            for factor in FACTORS:
                rate, epochs = float(f"{printed * factor:.1e}"), recipe["training"]["num_train_epochs"]
                run = Run(data=data, strategy=name, rate=rate, rows=given.rows, epochs=epochs)
                if run.key not in kept:
                    kept[run.key] = train(recipe, run)
                    with given.kept.open("a", encoding="utf-8") as file:
                        file.write(json.dumps({"key": run.key, **kept[run.key]}) + "\n")
                    print(f"{run}: {kept[run.key]}", file=sys.stderr, flush=True)
                found[run.rate] = kept[run.key]["accuracy"]
            lines.append(line(name, data, found, printed=printed))
    text = "\n".join([*HEAD, *lines, "", summary(lines, rows=given.rows)])
    print(text)
    if given.write is not None:
        write(given.write, text)


HEAD = (
    "| strategy | data | printed rate | accuracy | a third | three times | below the best | goal |",
    "|---|---|--:|--:|--:|--:|--:|---|",
)


def line(strategy: str, data: str, found: dict[float, float], *, printed: float) -> str:
    """Return a line of the table: accuracy in percent at each rate."""
    own = found[printed]
    low, high = (found[float(f"{printed * factor:.1e}")] for factor in (1 / 3, 3.0))
    below = 100 * (max(found.values()) - own)
    met = "met" if round(below, 1) <= GOAL else "missed"
    accuracies = " | ".join(f"{100 * score:.1f}" for score in (own, low, high))
    return f"| `{strategy}` | {data} | {printed:g} | {accuracies} | {below:.1f} | {met} |"


def summary(lines: list[str], *, rows: int) -> str:
    """Return the sentence under the table."""
    met = sum(each.endswith("| met |") for each in lines)
    return (
        f"MiniLM, {rows} training rows, {SCORED} rows scored, at most 64 tokens, one seed. Goal: at most {GOAL:g} "
        f"points below the best of the three rates. Met by {met} of {len(lines)}."
    )


def train(recipe: dict[str, Any], run: Run) -> dict[str, float]:
    """Train from the recipe, on other data and at another rate, and return what came of it."""
    content = json.loads(json.dumps(recipe))
    with tempfile.TemporaryDirectory() as folder:
        splits = dict(zip(("train", "test"), rows_of(run.data, run.rows), strict=True))
        paths = {}
        for split, rows in splits.items():
            paths[split] = f"{folder}/{split}.jsonl"
            Path(paths[split]).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        content |= {"dataset": {"path": paths, "validation_size": 0}, "output": f"{folder}/run"}
        content |= {"score_base_model": False, "general_text": "none", "seed": 1}
        content["preprocessor"]["max_length"] = 64
        content["training"] |= {"learning_rate": run.rate, "save_strategy": "no"}
        for name in ("labels", "label_ids", "class_counts"):  # learned
            content["preprocessor"].pop(name, None)
        content.pop("card", None)
        begin = time.process_time()
        result = finetune.train(**content)
    seconds = round(time.process_time() - begin, 1)
    return {"accuracy": result.scores["test"]["accuracy"], "seconds": seconds}


def rows_of(data: str, size: int) -> Iterator[list[dict[str, str]]]:
    """Yield training rows and rows to score, drawn once."""
    if data == "sst2":
        train, test = (phrases(DATA / "sst2" / f"{split}.tsv") for split in ("train", "test"))
    elif data == "imdb":
        train, test = (read_lines(DATA / "imdb" / f"{split}.jsonl", "text", "label") for split in ("train", "test"))
    else:
        rows = read_lines(DATA / "medquad" / "train.jsonl", "question", "source")
        random.Random(0).shuffle(rows)
        train, test = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    random.Random(0).shuffle(train)
    random.Random(1).shuffle(test)
    yield train[:size]
    yield test[:SCORED]


def phrases(path: Path) -> list[dict[str, str]]:
    """Return the phrases of a file of SST-2."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [{"text": row["sentence"], "label": row["label"]} for row in rows]


def read_lines(path: Path, text: str, label: str) -> list[dict[str, str]]:
    """Return two columns of a file of JSON lines."""
    with path.open(encoding="utf-8") as file:
        return [{"text": row[text], "label": row[label]} for row in map(json.loads, file)]


def read_kept(path: Path) -> dict[str, dict[str, float]]:
    """Return the finished runs of a file."""
    if not path.is_file():
        return {}
    return {entry.pop("key"): entry for entry in map(json.loads, path.read_text(encoding="utf-8").splitlines())}


def write(page: Path, text: str) -> None:
    """Write the table into its place in a page."""
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    if not after:
        raise SystemExit(f"{page} has no place for the table: {BEGIN} and {END}, each on a line of its own.")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
