"""Write the runs that every later version must load, resume or refuse: ``python tests/campaigns/make_fixtures.py``.

They go to ``fixtures/format-N``, N being the format of `result.json`. Make them once for each format, with the release
that brings it, and never change those of an earlier one. `upgrades.py` measures what becomes of them.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import finetune
from finetune.result import FORMAT
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer

FIXTURES = Path(__file__).parent / "fixtures"
SIZES = {"train": 24, "validation": 8, "test": 8}
WORDS = {"sea": ("ship", "wave", "harbour", "tide"), "land": ("tree", "hill", "road", "field")}
EXAMPLES = ("the ship a wave", "a hill the road", "tide the harbour a ship a field")
"""Texts whose predictions the fixtures hold."""
STEPS, LAST = 6, 4
"""Steps of each run, and the step of the last checkpoint of the one that did not finish."""


def rows(split: str) -> list[str]:
    """Return the lines of a split, with a header."""
    draw = random.Random(split)
    lines = ["text,label"]
    for _ in range(SIZES[split]):
        label = draw.choice(list(WORDS))
        text = " ".join(draw.choice([*WORDS[label], "the", "a"]) for _ in range(6))
        lines.append(f"{text},{label}")
    return lines


def recipe(folder: Path, output: Path, strategy: str) -> dict[str, Any]:
    """Return the recipe of a run on the data and the base model in a folder."""
    return {
        "task": "text-classification",
        "model": str(folder / "base"),
        "dataset": str(folder / "data"),
        "strategy": strategy,
        "output": str(output),
        "training": {
            "max_steps": STEPS,
            "per_device_train_batch_size": 4,
            "learning_rate": 5e-3,
            "save_strategy": "steps",
            "save_steps": 2,
        },
        "score_base_model": False,
        "general_text": "none",
    }


def make(folder: Path) -> None:
    """Write base model, data, and the runs ``full``, ``lora`` and ``unfinished`` to a folder."""
    (folder / "data").mkdir(parents=True)
    for split in SIZES:
        (folder / "data" / f"{split}.csv").write_text("\n".join(rows(split)) + "\n", encoding="utf-8")
    words = tokenizer("bert", rows("train")[1:], vocab_size=80)
    tiny_model("bert", words, folder / "base", hidden_size=16, intermediate_size=16, num_hidden_layers=1,
               max_position_embeddings=32)  # fmt: skip
    expected = {}
    for strategy in ("full", "lora"):
        finetune.train(**recipe(folder, folder / strategy, strategy))
        model = finetune.load(folder / strategy)
        predictions = model.predict([{"text": text} for text in EXAMPLES])
        expected[strategy] = {"predictions": predictions, "scores": model.evaluate(folder / "data" / "test.csv")}
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")
    unfinished = shutil.copytree(folder / "full", folder / "unfinished")
    for path in [*unfinished.iterdir()]:  # what a run that was killed after step 5 leaves
        if path.is_file() and path.name not in {"recipe.yaml", "log.jsonl"}:
            path.unlink()
        elif path.is_dir() and path.name != f"checkpoint-{LAST}":
            shutil.rmtree(path)
    for run in ("full", "lora"):
        for path in (folder / run).glob("checkpoint-*"):
            shutil.rmtree(path)
        for name in ("report.html", "README.md"):  # any version writes them again
            (folder / run / name).unlink()


if __name__ == "__main__":
    target = FIXTURES / f"format-{FORMAT}"
    if target.exists():
        sys.exit(f"{target} exists. Fixtures of a format that was released must not change.")
    place = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp())
    make(place / "runs")  # the results hold this path
    shutil.copytree(place / "runs", target)
    print(target)
