"""CPU time and memory of a run by the number of its rows: train streamed, and train in memory.

Run ``python tests/benchmarks/data_size.py --rows 1000 10000 100000``. Rows of two columns are written as gzipped JSON
lines in four files. Each run is a process of its own: it reads and checks the data, and makes 20 steps with a tiny
model. Memory is the peak of the process; the libraries alone take about 600 MiB. ``--plot FILE.svg`` draws
the figures.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

WORDS = ("harbour ship lamp sailor storm bread letter market rope winter crane ferry pilot salt anchor tide").split()  # noqa: SIM905
FILES = 4
STEPS = 20
MOST_IN_MEMORY = 100_000
"""Rows up to which train is also prepared in memory."""


def write(folder: Path, rows: int) -> list[str]:
    """Write rows of a text of about 60 characters and a label; return the files."""
    draw = random.Random(0)
    paths = []
    for number in range(FILES):
        path = folder / f"rows-{rows}-{number}.jsonl.gz"
        with gzip.open(path, "wt", compresslevel=1) as file:
            for row in range(number, rows, FILES):
                text = f"{' '.join(draw.choices(WORDS, k=9))} {row}"
                file.write(json.dumps({"text": text, "label": draw.choice("abc")}) + "\n")
        paths.append(str(path))
    return paths


def child(how: str, rows: int, folder: Path) -> None:
    """Train, and print CPU seconds and peak memory after reading and at the end, as JSON."""
    import resource

    import finetune
    from finetune import run

    def usage() -> list[float]:
        used = resource.getrusage(resource.RUSAGE_SELF)
        return [used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]

    measured: list[list[float]] = []
    prepare = run.prepare_once

    def measure(*args: object, **kwargs: object) -> object:
        before = usage()
        prepared = prepare(*args, **kwargs)  # type: ignore[arg-type]
        after = usage()
        measured.append([after[0] - before[0], after[1]])
        return prepared

    run.prepare_once = measure  # type: ignore[assignment]
    dataset: dict[str, object] = {"path": {"train": sorted(map(str, folder.glob(f"rows-{rows}-*")))}}
    if how == "streamed":
        dataset["streaming"] = True
    finetune.train(
        task="text-classification",
        model=str(folder / "base"),
        dataset={**dataset, "validation_size": min(0.1, 1000 / rows)},
        preprocessor={"max_length": 32},
        strategy="full",
        output=str(folder / f"run-{how}-{rows}"),
        score_base_model=False,
        general_text="none",
        training={"max_steps": STEPS, "save_strategy": "no", "eval_strategy": "no"},
    )
    print(json.dumps([*measured[0], *usage()]))


def plot(figures: Mapping[str, Sequence[tuple[int, float, float]]], path: Path) -> None:
    """Draw CPU seconds and peak memory by the number of rows, both axes of the seconds logarithmic."""
    import matplotlib

    matplotlib.rc_file(Path(__file__).parents[2] / "docs" / "_build" / "matplotlibrc")
    matplotlib.rcParams["svg.hashsalt"] = "data-size"
    from matplotlib import pyplot

    picture, (seconds, memory) = pyplot.subplots(1, 2, figsize=(7.2, 3.0))
    for how, points in figures.items():
        rows, read, peak = zip(*points, strict=True)
        seconds.plot(rows, read, marker="o", label=how)
        memory.plot(rows, peak, marker="o", label=how)
    seconds.set(xscale="log", yscale="log", xlabel="rows", ylabel="CPU seconds before the first step")
    memory.set(xscale="log", ylim=(0, None), xlabel="rows", ylabel="peak memory, MiB")
    memory.legend(loc="lower right")
    picture.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--plot", type=Path, help="draw CPU seconds and memory into this file")
    parser.add_argument("--child", nargs=3)
    arguments = parser.parse_args()
    if arguments.child:
        how, rows, folder = arguments.child
        child(how, int(rows), Path(folder))
        return
    from finetune.testing.models import tiny_model
    from finetune.testing.tokenizers import tokenizer

    print(f"{'rows':>10} {'train':9} {'read, CPU s':>11} {'µs per row':>10} {'peak MiB':>8} {'all, CPU s':>10}")
    figures: dict[str, list[tuple[int, float, float]]] = {"streamed": [], "in memory": []}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        words = tokenizer("bert", [" ".join(WORDS)] * 20, vocab_size=200)
        tiny_model("bert", words, folder / "base", model_class="AutoModelForMaskedLM")
        for rows in arguments.rows:
            paths = write(folder, rows)
            for how in ("streamed", "in memory")[: 1 + (rows <= MOST_IN_MEMORY)]:
                command = [sys.executable, __file__, "--child", how, str(rows), made]
                answer = subprocess.run(command, check=True, capture_output=True, text=True)
                read, _, whole, peak = json.loads(answer.stdout.splitlines()[-1])
                figures[how].append((rows, read, peak))
                print(
                    f"{rows:10,} {how:9} {read:11.1f} {1e6 * read / rows:10.0f} {peak:8.0f} {whole:10.1f}", flush=True
                )
            for path in paths:
                Path(path).unlink()
    if arguments.plot:
        plot(figures, arguments.plot)


if __name__ == "__main__":
    main()
