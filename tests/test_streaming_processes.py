"""A streamed run in two processes: each has its own rows, together those of one process, and resumes to the bit."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer

WORDS = ("harbour", "ship", "fog", "quay", "salt", "rope", "tar", "bell")


def recipe(folder: Path, name: str, *, batch: int) -> dict[str, Any]:
    return {
        "task": "text-classification",
        "model": str(folder / "base"),
        "dataset": {"path": str(folder / "rows.jsonl"), "streaming": True, "shuffle_buffer": 30},
        "preprocessor": {"max_length": 16},
        "strategy": "full",
        "output": str(folder / name),
        "score_base_model": False,
        "general_text": "none",
        "training": {
            "max_steps": 8, "save_strategy": "steps", "save_steps": 4, "logging_steps": 1, "eval_strategy": "no",
            "learning_rate": 1e-2, "lr_scheduler_type": "constant", "optim": "sgd",
            "per_device_train_batch_size": batch,
        },
    }  # fmt: skip


def call(content: Mapping[str, Any], *flags: str) -> subprocess.CompletedProcess[str]:
    file = Path(f"{content['output']}.yaml")
    file.write_text(yaml.safe_dump(dict(content)))
    command = [sys.executable, "-m", "finetune", "train", str(file), "--quiet", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


def train(content: Mapping[str, Any], *flags: str) -> dict[str, Any]:
    ended = call(content, *flags)
    assert ended.returncode == 0, ended.stderr[-3000:]
    result: dict[str, Any] = json.loads((Path(content["output"]) / "result.json").read_text())
    return result


def losses(result: Mapping[str, Any]) -> list[float]:
    return [entry["loss"] for entry in result["log"] if "loss" in entry]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="two processes of torch need a Unix")
def test_two_processes_read_the_rows_of_one_and_resume_to_the_bit(tmp_path: Path) -> None:
    rows = [{"text": f"{WORDS[n % 8]} {WORDS[n % 7]} {n}", "label": "ab"[n % 2]} for n in range(90)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = tokenizer("bert", [row["text"] for row in rows], vocab_size=300)
    base = tiny_model("bert", words, tmp_path / "base", model_class="AutoModelForMaskedLM")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(
        json.dumps({**config, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0})
    )
    alone = train(recipe(tmp_path, "alone", batch=12))
    together = train(recipe(tmp_path, "together", batch=6), "--processes", "2")
    assert losses(together) == pytest.approx(losses(alone), rel=1e-3)
    assert together["fingerprints"] == alone["fingerprints"] and together["data_report"] == alone["data_report"]
    cut = shutil.copytree(tmp_path / "together", tmp_path / "cut")
    (cut / "result.json").unlink()
    (cut / "model.safetensors").unlink()
    shutil.rmtree(cut / "checkpoint-8")
    positions = [json.loads((cut / "checkpoint-4" / f"stream-{n}.json").read_text()) for n in range(2)]
    assert [each["processes"] for each in positions] == [2, 2]
    for flags in (["--resume"], ["--resume", "--accept-changes"]):
        refused = call(recipe(tmp_path, "cut", batch=12), *flags)
        assert refused.returncode == 2 and "processes: 2 then, 1 now. A streamed run goes on with" in refused.stderr
        assert "resume with them" not in refused.stderr
    train(recipe(tmp_path, "cut", batch=6), "--processes", "2", "--resume")
    first, second = (load_file(folder / "model.safetensors") for folder in (tmp_path / "together", cut))
    assert all(torch.equal(first[name], second[name]) for name in first)
