"""A streamed train split has the same rows, findings and labels as one in memory, and trains the same when resumed."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import toy
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

import finetune
from finetune import data, trust
from finetune import recipe as recipes
from finetune.data import streaming, streams, table
from finetune.data.examples import Examples
from finetune.data.feature_stream import FeatureStream, Position
from finetune.data.findings import Report
from finetune.data.readers.formats import Formats
from finetune.data.sources import Files
from finetune.data.splits import Rule
from finetune.data.streaming import StreamedSplit
from finetune.errors import BadCheckpoint, BadData, BadOptions, BadRecipe
from finetune.plugins import discover
from finetune.recipe import Source
from finetune.result import Result
from finetune.testing.tokenizers import tokenizer
from finetune.training.streaming import StreamLoader
from finetune_text.classification import TextClassificationPreprocessor

PLUGINS = discover()
FORMATS = ("jsonl", "csv", "tsv", "json", "parquet")
BAD_LINES = {
    "jsonl": ["{bad", "[1]", '{"text": "a", "text": "b"}', ""],
    "csv": ["one", 'a"b,c,d', ""],
    "tsv": ["one", ""],
}
"""Lines that a reader reports or skips."""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make blocks so small that a few rows have several."""
    for module in (table, streams):
        monkeypatch.setattr(module, "BLOCK_ROWS", 7)


def write(folder: Path, name: str, rows: Sequence[Mapping[str, Any]], bad: Sequence[str] = (), *, zipped: bool) -> Path:
    """Write rows in the format of a file name, with bad lines between them."""
    kind = name.rpartition(".")[2]
    path = folder / (f"{name}.gz" if zipped and kind != "parquet" else name)
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=5)
        return path
    if kind == "json":
        content = json.dumps(list(rows))
    else:
        if kind == "jsonl":
            lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        else:
            mark = "," if kind == "csv" else "\t"
            lines = [mark.join("" if value is None else str(value) for value in row.values()) for row in rows]
        for number, line in enumerate(bad):
            lines.insert(min(3 * number + 2, len(lines)), line)
        if kind != "jsonl":
            lines.insert(0, mark.join(rows[0]))
        content = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(content.encode()) if zipped else content.encode())
    return path


def load(source: Source, preprocessor: Any = None, *, seed: int = 1) -> Examples:
    return data.load(source, preprocessor or TextClassificationPreprocessor(), plugins=PLUGINS, seed=seed)


def outcome(source: Source, preprocessor: Any = None) -> dict[str, Any]:
    """Return everything that reading gives, or the findings that stop it."""
    try:
        found = load(source, preprocessor)
    except BadData as error:
        return {"findings": error.findings, "counts": dict(error.counts), "message": str(error)}
    return {
        "rows": {split: part.to_list() for split, part in found.splits.items()},
        "features": {split: part.features for split, part in found.splits.items()},
        "preprocessor": found.preprocessor,
        "findings": found.findings,
        "counts": dict(found.counts),
        "ledger": found.data_report,
        "fingerprints": found.fingerprints,
        "dropped": list(found.dropped),
        "sizes": found.sizes,
        "unread": found.unread,
        "leakage": data.leakage(found.splits, found.preprocessor) if found.leakage is None else found.leakage,
    }


WORDS = st.sampled_from(["", "tar", "Salt", "rope's", "\u200b", "fog é", "<s>", "quay 🚢"])
TEXTS = st.lists(WORDS, min_size=1, max_size=3).map(" ".join)


