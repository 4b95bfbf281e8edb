"""Kill the workers of a study at random moments, and compare what is left with a study that was never killed.

    python tests/campaigns/tune_kills.py --kills 20
    python tests/campaigns/tune_kills.py --kills 20 --workers 2

With one worker, the two studies must have the same trials, to the bit. With several, each trial must have the weights
that its values give, and each must have ended once.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS / "core"), str(TESTS / "plugins" / "finetune_tune")]

import studies  # noqa: E402
import toy  # noqa: E402
from safetensors.torch import load_file  # noqa: E402


def command(recipe: Path, *, trials: int, workers: int) -> list[str]:
    """Return the command of a study."""
    options = ["--trials", str(trials), "--seeds", "1", "--workers", str(workers), "-q"]
    return [sys.executable, "-m", "finetune", "tune", str(recipe), *options]


def environment() -> dict[str, str]:
    """Return an environment in which the toy task can be imported, and every process has one thread."""
    places = [str(TESTS / "core"), str(TESTS / "plugins" / "finetune_tune"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(places), "OMP_NUM_THREADS": "1"}


def killed(call: list[str], *, kills: int, longest: float, draw: random.Random) -> int:
    """Run a command until it ends, and kill it and its workers at random moments; return how often it was killed."""
    for number in range(kills):
        process = subprocess.Popen(call, env=environment(), start_new_session=True)
        try:
            code = process.wait(timeout=draw.uniform(0.1, 0.6) * longest)
            assert code == 0, f"the study ended with {code}"
            return number
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    subprocess.run(call, env=environment(), check=True)
    return kills


def weights(output: Path) -> dict[str, Any]:
    """Return the weights of each complete run of a study."""
    found = {}
    for path in sorted(output.rglob("model.safetensors")):
        if not path.parent.name.startswith("checkpoint-"):
            found[str(path.parent.relative_to(output))] = {
                name: tensor.tolist() for name, tensor in load_file(path).items()
            }
    return found


def again(output: Path, trials: list[dict[str, Any]], place: Path) -> None:
    """Train each complete trial without a pause, and check that it has the same weights."""
    for trial in trials:
        if trial["state"] == "complete":
            name = f"{trial['number']:04d}"
            recipe, run = output / "trials" / name / "recipe.yaml", place / name
            call = [sys.executable, "-m", "finetune", "train", str(recipe), f"output={run}", "--trust-code", "-q"]
            subprocess.run(call, env=environment(), check=True)
            assert weights(run)["."] == weights(output / "trials" / name)["."], f"trial {name} differs"


def main() -> None:
    """Run both studies, and compare them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        base = toy.base(place / "bert", hidden_dropout_prob=0.1)
        whole = studies.recipe(place / "whole", base)
        began = time.monotonic()
        subprocess.run(command(whole, trials=given.trials, workers=1), env=environment(), check=True)
        longest = time.monotonic() - began
        draw, count, number = random.Random(given.seed), 0, 0
        while count < given.kills:
            number += 1
            recipe = studies.recipe(place / f"killed-{number}", base)
            call = command(recipe, trials=given.trials, workers=given.workers)
            count += killed(call, kills=given.kills - count, longest=longest, draw=draw)
            outputs = (whole.parent / "study", recipe.parent / "study")
            compare(outputs, workers=given.workers, trials=given.trials, place=place / f"again-{number}")
        print(f"{number} studies killed {count} times with {given.workers} worker(s): equal")


def compare(outputs: tuple[Path, Path], *, workers: int, trials: int, place: Path) -> None:
    """Check that a study that was killed equals the one that was not."""
    whole, own = (studies.trials_of(output) for output in outputs)
    if workers == 1:
        assert whole == own, json.dumps([whole, own], indent=1)
        assert weights(outputs[0]) == weights(outputs[1]), "the weights differ"
        return
    assert len(own) == trials
    assert all(trial["state"] in ("complete", "stopped", "dropped") for trial in own)
    again(outputs[1], own, place)


if __name__ == "__main__":
    main()
