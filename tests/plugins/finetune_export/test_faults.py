"""Faults that are planted into an export are found by its proof, and nothing is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from finetune.cli import main
from finetune_export import exporting, formats
from finetune_export.exporting import Refused, export


def _change(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def _change_weights(folder: Path, change: Callable[[str, torch.Tensor], torch.Tensor]) -> None:
    path = folder / "model.safetensors"
    save_file({name: change(name, each).contiguous() for name, each in load_file(path).items()}, path, {"format": "pt"})


def swapped_labels(folder: Path) -> None:
    _change(folder / "config.json", lambda config: config.update(id2label={"0": "sea", "1": "land"}))


def swapped_rows_of_the_head(folder: Path) -> None:
    _change_weights(folder, lambda name, each: each.flip(0) if name.startswith("classifier") else each)


def missing_token_types(folder: Path) -> None:
    names = ["input_ids", "attention_mask"]
    _change(folder / "tokenizer_config.json", lambda content: content.update(model_input_names=names))


def left_padding(folder: Path) -> None:
    _change(folder / "tokenizer_config.json", lambda content: content.update(padding_side="left"))


def truncated_vocabulary(folder: Path) -> None:
    def cut(content: Any) -> None:
        vocabulary = content["model"]["vocab"]
        content["model"]["vocab"] = {token: number for token, number in vocabulary.items() if number < 40}

    _change(folder / "tokenizer.json", cut)


def bfloat16(folder: Path) -> None:
    """Round the weights, as a runtime does that computes in bfloat16."""
    _change_weights(folder, lambda _, each: each.bfloat16().float() if each.is_floating_point() else each)


FAULTS = {
    swapped_labels: "labels differ: sea, land in the folder, and land, sea in the source",
    swapped_rows_of_the_head: "predictions changed, and rounding does not explain that",
    missing_token_types: "its tokenizer reads the rows in another way: 30 of the features",
    left_padding: "the tokenizer's padding_side differ: left in the folder, and right in the source",
    truncated_vocabulary: "its tokenizer reads the rows in another way",
    bfloat16: "its outputs differ by up to",
}


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Path], None]], None]:
    """Return what plants a fault into the files of each export: after the model and before they are recorded."""

    def planted(fault: Callable[[Path], None]) -> None:
        describe = exporting.describe_saved

        def describe_with_fault(directory: Path, **options: Any) -> Any:
            fault(directory)
            return describe(directory, **options)

        monkeypatch.setattr(exporting, "describe_saved", describe_with_fault)

    return planted


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_found(run: Path, tmp_path: Path, plant: Any, fault: Callable[[Path], None]) -> None:
    plant(fault)
    with pytest.raises(Refused) as refused:
        export(run, tmp_path / "exported", format="safetensors")
    assert FAULTS[fault] in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_without_a_fault_the_same_export_is_kept(run: Path, tmp_path: Path) -> None:
    found = export(run, tmp_path / "exported", format="safetensors", tolerance=0)
    assert found.verdict == "The same predictions on all 30 rows of test. Outputs differ by at most 0 of the greatest."


@pytest.fixture
def inexact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let safetensors be a format that may change outputs, as int8 is."""
    changed = {**formats.FORMATS, "safetensors": replace(formats.FORMATS["safetensors"], is_exact=False)}
    monkeypatch.setattr(formats, "FORMATS", changed)


@pytest.mark.usefixtures("inexact")
def test_a_loss_within_no_stated_tolerance_is_said_and_its_rows_are_listed(
    run: Path, tmp_path: Path, plant: Any
) -> None:
    plant(swapped_rows_of_the_head)
    found = export(run, tmp_path / "exported", format="safetensors")
    assert "points worse (95% interval of the paired difference −" in found.verdict
    rows = [json.loads(line) for line in (tmp_path / "exported" / "flips.jsonl").read_text("utf-8").splitlines()]
    assert len(rows) == len(found.proof.flips) > 20
    assert {rows[0]["source"], rows[0]["exported"]} == {"sea", "land"} and rows[0]["example"]["text"]
    assert rows[0]["worse"] == max(row["worse"] for row in rows) > 0


@pytest.mark.usefixtures("inexact")
def test_a_loss_above_the_tolerance_ends_with_3_and_leaves_nothing(run: Path, tmp_path: Path, plant: Any) -> None:
    plant(swapped_rows_of_the_head)
    call = ["export", str(run), str(tmp_path / "out"), "--format", "safetensors", "--tolerance", "0.5"]
    found = CliRunner().invoke(main, call)
    assert found.exit_code == 3, found.output
    assert "--tolerance allows 0.5" in found.output and "  row " in found.output
    assert not list(tmp_path.iterdir())
