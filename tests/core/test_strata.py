"""A random split and a limit: labels keep their shares, train has them all, and units stay whole."""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from finetune.data import Examples, from_rows, leaks, load, strata
from finetune.errors import BadData
from finetune.interfaces import Columns, Preprocessor
from finetune.plugins import discover, resolve
from finetune.recipe import Source

PLUGINS = discover()
LABELS = st.lists(st.integers(1, 40), min_size=2, max_size=12)  # rows of each label
SEEDS = st.integers(0, 2**32 - 1)


def preprocessor(task: str) -> Preprocessor:
    found: Preprocessor = resolve(PLUGINS.find("tasks", task).preprocessor)()
    return found


@dataclass(frozen=True, kw_only=True)
class Grouped(Preprocessor):
    """Texts with labels and a group."""

    def needs(self) -> Columns:
        return Columns(required=("text",), answers=("label",), group="group")

    def strata(self, example: Any) -> Any:
        return () if example["label"] is None else (str(example["label"]),)

    def features(self, examples: Any, tokenizer: Any) -> Any:
        return {}


def labelled(sizes: list[int]) -> list[dict[str, Any]]:
    """Return rows with as many rows of each label as asked for; no two texts are alike."""
    made = []
    for label, count in enumerate(sizes):
        for number in range(count):
            word = np.random.default_rng([label, number]).integers(97, 123, size=24, dtype=np.uint8).tobytes().decode()
            made.append({"text": word, "label": f"label {label}"})
    return made


def split(rows: Any, task: Preprocessor, *, seed: int = 1, size: float = 0.1) -> Examples:
    given_rows = rows if isinstance(rows, dict) else {"train": rows}
    return from_rows(given_rows, task, seed=seed, validation_size=size)


def labels_of(examples: Examples, name: str) -> Counter[str]:
    return Counter(str(label) for label in examples.splits[name]["label"]) if name in examples.splits else Counter()


@settings(max_examples=60)
@given(sizes=LABELS, seed=SEEDS, size=st.sampled_from([0.05, 0.1, 0.2, 0.5]))
@example(sizes=[200, *[1] * 12], seed=42, size=0.1)
@example(sizes=[3, 3], seed=0, size=0.5)
def test_each_label_keeps_its_share_and_a_row_in_train(sizes: list[int], seed: int, size: float) -> None:
    labels = [(label,) for label, count in enumerate(sizes) for _ in range(count)]
    rows = len(labels)
    count = max(round(rows * size), 1)
    mask = strata.choose(labels, np.arange(rows), count, seed=seed).mask
    taken = Counter(label for (label,), is_taken in zip(labels, mask, strict=True) if is_taken)
    spare = rows - len(sizes)
    assert mask.sum() == min(count, spare)
    for label, whole in enumerate(sizes):
        assert taken[label] < whole
    if all(whole > 1 / size + 1 for whole in sizes):  # then no label is too rare for its share
        for label, whole in enumerate(sizes):
            assert abs(taken[label] - whole * count / rows) <= 1
    again = strata.choose(labels, np.arange(rows), count, seed=seed).mask
    assert (again == mask).all()


@settings(max_examples=60)
@given(
    rows=st.lists(st.frozensets(st.sampled_from("abcdefg"), max_size=4), min_size=2, max_size=60),
    units=st.lists(st.integers(0, 20), min_size=60, max_size=60),
    seed=SEEDS,
    size=st.sampled_from([0.1, 0.3, 0.5]),
)
def test_units_with_several_labels_are_taken_whole_and_leave_each_label_a_row(
    rows: list[frozenset[str]], units: list[int], seed: int, size: float
) -> None:
    _, numbers = np.unique(units[: len(rows)], return_inverse=True)
    count = max(round(len(rows) * size), 1)
    chosen = strata.choose([tuple(sorted(row)) for row in rows], numbers, count, seed=seed)
    held = set(numbers[chosen.mask].tolist())
    assert chosen.mask.sum() <= count or (len(held) == 1 and 2 * chosen.mask.sum() < len(rows))
    for unit in set(numbers.tolist()):
        assert len(set(chosen.mask[numbers == unit].tolist())) == 1
    every = {name for row in rows for name in row}
    left = {name for row, is_taken in zip(rows, chosen.mask, strict=True) if not is_taken for name in row}
    taken = {name for row, is_taken in zip(rows, chosen.mask, strict=True) if is_taken for name in row}
    assert left == every
    assert set(chosen.only_left) == every - taken


