"""`finetune predict` takes rows in the form that people have them, and gives the same records in each form."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import toy
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from finetune import recipe
from finetune.cli import main
from finetune.prediction import tables

ROWS = [{"headline": row["text"], "id": f"n{place}"} for place, row in enumerate(toy.rows(7, seed=9))]


def finetune(*arguments: object, code: int = 0, given: str | None = None) -> Result:
    ended = CliRunner().invoke(main, [str(argument) for argument in arguments], input=given)
    assert ended.exit_code == code, ended.output
    return ended


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a tiny classifier on a csv file with other names of columns."""
    folder = tmp_path_factory.mktemp("run")
    toy.base(folder / "base")
    rows = toy.rows(24)
    with (folder / "news.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["headline", "category"])
        writer.writerows((row["text"], row["label"]) for row in rows)
    content = {
        "task": "text-classification", "model": str(folder / "base"), "strategy": "full", "output": str(folder / "run"),
        "dataset": {"path": str(folder / "news.csv"), "columns": {"headline": "text", "category": "label"},
                    "validation_size": 0.3},
        "training": {"max_steps": 2, "learning_rate": 1e-2, "save_strategy": "no"},
        "score_base_model": False, "general_text": "none",
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(recipe.dump(content))
    finetune("train", folder / "recipe.yaml", "--quiet")
    return folder / "run"


def as_csv(path: Path, name: str) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([name, "id"])
        writer.writerows((row["headline"], row["id"]) for row in ROWS)


def as_json_lines(path: Path, name: str) -> None:
    path.write_text("".join(json.dumps({name: row["headline"], "id": row["id"]}) + "\n" for row in ROWS))


def as_parquet(path: Path, name: str) -> None:
    pq.write_table(pa.table({name: [row["headline"] for row in ROWS], "id": [row["id"] for row in ROWS]}), path)


def as_text(path: Path, name: str) -> None:
    path.write_text("".join(f"{row['headline']}\r\n\n" for row in ROWS))


FORMS: dict[str, Callable[[Path, str], None]] = {
    ".csv": as_csv, ".jsonl": as_json_lines, ".parquet": as_parquet, ".txt": as_text
}  # fmt: skip


@pytest.fixture(scope="module")
def expected(run: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return the records of the rows, without places and columns."""
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    as_csv(path, "headline")
    return [without(line) for line in finetune("predict", run, path).stdout.splitlines()]


def without(line: str) -> dict[str, Any]:
    return {name: value for name, value in json.loads(line).items() if name not in ("place", "input")}


@pytest.mark.parametrize("name", ["headline", "text"])
@pytest.mark.parametrize("form", FORMS)
def test_each_form_and_each_name_of_a_column_gives_the_same_records(
    form: str, name: str, run: Path, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / f"rows{form}"
    FORMS[form](path, name)
    lines = [json.loads(line) for line in finetune("predict", run, path).stdout.splitlines()]
    assert [without(json.dumps(line)) for line in lines] == expected
    known = {"headline": [row["headline"] for row in ROWS], "id": [row["id"] for row in ROWS]}
    shown = "headline" if form == ".txt" else name
    assert [line["input"][shown] for line in lines] == known["headline"]
    assert [line["place"]["row"] for line in lines] == list(range(len(ROWS)))
    if form == ".txt":
        assert [line["place"]["line"] for line in lines] == list(range(1, 2 * len(ROWS), 2))
    else:
        assert [line["input"]["id"] for line in lines] == [line["place"]["id"] for line in lines] == known["id"]


@pytest.mark.parametrize("form", [".jsonl", ".txt"])
def test_standard_input_takes_json_lines_and_lines_of_text(
    form: str, run: Path, expected: list[dict[str, Any]], tmp_path: Path
) -> None:
    FORMS[form](tmp_path / "rows", "headline")
    content = (tmp_path / "rows").read_text()
    lines = finetune("predict", run, "-", given=content).stdout.splitlines()
    assert list(map(without, lines)) == expected
    assert {json.loads(line)["place"]["file"] for line in lines} == {"standard input"}
    out = tmp_path / "out.jsonl"
    for _ in range(2):
        finetune("predict", run, "-", "--output", out, "--overwrite", given=content)
        assert out.read_text().splitlines() == lines
    refused = finetune("predict", run, "-", given=content + '{"headline": " "}\n' * 2, code=2 * (form == ".jsonl"))
    if form == ".jsonl":
        assert "standard input:8" in refused.stderr
    assert "standard input is empty" in finetune("predict", run, "-", given=" \n", code=2).stderr


def test_the_file_has_the_records_that_are_printed_in_each_format(run: Path, tmp_path: Path) -> None:
    ask = tmp_path / "ask.csv"
    as_csv(ask, "headline")
    with ask.open("a") as file:
        file.write('"",bad\n')
    call = ["predict", run, ask, "--on-bad", "drop"]
    printed = finetune(*call).stdout
    records = [json.loads(line) for line in printed.splitlines()]
    assert finetune(*call, "--output", tmp_path / "out.jsonl", "--block-rows", 3).stdout.startswith("8 rows: ")
    small = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["prediction"] for line in small] == [line["prediction"] for line in records]
    assert small[-1] == records[-1] and "left_out" in small[-1]
    finetune(*call, "--output", tmp_path / "out.parquet", "--processes", 2)
    finetune(*call, "--output", tmp_path / "named", "--format", "csv")
    with (tmp_path / "named").open(newline="") as file:
        rows = list(csv.DictReader(file))
    table = pq.read_table(tmp_path / "out.parquet").to_pylist()
    for record, row, typed in zip(records, rows, table, strict=True):
        flat = tables.flat(record)
        assert row == {name: str(flat[name]) if flat.get(name) is not None else "" for name in row}
        assert {name: value for name, value in typed.items() if value is not None} == {
            name: value for name, value in flat.items() if value is not None
        }
    assert list(rows[0])[:3] == ["headline", "id", "prediction"]
    assert finetune(*call, "--format", "csv").stdout == (tmp_path / "named").read_text()
    assert not list(tmp_path.glob("*.parts")) and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("there.csv", "exists. Name another file, or replace this one with --overwrite."),
        ("ask.csv", "is the file with the rows"),
        ("out.xlsx", ".xlsx files are not written"),
        ("nowhere/out.csv", "does not exist. Make it first."),
        ("folder.csv", "is a folder. Name a file."),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_a_row_is_predicted(
    output: str, message: str, run: Path, tmp_path: Path
) -> None:
    as_csv(tmp_path / "ask.csv", "headline")
    before = (tmp_path / "ask.csv").read_text()
    (tmp_path / "there.csv").write_text("mine")
    (tmp_path / "folder.csv").mkdir()
    asked = ["predict", run, tmp_path / "ask.csv", "--output", tmp_path / output]
    assert message in finetune(*asked, code=2).stderr
    assert (tmp_path / "there.csv").read_text() == "mine" and (tmp_path / "ask.csv").read_text() == before
    if output == "there.csv":
        finetune(*asked, "--overwrite")
        assert len((tmp_path / output).read_text().splitlines()) == len(ROWS) + 1
    if output == "ask.csv":
        assert message in finetune(*asked, "--overwrite", code=2).stderr


def test_one_row_is_given_by_the_names_of_the_data_or_of_the_task(run: Path) -> None:
    ours = finetune("predict", run, "--text", "a ship").stdout
    assert json.loads(ours)["prediction"] in ("land", "sea")
    assert finetune("predict", run, "--headline=a ship").stdout == ours


def test_answers_that_training_never_saw_stop_no_prediction(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("headline,category\na ship,never seen\na hill,\n")
    lines = [json.loads(line) for line in finetune("predict", run, tmp_path / "a.csv").stdout.splitlines()]
    assert [line["input"]["category"] for line in lines] == ["never seen", ""]


def test_evaluate_says_what_it_scored_and_writes_it(run: Path, tmp_path: Path) -> None:
    own = finetune("evaluate", run)
    assert "there is no test split, so validation is scored" in own.stderr
    assert "95% interval" in own.stdout and "rows of validation." in own.stdout
    assert "reference ↓ predicted →" in own.stdout and "f1_micro" not in own.stdout
    rows = [*((row["text"], row["label"]) for row in toy.rows(12, seed=3)), ("", "sea")]
    data = tmp_path / "labelled.csv"
    with data.open("w", newline="") as file:
        csv.writer(file).writerows([("headline", "category"), *rows])
    call = ["evaluate", run, "--data", data]
    assert "labelled.csv:14" in finetune(*call, code=2).stderr
    scored = finetune(*call, "--on-bad", "drop", "--output", tmp_path / "scores.json")
    assert f"on 12 rows of {data}." in scored.stdout and "left out 1 of 13 rows" in scored.stderr
    alone = json.loads((tmp_path / "scores.json").read_text())
    assert (alone["rows"], alone["dropped"], alone["files"]) == (12, 1, None)
    assert set(alone["intervals"]["accuracy"]) == {"low", "high"}
    for reused in (0, 3):
        again = finetune(*call, "--on-bad", "drop", "--output", tmp_path / "out", "--block-rows", 5)
        assert ("3 of them by an earlier call" in again.stdout) == bool(reused)
        written = json.loads((tmp_path / "out" / "evaluation.json").read_text())
        assert written["reused"] == reused and written["scores"] == pytest.approx(alone["scores"], rel=1e-4)
    assert "exists" in finetune(*call, "--output", tmp_path / "scores.json", code=2).stderr
    assert "--data labelled.csv" in finetune("evaluate", run, "labelled.csv", code=2).stderr
    assert "the file has no rows" in finetune("evaluate", run, "--data", empty(tmp_path), code=2).stderr
    assert "No such option '--dta'" in finetune("evaluate", run, "--dta", "x", code=2).output


def empty(folder: Path) -> Path:
    (folder / "empty.csv").write_text("headline,category\n")
    return folder / "empty.csv"


def test_the_table_of_a_prediction_can_be_predicted_again_and_keeps_each_column() -> None:
    row: dict[str, Any] = {"text": "ship"}
    for number in range(4):
        row = tables.flat({"place": {"file": f"{number}.csv"}, "input": row, "prediction": number})
        assert sorted(value for name, value in row.items() if "prediction" in name) == list(range(number + 1))


VALUES = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=5)
CELLS = VALUES | st.lists(VALUES, max_size=2)
NAMES = st.sampled_from(["text", "prediction", "input.prediction", "file", "left_out", "ä,\n\"'"])


@given(
    records=st.lists(
        st.builds(
            lambda row, record, place: {"place": place, "input": row, **record},
            st.dictionaries(NAMES, CELLS, max_size=4),
            st.fixed_dictionaries({"prediction": CELLS}, optional={"probabilities": st.dictionaries(NAMES, CELLS)}),
            st.fixed_dictionaries({"file": st.text(max_size=3), "line": st.integers(0, 9)}) | st.just({}),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_a_table_holds_each_value_of_each_record(
    records: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = [tables.flat(record) for record in records]
    for record, row in zip(records, rows, strict=True):
        made = len(record.get("probabilities", {})) + len({"file", "line"} & record["place"].keys())
        assert len(row) == len(record["input"]) + 1 + made
    columns = tables.columns_of(records)
    text = "".join(tables.as_csv(records, columns))
    found = list(csv.DictReader(io.StringIO(text, newline="")))
    if columns:
        assert len(found) == len(rows) or len(columns) == 1  # a row with one empty cell is a blank line
    path = tmp_path_factory.mktemp("table") / "out.parquet"
    tables.write(path, "parquet", lambda: records)
    for row, typed in zip(rows, pq.read_table(path).to_pylist(), strict=True):
        for name, value in row.items():
            assert typed[name] == value or str(typed[name]) in (str(value), json.dumps(value)) or value is None