@st.composite
def files(draw: Any) -> dict[str, Any]:
    """Draw the files of a train split."""
    kind = draw(st.sampled_from(FORMATS))
    labels = st.sampled_from(["a", "b", "a", "b", "c"] if kind in {"parquet", "json"} else ["a", "b", "a", "b", ""])
    numbers = st.sampled_from([[1, 2], [1, 2.5], [0.5, None]]) if kind in {"jsonl", "json"} else st.just([1, 2])
    shards = []
    for _ in range(draw(st.integers(1, 3))):
        rows = []
        for _ in range(draw(st.integers(1, 25))):
            label, number = draw(labels), draw(st.sampled_from(draw(numbers)))
            rows.append({"text": draw(TEXTS).strip(), "label": label, "number": number})
        bad = draw(st.lists(st.sampled_from(BAD_LINES.get(kind, [""])), max_size=4)) if kind in BAD_LINES else []
        shards.append((rows, bad))
    return {
        "kind": kind,
        "shards": shards,
        "zipped": draw(st.booleans()),
        "on_bad": draw(st.sampled_from(["drop", "drop", "error"])),
    }


@settings(max_examples=40, deadline=None)
@given(files())
def test_a_stream_gives_what_a_table_in_memory_gives(tmp_path_factory: pytest.TempPathFactory, drawn: Any) -> None:
    folder = tmp_path_factory.mktemp("data")
    paths = []
    for number, (rows, bad) in enumerate(drawn["shards"]):
        path = write(folder, f"part-{number}.{drawn['kind']}", rows, bad, zipped=drawn["zipped"])
        paths.append(str(path))
    held_out = write(folder, "held-out.jsonl", [{"text": "tar", "label": "a", "number": 1}], zipped=False)
    path = {"train": paths, "validation": str(held_out)}
    source = Source(path=path, on_bad=drawn["on_bad"])
    in_memory, streamed = outcome(source), outcome(replace(source, streaming=True))
    assert streamed == in_memory


ROWS = [{"text": f"{word} {number}", "label": "ab"[number % 2]} for number, word in enumerate(["tar", "salt"] * 30)]


def test_findings_of_rows_far_back_name_their_places(tmp_path: Path) -> None:
    """The second row repeats at the end: its place is read again."""
    rows = [*ROWS, ROWS[1], {**ROWS[2], "label": "b"}]
    for number in (5, 20, 44):
        rows[number] = {**rows[number], "text": " "}
    path = write(tmp_path, "rows.jsonl", rows, ["", "{", ""], zipped=False)
    for on_bad in ("drop", "error"):
        source = Source(path=str(path), validation_size=0, on_bad=on_bad)  # type: ignore[arg-type]
        assert outcome(replace(source, streaming=True)) == outcome(source)


def test_a_sample_stands_for_the_rows_of_a_long_stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "SAMPLE", 11)
    path = write(tmp_path, "rows.jsonl", ROWS, zipped=False)
    same = [{"text": "TAR, 0!", "label": "a"}, ROWS[3], {"text": "new words", "label": "b"}]
    held_out = write(tmp_path, "test.jsonl", same, zipped=False)
    source = Source(path={"train": str(path), "test": str(held_out)}, validation_size=0)
    in_memory, streamed = load(source), load(replace(source, streaming=True))
    assert streamed.stream is not None and streamed.stream.count == len(ROWS)
    assert len(streamed.splits["train"]) == 11 and set(streamed.splits["train"]["text"]) < {r["text"] for r in ROWS}
    assert streamed.fingerprints == in_memory.fingerprints and streamed.data_report == in_memory.data_report
    leaked = data.leakage(in_memory.splits, in_memory.preprocessor)["test"]
    assert streamed.leakage == {"test": {**leaked, "near": None, "pairs": []}}
    assert (leaked["exact"], leaked["normalized"]) == (1, 1)


def test_each_row_of_a_sample_is_equally_likely() -> None:
    drawn = np.zeros(30)
    for seed in range(200):
        sample = streaming._Sample(size=6, seed=seed)
        for start in range(0, 30, 4):
            sample.add(pa.table({"number": list(range(start, min(start + 4, 30)))}))
        numbers = sample.table(pa.schema([]))["number"].to_pylist()
        assert len(numbers) == 6 and numbers == sorted(numbers)
        drawn[numbers] += 1
    assert drawn.min() > 20 and drawn.max() < 65  # 40 are expected, with a standard deviation of 5.7


