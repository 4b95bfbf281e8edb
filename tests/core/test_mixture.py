"""Several data sets for one task: shares, whole held-out splits, and scores of each."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st

import finetune
from finetune import data
from finetune.data.mixture import counts
from finetune.errors import BadData, BadRecipe
from finetune.plugins import discover, resolve
from finetune.recipe import Source, parse, parts


def write(folder: Path, name: str, size: int, seed: int) -> str:
    """Write a folder of train and test, and return its path."""
    (folder / name).mkdir()
    for split, many in (("train", size), ("test", 8)):
        rows = toy.rows(many, seed=seed + len(split))
        lines = [json.dumps({**row, "text": f"{name} {number}: {row['text']}"}) for number, row in enumerate(rows)]
        (folder / name / f"{split}.jsonl").write_text("\n".join(lines))
    return str(folder / name)


def load(source: Source) -> data.Examples:
    return data.load(source, toy.SeaOrLand(), plugins=discover(), seed=3)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 5000), st.floats(0.01, 50)), min_size=1, max_size=6),
    st.floats(0.2, 20),
)
def test_shares_are_as_asked_and_the_epoch_keeps_its_length(given: list[tuple[int, float]], temperature: float) -> None:
    sizes = {str(place): size for place, (size, _) in enumerate(given)}
    weights = {str(place): weight for place, (_, weight) in enumerate(given)}
    found = dict(counts(sizes, weights, temperature))
    total = sum(sizes.values())
    assert sum(found.values()) == total
    whole = sum(weights[name] * sizes[name] ** (1 / temperature) for name in sizes)
    for name, count in found.items():
        assert count == pytest.approx(total * weights[name] * sizes[name] ** (1 / temperature) / whole, abs=1.01)


def test_rows_are_repeated_and_left_out_evenly_and_counted(tmp_path: Path) -> None:
    large, small = write(tmp_path, "large", 90, 1), write(tmp_path, "small", 10, 2)
    mixture = {"large": {"path": large, "validation_size": 0}, "small": {"path": small, "validation_size": 0}}
    even = load(Source(mixture=mixture, temperature=1e9))
    train: Any = even.splits["train"]
    assert Counter(train["dataset"]) == {"large": 50, "small": 50}
    of_small = Counter(row["text"] for row in train if row["dataset"] == "small")
    assert set(of_small.values()) == {5}
    data_report = even.data_report["train"]
    assert (data_report["read"], data_report["kept"], data_report["left_out"], data_report["repeated"]) == (
        100,
        60,
        40,
        40,
    )
    assert data_report["read"] == data_report["kept"] + data_report["dropped"] + data_report["left_out"]
    assert len(even.splits["test"]) == 16
    plain = load(Source(mixture=mixture))
    assert sorted(plain.splits["train"]["text"]) == sorted(
        text for path in (large, small) for text in load(Source(path=path, validation_size=0)).splits["train"]["text"]
    )
    assert plain.fingerprints["train"] != even.fingerprints["train"]
    assert plain.fingerprints["test"] == even.fingerprints["test"]


def test_weights_change_the_fingerprint_of_train_alone_and_leakage_is_counted_across(tmp_path: Path) -> None:
    one, two = write(tmp_path, "one", 30, 1), write(tmp_path, "two", 30, 2)
    leaked = (tmp_path / "one" / "test.jsonl").read_text().splitlines()[:3]
    with (tmp_path / "two" / "train.jsonl").open("a") as file:
        file.write("\n" + "\n".join(leaked))
    found = [load(Source(mixture={"one": one, "two": {"path": two, "weight": weight}})) for weight in (1, 2)]
    assert data.leakage(found[0].splits, found[0].preprocessor)["test"]["exact"] == 3
    changed = {split: found[0].fingerprints[split] != found[1].fingerprints[split] for split in found[0].splits}
    assert changed == {"train": True, "validation": False, "test": False}


def test_a_label_whose_rows_are_drawn_away_keeps_its_id(tmp_path: Path) -> None:
    rows = {"one": ["sea"] * 60, "two": ["land"] * 59 + ["air"]}
    for name, labels in rows.items():
        (tmp_path / f"{name}.jsonl").write_text(
            "\n".join(json.dumps({"text": f"{name} {n}", "label": label}) for n, label in enumerate(labels))
        )
    mixture = {name: {"path": str(tmp_path / f"{name}.jsonl"), "validation_size": 0} for name in rows}
    found: Any = load(Source(mixture={**mixture, "two": {**mixture["two"], "weight": 0.05}}))
    assert "air" not in found.splits["train"]["label"]
    assert found.preprocessor.labels == ("air", "land", "sea")
    with pytest.raises(BadData, match="the weight of 'two' is so small that train gets none of its rows"):
        load(Source(mixture={**mixture, "two": {**mixture["two"], "weight": 1e-6}}))


def test_a_finding_names_the_file_of_the_data_set_it_is_in(tmp_path: Path) -> None:
    first, second = write(tmp_path, "first", 20, 1), write(tmp_path, "second", 20, 2)
    with (tmp_path / "second" / "train.jsonl").open("a") as file:
        file.write('\n{"text": "  ", "label": "sea"}')
    with pytest.raises(BadData, match=r"second/train\.jsonl:21"):
        load(Source(mixture={"first": first, "second": second}))


@pytest.mark.parametrize("dropping", [False, True])
def test_data_sets_of_one_label_each_make_a_mixture_of_two(dropping: bool, tmp_path: Path) -> None:
    for name, label in (("wet", "sea"), ("dry", "land")):
        lines = [json.dumps({"text": f"{name} {n}", "label": label}) for n in range(20)]
        bad = [json.dumps({"text": " ", "label": label})] * dropping
        (tmp_path / f"{name}.jsonl").write_text("\n".join([*lines, *bad]))
    mixture = {name: {"path": str(tmp_path / f"{name}.jsonl")} for name in ("wet", "dry")}
    task: Any = discover().find("tasks", "text-classification")
    preprocessor = resolve(task.preprocessor)()
    source = Source(mixture=mixture, on_bad="drop" if dropping else "error", validation_size=0)
    found = data.load(source, preprocessor, plugins=discover(), seed=3)
    assert found.preprocessor.labels == ("land", "sea")
    assert Counter(found.splits["train"]["label"]) == {"sea": 20, "land": 20}
    assert [(row["file"], row["line"]) for row in found.dropped] == [
        (mixture[name]["path"], 21) for name in mixture if dropping
    ]
    with pytest.raises(BadData, match="all rows have the label"):
        data.load(Source(path=mixture["wet"]["path"], on_bad=source.on_bad), preprocessor, plugins=discover(), seed=3)


def test_what_is_wrong_in_each_data_set_is_reported_at_once(tmp_path: Path) -> None:
    first, second = write(tmp_path, "first", 20, 1), write(tmp_path, "second", 20, 2)
    for name in ("first", "second"):
        with (tmp_path / name / "train.jsonl").open("a") as file:
            file.write('\n{"text": "  ", "label": "sea"}')
    with pytest.raises(BadData, match=r"(?s)first/train\.jsonl:21.*second/train\.jsonl:21"):
        load(Source(mixture={"first": first, "second": second}))


def test_constants_fill_a_column(tmp_path: Path) -> None:
    folder = write(tmp_path, "one", 20, 1)
    rows: Any = load(Source(path=folder, constants={"origin": "here"})).splits["train"]
    assert set(rows["origin"]) == {"here"}
    with pytest.raises(BadData, match="gives the column 'text', but the data already has it"):
        load(Source(path=folder, constants={"text": "here"}))


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({}, "give either `path` or `mixture`"),
        ({"path": "a.csv", "mixture": {"b": {"path": "b.csv"}}}, "not both"),
        ({"mixture": {"b": {"path": "b.csv", "wieght": 2}}}, r"mixture\.b.*wieght"),
        ({"mixture": {"b": {"path": "b.csv", "weight": 0}}}, r"mixture\.b\.weight: must be a number greater than 0"),
        ({"mixture": {"b": {"mixture": {}}}}, "a mixture cannot contain a mixture"),
        ({"mixture": {"b": {"path": "b.csv"}}, "temperature": 0}, "temperature: must be greater than 0"),
        ({"mixture": {"b": {"path": "b.csv"}}, "limit": {"train": 5}}, "limit: write this in each data set"),
        ({"path": "b.csv", "temperature": 2}, "temperature: has an effect in a mixture only"),
    ],
)
def test_a_wrong_mixture_is_refused_by_name(dataset: Any, message: str) -> None:
    recipe = {"task": "t", "model": "m", "strategy": "full", "output": "o", "dataset": dataset}
    with pytest.raises(BadRecipe, match=message):
        parse(recipe)


def test_the_data_sets_of_a_mixture_inherit_how_bad_rows_are_met() -> None:
    found = parts(Source(mixture={"b": {"path": "b.csv", "weight": 2}}, on_bad="drop"))
    assert found == {"b": (Source(path="b.csv", on_bad="drop"), 2.0)}


def test_a_run_scores_each_data_set_of_its_mixture(tmp_path: Path) -> None:
    one, two = write(tmp_path, "one", 24, 1), write(tmp_path, "two", 24, 2)
    result = finetune.train(
        task="toy:TASK", model=str(toy.base(tmp_path / "bert")), strategy="full", output=str(tmp_path / "run"),
        dataset={"mixture": {"one": {"path": one}, "two": {"path": two, "weight": 2}}},
        training={"max_steps": 2}, score_base_model=False,
    )  # fmt: skip
    test = result.scores["test"]
    assert test["accuracy"] == pytest.approx((test["accuracy@one"] + test["accuracy@two"]) / 2)
    assert finetune.evaluate(tmp_path / "run") == test
    assert result.data_report["train"]["repeated"] > 0


def test_what_needs_no_model_is_scored_on_each_data_set_too(tmp_path: Path) -> None:
    one, two = write(tmp_path, "one", 24, 1), write(tmp_path, "two", 24, 2)
    result = finetune.train(
        task="text-classification", model=str(toy.base(tmp_path / "bert")), strategy="full",
        output=str(tmp_path / "run"), dataset={"mixture": {"one": {"path": one}, "two": {"path": two}}},
        training={"max_steps": 1}, score_base_model=False, general_text="none",
    )  # fmt: skip
    majority = result.baselines["test"]["majority"]
    assert majority["accuracy@one"] != majority["accuracy@two"]
    assert majority["accuracy"] == pytest.approx((majority["accuracy@one"] + majority["accuracy@two"]) / 2)
