"""How fast, how lean and how faithful the reading of text files is, beside `datasets.load_dataset`.

Run ``python tests/benchmarks/read.py --megabytes 200``. Each reader runs in a process of its own; memory is the peak
above what its imports take.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORDS = "harbour ship lamp sailor storm bread letter market rope winter crane ferry pilot salt anchor tide"
ODD = ["007", "NA", "None", "null", "", "1e5", "True", "12345678901234567890"]


def write(path: Path, *, megabytes: int) -> int:
    """Write rows of a text, a label and a value that type guessing spoils; return their number."""
    random.seed(0)
    texts = [" ".join(random.choices(WORDS.split(), k=random.randint(5, 40))) for _ in range(1_000)]
    texts += [f'she said ""{text}"", and left' for text in texts[:50]]
    rows, size = 0, 0
    with path.open("w", encoding="utf-8", newline="") as file:
        if path.suffix == ".csv":
            file.write("text,label,code\n")
        while size < megabytes << 20:
            text = texts[rows % len(texts)]
            label, code = ("pos", "neg")[rows % 2], ODD[rows % len(ODD)]
            if path.suffix == ".csv":
                line = f'"{text}",{label},{code}\n' if '"' in text else f"{text},{label},{code}\n"
            else:
                line = json.dumps({"text": text.replace('""', '"'), "label": label, "code": code}) + "\n"
            file.write(line)
            size += len(line)
            rows += 1
    return rows


def peak() -> int:
    """Return the most memory this process ever held, in bytes."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def child(who: str, path: Path) -> None:
    """Read the file in one way and print seconds, bytes and whether the values survived, as JSON."""
    import datasets

    from finetune.data.files import read
    from finetune.data.findings import Report
    from finetune.data.readers.formats import Formats
    from finetune.data.sources import Files
    from finetune.plugins import discover
    from finetune.recipe import Source

    formats = Formats(discover())
    before, start = peak(), time.perf_counter()
    if who == "finetune":
        source = Source(path=str(path))
        report = Report()
        table = read(Files((str(path),)), split="train", source=source, formats=formats, needed=(), report=report)
        rows = table.rows
        assert not report.findings, report.summary()
    else:
        datasets.disable_progress_bars()
        kind = "csv" if path.suffix == ".csv" else "json"
        rows = datasets.load_dataset(kind, data_files=str(path), split="train", cache_dir=str(path.parent / "cache"))
    seconds = time.perf_counter() - start
    print(json.dumps([seconds, peak() - before, len(rows), rows[: len(ODD)]["code"] == ODD]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=200)
    parser.add_argument("--child", nargs=2)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child[0], Path(arguments.child[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        for name in ("rows.csv", "rows.jsonl"):
            path = Path(folder) / name
            rows = write(path, megabytes=arguments.megabytes)
            taken = {}
            for who in ("finetune", "datasets"):
                command = [sys.executable, __file__, "--child", who, str(path)]
                answer = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
                seconds, memory, count, survived = json.loads(answer.stdout.splitlines()[-1])
                assert count == rows, (count, rows)
                taken[who] = seconds
                outcome = "survive" if survived else "CHANGE"
                print(
                    f"{name:10} {who:9} {seconds:6.2f} s {rows / seconds:10,.0f} rows/s "
                    f"{memory / 2**20:6.0f} MiB above imports; values {outcome}"
                )
            print(f"{name:10} finetune takes {taken['finetune'] / taken['datasets']:.2f} times as long")


if __name__ == "__main__":
    main()
