"""Seconds and memory of `finetune predict --output`: one process, several, and Ray; as ratios to one process.

python tests/benchmarks/prediction.py                         # a tiny classifier, 10,000 short rows
python tests/benchmarks/prediction.py --rows 100000 --ways one
python tests/benchmarks/prediction.py --run runs/reviews --file reviews.jsonl --count 4

Seconds are those of the phase `predict`: to start processes and to load the model in each of them is included, to read
the rows is not. Memory is the peak of the process that reads and writes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "core"))


def tiny(folder: Path, rows: int) -> tuple[Path, Path]:
    """Train a tiny classifier, and write rows to predict."""
    import toy

    from finetune import train

    toy.base(folder / "base")
    parts = {split: toy.rows(size, seed=size) for split, size in (("train", 24), ("validation", 8))}
    for split, part in parts.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    train(
        task="text-classification", model=folder / "base", strategy="full", output=folder / "run",
        dataset={"path": {split: str(folder / f"{split}.jsonl") for split in parts}},
        training={"max_steps": 2, "save_strategy": "no"}, score_base_model=False, general_text="none",
    )  # fmt: skip
    with (folder / "rows.jsonl").open("w") as file:
        for row in toy.rows(rows, seed=1):
            file.write(json.dumps({"text": row["text"]}) + "\n")
    return folder / "run", folder / "rows.jsonl"


def measure(run: Path, file: Path, output: Path, arguments: list[str]) -> tuple[float, float, str]:
    """Predict, and return the seconds, the peak memory in MiB, and a digest of all lines."""
    log = output.with_suffix(".log")
    with log.open("w") as written:
        process = subprocess.Popen(
            [sys.executable, "-m", "finetune", "predict", str(run), str(file), "--output", str(output), *arguments],
            stdout=written, stderr=subprocess.STDOUT, env={"OMP_NUM_THREADS": "1", **os.environ},
        )  # fmt: skip
        _, status, usage = os.wait4(process.pid, 0)
    shown = log.read_text()
    found = re.search(r"✓ predict ([\d.]+) s", shown)
    if status or found is None:
        raise SystemExit(f"{arguments} failed:\n{shown[-2000:]}")
    lines = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(output.glob("*.jsonl"))))
    return float(found[1]), usage.ru_maxrss / 1024, lines.hexdigest()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--count", type=int, default=2, help="processes, and actors of Ray")
    parser.add_argument("--ways", default="one,processes,ray")
    parser.add_argument("--run", type=Path)
    parser.add_argument("--file", type=Path)
    given = parser.parse_args()
    count = ["--processes", str(given.count)]
    ways = {"one": [], "processes": count, "ray": ["--engine", "ray", *count]}
    with tempfile.TemporaryDirectory() as folder:
        run, file = (given.run, given.file) if given.run else tiny(Path(folder), given.rows)
        print(f"{'':12}{'seconds':>9}{'speed':>8}{'peak MiB':>10}  same lines")
        first: tuple[float, float, str] | None = None
        for name in given.ways.split(","):
            found = measure(run, file, Path(folder) / name, ways[name])
            first = first or found
            print(f"{name:12}{found[0]:>9.1f}{first[0] / found[0]:>8.2f}{found[1]:>10,.0f}  {found[2] == first[2]}")


if __name__ == "__main__":
    main()