def test_a_unit_that_is_larger_than_the_share_is_taken_if_none_fits() -> None:
    units, labels = np.repeat(np.arange(6), 2), [("good",), ("bad",)] * 6
    chosen = strata.choose(labels, units, 1, seed=0)
    assert chosen.mask.sum() == 2 and len(set(units[chosen.mask].tolist())) == 1 and not chosen.only_left
    assert not strata.choose(labels[:4], units[:4] // 2, 1, seed=0).mask.any()  # all rows are one unit


@settings(max_examples=60)
@given(sizes=LABELS, seed=SEEDS, share=st.floats(0.01, 0.99))
def test_a_limit_is_exact_keeps_the_shares_and_loses_a_label_only_if_there_is_no_room(
    sizes: list[int], seed: int, share: float
) -> None:
    labels = [(label,) for label, count in enumerate(sizes) for _ in range(count)]
    most = max(1, round(len(labels) * share))
    kept = strata.keep(labels, most, seed=seed)
    assert kept.sum() == most
    found = Counter(label for (label,), is_kept in zip(labels, kept, strict=True) if is_kept)
    assert len(found) == min(most, len(sizes))
    if most < len(sizes):
        assert min(sizes[label] for label in found) >= sorted(sizes, reverse=True)[most - 1]


@settings(max_examples=15)
@given(sizes=LABELS, seed=SEEDS)
@example(sizes=[200, *[1] * 12], seed=42)  # twelve labels of one row were refused at this seed
def test_the_split_passes_the_checks_of_the_task_whatever_the_seed(sizes: list[int], seed: int) -> None:
    rows = labelled(sizes)
    if max(sizes) == 1:  # no row can be spared
        with pytest.raises(BadData, match="too few rows that have a label in common"):
            split(rows, preprocessor("text-classification"), seed=seed)
        return
    examples = split(rows, preprocessor("text-classification"), seed=seed)
    train, validation = labels_of(examples, "train"), labels_of(examples, "validation")
    assert set(train) == {row["label"] for row in rows}
    lacking = set(train) - set(validation)
    warned = [finding for finding in examples.findings if finding.code == "label-only-in-train"]
    assert bool(lacking) == bool(warned)
    if len(lacking) == 1:
        assert repr(next(iter(lacking))) in warned[0].message


@pytest.mark.parametrize("task", ["text-classification", "multi-label-classification", "token-classification", "kto"])
@pytest.mark.parametrize("seed", range(4))
def test_each_task_with_labels_accepts_its_own_split_and_limit(task: str, seed: int, tmp_path: Path) -> None:
    rare = 3
    if task == "multi-label-classification":
        rows = [{**row, "label": [row["label"], "often"]} for row in labelled([20, 15, *[1] * rare])]
    elif task == "token-classification":
        rows = [
            {"tokens": [row["text"], "x"], "ner_tags": ["O", "B-" + row["label"][-1]]} for row in labelled([30, 1, 1])
        ]
    elif task == "kto":
        rows = [
            {"prompt": row["text"], "completion": "yes", "label": row["label"] == "label 0"}
            for row in labelled([30, 1])
        ]
    else:
        rows = labelled([30, 8, *[1] * rare])
    examples = split(rows, preprocessor(task), seed=seed)
    assert len(examples.splits["validation"]) >= 1
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    source = Source(path=str(path), limit={"train": 8, "validation": 3})
    small = load(source, preprocessor(task), plugins=PLUGINS, seed=seed)
    assert len(small.splits["train"]) == 8
    assert all(finding.level == "warning" for finding in small.findings)


def test_a_limit_below_the_number_of_labels_leaves_out_the_held_out_rows_with_the_others(tmp_path: Path) -> None:
    for name in ("train", "test"):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["text", "label"])
            writer.writeheader()
            writer.writerows(labelled([9, 5, 2, 2]))
    source = Source(path=str(tmp_path), limit={"train": 2}, validation_size=0)
    examples = load(source, preprocessor("text-classification"), plugins=PLUGINS, seed=3)
    assert set(labels_of(examples, "train")) == {"label 0", "label 1"}
    assert set(labels_of(examples, "test")) == {"label 0", "label 1"}
    (warning,) = [finding for finding in examples.findings if finding.code == "label-left-out"]
    assert warning.message == (
        "after dataset.limit, train has no row with 'label 2' and 'label 3'. 4 rows of test with them are left out."
    )
    assert examples.data_report["test"]["kept"] == 14


