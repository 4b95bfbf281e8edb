"""A run whose validation shows that it is too sure: its temperature is in everything that comes after training."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import toy
from click.testing import CliRunner
from starlette.testclient import TestClient

import finetune
from finetune.cli import main
from finetune.errors import OutputExists
from finetune.kit import Result
from finetune.report import page
from finetune_hub.card import card
from finetune_serve.app import build
from finetune_serve.limits import Limits

MAX_LENGTH = 16


def flipped(size: int, *, seed: int, every: int) -> list[dict[str, str]]:
    """Return rows of which each so-manieth has the wrong label."""
    rows = toy.rows(size, seed=seed)
    other = {"sea": "land", "land": "sea"}
    return [
        {**row, "label": other[row["label"]] if place % every == 0 else row["label"]} for place, row in enumerate(rows)
    ]


def train(folder: Path, **evaluator: Any) -> Result:
    splits = {
        "train": toy.rows(32),
        "validation": flipped(90, seed=1, every=4),
        "test": flipped(90, seed=2, every=4),
    }
    data = {split: str(folder / f"{split}.jsonl") for split in splits}
    for split, rows in splits.items():
        Path(data[split]).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return finetune.train(
        task="text-classification",
        model=toy.base(folder / "base"),
        dataset={"path": data},
        output=folder / "run",
        strategy="full",
        preprocessor={"max_length": MAX_LENGTH},
        evaluator=evaluator or None,
        training={"max_steps": 30, "per_device_train_batch_size": 8, "learning_rate": 2e-2, "save_strategy": "no"},
        score_base_model=False,
        general_text="none",
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(train(tmp_path_factory.mktemp("calibrated")).directory)


@pytest.fixture(scope="module")
def result(run: Path) -> Result:
    return Result.load(run)


def lines(run: Path, split: str) -> list[dict[str, Any]]:
    read = map(json.loads, (run / "predictions.jsonl").read_text(encoding="utf-8").splitlines())
    return [line for line in read if line["split"] == split]


def invoke(*words: str) -> Any:
    done = CliRunner().invoke(main, [*words])
    assert done.exit_code == 0, (done.stderr, done.exception)
    return done


def test_the_temperature_is_stored_with_the_evaluator_and_helps_on_test(result: Result) -> None:
    found = result.calibration
    assert found["temperature"] == result.evaluator["options"]["temperature"] > 1.2
    for name in ("nll", "ece", "brier"):
        assert found["splits"]["test"]["after"][name]["value"] < found["splits"]["test"]["before"][name]["value"]
    assert found["splits"]["test"]["after"]["ece"]["value"] == pytest.approx(
        result.details["test"]["calibration"]["ece"]
    )
    assert any(note.startswith("temperature ") for note in result.notes)
    assert result.selection_split is None  # a temperature selects nothing


def test_predictions_of_the_run_of_predict_and_of_the_server_are_equal(run: Path) -> None:
    known = lines(run, "test")
    rows = [{"text": line["example"]["text"]} for line in known]
    model = finetune.load(run)
    predicted = model.predict(rows)
    with TestClient(build(model, Limits())) as client:
        served = client.post("/predict", json={"rows": rows}).json()["rows"]
    for line, one, other in zip(known, predicted, served, strict=True):
        assert one["probabilities"] == pytest.approx(line["probabilities"], abs=1e-6)
        assert other["probabilities"] == pytest.approx(one["probabilities"], abs=1e-6)
        assert one["prediction"] == other["prediction"] == line["prediction"]


def test_labels_and_accuracy_are_those_without_a_temperature(run: Path, result: Result, tmp_path: Path) -> None:
    plain = train(tmp_path, temperature=1.0)
    assert plain.calibration["temperature"] == 1.0 and "recipe" in plain.calibration["reason"]
    for split, scores in result.scores.items():
        # probabilities near 1 are equal without a temperature, and the area under the curve counts such ties half
        assert scores == {**plain.scores[split], "roc_auc": scores["roc_auc"]}
    for one, other in zip(lines(run, "test"), lines(Path(plain.directory), "test"), strict=True):
        assert one["prediction"] == other["prediction"]
        assert one["probability"] <= other["probability"]


def test_unsure_predictions_are_withheld_in_every_form(run: Path, tmp_path: Path) -> None:
    rows = [{"text": line["example"]["text"]} for line in lines(run, "test")]
    model = finetune.load(run)
    every = model.predict(rows)
    middle = sorted(record["probability"] for record in every)[45]
    expected = [record["probability"] < middle for record in every]
    assert 10 < sum(expected) < 80
    abstaining = model.with_answering(abstain_below=middle)
    found = abstaining.predict(rows)
    assert [record["abstained"] for record in found] == expected
    for record, whole in zip(found, every, strict=True):
        assert record.get("withheld", record["prediction"]) == whole["prediction"]
        assert (record["prediction"] is None) == record["abstained"]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    printed = invoke("predict", str(run), str(file), "--abstain-below", repr(middle), "--quiet").stdout
    assert [json.loads(line)["abstained"] for line in printed.splitlines()] == expected
    finetune.predict(abstaining, file, tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as table:
        cells = [row["prediction"] for row in csv.DictReader(table)]
    assert [not cell for cell in cells] == expected
    with TestClient(build(abstaining, Limits())) as client:
        served = client.post("/predict", json={"rows": rows}).json()["rows"]
    assert [record["abstained"] for record in served] == expected


def test_predictions_in_a_folder_are_not_continued_with_another_threshold(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"text": "a ship"}\n', encoding="utf-8")
    model = finetune.load(run)
    finetune.predict(model.with_answering(abstain_below=0.9), file, tmp_path / "out")
    assert finetune.predict(model.with_answering(abstain_below=0.9), file, tmp_path / "out").made == 0
    with pytest.raises(OutputExists, match="holds predictions of another model"):
        finetune.predict(model.with_answering(abstain_below=0.8), file, tmp_path / "out")


def test_sets_are_added_and_their_coverage_is_measured(run: Path, result: Result) -> None:
    assert result.calibration["sets"]["rows"] == 90
    found = finetune.load(run).with_answering(coverage=0.9).predict("a ship")
    assert found["prediction"] in found["set"] and set(found["set"]) <= {"sea", "land"}
    printed = invoke("evaluate", str(run), "--coverage", "0.9", "--abstain-below", "0.7").stdout
    assert "Sets: the right label is in a share of" in printed and "at least 0.9 was asked for" in printed
    assert "Answered: " in printed and "with a probability of at least 0.7; accuracy " in printed
    refused = CliRunner().invoke(main, ["predict", str(run), "--text", "a ship", "--coverage", "0.995"])
    assert refused.exit_code == 2 and "a coverage of 0.995 needs 199 rows of validation" in refused.stderr


def test_report_and_card_say_it(result: Result) -> None:
    sentence = "validation rows, makes the probabilities less sure"
    shown = page(result)
    assert sentence in shown and "without the temperature" in shown and "share answered" in shown
    assert sentence in card(result, Path(result.directory))
