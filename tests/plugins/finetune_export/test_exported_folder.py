"""An exported folder is used as any run folder, through its runtime."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import toy
from click.testing import CliRunner
from starlette.testclient import TestClient
from transformers import BertForSequenceClassification

import finetune
from finetune.cli import main
from finetune.errors import Incompatible
from finetune.kit import compare_runs
from finetune_serve.app import build
from finetune_serve.limits import Limits


def test_it_predicts_what_its_source_predicts(run: Path, onnx: Path) -> None:
    rows = [{"text": row["text"]} for row in toy.rows(20, seed=5)]
    source, exported = finetune.load(run).predict(rows), finetune.load(onnx).predict(rows)
    assert [record["prediction"] for record in source] == [record["prediction"] for record in exported]
    for one, two in zip(source, exported, strict=True):
        assert one["probabilities"] == pytest.approx(two["probabilities"], abs=1e-5)


def test_the_model_has_the_class_of_its_source_and_no_weights(onnx: Path) -> None:
    model = finetune.load(onnx).model
    assert isinstance(model, BertForSequenceClassification)
    assert model.num_parameters() == 0 and model.device.type == "cpu"


def test_it_is_evaluated_and_compared(run: Path, onnx: Path) -> None:
    assert finetune.evaluate(onnx) == pytest.approx(finetune.evaluate(run), abs=1e-6)
    assert [each.verdict for each in compare_runs([run, onnx]).runs] == ["first", "inconclusive"]


def test_it_is_served(run: Path, onnx: Path) -> None:
    with TestClient(build(finetune.load(onnx), Limits())) as client:
        answer = client.post("/predict", json={"text": "a ship in the harbour"}).json()
    assert answer["prediction"] == finetune.load(run).predict("a ship in the harbour")["prediction"]


def test_its_card_and_proof_say_what_changed(onnx: Path) -> None:
    card = (onnx / "README.md").read_text(encoding="utf-8")
    assert "Format: onnx" in card and "The same predictions on all 30 rows of test." in card
    found = json.loads((onnx / "proof.json").read_text(encoding="utf-8"))
    assert found["proof"]["flips"] == 0 and found["proof"]["inputs"]["output_change"] < 1e-5
    assert set(found["files"]) == {"config.json", "export.json", "model.onnx", "model.onnx.data"}
    assert set(found["speed"]) == {"source", "exported"} and "onnxruntime" in found["versions"]
    assert not list(onnx.parent.glob(".exported-*"))


def test_a_damaged_graph_is_named(onnx: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(onnx, copy)
    with (copy / "model.onnx.data").open("r+b") as file:
        file.write(b"damaged")
    with pytest.raises(Incompatible, match=r"model\.onnx\.data changed"):
        finetune.load(copy)


def test_it_cannot_be_trained(onnx: Path, tmp_path: Path) -> None:
    found = CliRunner().invoke(main, ["train", str(onnx / "recipe.yaml"), f"output={tmp_path / 'new'}", "--trust-code"])
    assert found.exit_code == 2 and "belongs to an exported model" in found.output


def test_reports_and_cards_are_made_of_it(onnx: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(onnx, copy)
    for name in ("report", "card"):
        found = CliRunner().invoke(main, [name, str(copy)])
        assert found.exit_code == 0, found.output