JSON = st.recursive(
    st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xy"), inner, max_size=2),
    max_leaves=4,
)
NUMBERS = st.sampled_from([None, 0, -1, 7, 2**53 + 1, 2**63 - 1, -(2**63)])
FLOATS = st.sampled_from([None, 0.1, -0.0, 1e300, 5e-324, 1 / 3, 2.0, 3])


@settings(deadline=None)
@given(
    rows=st.lists(
        st.fixed_dictionaries({"a": JSON, "n": NUMBERS}, optional={"f": FLOATS, "t": st.booleans()}), min_size=1
    ),
    escapes=st.booleans(),
    buffer=st.sampled_from([40, 2 << 20]),
)
def test_arrow_reads_json_lines_as_our_reader_does(
    tmp_path_factory: pytest.TempPathFactory, rows: Any, escapes: bool, buffer: int
) -> None:
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=escapes) + "\n" for row in rows), encoding="utf-8")
    surveyed = streams.survey(
        Files((str(path),)),
        split="train",
        source=Source(path=str(path)),
        formats=Formats(PLUGINS),
        needed=frozenset(),
        used=None,
        report=Report(on_bad="drop"),
    )
    found = []
    for piece in surveyed.pieces:
        assert isinstance(piece, streams.TextPiece) and surveyed.schema is not None
        for each in (piece, replace(piece, is_plain=False)):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(streams, "BUFFER", buffer)
                blocks = list(each.blocks(surveyed.schema))
            found.append([(row, block.place(n)) for block in blocks for n, row in enumerate(block.rows.to_pylist())])
        assert repr(found[0]) == repr(found[1])


# Splitting by rule


def test_a_rule_puts_a_row_into_the_same_split_whatever_comes_before_it(tmp_path: Path) -> None:
    rows = [{"text": f"text {number}", "label": "ab"[number % 2], "id": f"{number // 3}"} for number in range(200)]
    chosen = {}
    for streamed in (False, True):
        for part in (rows, rows[::-1], rows[:150]):
            half = len(part) // 2
            paths = [
                str(write(tmp_path, f"{number}.jsonl", shard, zipped=False))
                for number, shard in enumerate((part[:half], part[half:]))
            ]
            source = Source(path={"train": paths}, split_by="id", validation_size=0.2, streaming=streamed)
            found = load(source, seed=len(part))
            held_out = set(found.splits["validation"]["id"])
            assert held_out.isdisjoint(found.splits["train"]["id"])
            for row in part:
                assert chosen.setdefault(row["id"], row["id"] in held_out) == (row["id"] in held_out)
            counts = found.data_report["validation"]
            assert counts["from_train"] == counts["kept"] == len(found.splits["validation"])
            assert counts["read"] + found.data_report["train"]["read"] == len(part)
    assert 5 < sum(chosen.values()) < 25


def test_a_stream_is_split_by_the_columns_that_the_model_reads(tmp_path: Path) -> None:
    """A text that repeats, with whatever label, is in one split."""
    rows = [{"text": f"text {number % 50}", "label": "ab"[number % 3 % 2]} for number in range(300)]
    path = write(tmp_path, "rows.csv", rows, zipped=True)
    found = load(Source(path=str(path), streaming=True))
    assert found.stream is not None and found.stream.rule == Rule(columns=("text",), share=0.1)
    assert set(found.splits["validation"]["text"]).isdisjoint(found.splits["train"]["text"])
    assert len(found.splits["validation"]) + found.stream.count == 300
    assert found.data_report["validation"]["from_train"] == len(found.splits["validation"]) > 0


