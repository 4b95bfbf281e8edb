"""Run every comparison of CPU seconds, and write the table of docs/reference/speed.md.

python tests/benchmarks/speed.py                                   # prints it: some 8 CPU minutes
python tests/benchmarks/speed.py --write docs/reference/speed.md
python tests/benchmarks/speed.py --only rows,refusals
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent))

BEGIN = "<!-- begin: made by tests/benchmarks/speed.py -->"
END = "<!-- end: tests/benchmarks/speed.py -->"
HEADER = """| Work | Reference | Ours | Ratio | Goal | Limit | Command |
| --- | --- | --- | --- | --- | --- | --- |"""


def main() -> None:
    """Print the table, or write it into a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="refusals,rows,evaluation,training")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", type=Path, help="a page with a place for the table")
    given = parser.parse_args()
    rows = [HEADER]
    for name in given.only.split(","):
        for line in importlib.import_module(name).lines(given.repeats):
            print(line, flush=True)
            rows.append(line.row())
    if given.write is not None:
        before, rest = given.write.read_text(encoding="utf-8").split(BEGIN)
        after = rest.split(END)[1]
        table = "\n".join(rows)
        given.write.write_text(f"{before}{BEGIN}\n\n{table}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
