"""Served answers are those of `finetune predict`; a bad row has an error of its own, and changes no other row."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import toy
from served import predicted, record, same
from starlette.testclient import TestClient

import finetune
from finetune.api import FineTuned
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune_serve.app import build
from finetune_serve.limits import Limits


def samples(name: str, columns: list[str], size: int) -> list[dict[str, Any]]:
    from finetune_samples.catalogue import load

    rows = load(name, size=size, seed=3)["train"]
    return [{column: row[column] for column in columns} for row in rows]


@pytest.mark.parametrize(
    ("run", "sample", "columns"),
    [
        ("words", "harbour-entities", ["tokens"]),
        ("questions", "harbour-qa", ["id", "question", "context"]),
    ],
)
def test_served_answers_are_those_of_predict(
    run: str, sample: str, columns: list[str], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(run)
    rows = samples(sample, columns, 24)
    expected = predicted(folder, rows, tmp_path)
    with TestClient(build(finetune.load(folder), Limits(batch_tokens=256))) as client:
        found = client.post("/predict", json={"rows": rows}).json()["rows"]
    assert len(found) == len(rows)
    assert all(map(same, map(record, found), expected))


@pytest.mark.parametrize("rows", [[{}], [{}, {"text": "the ship"}]])
def test_an_empty_row_is_named_as_one(client: TestClient, rows: list[dict[str, Any]]) -> None:
    error = client.post("/predict", json={"rows": rows}).json()["rows"][0]["error"]
    assert (error["code"], error["message"]) == ("not-an-object", "the object has no keys.")


def test_requests_at_once_get_their_own_answers(client: TestClient, model: FineTuned) -> None:
    rows = [{"text": " ".join([row["text"]] * (1 + place % 3))} for place, row in enumerate(toy.rows(40, seed=5))]
    expected = model.predict(rows)
    with ThreadPoolExecutor(8) as pool:
        found = [*pool.map(lambda row: client.post("/predict", json=row).json(), rows)]
    assert all(map(same, map(record, found), expected))


def test_a_row_can_use_the_names_of_the_data_or_of_the_task(client: TestClient) -> None:
    found = client.post("/predict", json={"rows": [{"headline": "a ship"}, {"text": "a ship"}, "a ship"]}).json()
    assert found["rows"][0] == found["rows"][1] == found["rows"][2]
    assert client.post("/predict", json={"headline": "a ship"}).json() == found["rows"][0]


BAD = [
    ({"text": ""}, "text-empty", "text"),
    ({"text": 5}, "text-not-text", "text"),
    ({"txt": "a ship"}, "missing-column", "text"),
    (5, "not-an-object", None),
    (None, "not-an-object", None),
    ({"text": None}, "text-missing", "text"),
]


@pytest.mark.parametrize(("row", "code", "column"), BAD)
def test_a_bad_row_has_an_error_and_the_others_have_answers(
    client: TestClient, row: Any, code: str, column: str | None
) -> None:
    good = {"text": "the ship a harbour"}
    alone = client.post("/predict", json=good).json()
    answer = client.post("/predict", json={"rows": [good, row, good]})
    assert answer.status_code == 200
    first, middle, last = answer.json()["rows"]
    assert same(first, alone) and same(last, alone)
    assert (middle["error"]["code"], middle["error"].get("column")) == (code, column), middle
    assert middle["error"]["message"].endswith(".") and "row 0" not in middle["error"]["message"]


def test_a_request_without_a_good_row_is_unprocessable(client: TestClient) -> None:
    answer = client.post("/predict", json={"text": ""})
    assert answer.status_code == 422 and answer.json()["error"]["code"] == "text-empty"
    assert client.post("/predict", json={"rows": [{"text": ""}, {"text": " "}]}).status_code == 422


def test_columns_of_one_client_do_not_change_the_types_of_another(client: TestClient) -> None:
    """In a file, `id` would have one type, and the second row would be wrong."""
    rows = [{"text": "a ship", "id": 1}, {"text": "a ship", "id": "one"}, {"text": "a ship", "id": [1]}]
    found = client.post("/predict", json={"rows": rows}).json()["rows"]
    assert found[0] == found[1] == found[2] and "error" not in found[0]


def test_every_answer_says_how_much_was_cut_off(client: TestClient) -> None:
    """The run reads 16 tokens, two of which are special."""
    rows = [{"text": "ship " * 14}, {"text": "ship " * 30}, {"text": "ship"}]

    def counted(name: str) -> float:
        (line,) = [line for line in client.get("/metrics").text.splitlines() if line.startswith(f"{name} ")]
        return float(line.split()[1])

    before = counted("finetune_tokens_lost_total"), counted("finetune_rows_truncated_total")
    lost = [row["tokens_lost"] for row in client.post("/predict", json={"rows": rows}).json()["rows"]]
    assert lost == [0, 16, 0]
    after = counted("finetune_tokens_lost_total"), counted("finetune_rows_truncated_total")
    assert (after[0] - before[0], after[1] - before[1]) == (16, 1)


def test_answers_say_what_to_highlight_if_asked(questions: Path) -> None:
    row = samples("harbour-qa", ["question", "context"], 4)[0]
    with TestClient(build(finetune.load(questions), Limits())) as client:
        (answer,) = client.post("/predict", json={"rows": [row], "highlights": True}).json()["rows"]
        (plain,) = client.post("/predict", json={"rows": [row]}).json()["rows"]
    assert "highlights" not in plain
    for start, end, kind in answer["highlights"].get("context", []):
        assert kind == "prediction" and row["context"][start:end] == answer["prediction"]
    assert bool(answer["prediction"]) == bool(answer["highlights"].get("context"))


def test_a_process_that_predicts_again_and_again_writes_no_files(model: FineTuned) -> None:
    from finetune.data import storage

    def files() -> int:
        return len([path for path in Path(storage.root()).rglob("*") if path.is_file()])

    predictor = model.predictor()
    before = files()
    for _ in range(3):
        predictor.predict([row for row in predictor.encode([{"text": "a ship"}]) if not isinstance(row, Exception)])
        model.predict(text="a ship")
    assert files() == before


def test_a_process_that_predicts_again_and_again_keeps_no_rows(model: FineTuned) -> None:
    """accelerate keeps each loader of a trainer, and with it the rows, unless an option says otherwise."""
    import gc

    from datasets import Dataset

    predictor = model.predictor()

    def held() -> int:
        predictor.predict([row for row in predictor.encode(["a ship"]) if not isinstance(row, Exception)])
        gc.collect()
        return sum(type(each) is Dataset for each in gc.get_objects())

    first = held()
    assert [held() for _ in range(3)] == [first] * 3


def test_a_model_of_another_program_is_served_with_its_labels(tmp_path: Path) -> None:
    names = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
    head = "AutoModelForSequenceClassification"
    place = tiny_model("bert", tokenizer("bert"), tmp_path / "model", model_class=head, **names)
    loaded = finetune.load(place)
    with TestClient(build(loaded, Limits())) as client:
        about = client.get("/info").json()
        served = client.post("/predict", json={"text": "fog"}).json()
    assert (about["labels"], about["strategy"], about["scores"]) == (["bad", "good"], None, {})
    assert same(record(served), loaded.predict("fog"))
