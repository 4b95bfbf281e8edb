"""The cache of features: the same content hits, any other content misses, and damage is noticed."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

import finetune
from finetune import plan as plans
from finetune import recipe as recipes
from finetune import result
from finetune.cli import main
from finetune.data import feature_cache
from finetune.data.feature_cache import ENTRY, SCRATCH, TABLE, FeatureCache
from finetune.data.preparation import Prepared, prepare
from finetune.errors import BadOptions
from finetune.interfaces import Task
from finetune.plugins import discover
from finetune.progress import Reporter
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune_text.classification import TextClassificationPreprocessor
from finetune_text.multi_label import MultiLabelPreprocessor

WORDS = ("tar", "salt", "rope", "nets", "quay", "harbour", "gull", "mast", "sail", "tide")
TASK = Task(
    summary="",
    model_class="",
    peft_type=None,
    features=frozenset({"input_ids", "attention_mask"}),
    labels=frozenset({"labels"}),
    preprocessor="",
    evaluator="",
)
FITTED = TextClassificationPreprocessor(labels=("dry", "wet"), class_counts={"dry": 1, "wet": 1}, max_length=16)


class Notes(Reporter):
    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model("bert", tokenizer("bert"), tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def recipe(base: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("data")
    paths = {}
    for split, size in (("train", 60), ("validation", 20), ("test", 20)):
        lines = []
        for number in range(size):
            text = " ".join(WORDS[(number * step + len(split)) % 10] for step in (1, 3, 7, number % 5))
            lines.append(json.dumps({"text": f"{text} {number} {split}", "label": ("wet", "dry")[number % 2]}) + "\n")
        (folder / f"{split}.jsonl").write_text("".join(lines))
        paths[split] = str(folder / f"{split}.jsonl")
    return {
        "task": "text-classification",
        "model": str(base),
        "dataset": {"path": paths},
        "strategy": "full",
        "output": str(folder / "run"),
        "general_text": "none",
        "training": {"max_steps": 2, "per_device_train_batch_size": 4},
    }


def prepared(recipe: dict[str, Any], cache: Path | None) -> tuple[Prepared, list[str]]:
    reporter = Notes()
    plan = plans.make(recipes.from_mapping(recipe), discover())
    return prepare(plan, reporter=reporter, cache=cache), reporter.notes


def tables(one: Prepared) -> dict[str, Any]:
    return {split: part.features.data.table.combine_chunks() for split, part in one.features.items()}


def same(one: Prepared, other: Prepared) -> bool:
    """Return whether two preparations have the same features, to the type and the last number, and the same counts."""
    alike = tables(one).keys() == tables(other).keys()
    for split, table in tables(one).items():
        theirs = tables(other)[split]
        part, again = one.features[split], other.features[split]
        alike = alike and table.equals(theirs) and part.features.features == again.features.features
        alike = alike and (part.counts, part.longest) == (again.counts, again.longest)
    return alike and one.examples.findings == other.examples.findings and one.limits == other.limits


def entries(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith(SCRATCH))


def test_features_from_the_cache_are_those_that_are_made(recipe: dict[str, Any], tmp_path: Path) -> None:
    plain, _ = prepared(recipe, None)
    first, notes = prepared(recipe, tmp_path / "cache")
    assert notes == []
    assert same(plain, first) and plain.data_report == first.data_report
    second, notes = prepared(recipe, tmp_path / "cache")
    assert notes == [f"the features of train and validation and test come from the cache {str(tmp_path / 'cache')!r}"]
    assert same(plain, second)
    for split, counts in second.data_report.items():
        assert counts == {**plain.data_report[split], "features_from_cache": counts["features"]}
    assert len(entries(tmp_path / "cache")) == 3


def test_an_entry_holds_data_alone_and_only_its_owner_can_read_it(recipe: dict[str, Any], tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    prepared(recipe, cache)
    for entry in entries(cache):
        assert sorted(path.name for path in entry.iterdir()) == sorted((TABLE, ENTRY))
        assert stat.S_IMODE(entry.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in entry.iterdir()} == {0o600}
        json.loads((entry / ENTRY).read_text())
        pa.ipc.open_stream(str(entry / TABLE)).read_all()
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700


def test_other_rows_and_other_options_miss(recipe: dict[str, Any], tmp_path: Path) -> None:
    prepared(recipe, tmp_path)
    changed, notes = prepared({**recipe, "preprocessor": {"max_length": 6}}, tmp_path)
    assert notes == [] and same(changed, prepared({**recipe, "preprocessor": {"max_length": 6}}, None)[0])
    fewer, notes = prepared({**recipe, "dataset": {**recipe["dataset"], "limit": {"test": 5}}}, tmp_path)
    assert (
        notes[0].startswith("the features of train and validation come") and len(fewer.features["test"].examples) == 5
    )


# The key


@dataclass(frozen=True, kw_only=True)
class OwnPreprocessor(TextClassificationPreprocessor):
    """A class of a test module is code of the user."""


def key(tmp_path: Path, **changes: Any) -> str | None:
    """Return the key of an entry in which some of its parts are changed."""
    notes: list[str] = []
    cache = FeatureCache(tmp_path, plugins=discover(), note=notes.append)
    given = {"preprocessor": FITTED, "tokenizer": tokenizer("bert"), "task": TASK, "answers": True, "batch": 1000}
    given |= changes
    entry = cache.entry(given.pop("rows", "a"), **given)
    assert (entry is None) == bool(notes)
    return None if entry is None else entry.path.name


def changed_tokenizer(change: Callable[[Any], Any]) -> Any:
    made = tokenizer("bert")
    return change(made) or made


def with_token(made: Any) -> None:
    made.add_tokens(["harbourish"])


def with_special(made: Any) -> None:
    made.add_special_tokens({"additional_special_tokens": ["[BOAT]"]})


def with_side(made: Any) -> None:
    made.truncation_side = "left"


def with_length(made: Any) -> None:
    made.model_max_length = 17


def with_template(made: Any) -> None:
    made.chat_template = "{{ messages }}"


def with_normalizer(made: Any) -> None:
    from tokenizers.normalizers import NFC

    made.backend_tokenizer.normalizer = NFC()


CHANGES: dict[str, dict[str, Any]] = {
    "rows": {"rows": "b"},
    "answers": {"answers": False},
    "batch": {"batch": 10},
    "max_length": {"preprocessor": replace(FITTED, max_length=15)},
    "labels": {"preprocessor": replace(FITTED, labels=("wet", "dry"))},
    "ids": {"preprocessor": replace(FITTED, label_ids=True)},
    "class": {"preprocessor": MultiLabelPreprocessor(labels=("dry", "wet"))},
    "task features": {"task": replace(TASK, features=frozenset({"input_ids"}))},
    "task labels": {"task": replace(TASK, labels=frozenset({"labels", "more"}))},
    "task generates": {"task": replace(TASK, generates=True)},
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_part_of_the_key_counts(name: str, tmp_path: Path) -> None:
    assert key(tmp_path) == key(tmp_path)
    changed = key(tmp_path, **CHANGES[name])
    assert changed is not None and changed != key(tmp_path)


@pytest.mark.parametrize(
    "change",
    [with_token, with_special, with_side, with_length, with_template, with_normalizer],
    ids=lambda f: f.__name__,
)
def test_each_change_of_a_tokenizer_counts(change: Callable[[Any], Any], tmp_path: Path) -> None:
    assert key(tmp_path, tokenizer=changed_tokenizer(change)) not in {key(tmp_path), None}


def test_where_a_tokenizer_lies_and_what_it_encoded_last_do_not_count(base: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "moved")
    here, there = AutoTokenizer.from_pretrained(base), AutoTokenizer.from_pretrained(tmp_path / "moved")
    before = key(tmp_path, tokenizer=here)
    here(["tar and nets"], truncation=True, max_length=3, padding="max_length")
    assert before == key(tmp_path, tokenizer=here) == key(tmp_path, tokenizer=there)


def test_versions_and_code_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = key(tmp_path)
    for package in ("tokenizers", "transformers", "finetune-kit"):
        versions = {**result.versions(), package: "0.0.1"}
        with monkeypatch.context() as patch:
            patch.setattr(result, "versions", lambda versions=versions: versions)
            assert key(tmp_path) != first
    code = feature_cache._code
    for package in ("finetune", "finetune_text"):
        with monkeypatch.context() as patch:
            patch.setattr(feature_cache, "_code", lambda name, package=package: "x" if name == package else code(name))
            assert key(tmp_path) != first
    assert key(tmp_path) == first


options = st.fixed_dictionaries({
    "max_length": st.integers(8, 20),
    "labels": st.lists(st.sampled_from(["a", "b", "c:d", "1", "é"]), min_size=1, unique=True).map(tuple),
    "label_ids": st.sampled_from([None, True, False]),
    "label_smoothing": st.sampled_from([0.0, 0.1]),
})  # fmt: skip


@given(one=options, other=options)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_two_preprocessors_share_a_key_if_their_options_are_equal(one: Any, other: Any, tmp_path: Path) -> None:
    first, second = (TextClassificationPreprocessor(**each) for each in (one, other))
    assert (key(tmp_path, preprocessor=first) == key(tmp_path, preprocessor=second)) == (one == other)


def test_the_content_of_a_file_that_an_option_names_counts(tmp_path: Path) -> None:
    file = tmp_path / "template.jinja"
    named = replace(FITTED, labels=(str(file), "wet"))
    keys = [key(tmp_path, preprocessor=named)]
    for text in ("a", "b"):
        file.write_text(text)
        keys.append(key(tmp_path, preprocessor=named))
    assert len(set(keys)) == 3


def test_the_date_counts_if_a_template_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Tomorrow(date):
        @classmethod
        def today(cls) -> date:
            return date(2100, 1, 1)

    def dated(made: Any) -> None:
        made.chat_template = "{{ strftime_now('%d') }}"

    plain, read = key(tmp_path), key(tmp_path, tokenizer=changed_tokenizer(dated))
    monkeypatch.setattr(feature_cache, "date", Tomorrow)
    assert key(tmp_path) == plain
    assert key(tmp_path, tokenizer=changed_tokenizer(dated)) != read


@pytest.mark.parametrize(
    "preprocessor",
    [OwnPreprocessor(labels=("dry", "wet")), replace(FITTED, labels=("json:dumps", "wet"))],
    ids=["own class", "own function"],
)
def test_what_depends_on_code_of_the_user_is_not_kept(preprocessor: Any, tmp_path: Path) -> None:
    notes: list[str] = []
    cache = FeatureCache(tmp_path, plugins=discover(), note=notes.append)
    for _ in range(2):
        given = {"preprocessor": preprocessor, "tokenizer": tokenizer("bert"), "task": TASK}
        assert cache.entry("a", **given, answers=True, batch=1000) is None
    (note,) = notes
    assert note.startswith("the features are not kept in the cache: ") and "can change between two runs" in note


# Damage, and files of strangers


def flip(entry: Path) -> None:
    data = bytearray((entry / TABLE).read_bytes())
    data[len(data) // 2] ^= 1
    (entry / TABLE).write_bytes(data)


def cut(entry: Path) -> None:
    data = (entry / TABLE).read_bytes()
    (entry / TABLE).write_bytes(data[: len(data) // 2])


def rewritten(entry: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Replace the table of an entry, with digests that fit."""
    with pa.ipc.open_stream(pa.OSFile(str(entry / TABLE))) as stream:
        table = change(stream.read_all())
    with pa.ipc.new_stream(str(entry / TABLE), table.schema) as stream:
        stream.write_table(table)
    written = json.loads((entry / ENTRY).read_text())["content"]
    written["table"] = feature_cache.file_sha256(entry / TABLE)
    (entry / ENTRY).write_text(json.dumps({"content": written, "sha256": feature_cache._digest(written)}))