@given(share=st.floats(0.01, 0.99), texts=st.lists(st.text(st.characters(), max_size=5), min_size=1, max_size=20))
def test_a_larger_share_holds_the_rows_of_a_smaller_one(share: float, texts: list[str]) -> None:
    block = pa.table({"text": [text.encode("utf-8", "ignore").decode() for text in texts]})
    small, large = Rule(columns=("text",), share=share / 2), Rule(columns=("text",), share=share)
    assert not (small.holds(block) & ~large.holds(block)).any()


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"split_by": "texts"}, "missing-column", "Did you mean 'text'?"),
        ({"split_by": "ship", "columns": {"ship": "vessel"}}, "missing-column", "its new name: split_by: vessel."),
        ({"validation_size": 1e-9}, "cannot-split", "too few rows with different values to split 0% from train"),
    ],
)
@pytest.mark.parametrize("streamed", [False, True])
def test_a_rule_that_splits_nothing_is_reported(
    tmp_path: Path, changes: Any, code: str, message: str, streamed: bool
) -> None:
    path = write(tmp_path, "rows.jsonl", [{**row, "ship": "Anna"} for row in ROWS], zipped=False)
    with pytest.raises(BadData, match=message.replace("?", r"\?")) as caught:
        load(Source(**{"path": str(path), "split_by": "text", "streaming": streamed, **changes}))
    assert list(caught.value.counts) == [code]


def test_too_many_held_out_rows_are_refused_unless_a_limit_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "MOST_HELD_OUT", 5)
    path = write(tmp_path, "rows.jsonl", ROWS, zipped=False)
    source = Source(path=str(path), validation_size=0.5, streaming=True)
    with pytest.raises(BadData, match=r"splits off more than 5 rows.* Set a smaller dataset.validation_size"):
        load(source)
    found = load(replace(source, limit={"validation": 4}))
    counts = found.data_report["validation"]
    assert counts["kept"] == 4 and counts["read"] == 4 + counts["left_out"] > 20


# What cannot be streamed


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"limit": {"train": 5}}, "limit: train has no effect with `streaming: true`"),
        ({"shuffle_buffer": 0}, "shuffle_buffer: must be at least 1, not 0"),
        ({"shuffle_buffer": 5, "streaming": False}, "shuffle_buffer: has an effect with `streaming: true` only"),
        ({"path": "", "mixture": {"a": "a.csv"}}, "streaming: a mixture cannot be streamed"),
        (
            {"path": "", "streaming": False, "mixture": {"a": {"path": "a.csv", "streaming": True}}},
            r"mixture.a.streaming: a mixture cannot be streamed",
        ),
    ],
)
def test_an_option_that_does_not_fit_a_stream_is_named(section: Any, message: str) -> None:
    content = {"task": "text-classification", "model": "x", "strategy": "full", "output": "y"}
    with pytest.raises(BadRecipe, match=message):
        recipes.from_mapping({**content, "dataset": {"path": "a.csv", "streaming": True, **section}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {"max_steps": None}}, "dataset.streaming: set training.max_steps"),
        ({"training": {"num_train_epochs": 2}}, "'num_train_epochs' cannot be 2 with dataset.streaming"),
        ({"training": {"save_strategy": "epoch"}}, "'save_strategy' cannot be 'epoch' with dataset.streaming"),
        ({"training": {"eval_strategy": "epoch"}}, "'eval_strategy' cannot be 'epoch' with dataset.streaming"),
        ({"training": {"train_sampling_strategy": "group_by_length"}}, "Rows are drawn from dataset.shuffle_buffer"),
        ({"training": {"dataloader_num_workers": 2}}, "'dataloader_num_workers' cannot be 2"),
        ({"strategy": {"name": "frozen", "cache": True}}, "strategy: cache computes the features of all rows"),
        ({"strategy": {"name": "gradual", "interval": 1}}, "strategy: interval counts epochs, and a stream has none"),
        ({"task": "dpo"}, "the trainer of the task 'dpo' needs all rows of train before the first step"),
        ({"task": "kto"}, "the trainer of the task 'kto' needs all rows"),
        (
            {"task": "sft", "preprocessor": {"packing": True}},
            "preprocessor: packing puts the rows of all train together",
        ),
    ],
)
def test_what_needs_all_rows_is_refused_before_any_is_read(tmp_path: Path, changes: Any, message: str) -> None:
    training = {"max_steps": 2, **changes.pop("training", {})}
    recipe = {
        "task": "text-classification",
        "model": str(toy.base(tmp_path / "base")),
        "strategy": "full",
        "output": str(tmp_path / "run"),
        "dataset": {"path": str(tmp_path / "missing.jsonl"), "streaming": True},
        "training": {name: value for name, value in training.items() if value is not None},
        **changes,
    }
    with pytest.raises(BadOptions, match=message):
        finetune.train(**recipe)