def test_a_label_that_the_file_itself_lacks_in_train_is_still_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\nfog at sea,a\nhail on land,b\nsun in town,a\nrain and wind,b\n")
    (tmp_path / "test.csv").write_text("text,label\nsnow on hills,c\nice on lakes,a\n")
    source = Source(path=str(tmp_path), limit={"train": 3}, validation_size=0)
    with pytest.raises(BadData, match="no training row has this label"):
        load(source, preprocessor("text-classification"), plugins=PLUGINS, seed=1)


@settings(max_examples=20)
@given(seed=SEEDS, copies=st.lists(st.integers(1, 4), min_size=12, max_size=30))
def test_equal_texts_and_near_duplicates_are_never_on_both_sides(seed: int, copies: list[int]) -> None:
    rows = []
    for number, (row, times) in enumerate(zip(labelled([len(copies)]), copies, strict=True)):
        text = f"{row['text']} {row['text'][::-1]} {row['text'][5:]}"
        variants = [text, text.upper(), f"{text}.", f"{text} too"][:times]
        rows += [{"text": variant, "label": f"label {number % 2}"} for variant in variants]
    examples = split(rows, preprocessor("text-classification"), seed=seed, size=0.3)
    found = leaks.leakage(examples.splits, preprocessor("text-classification"))["validation"]
    assert (found["exact"], found["normalized"], found["near"]) == (0, 0, 0)


@given(seed=SEEDS)
@settings(max_examples=20)
def test_groups_stay_whole_and_their_labels_are_spread(seed: int) -> None:
    rows = [{**row, "group": f"group {number // 3}"} for number, row in enumerate(labelled([30, 12, 6, 3]))]
    for row, other in zip(rows, labelled([len(rows)]), strict=True):
        row["group"] = other["text"] if row["group"].endswith("0") else row["group"] + "q" * 30
    examples = split(rows, Grouped(), seed=seed, size=0.2)
    train, validation = (set(examples.splits[name]["group"]) for name in ("train", "validation"))
    assert not train & validation
    assert set(labels_of(examples, "train")) == {row["label"] for row in rows}


def test_boilerplate_does_not_make_one_unit_of_all_rows() -> None:
    rows = [{"text": f"The ship number {i} leaves the harbour today.", "label": str(i % 2)} for i in range(200)]
    examples = split(rows, preprocessor("text-classification"))
    assert len(examples.splits["validation"]) == 20


def test_clusters_join_near_duplicates_and_nothing_else() -> None:
    words = [row["text"] for row in labelled([6])]
    texts = [f"{word} {word[::-1]}" for word in words]
    near = [*texts, f"{texts[2]} a"]
    assert leaks.clusters(near).tolist() == [0, 1, 2, 3, 4, 5, 2]
    assert leaks.clusters([]).tolist() == [] and leaks.clusters(["one"]).tolist() == [0]


@settings(max_examples=40)
@given(LABELS, SEEDS)
def test_nested_subsets_contain_each_other_and_keep_the_labels_in_their_shares(counts: list[int], seed: int) -> None:
    names = [f"label {number}" for number, count in enumerate(counts) for _ in range(count)]
    rows = [{"text": f"row {place}", "label": name} for place, name in enumerate(names)]
    classes = preprocessor("text-classification")
    sizes = sorted({max(round(len(rows) * share), len(counts)) for share in (0.25, 0.5, 1.0)})
    found = strata.nested(rows, classes, sizes, seed=seed)
    assert list(found) == sizes[::-1]
    inner: set[int] = set()
    for size in sizes:
        places = found[size].tolist()
        assert len(places) == size
        assert places == sorted(set(places))
        assert inner <= set(places)
        inner = set(places)
        kept = Counter(names[place] for place in places)
        for name, whole in Counter(names).items():
            assert 1 <= kept[name] <= whole
            # each halving may move a label by about a row, as `keep` does, and leaves it one
            assert abs(kept[name] - whole * size / len(rows)) <= max(3.0, len(counts))
    again = strata.nested(rows, classes, sizes, seed=seed)
    assert all((found[size] == again[size]).all() for size in sizes)


def test_rows_without_labels_are_drawn_at_random() -> None:
    texts = preprocessor("translation")
    rows = [{"source": f"row {place}", "target": "x"} for place in range(40)]
    found = strata.nested(rows, texts, [10, 20], seed=1)
    assert {size: len(places) for size, places in found.items()} == {20: 20, 10: 10}
    assert set(found[10]) <= set(found[20])
    assert found[20].tolist() != list(range(20))
    assert strata.nested(rows, texts, [10, 20], seed=2)[10].tolist() != found[10].tolist()