def other_features(entry: Path) -> None:
    def change(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index("labels")
        return table.set_column(place, table.schema.field(place), pa.array([0] * len(table)))

    rewritten(entry, change)


def other_rows(entry: Path) -> None:
    def change(table: pa.Table) -> pa.Table:
        place = table.schema.get_field_index("example")
        return table.set_column(place, table.schema.field(place), pa.array([10_000] * len(table)))

    rewritten(entry, change)


def image(entry: Path) -> None:
    from datasets import Features, Image

    def change(table: pa.Table) -> pa.Table:
        types = Features({**Features.from_arrow_schema(table.schema), "image": Image()})
        column = pa.array([{"bytes": None, "path": "/etc/passwd"}] * len(table), Image().pa_type)
        return table.append_column("image", column).replace_schema_metadata(types.arrow_schema.metadata)

    rewritten(entry, change)


def other_counts(entry: Path) -> None:
    written = json.loads((entry / ENTRY).read_text())
    written["content"]["counts"]["tokens"] += 1
    (entry / ENTRY).write_text(json.dumps(written))


def not_json(entry: Path) -> None:
    (entry / ENTRY).write_text("[1, 2")


def other_json(entry: Path) -> None:
    (entry / ENTRY).write_text("[]")


def without_table(entry: Path) -> None:
    (entry / TABLE).unlink()


def empty(entry: Path) -> None:
    for path in entry.iterdir():
        path.unlink()


def link_to_table(entry: Path) -> None:
    (entry / TABLE).rename(entry / "real")
    (entry / TABLE).symlink_to(entry / "real")


def link_to_folder(entry: Path) -> None:
    entry.rename(entry.parent.parent / entry.name)
    entry.symlink_to(entry.parent.parent / entry.name)


def link_to_nothing(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.symlink_to(entry.parent / "nothing")


def a_file(entry: Path) -> None:
    shutil.rmtree(entry)
    entry.write_text("")


def pipe(entry: Path) -> None:
    (entry / ENTRY).unlink()
    os.mkfifo(entry / ENTRY)


def open_to_others(entry: Path) -> None:
    (entry / TABLE).chmod(0o666)


def folder_open_to_others(entry: Path) -> None:
    entry.chmod(0o777)


def another_entry(entry: Path) -> None:
    (other,) = [path for path in entries(entry.parent) if path != entry][:1]
    shutil.rmtree(entry)
    shutil.copytree(other, entry)


DAMAGES = (
    flip, cut, other_features, other_rows, image, other_counts, not_json, other_json, without_table, empty,
    link_to_table, link_to_folder, link_to_nothing, a_file, pipe, open_to_others, folder_open_to_others, another_entry,
)  # fmt: skip


@pytest.fixture(scope="module")
def filled(recipe: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Prepared]:
    folder = tmp_path_factory.mktemp("filled") / "cache"
    made, _ = prepared(recipe, folder)
    return folder, made


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_entry_is_made_again_with_a_note(
    damage: Callable[[Path], None], recipe: dict[str, Any], filled: tuple[Path, Prepared], tmp_path: Path
) -> None:
    shutil.copytree(filled[0], tmp_path / "cache")
    broken = entries(tmp_path / "cache")[0]
    damage(broken)
    found, notes = prepared(recipe, tmp_path / "cache")
    assert same(found, filled[1])
    assert sum("is not used" in note for note in notes) == 1, notes
    assert sum("features_from_cache" in counts for counts in found.data_report.values()) == 2
    again, notes = prepared(recipe, tmp_path / "cache")
    assert same(again, filled[1]) and len(notes) == 1, notes
    assert not list((tmp_path / "cache").glob(f"{SCRATCH}*"))


def test_a_link_is_removed_and_not_what_it_leads_to(
    recipe: dict[str, Any], filled: tuple[Path, Prepared], tmp_path: Path
) -> None:
    shutil.copytree(filled[0], tmp_path / "cache")
    entry = entries(tmp_path / "cache")[0]
    link_to_folder(entry)
    prepared(recipe, tmp_path / "cache")
    assert (tmp_path / entry.name / TABLE).is_file() and not entry.is_symlink()


def test_what_a_killed_process_left_is_removed_after_a_day(tmp_path: Path) -> None:
    old, new = tmp_path / f"{SCRATCH}old", tmp_path / f"{SCRATCH}new"
    for folder in (old, new):
        folder.mkdir()
        (folder / TABLE).write_bytes(b"half")
    os.utime(old, (time.time() - 90_000,) * 2)
    FeatureCache(tmp_path, plugins=discover(), note=lambda text: None)
    assert (old.exists(), new.exists()) == (False, True)


def test_a_full_disk_costs_the_cache_and_not_the_run(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(feature_cache, "_created", full)
    found, notes = prepared(recipe, tmp_path)
    assert notes == ["the features could not be kept in the cache: No space left on device"]
    assert same(found, prepared(recipe, None)[0]) and not list(tmp_path.iterdir())


def test_a_cache_that_is_a_file_is_refused_before_the_data_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadOptions, match=r"cannot be used: File exists\. Name a folder\."):
        FeatureCache(tmp_path / "file", plugins=discover(), note=lambda text: None)


# Several processes, and whole commands


def write_and_read(recipe: dict[str, Any], folder: Path, ready: Any, results: Any) -> None:
    """Write the entries again and again, with another process that does the same and removes them."""
    try:
        for _ in range(10):
            ready.wait()
            found, notes = prepared(recipe, folder)
            results.put(({split: table.to_pydict() for split, table in tables(found).items()}, notes))
            ready.wait()
            shutil.rmtree(folder, ignore_errors=True)
    except BaseException as error:
        ready.abort()
        results.put((repr(error), []))
        raise


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_two_processes_that_write_at_once_both_end_well(
    recipe: dict[str, Any], filled: tuple[Path, Prepared], tmp_path: Path
) -> None:
    context = multiprocessing.get_context("fork")
    ready, results = context.Barrier(2, timeout=120), context.Queue()
    processes = [
        context.Process(target=write_and_read, args=(recipe, tmp_path / "cache", ready, results)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    expected = {split: table.to_pydict() for split, table in tables(filled[1]).items()}
    for _ in range(20):
        made, notes = results.get(timeout=120)
        assert made == expected
        assert not any("cache:" in note for note in notes), notes
    for process in processes:
        process.join()
        assert process.exitcode == 0


def test_a_run_with_the_cache_equals_one_without_it_to_the_bit(recipe: dict[str, Any], tmp_path: Path) -> None:
    runs, numbers = [], []
    for name in ("plain", "first", "second"):
        cache = None if name == "plain" else tmp_path / "cache"
        made = finetune.train(**{**recipe, "output": str(tmp_path / name)}, cache=cache)
        numbers.append(finetune.evaluate(tmp_path / name, cache=cache))
        runs.append(made)
    weights = {(tmp_path / name / "model.safetensors").read_bytes() for name in ("plain", "first", "second")}
    assert len(weights) == 1
    assert runs[0].scores == runs[1].scores == runs[2].scores
    assert numbers[0] == numbers[1] == numbers[2]
    assert ["features_from_cache" in each.data_report["train"] for each in runs] == [False, False, True]
    assert len(entries(tmp_path / "cache")) == 3, "evaluate must use what train kept"
    predictions = {(tmp_path / name / "predictions.jsonl").read_bytes() for name in ("plain", "first", "second")}
    assert len(predictions) == 1


def test_the_commands_take_the_option(recipe: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(recipes.dump(recipe))
    printed = []
    for _ in range(2):
        done = CliRunner().invoke(main, ["check", str(tmp_path / "recipe.yaml"), "--cache", str(tmp_path / "cache")])
        assert done.exit_code == 0, done.output
        printed.append(done.stdout)
    assert "features_from_cache" in printed[1] and "features_from_cache" not in printed[0]
    (tmp_path / "file").write_text("")
    done = CliRunner().invoke(main, ["check", str(tmp_path / "recipe.yaml"), "--cache", str(tmp_path / "file")])
    assert done.exit_code == 2
