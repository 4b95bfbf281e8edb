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
            code = process.wait(timeout=draw.uniform(0.2, 1) * longest)
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
        recipes = [studies.recipe(place / name, base) for name in ("whole", "killed")]
        began = time.monotonic()
        subprocess.run(command(recipes[0], trials=given.trials, workers=1), env=environment(), check=True)
        longest = time.monotonic() - began
        call = command(recipes[1], trials=given.trials, workers=given.workers)
        count = killed(call, kills=given.kills, longest=longest, draw=random.Random(given.seed))
        outputs = [recipe.parent / "study" for recipe in recipes]
        trials, own = [studies.trials_of(output) for output in outputs], [weights(output) for output in outputs]
        if given.workers == 1:
            assert trials[0] == trials[1], json.dumps(trials, indent=1)
            assert own[0] == own[1], "the weights differ"
        else:
            assert len(trials[1]) == given.trials
            assert all(trial["state"] in ("complete", "stopped", "dropped") for trial in trials[1])
            again(outputs[1], trials[1], place / "again")
        print(f"killed {count} times with {given.workers} worker(s); {len(own[1])} complete runs; equal")


if __name__ == "__main__":
    main()
