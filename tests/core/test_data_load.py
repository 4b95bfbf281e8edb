"""From a source to examples: nothing is lost, moved or guessed without a word."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, Features, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.data import Examples, from_rows, leakage, load
from finetune.data.findings import with_value
from finetune.errors import BadData
from finetune.interfaces import Batch, Columns, Finding, Preprocessor, Row
from finetune.plugins import discover
from finetune.recipe import Source

PLUGINS = discover()


@dataclass(frozen=True, kw_only=True)
class Texts(Preprocessor):
    def needs(self) -> Columns:
        return Columns(required=("text",), answers=("label",))

    labels: tuple[str, ...] = ()
    warns: bool = False

    def fit(self, train: Sequence[Row]) -> Self:
        return replace(self, labels=tuple(sorted({str(row["label"]) for row in train if row["text"]})))

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        for i, row in enumerate(examples):
            if not row["text"]:
                yield Finding(code="empty-text", message="no text", row=i, column="text")
            if row.get("label", "") is not None and self.labels and str(row.get("label", "")) not in ("", *self.labels):
                yield Finding(code="unknown-label", message="not in train", row=i, column="label", value=row["label"])
            if self.warns:
                yield Finding(code="odd", message="odd", level="warning", row=i)

    def features(self, examples: Batch, tokenizer: Any) -> Batch:
        return {}


@dataclass(frozen=True, kw_only=True)
class Anything(Texts):
    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        yield from ()


@dataclass(frozen=True, kw_only=True)
class Grouped(Anything):
    def needs(self) -> Columns:
        return Columns(required=("text",), answers=("label",), group="text")


def given_rows(count: int) -> list[dict[str, Any]]:
    return [{"text": f"text {i}", "label": str(i % 3)} for i in range(count)]


def write(path: Path, rows: Sequence[Row]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def loaded(path: Any, preprocessor: Preprocessor | None = None, *, seed: int = 1, **options: Any) -> Examples:
    own = {key: options.pop(key) for key in ("fit", "answers") if key in options}
    source = Source(path=path, **{"validation_size": 0, **options})
    return load(source, preprocessor or Texts(), plugins=PLUGINS, seed=seed, **own)


def refusal(path: Any, preprocessor: Preprocessor | None = None, **options: Any) -> BadData:
    with pytest.raises(BadData) as caught:
        loaded(path, preprocessor, **options)
    return caught.value


# ---- columns


def test_columns_are_renamed_and_never_guessed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"review": "good", "stars": 1, "id": 7}])
    assert loaded(path, columns={"review": "text", "stars": "label"}).splits["train"][0] == {
        "text": "good",
        "label": 1,
        "id": 7,
    }
    error = refusal(path)
    assert [f.column for f in error.findings] == ["text", "label"]
    assert "The columns are: 'review', 'stars', 'id'" in str(error)
    assert "Rename it under dataset.columns: {NAME: label}." in str(error)


def test_two_columns_may_swap_names(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"text": 1, "label": "good"}])
    swapped = loaded(path, columns={"text": "label", "label": "text"})
    assert swapped.splits["train"][0] == {"label": 1, "text": "good"}


def test_a_rename_of_nothing_or_onto_something_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"text": "a", "label": 1, "lable2": 2}])
    error = refusal(path, columns={"lable": "label"})
    assert [f.code for f in error.findings] == ["unknown-rename"]
    assert "Did you mean 'lable2'?" in str(error)
    assert [f.code for f in refusal(path, columns={"lable2": "label"}).findings] == ["rename-clash"]


def test_answers_are_not_asked_for_while_predicting(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"words": "a"}])
    columns = {"words": "text", "stars": "label"}
    assert [f.code for f in refusal(path, columns=columns).findings] == ["unknown-rename"]
    fitted = Texts(labels=("0",))
    examples = loaded(path, fitted, columns=columns, fit=False, answers=False, validation_size=0.5)
    assert examples.preprocessor is fitted
    assert examples.splits["train"].to_list() == [{"text": "a"}]


def test_a_missing_key_that_the_task_does_not_use_is_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"text": "a", "label": 1, "note": "n"}, {"label": 1, "text": "b"}])
    examples = loaded(path)
    assert examples.counts == {"missing-key": 1}
    assert [(f.level, f.line, f.column) for f in examples.findings] == [("warning", 2, "note")]
    assert examples.splits["train"]["note"] == ["n", None]


def test_a_late_key_is_warned_of_once_and_never_lost(tmp_path: Path) -> None:
    rows = [
        *given_rows(3),
        {"text": "a", "label": "1", "new": 5},
        *given_rows(1),
        {"text": "a", "label": "1", "new": 6},
    ]
    examples = loaded(write(tmp_path / "a.jsonl", rows))
    assert [(f.code, f.line, f.column) for f in examples.findings] == [("extra-key", 4, "new")]
    assert examples.counts == {"extra-key": 1}
    assert examples.splits["train"]["new"] == [None, None, None, 5, None, 6]


def test_nested_keys_that_some_objects_lack_are_warned_of_once(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "label": {"x": 1}},
        {"text": "b", "label": {"x": 1, "y": [2]}},
        {"text": "c", "label": {"y": []}},
    ]
    examples = loaded(write(tmp_path / "a.jsonl", rows))
    found = {(f.code, f.line, f.column) for f in examples.findings}
    assert found == {("missing-nested-key", 2, "label.y"), ("missing-nested-key", 3, "label.x")}
    assert examples.splits["train"]["label"][2] == {"x": None, "y": []}


def test_thousands_of_nested_keys_are_refused_before_memory_is(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"text": "a", "label": {f"key {i}": i}} for i in range(12_000)])
    assert [f.code for f in refusal(path).findings if f.level == "error"] == ["too-many-keys"]


def test_types_settle_late_without_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune.data.table.BLOCK_ROWS", 2)
    values: list[Any] = [None, None, 1, None, 2, 3.5, 4]
    lists: list[Any] = [[], None, [], [1], [2.5], None, []]
    rows = [{"text": "a", "label": v, "list": w} for v, w in zip(values, lists, strict=True)]
    train = loaded(write(tmp_path / "a.jsonl", rows)).splits["train"]
    assert train["label"] == [None, None, 1.0, None, 2.0, 3.5, 4.0]
    assert train["list"] == [[], None, [], [1.0], [2.5], None, []]


def test_an_integer_that_a_late_number_would_spoil_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune.data.table.BLOCK_ROWS", 1)
    path = write(tmp_path / "a.jsonl", [{"text": "a", "label": 2**53 + 1}, {"text": "b", "label": 0.5}])
    assert [f.code for f in refusal(path).findings] == ["number-too-large"]


# ---- places and accounting


def test_a_finding_of_a_check_gets_the_line_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,label\n\n"a\nb",1\n')
    (tmp_path / "b.csv").write_text("label,text\n1,ok\n1,\n")
    files = [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]
    error = refusal({"train": files})
    assert [(f.code, f.file, f.line, f.row, f.split) for f in error.findings] == [
        ("empty-text", files[1], 3, 1, "train")
    ]
    examples = loaded({"train": files}, on_bad="drop")
    assert examples.splits["train"].to_list() == [{"text": "a\nb", "label": "1"}, {"text": "ok", "label": "1"}]
    assert examples.data_report["train"]["blank_lines"] == 1
    assert [(d["file"], d["line"], d["codes"], d["example"]) for d in examples.dropped] == [
        (files[1], 3, ["empty-text"], {"text": "", "label": "1"})
    ]


def test_rows_keep_their_place_through_parting_limiting_and_dropping(tmp_path: Path) -> None:
    rows = given_rows(200)
    for i in range(0, 200, 7):
        rows[i]["text"] = ""
    examples = loaded(write(tmp_path / "a.jsonl", rows), on_bad="drop", validation_size=0.3, limit={"train": 100})
    for gone in examples.dropped:
        assert rows[gone["row"]] == gone["example"]
        assert gone["line"] == gone["row"] + 1
    assert {gone["split"] for gone in examples.dropped} == {"train", "validation"}
    train = [int(text.split()[1]) for text in examples.splits["train"]["text"]]
    assert train == sorted(train)


ROW_KINDS = st.sampled_from(["good", "empty", "ragged", "blank", "nul"])


@settings(max_examples=60, deadline=None)
@given(
    train=st.lists(ROW_KINDS, min_size=1, max_size=40),
    test=st.lists(ROW_KINDS, min_size=1, max_size=10),
    size=st.sampled_from([0.0, 0.2, 0.5]),
    most=st.integers(1, 20),
    seed=st.integers(0, 5),
)
def test_every_row_read_is_kept_dropped_or_left_out(
    tmp_path_factory: pytest.TempPathFactory, train: list[str], test: list[str], size: float, most: int, seed: int
) -> None:
    texts = {"good": "fine,1", "empty": ",1", "ragged": "x,y,z", "blank": "", "nul": "a\0,1"}
    folder = tmp_path_factory.mktemp("rows")
    for name, kinds in (("train", train), ("test", test)):
        (folder / f"{name}.csv").write_text("text,label\n" + "".join(texts[kind] + "\n" for kind in kinds))
    examples: Examples | BadData
    try:
        examples = loaded(str(folder), on_bad="drop", validation_size=size, limit={"train": most}, seed=seed)
    except BadData as error:
        examples = error
    if isinstance(examples, BadData):
        assert examples.counts.keys() & {"no-rows", "cannot-split"}
        return
    for split, counts in examples.data_report.items():
        assert counts["read"] == counts["kept"] + counts["dropped"] + counts["left_out"]
        assert counts["kept"] == len(examples.splits[split])
        assert counts["dropped"] == sum(gone["split"] == split for gone in examples.dropped)
    expected = Counter(train) + Counter(test)
    assert sum(counts["read"] for counts in examples.data_report.values()) == expected.total() - expected["blank"]
    assert sum(counts["blank_lines"] for counts in examples.data_report.values()) == expected["blank"]
    assert examples.counts.get("ragged-row", 0) == expected["ragged"]
    assert examples.counts.get("nul", 0) == expected["nul"]


def test_what_dropping_takes_from_train_is_taken_from_what_is_fitted() -> None:
    train = [{"text": "a", "label": "1"}, {"text": "", "label": "2"}]

    @dataclass(frozen=True, kw_only=True)
    class All(Texts):
        def fit(self, train: Sequence[Row]) -> Self:
            return replace(self, labels=tuple(sorted({row["label"] for row in train})))

    validation = [{"text": "b", "label": "2"}, {"text": "c", "label": "1"}]
    examples = from_rows({"train": train, "validation": validation}, All(), on_bad="drop")
    assert examples.preprocessor.labels == ("1",)  # type: ignore[attr-defined]
    assert examples.counts == {"empty-text": 1, "unknown-label": 1}
    assert [gone["split"] for gone in examples.dropped] == ["train", "validation"]


def test_a_warning_never_stops_and_an_error_always_does() -> None:
    assert from_rows({"train": given_rows(30)}, Texts(warns=True)).counts == {"odd": 30}

    @dataclass(frozen=True, kw_only=True)
    class Whole(Texts):
        def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
            yield Finding(code="one-class", message="one class only", level="error")

    with pytest.raises(BadData, match="one class only"):
        from_rows({"train": given_rows(3)}, Whole(), on_bad="drop")


def test_a_split_without_a_good_row_is_an_error() -> None:
    with pytest.raises(BadData, match="all rows of validation are bad"):
        from_rows({"train": given_rows(3), "validation": [{"text": "", "label": "1"}]}, Texts(), on_bad="drop")
    with pytest.raises(BadData, match="no-rows"):
        from_rows({"train": given_rows(3), "validation": []}, Texts())


def test_the_message_names_places_counts_and_a_way_out(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [*given_rows(2), *[{"text": "", "label": "1"}] * 9])
    text = str(refusal(path))
    assert text.splitlines()[0] == "9 findings in the data."
    assert text.splitlines()[1] == f"  {path}:3: text: no text."
    assert "… and 4 more" in text
    assert "empty-text 9" in text
    assert "on_bad: drop" in text


# ---- splits and limits


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=40, max_size=300), st.sampled_from([0.1, 0.2, 0.5]), st.integers(0, 9))
def test_no_group_is_split_and_the_share_is_near(groups: list[int], size: float, seed: int) -> None:
    rows = [{"text": f"group {group}", "label": str(i)} for i, group in enumerate(groups)]
    if len(set(groups)) < 8:
        return
    examples = from_rows({"train": rows}, Grouped(), seed=seed, validation_size=size)
    train, validation = (set(examples.splits[name]["text"]) for name in ("train", "validation"))
    assert not train & validation
    assert sorted(int(r["label"]) for s in examples.splits.values() for r in s) == list(range(len(groups)))
    largest = max(Counter(groups).values())
    assert abs(len(examples.splits["validation"]) - size * len(groups)) <= largest


def test_parting_is_the_same_whatever_the_hash_seed_is() -> None:
    program = """
