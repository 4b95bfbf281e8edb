"""Each row of a prediction leads back to the row of the user's data, whatever form the data has."""

from __future__ import annotations

import csv
import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

import finetune
from finetune import data, recipe
from finetune.data import Examples
from finetune.plugins import discover

Rows = Sequence[dict[str, Any]]
LABELS = ("land", "sea")


def rows(size: int, *, bad: Sequence[int] = ()) -> list[dict[str, Any]]:
    """Return rows whose text is their number; a bad one has an empty text."""
    return [
        {"id": f"n{place}", "text": "" if place in bad else f"ship {place}", "label": LABELS[place % 2]}
        for place in range(size)
    ]


def as_csv(path: Path, some: Rows) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "text", "label", "note"])
        writer.writeheader()
        for place, row in enumerate(some):
            writer.writerow({**row, "note": "two\nlines" if place % 3 == 0 else "one line"})


def as_json_lines(path: Path, some: Rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n\n" for row in some))


def as_array(path: Path, some: Rows) -> None:
    path.write_text(json.dumps(some))


def as_pretty_array(path: Path, some: Rows) -> None:
    path.write_text(json.dumps(some, indent=1))


def as_parquet(path: Path, some: Rows) -> None:
    pq.write_table(pa.Table.from_pylist(list(some)), path)


FORMS: dict[str, tuple[str, Callable[[Path, Rows], None]]] = {
    "csv": (".csv", as_csv),
    "JSON lines": (".jsonl", as_json_lines),
    "a JSON array on one line": (".json", as_array),
    "a JSON array on many lines": (".json", as_pretty_array),
    "parquet": (".parquet", as_parquet),
}


def check(found: Examples, files: dict[str, Rows], *, lines: bool) -> int:
    """Check each place against the files, by another way than that of the readers; return how many there are."""
    seen = 0
    for split, places in found.places.items():
        assert len(places) == len(found.splits[split])
        for place, example in zip(places, found.splits[split], strict=True):
            seen += 1
            assert files[place["file"]][place["row"]]["text"] == example["text"]
            assert place["id"] == files[place["file"]][place["row"]]["id"]
            if lines:
                shown = Path(place["file"]).read_text().splitlines()[place["line"] - 1 :]
                assert example["text"] in "".join(shown[:5])
        assert list(pickle.loads(pickle.dumps(places))) == list(places)
        assert list(places[1:4]) == [places[number] for number in range(1, min(4, len(places)))]
        assert places[-1] == places[len(places) - 1]
    return seen


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=8, deadline=None)
@given(
    sizes=st.lists(st.integers(min_value=4, max_value=15), min_size=1, max_size=3),
    bad=st.sets(st.integers(min_value=0, max_value=14), max_size=3),
    limit=st.integers(min_value=2, max_value=9) | st.none(),
    separate=st.booleans(),
)
def test_a_place_is_that_of_the_row_in_its_file(
    form: str, sizes: list[int], bad: set[int], limit: int | None, separate: bool, tmp_path_factory: Any
) -> None:
    folder = tmp_path_factory.mktemp("places")
    suffix, write = FORMS[form]
    files: dict[str, Rows] = {}
    for number, size in enumerate([*sizes, 12]):
        path = folder / f"{number}{suffix}"
        files[str(path)] = rows(size, bad=sorted(bad - {0, 1, 2, 3}))
        write(path, files[str(path)])
    *train, test = files
    source = recipe.Source(
        path={"train": train, "validation" if separate else "test": [test]},
        on_bad="drop",
        validation_size=0 if separate else 0.3,
        limit={} if limit is None else {"validation": limit},
    )
    found = data.load(source, toy.SeaOrLand(), plugins=discover(), seed=1)
    assert check(found, files, lines=suffix in (".csv", ".jsonl")) > 0
    asked = data.load(
        recipe.Source(path={"train": train}, on_bad="drop", validation_size=0), toy.SeaOrLand(labels=LABELS),
        plugins=discover(), seed=1, fit=False, answers=False,
    )  # fmt: skip
    check(asked, files, lines=suffix in (".csv", ".jsonl"))


@pytest.mark.parametrize("given_as", ["lists", "a data set"])
def test_rows_without_a_file_are_placed_by_their_position_in_the_split_they_come_from(given_as: str) -> None:
    content: Any = rows(20)
    if given_as == "a data set":
        content = datasets.Dataset.from_list(content)
    found = data.from_rows({"train": content}, toy.SeaOrLand(), validation_size=0.3, seed=3)
    places = list(found.places["validation"])
    assert len(places) == 6 and places[0].keys() == {"split", "row", "id"}
    assert [place["id"] for place in places] == [f"n{place['row']}" for place in places]
    assert {place["split"] for place in places} == {"train"}
    found = data.from_rows({"train": content, "test": content}, toy.SeaOrLand(), seed=3)
    assert found.places["test"][7] == {"split": "test", "row": 7, "id": "n7"}


def test_the_place_of_a_row_of_a_mixture_names_its_data_set(tmp_path: Path) -> None:
    section = {}
    for name, size in (("a", 6), ("b", 9)):
        path = {split: str(tmp_path / f"{name}-{split}.csv") for split in ("train", "test")}
        as_csv(Path(path["train"]), rows(4))
        as_csv(Path(path["test"]), rows(size))
        section[name] = {"path": path, "validation_size": 0}
    found = data.load(recipe.Source(path={}, mixture=section), toy.SeaOrLand(), plugins=discover(), seed=1)
    places = list(found.places["test"])
    assert [(place["dataset"], place["row"]) for place in places] == [
        *(("a", row) for row in range(6)), *(("b", row) for row in range(9))
    ]  # fmt: skip
    assert {place["id"] for place in places} == {f"n{number}" for number in range(9)}
    assert found.places["test"][8] == places[8] and found.places["test"][5:8] == places[5:8]


def test_the_validation_rows_of_a_stream_keep_their_lines(tmp_path: Path) -> None:
    as_json_lines(tmp_path / "a.jsonl", rows(60))
    source = recipe.Source(path=str(tmp_path / "a.jsonl"), streaming=True, validation_size=0.3)
    found = data.load(source, toy.SeaOrLand(), plugins=discover(), seed=1)
    assert check(found, {str(tmp_path / "a.jsonl"): rows(60)}, lines=True) > 5


def test_a_run_writes_the_place_and_the_whole_text_of_each_row(toy_base: Path, tmp_path: Path) -> None:
    some = toy.rows(30)
    for place, row in enumerate(some):
        row["id"] = f"n{place}"
        row["text"] += " ship" * 3_000 * (place % 2)
    as_csv(tmp_path / "a.csv", some)
    section = {"path": str(tmp_path / "a.csv"), "validation_size": 0.4}
    recipe = toy.recipe(toy_base, tmp_path / "run", score_base_model=False)
    training = {"max_steps": 1, "save_strategy": "no", "use_cpu": True}
    result = finetune.train(**{**recipe, "task": "text-classification", "preprocessor": {"max_length": 32},
                               "dataset": section, "training": training})  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "run" / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == 12
    for line in [*lines, *result.worst["validation"]]:
        assert line["example"]["text"] == some[line["place"]["row"]]["text"]
        assert line["place"]["id"] == f"n{line['place']['row']}" and line["place"]["file"] == str(tmp_path / "a.csv")
    assert result.worst["validation"] and any(len(line["example"]["text"]) > 10_000 for line in lines)
