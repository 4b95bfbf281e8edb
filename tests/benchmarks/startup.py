"""How long `finetune --help` takes, beside `trl --help` where TRL is installed; both in turn, in one run.

python tests/benchmarks/startup.py [--runs 20]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

BIN = Path(sys.executable).parent


def seconds(command: list[str]) -> float:
    """Return the wall time of one run of a command."""
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


def main() -> None:
    """Time each command in turn and print medians and the ratio to the first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    commands = {
        "finetune --help": [str(BIN / "finetune"), "--help"],
        "finetune list": [str(BIN / "finetune"), "list"],
        "python -c pass": [sys.executable, "-c", "pass"],
    }
    if (BIN / "trl").exists():
        commands["trl --help"] = [str(BIN / "trl"), "--help"]
    for command in commands.values():
        seconds(command)  # warm the disk's cache
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            times[name].append(seconds(command))
    first = median(times["finetune --help"])
    print(f"{'command':18} {'median s':>9} {'min s':>7} {'ratio':>6}")
    for name, found in times.items():
        print(f"{name:18} {median(found):9.3f} {min(found):7.3f} {median(found) / first:6.2f}")


if __name__ == "__main__":
    main()
