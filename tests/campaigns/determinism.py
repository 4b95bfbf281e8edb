"""Train one recipe in processes that differ in everything that must not matter, and compare what they write.

``python tests/campaigns/determinism.py`` measures the line "determinism". Each process is a Python of its own, because
the seed of hashes is fixed when Python starts. They differ in ``PYTHONHASHSEED``, current folder, language, time zone,
and in whether the user asks MKL for reproducible sums or leaves that to the command. Weights and predictions must be
equal to the bit. The control is a strategy whose weights depend on the hash of a text.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import watched
from scorecard import ROOT, Line, record

from finetune.interfaces import Task
from finetune_freeze.full import FullStrategy

WORLDS: Mapping[str, Mapping[str, str]] = {
    "plain": {"PYTHONHASHSEED": "0"},
    "other hashes": {"PYTHONHASHSEED": "7"},
    "other hashes and folder": {"PYTHONHASHSEED": "12345", "folder": "/"},
    "language C": {"PYTHONHASHSEED": "1", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    "Turkish, Kathmandu": {"PYTHONHASHSEED": "2", "LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8",
                           "TZ": "Asia/Kathmandu"},
    "Newfoundland": {"PYTHONHASHSEED": "4", "TZ": "America/St_Johns", "folder": "/tmp"},
    "MKL_CBWR given": {"PYTHONHASHSEED": "3", "MKL_CBWR": "AUTO,STRICT"},
}  # fmt: skip
"""Name → variables of the environment, and the current folder."""
TRAINING = {"max_steps": 10, "gradient_accumulation_steps": 2, "save_strategy": "no"}


@dataclass(frozen=True, kw_only=True)
class HashedStart(FullStrategy):
    """Starts from weights that depend on the hash of a text: the planted fault."""

    def prepare(self, model: Any, task: Task, **facts: Any) -> Any:
        """Add noise."""
        with torch.no_grad():
            next(model.parameters()).add_(hash("sea") % 1000 * 1e-5)
        return super().prepare(model, task, **facts)


@dataclass
class Figures:
    """What the trials showed."""

    runs: int = 0
    different: list[str] = field(default_factory=list)
    """Worlds whose weights or predictions are not those of the first."""


def measure(folder: Path, *, worlds: Mapping[str, Mapping[str, str]] = WORLDS, strategy: str = "full") -> Figures:
    """Train in each world, and compare with the first."""
    figures, first = Figures(), None
    for number, (name, world) in enumerate(worlds.items()):
        run = folder / f"run-{number}"
        recipe = watched.write_recipe(folder, run, TRAINING, strategy=strategy)
        _train(recipe, world)
        found = watched.weights(run)
        first = first or found
        figures.runs += 1
        if found != first or not found:
            figures.different.append(name)
    return figures


def _train(recipe: Path, world: Mapping[str, str]) -> None:
    """Train in a Python of its own."""
    kept = {name: value for name, value in os.environ.items() if name not in ("MKL_CBWR", "LC_ALL", "LANG", "TZ")}
    places = [str(ROOT), str(ROOT / "plugins"), str(ROOT / "tests" / "core"), str(ROOT / "tests" / "campaigns")]
    variables = {name: value for name, value in world.items() if name != "folder"}
    environment = {**kept, "PYTHONPATH": os.pathsep.join(places), "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, "-m", "finetune", "train", str(recipe), "--quiet"]
    folder = world.get("folder", str(recipe.parent))
    ended = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise RuntimeError(f"exit code {ended.returncode}:\n{ended.stderr}")


def control(folder: Path) -> Figures:
    """Return what the campaign shows of a run that depends on hashes."""
    worlds = {name: WORLDS[name] for name in ("plain", "other hashes")}
    return measure(folder, worlds=worlds, strategy="determinism:HashedStart")


def main() -> None:
    """Measure and record the line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=len(WORLDS), help="how many of the worlds")
    parser.add_argument("--seed", type=int, default=0, help="is not used: the worlds are fixed")
    given, started = parser.parse_args(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), worlds=dict(list(WORLDS.items())[: given.trials]))
    with tempfile.TemporaryDirectory() as folder:
        noticed = bool(control(Path(folder)).different)
    print(*figures.different, sep="\n")
    line = Line(
        name="determinism",
        goal="equal weights and predictions, whatever the hash seed, folder, language and time zone, with and without "
        "MKL_CBWR in the environment",
        stock="equal at a fixed number of threads",
        ours=f"{figures.runs - len(figures.different)} of {figures.runs} processes equal to the bit"
        + (f"; other bits: {', '.join(figures.different)}" if figures.different else "")
        + f"; the control {'failed as it must' if noticed else 'DID NOT FAIL'}",
        met=not figures.different and noticed,
        not_covered="another number of threads and other processors, which give other bits; locales that are not "
        "installed on the machine act as C",
    )
    record(line, started=started)


if __name__ == "__main__":
    main()