def test_rows_in_python_are_not_a_stream() -> None:
    trust.allow("toy:rows")
    with pytest.raises(BadData, match="these rows are given in Python"):
        load(Source(path="toy:rows", options={"size": 20}, streaming=True))


def test_a_file_that_changes_between_two_passes_stops_the_run(tmp_path: Path) -> None:
    path = write(tmp_path, "rows.jsonl", ROWS, zipped=False)
    found = load(Source(path=str(path), streaming=True, validation_size=0))
    assert found.stream is not None
    path.write_text(path.read_text() + path.read_text())
    with pytest.raises(BadData, match=r"rows\.jsonl has changed while it was read"):
        list(found.stream.rows)


# Data sets of `datasets`


def test_a_data_set_on_the_hub_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loader of the Hub reads local files here, because there is no network."""
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["a", "b"])})
    rows = [{**row, "label": "ab".index(row["label"])} for row in ROWS]
    for split, part in (("train", rows), ("test", rows[:9])):
        for number in range(2):
            datasets.Dataset.from_list(part[number::2], features=features).to_parquet(
                str(tmp_path / f"{split}-{number}.parquet")
            )
    found = {split: sorted(map(str, tmp_path.glob(f"{split}-*"))) for split in ("train", "test")}
    original = datasets.load_dataset

    def load_dataset(path: str, name: Any, revision: Any, streaming: bool = False) -> Any:
        assert path == "harbour/notices"
        return original("parquet", data_files=found, streaming=streaming, cache_dir=str(tmp_path / "cache"))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    source = Source(path="harbour/notices", validation_size=0)
    in_memory, streamed = outcome(source), outcome(replace(source, streaming=True))
    assert streamed == in_memory
    assert streamed["features"]["train"]["label"].names == ["a", "b"]
    stream = load(replace(source, streaming=True)).stream
    assert stream is not None and len(stream.survey.pieces) == 2


# The order of the rows


def opened(split: StreamedSplit, **options: Any) -> FeatureStream:
    words = tokenizer("bert", [row["text"] for row in ROWS], vocab_size=200)
    fitted = TextClassificationPreprocessor(max_length=8, labels=("a", "b"))
    options = {"buffer": 10, "seed": 3, **options}
    return FeatureStream(split=split, preprocessor=fitted, tokenizer=words, **options)


@pytest.fixture
def split(tmp_path: Path) -> StreamedSplit:
    paths = [str(write(tmp_path, f"{n}.jsonl", ROWS[n::3], zipped=False)) for n in range(3)]
    found = load(Source(path={"train": paths}, streaming=True, validation_size=0))
    assert found.stream is not None
    return found.stream


def test_an_epoch_has_each_row_once_in_an_order_of_its_own(split: StreamedSplit) -> None:
    orders = []
    for buffer in (1, 10, 1000):
        for epoch in (0, 1):
            texts = [row["text"] for row in opened(split, buffer=buffer).rows(epoch)]
            assert sorted(texts) == sorted(row["text"] for row in ROWS)
            assert texts == [row["text"] for row in opened(split, buffer=buffer).rows(epoch)]
            orders.append(texts)
    assert orders[0] == orders[1] == [row["text"] for n in range(3) for row in ROWS[n::3]]
    assert len({tuple(order) for order in orders}) == 5


def taken(stream: FeatureStream, size: int, number: int, start: Position | None = None) -> list[Any]:
    batches = stream.batches(size, start=start or Position())
    return [next(batches) for _ in range(number)]


@pytest.mark.parametrize("per_row", [1, 3])
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("chunk", [8, 64])
def test_a_stream_goes_on_where_it_was(
    split: StreamedSplit, per_row: int, processes: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also after the end of an epoch, in a chunk of rows, and if rows make several features or none."""
    monkeypatch.setattr("finetune.data.feature_stream.BATCH", chunk)

    def features(self: Any, examples: Any, tokenizer: Any) -> Any:
        made: dict[str, list[Any]] = {"input_ids": [], "overflow_to_sample_mapping": []}
        for number, text in enumerate(examples["text"]):
            for part in range(len(text) % (per_row + 1) if per_row > 1 else 1):
                made["input_ids"].append([part, len(text), int(text.split()[1])])
                made["overflow_to_sample_mapping"].append(number)
        return made

    monkeypatch.setattr(TextClassificationPreprocessor, "features", features)
    for process in range(processes):
        stream = opened(split, process=process, processes=processes)
        straight = taken(stream, 5, 40)
        for at in (1, 3, 6, 7, 12, 13, 30):
            assert taken(stream, 5, 40 - at, start=straight[at - 1][1]) == straight[at:]