from finetune.data import from_rows
from finetune.interfaces import Columns, Preprocessor
class Simple(Preprocessor):
    def needs(self): return Columns(required=("text",))
    def features(self, examples, tokenizer): return {}
class Grouped(Simple):
    def needs(self): return Columns(required=("text",), group="text")
rows = [{"text": f"text {i % 37}", "n": i} for i in range(400)]
for preprocessor in (Simple(), Grouped()):
    parts = from_rows({"train": rows}, preprocessor, seed=3, validation_size=0.2)
    print(parts.splits["validation"]["n"][:], parts.fingerprints)
"""
    answers = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for hash_seed in ("0", "1")
    ]
    assert answers[0] == answers[1] != ""


def test_another_seed_parts_otherwise_and_order_is_kept() -> None:
    def validation(seed: int) -> list[int]:
        examples = from_rows({"train": given_rows(100)}, Texts(), seed=seed, validation_size=0.1)
        return [int(text.split()[1]) for text in examples.splits["validation"]["text"]]

    assert validation(1) == validation(1) == sorted(validation(1))
    assert validation(1) != validation(2)
    assert len(validation(1)) == 10


def test_a_validation_that_is_there_is_not_made(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", given_rows(20))
    write(tmp_path / "validation.jsonl", given_rows(3))
    examples = loaded(str(tmp_path), validation_size=0.5)
    assert {split: len(rows) for split, rows in examples.splits.items()} == {"train": 20, "validation": 3}
    assert leakage(examples.splits, examples.preprocessor)["validation"]["exact"] == 3


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(BadData, match="cannot-split"):
        from_rows({"train": [{"text": "same", "label": "1"}] * 5}, Grouped(), validation_size=0.2)
    with pytest.raises(BadData, match="cannot-split"):
        from_rows({"train": given_rows(1)}, Texts(), validation_size=0.2)


def test_a_limit_draws_by_seed_keeps_order_and_is_accounted_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", given_rows(100))
    first = loaded(path, limit={"train": 10}, seed=1)
    again = loaded(path, limit={"train": 10}, seed=1)
    other = loaded(path, limit={"train": 10}, seed=2)
    numbers = [int(text.split()[1]) for text in first.splits["train"]["text"]]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) == 10
    assert first.fingerprints == again.fingerprints != other.fingerprints
    assert first.data_report["train"]["left_out"] == 90
    with pytest.raises(BadData, match="Did you mean 'train'"):
        loaded(path, limit={"trian": 10})


# ---- fingerprints and leakage


def test_a_fingerprint_is_of_the_content_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[dict[str, Any]] = [
        {"text": f"é {i}" * (i % 5), "label": str(i), "n": [i, None], "d": {"x": i / 3, "y": bool(i % 2)}, "o": None}
        for i in range(50)
    ]
    lenient = Texts()
    monkeypatch.setattr(Texts, "check", lambda self, examples: iter(()))
    one = from_rows({"train": rows}, lenient).fingerprints["train"]
    monkeypatch.setattr("finetune.data.table.BLOCK_ROWS", 7)
    assert loaded(write(tmp_path / "a.jsonl", rows)).fingerprints["train"] == one
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "b.parquet", row_group_size=11)
    assert loaded(str(tmp_path / "b.parquet")).fingerprints["train"] == one
    shuffled = Dataset.from_list([rows[-1], *rows[:-1]]).select([*range(1, 50), 0])
    assert from_rows({"train": shuffled}, lenient).fingerprints["train"] == one
    for changed in (
        [*rows[1:], rows[0]],
        [*rows[:-1], {**rows[-1], "text": "other"}],
        [*rows[:-1], {**rows[-1], "d": {"x": 0.5, "y": None}}],
        [{("text2" if key == "o" else key): value for key, value in row.items()} for row in rows],
        rows[:-1],
    ):
        assert from_rows({"train": changed}, lenient).fingerprints["train"] != one


def test_text_that_is_split_differently_has_another_fingerprint() -> None:
    def of(*texts: str | None) -> str:
        rows = [{"text": text, "label": "1"} for text in texts]
        return from_rows({"train": rows}, Anything()).fingerprints["train"]

    assert len({of("ab", "c"), of("a", "bc"), of("abc", ""), of("abc", None), of("abc")}) == 5


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1), st.lists(st.integers(-3, 3), min_size=1))
def test_leakage_counts_rows_whose_inputs_stand_in_train(train: list[int], test: list[int]) -> None:
    def rows(values: list[int]) -> list[Row]:
        return [{"text": value, "label": str(i)} for i, value in enumerate(values)]

    examples = from_rows({"train": rows(train), "test": rows(test)}, Anything())
    assert leakage(examples.splits, examples.preprocessor)["test"]["exact"] == sum(value in train for value in test)


def test_no_bookkeeping_and_no_index_is_left_in_the_examples(tmp_path: Path) -> None:
    examples = loaded(write(tmp_path / "a.jsonl", given_rows(3)))
    assert examples.splits["train"].column_names == ["text", "label"]
    assert examples.splits["train"].to_list() == given_rows(3)


# ---- rows of Python


def test_python_s_values_become_what_json_has() -> None:
    rows = [{"text": np.str_("a"), "label": (np.int64(1), np.float32(0.5)), "m": np.eye(2)}]
    assert from_rows({"train": rows}, Anything()).splits["train"].to_list() == [
        {"text": "a", "label": [1.0, 0.5], "m": [[1.0, 0.0], [0.0, 1.0]]}
    ]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"text": b"bytes", "label": 1}, "unsupported-type"),
        ({"text": {1: 2}, "label": 1}, "unsupported-type"),
        ({"text": "a", "label": 1, 5: 6}, "unsupported-type"),
        ({"text": "a", "label": 2**63}, "number-too-large"),
        ({"text": "\udc00", "label": 1}, "lone-surrogate"),
        ({"\udc00": "a", "label": 1}, "unsupported-type"),
        (["a", 1], "not-an-object"),
        ("a", "not-an-object"),
    ],
)
def test_a_python_row_that_no_table_holds_is_found_by_its_number(row: Any, code: str) -> None:
    good = {"text": "a", "label": 1}
    with pytest.raises(BadData) as caught:
        from_rows({"train": [good, row, good]}, Anything())
    assert [(f.code, f.row, f.split, f.file) for f in caught.value.findings] == [(code, 1, "train", None)]


def test_a_data_set_keeps_its_features_and_its_rows_their_numbers() -> None:
    features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"])})
    data = Dataset.from_dict({"text": ["a", "", "c"], "label": [0, 1, 1]}, features=features)
    examples = from_rows({"train": data}, Anything(), columns={})
    assert examples.splits["train"].features == features
    dropped = from_rows({"train": data}, Texts(), on_bad="drop")
    assert [(gone["row"], gone["example"]) for gone in dropped.dropped] == [(1, {"text": "", "label": 1})]
    other = data.cast_column("label", ClassLabel(names=["yes", "no"]))
    assert from_rows({"train": other}, Anything()).fingerprints != examples.fingerprints


def test_a_byte_order_mark_is_accepted_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbftext,label\nfine,1\n")
    examples = loaded(str(tmp_path / "a.csv"))
    assert examples.splits["train"].to_list() == [{"text": "fine", "label": "1"}]
    assert examples.data_report["train"]["byte_order_marks"] == 1
    (tmp_path / "b.csv").write_bytes("text,label\nfïne,1\n".encode("utf-16"))
    assert loaded(str(tmp_path / "b.csv"), encoding="utf-16").splits["train"]["text"] == ["fïne"]


@pytest.mark.parametrize(
    ("message", "value", "fix", "shown"),
    [
        ("expected a name.", "1.4", "", "expected a name (found: 1.4)."),
        ("expected a name", "1.4", "", "expected a name (found: 1.4)."),
        ("expected a name.", None, "", "expected a name."),
        ("the text is blank.", " \t", "", "the text is blank."),
        ("expected a name.", "a\nb\x00", "", "expected a name (found: a\\nb\\x00)."),
        ("expected a name.", "x" * 200, "", f"expected a name (found: {'x' * 79}…)."),
        ("'ab' is no label.", "ab", "", "'ab' is no label."),
        ("'ab' is no label.", "'ab'", "", "'ab' is no label."),
        ("a label is unknown.", "a", "", "a label is unknown."),
        ("label is unknown.", "a", "", "label is unknown (found: a)."),
        ("14 labels are unknown.", "4", "", "14 labels are unknown (found: 4)."),
        ("unknown.", "4", "Write 5, not 4.", "unknown."),
        ("is it?", "4", "", "is it (found: 4)?"),
    ],
)
def test_a_finding_shows_the_wrong_value_once(message: str, value: str | None, fix: str, shown: str) -> None:
    assert with_value(Finding(code="type-changed", message=message, value=value, fix=fix)) == shown
