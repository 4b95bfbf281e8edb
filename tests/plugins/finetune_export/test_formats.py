"""Each format with each kind of model, on tiny weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import finetune
from finetune.cli import main
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune_export import runtime
from finetune_export.exporting import Refused, export


def test_an_adapter_is_merged(classification: Any, tmp_path: Path) -> None:
    found = export(classification(tmp_path, strategy="lora"), tmp_path / "out", format="safetensors", tolerance=0)
    assert not found.proof.flips and found.proof.inputs.output_change < 1e-5
    assert not list((tmp_path / "out").glob("adapter*"))
    assert type(finetune.load(tmp_path / "out").model).__name__ == "BertForSequenceClassification"


def test_openvino_computes_in_float32(run: Path, tmp_path: Path) -> None:
    found = export(run, tmp_path / "out", format="openvino", tolerance=0)
    assert found.proof.inputs.output_change < 1e-5
    model = finetune.load(tmp_path / "out").model
    compiled = model.forward.__func__.__closure__[0].cell_contents.runner.compiled_model
    assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"


@pytest.mark.slow
def test_the_bfloat16_of_openvino_is_found(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = runtime._load

    def by_default(directory: Path, kind: str, *, config: Any, **options: Any) -> Any:
        return load(directory, kind, config={**config, "INFERENCE_PRECISION_HINT": "bf16"}, **options)

    monkeypatch.setattr(runtime, "_load", by_default)
    with pytest.raises(Refused, match="outputs differ by up to"):
        export(run, tmp_path / "out", format="openvino")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["onnx-int8", "openvino-int8"])
@pytest.mark.parametrize("calibrate", [0, 16])
def test_weights_in_8_bits_are_smaller_and_close(run: Path, tmp_path: Path, kind: str, calibrate: int) -> None:
    found = export(run, tmp_path / "out", format=kind, calibrate=calibrate, tolerance=5)
    assert 1e-6 < found.proof.inputs.output_change < 0.2
    assert finetune.load(tmp_path / "out").predict("a ship in the harbour")["prediction"] in ("sea", "land")


@pytest.mark.slow
def test_pt2_is_used_by_who_trusts_it(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "out", format="pt2", tolerance=0)
    trusted = CliRunner().invoke(main, ["evaluate", str(tmp_path / "out"), "--trust-code"])
    assert trusted.exit_code == 0, trusted.output


@pytest.mark.slow
@pytest.mark.parametrize("task", ["token-classification", "question-answering", "text-regression"])
@pytest.mark.parametrize("kind", ["onnx", "openvino"])
def test_other_tasks(train: Any, tiny_bert: Path, tmp_path: Path, task: str, kind: str) -> None:
    sample = {"token-classification": "entities", "question-answering": "qa", "text-regression": "ratings"}[task]
    dataset = {"path": f"sample:harbour-{sample}", "options": {"size": 24}}
    trained = train(tmp_path, task=task, model=tiny_bert, dataset=dataset, preprocessor={"max_length": 64})
    assert not export(trained, tmp_path / "out", format=kind).proof.flips


@pytest.mark.slow
def test_models_that_write_texts(train: Any, lines: Any, tmp_path: Path) -> None:
    rows = [{"source": "the ship lands", "target": "sea"}, {"source": "a tree on the hill", "target": "land"}] * 8
    made = tokenizer("xlm-roberta", [row["source"] for row in rows], vocab_size=300)
    path = {split: lines(tmp_path / f"{split}.jsonl", rows) for split in ("train", "test")}
    trained = train(
        tmp_path,
        task="text-to-text",
        model=tiny_model("t5", made, tmp_path / "base", model_class="AutoModelForSeq2SeqLM"),
        dataset={"path": path, "validation_size": 0},
        preprocessor={"max_source_length": 32, "max_target_length": 8},
        generation={"max_new_tokens": 6, "num_beams": 2},
    )
    assert not export(trained, tmp_path / "out", format="onnx").proof.flips
    one, two = (finetune.load(place).predict(source="the ship lands") for place in (tmp_path / "out", trained))
    assert one["prediction"] == two["prediction"]


@pytest.mark.slow
def test_a_model_of_another_program(run: Path, tmp_path: Path) -> None:
    export(run, tmp_path / "plain", format="safetensors")
    for name in ("recipe.yaml", "result.json", "proof.json", "report.html", "README.md", "predictions.jsonl"):
        (tmp_path / "plain" / name).unlink()
    rows = str(run.parent / "test.jsonl")
    found = export(tmp_path / "plain", tmp_path / "out", format="onnx", data=rows, tolerance=0)
    assert found.proof.rows == 30 and not found.proof.flips
    assert finetune.evaluate(tmp_path / "out", rows)["accuracy"] == found.proof.source