def test_processes_together_use_the_rows_of_one_process(split: StreamedSplit) -> None:
    alone = [batch for batch, _ in taken(opened(split), 8, 7)]
    first, second = ([batch for batch, _ in taken(opened(split, process=n, processes=2), 4, 7)] for n in range(2))
    for whole, one, other in zip(alone, first, second, strict=True):
        together = [feature for pair in zip(one, other, strict=True) for feature in pair]
        assert together == whole


# Training


def run(folder: Path, name: str, *, resume: bool = False, **changes: Any) -> Result:
    dataset = {"path": {"train": [str(path) for path in sorted(folder.glob("*.jsonl"))]}, "streaming": True}
    training = {
        "max_steps": 6, "save_strategy": "steps", "save_steps": 1, "logging_steps": 1, "save_total_limit": 9,
        "gradient_accumulation_steps": 2, "per_device_train_batch_size": 7, "eval_strategy": "steps", "eval_steps": 2,
    }  # fmt: skip
    content = {
        "dataset": {**dataset, "shuffle_buffer": 20, **changes.pop("dataset", {})},
        "training": {**training, **changes.pop("training", {})},
        "score_base_model": False,
        **changes,
    }
    return finetune.train(**toy.recipe(folder / "base", folder / name, **content), resume=resume)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """Return a folder with a run of six steps, in which the rows are read more than once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toy, "TASK", replace(toy.TASK, streams=True))
        patch.setattr("finetune.data.feature_stream.BATCH", 16)
        folder = tmp_path_factory.mktemp("streamed")
        toy.base(folder / "base")
        for number in range(2):
            write(folder, f"{number}.jsonl", toy.rows(35, seed=number), zipped=False)
        return folder, run(folder, "straight")


@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_resumed_run_ends_with_the_same_weights(
    straight: tuple[Path, Result], after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(toy, "TASK", replace(toy.TASK, streams=True))
    monkeypatch.setattr("finetune.data.feature_stream.BATCH", 16)
    folder, whole = straight
    resumed = shutil.copytree(folder / "straight", folder / f"resumed-{after}")
    (resumed / "result.json").unlink()
    (resumed / "model.safetensors").unlink()
    for step in range(after + 1, 7):
        shutil.rmtree(resumed / f"checkpoint-{step}")
    made: list[int] = []
    monkeypatch.setattr(FeatureStream, "features", _counted(FeatureStream.features, made))
    result = run(folder, resumed.name, resume=True)
    weights, others = (load_file(folder / name / "model.safetensors") for name in ("straight", resumed.name))
    assert all((weights[name] == others[name]).all() for name in weights)
    timeless = [
        [
            {name: value for name, value in entry.items() if "runtime" not in name and "per_second" not in name}
            for entry in each.log
        ]
        for each in (whole, result)
    ]
    assert timeless[0][:-1] == timeless[1][:-1]
    assert result.scores == whole.scores and result.fingerprints == whole.fingerprints
    assert sum(made) <= (6 - after) * 14 + 2 * 16  # no features are made of the rows before


def _counted(function: Callable[..., Any], made: list[int]) -> Callable[..., Any]:
    def features(self: Any, rows: Any) -> Any:
        made.append(len(rows))
        return function(self, rows)

    return features


def test_a_run_does_not_go_on_with_other_data(straight: tuple[Path, Result], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy, "TASK", replace(toy.TASK, streams=True))
    folder, _ = straight
    changed = shutil.copytree(folder / "straight", folder / "changed")
    (changed / "result.json").unlink()
    for dataset, named in (({"shuffle_buffer": 21}, "stream"), ({"validation_size": 0.2}, "data.train")):
        with pytest.raises(BadCheckpoint, match=f"(?s)the recipe or the data changed.* {named}: .* now"):
            run(folder, "changed", resume=True, dataset=dataset)
    first = folder / "0.jsonl"
    moved = first.rename(folder / "2.jsonl")
    try:
        with pytest.raises(BadCheckpoint, match=r"stream: .*0\.jsonl"):
            run(folder, "changed", resume=True)
    finally:
        moved.rename(first)


def test_a_streamed_run_is_evaluated_and_saved_by_steps(straight: tuple[Path, Result]) -> None:
    folder, result = straight
    assert result.steps == 6 and set(result.scores) == {"validation", "train"}
    assert result.notes[0].startswith("train is streamed: its ") and "a buffer of 20 rows" in result.notes[0]
    assert (folder / "straight" / "predictions.jsonl").read_text().count("\n") == result.data_report["validation"][
        "kept"
    ]
    again = finetune.evaluate(folder / "straight", split="validation")
    assert again == result.scores["validation"]


def test_a_streamed_run_learns_as_one_in_memory_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toy, "TASK", replace(toy.TASK, streams=True))
    toy.base(tmp_path / "base")
    paths = {
        split: str(write(tmp_path, f"{split}.jsonl", toy.rows(size, seed=size), zipped=False))
        for split, size in (("train", 400), ("test", 200))
    }
    training = {"max_steps": 60, "per_device_train_batch_size": 16, "learning_rate": 5e-3, "logging_steps": 60}
    losses, accuracies = [], []
    for streamed in (False, True):
        dataset = {"path": paths, "streaming": streamed, "validation_size": 0}
        more = {"score_base_model": False, "general_text": "none", "dataset": dataset, "training": training}
        result = finetune.train(**toy.recipe(tmp_path / "base", tmp_path / f"run-{streamed}", **more))
        accuracies.append(result.scores["test"]["accuracy"])
        losses.append([entry["loss"] for entry in result.log if "loss" in entry])
    assert min(accuracies) > 0.95, (accuracies, losses)


def test_the_rows_before_a_checkpoint_of_other_processes_are_not_guessed(split: StreamedSplit, tmp_path: Path) -> None:
    def loader(**options: Any) -> StreamLoader:
        return StreamLoader(
            opened(split, **options), size=4, names=["input_ids"], collate=list, begin_epoch=lambda epoch: None
        )

    one = loader()
    next(iter(one))
    one.save(tmp_path)
    again = loader()
    again.restore(tmp_path)
    assert again.position == one.position == Position(0, 0, 4)
    with pytest.raises(BadCheckpoint, match="was written by 1 processes, and this run has 2"):
        loader(processes=2).restore(tmp_path)
    for content in ("{", '{"processes": 1, "row": 3}', "[]", '{"processes": 1, "epoch": null}'):
        (tmp_path / "stream-0.json").write_text(content)
        with pytest.raises(BadCheckpoint, match="does not hold a position in the stream"):
            again.restore(tmp_path)
