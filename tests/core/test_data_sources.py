"""What `dataset.path` stands for; and that reading is quiet, fresh and lean."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import datasets
import pluggy
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import toy
from datasets import ClassLabel, Dataset, DatasetDict

from finetune import hookimpl, hookspecs, trust
from finetune.data import Examples, load
from finetune.errors import BadData, BadOptions, UntrustedCode
from finetune.interfaces import Columns, Finding, Preprocessor, Reader, Row
from finetune.plugins import Plugins, discover
from finetune.progress import suppress_progress_bars
from finetune.recipe import Source


class Texts(Preprocessor):
    def needs(self) -> Columns:
        return Columns(required=("text",), answers=("label",))

    def features(self, examples: Any, tokenizer: Any) -> Any:
        return {}


class Dashes(Reader):
    """Reads ``text - label``, after a line that says so."""

    suffixes = (".dash", ".json")

    def recognises(self, head: str) -> bool:
        return head.startswith("dashes")

    def rows(self, text: Iterable[str], *, file: str) -> Iterator[tuple[int, Row] | Finding]:
        for number, line in enumerate("".join(text).splitlines(), 1):
            if number > 1 and " - " in line:
                yield number, dict(zip(("text", "label"), line.split(" - "), strict=True))
            elif number > 1:
                yield Finding(code="no-dash", message="no dash", line=number)


def sample(name: str, *, rows: int = 3) -> dict[str, list[Row]]:
    return {"train": [{"text": f"{name} {i}", "label": i} for i in range(rows)], "test": [{"text": "t", "label": 0}]}


def generated(count: int = 2) -> Iterator[Row]:
    return ({"text": str(i), "label": i} for i in range(count))


def plugins(**hooks: dict[str, Any]) -> Plugins:
    """Return plugins of which one brings what is given."""
    module = ModuleType("mine")
    for hook, targets in hooks.items():
        function = hookimpl(lambda targets=targets: targets)
        setattr(module, hook, function)
    manager = pluggy.PluginManager("finetune")
    manager.add_hookspecs(hookspecs)
    manager.register(module, name="mine")
    return Plugins(manager, {"mine": "mine"}, {})


PLUGINS = plugins(readers={"dashes": Dashes}, sources={"sample": sample})
ROWS = [{"text": "a", "label": "1"}, {"text": "b", "label": "0"}]


def loaded(path: Any, **options: Any) -> Examples:
    source = Source(path=path, **{"validation_size": 0, **options})
    return load(source, Texts(), plugins=options.pop("plugins", PLUGINS), seed=0)


def refusal(path: Any, **options: Any) -> BadData:
    with pytest.raises(BadData) as caught:
        loaded(path, **options)
    return caught.value


def codes(error: BadData) -> list[str]:
    return [finding.code for finding in error.findings]


def write(path: Path, rows: list[Row] = ROWS) -> str:
    """Write rows in the format that the name says."""
    name = path.name.removesuffix(".gz")
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
        return str(path)
    if name.endswith(".arrow"):
        table = pa.Table.from_pylist(rows)
        with pa.ipc.new_file(str(path), table.schema) as stream:
            stream.write_table(table)
        return str(path)
    tab = "\t" if name.endswith(".tsv") else ","
    text = {
        "json": json.dumps(rows, indent=1),
        "jsonl": "".join(json.dumps(row) + "\n" for row in rows),
    }.get(name.rsplit(".", 1)[1], tab.join(rows[0]) + "\n" + "".join(tab.join(row.values()) + "\n" for row in rows))
    content = text.encode()
    path.write_bytes(gzip.compress(content) if path.name.endswith(".gz") else content)
    return str(path)


FORMATS = [
    "a.csv",
    "a.tsv",
    "a.json",
    "a.jsonl",
    "a.csv.gz",
    "a.tsv.gz",
    "a.json.gz",
    "a.jsonl.gz",
    "a.parquet",
    "a.arrow",
]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_rows_and_fingerprint(name: str, tmp_path: Path) -> None:
    examples = loaded(write(tmp_path / name))
    assert examples.splits["train"].to_list() == ROWS
    assert examples.fingerprints == loaded(write(tmp_path / "other.csv")).fingerprints


def test_a_format_may_be_named_where_the_name_of_the_file_does_not_tell(tmp_path: Path) -> None:
    path = tmp_path / "data.txt"
    path.write_text("text\tlabel\na\t1\nb\t0\n")
    assert loaded(str(path), format="tsv").splits["train"].to_list() == ROWS
    error = refusal(str(path))
    assert codes(error) == ["unknown-format"]
    assert "looks like a table with tabs" in str(error)
    assert "Did you mean 'tsv'?" in str(refusal(str(path), format="tvs"))


def test_a_folder_gives_the_splits_that_its_files_are_called(tmp_path: Path) -> None:
    write(tmp_path / "train.csv")
    write(tmp_path / "test.jsonl.gz")
    write(tmp_path / "dev.tsv")
    (tmp_path / "README.md").write_text("not data")
    examples = loaded(str(tmp_path))
    assert set(examples.splits) == {"train", "test"}
    assert [(f.code, f.level, f.split) for f in examples.findings] == [("unused-split", "warning", "dev")]
    assert "{train: dev}" in examples.findings[0].fix or "dataset.splits" in examples.findings[0].fix
    assert set(loaded(str(tmp_path), splits={"validation": "dev"}).splits) == {"train", "validation", "test"}
    error = refusal(str(tmp_path), splits={"validation": "devel"})
    assert "Did you mean 'dev'?" in str(error)
    assert "Did you mean" not in str(refusal(str(tmp_path), splits={"valid": "dev"}))


def test_a_folder_without_train_says_what_is_there(tmp_path: Path) -> None:
    write(tmp_path / "training.csv")
    error = refusal(str(tmp_path))
    assert "The splits are: training" in str(error)
    assert "dataset.splits: {train: NAME}" in str(error)
    (tmp_path / "training.csv").unlink()
    assert "no data file" in str(refusal(str(tmp_path)))


@pytest.mark.parametrize("name", ["train.xlsx", "sheet.XLSX", "train.csv.zip", "everything.zip", "train"])
def test_a_folder_with_nothing_but_archives_says_what_they_are(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / name, "w") as archive:
        archive.writestr("xl/workbook.xml" if "xlsx" in name.lower() else "train.csv", "x")
    (tmp_path / "README.md").write_text("not data")
    error = refusal(str(tmp_path))
    assert [(finding.code, finding.file) for finding in error.findings] == [("unknown-format", str(tmp_path / name))]
    assert ("Save its sheet as CSV" if "xlsx" in name.lower() else "Unpack it") in error.findings[0].fix


def test_an_archive_in_a_folder_of_data_files_matters_only_if_it_is_a_missing_split(tmp_path: Path) -> None:
    write(tmp_path / "train.csv")
    for name in ("train.zip", "all.zip", "test.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("x.csv", "x")
    error = refusal(str(tmp_path))
    assert [finding.file for finding in error.findings] == [str(tmp_path / "test.zip")]
    assert set(loaded(str(tmp_path), splits={"test": None}).splits) == {"train"}
    (tmp_path / "test.zip").unlink()
    assert set(loaded(str(tmp_path)).splits) == {"train"}


# --- a folder for each label ------------------------------------------------------------------------------------------


def texts(folder: Path, *names: str, content: str = "fine") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{content} {name}\n", encoding="utf-8")


def test_a_folder_for_each_label_is_read_by_its_splits(tmp_path: Path) -> None:
    texts(tmp_path, "train/pos/0_9.txt", "train/neg/0_1.txt", "train/unsup/0_0.txt", "train/unsup/1_0.txt")
    texts(tmp_path, "test/neg/b.txt", "test/pos/a.txt", "test/neg/a.txt", "train/urls_pos.txt", "README")
    examples = loaded(str(tmp_path))
    assert list(examples.splits["train"]) == [
        {"text": "fine train/neg/0_1.txt\n", "label": "neg", "id": "train/neg/0_1.txt"},
        {"text": "fine train/pos/0_9.txt\n", "label": "pos", "id": "train/pos/0_9.txt"},
    ]
    assert examples.splits["test"]["id"] == ["test/neg/a.txt", "test/neg/b.txt", "test/pos/a.txt"]
    (finding,) = examples.findings
    assert (finding.code, finding.level, finding.split) == ("folder-left-out", "warning", "train")
    assert finding.message.startswith("the 2 texts in the folder 'unsup' are not used")
    chosen = loaded(str(tmp_path), options={"labels": ["unsup", "pos"]})
    assert chosen.splits["train"]["label"] == ["pos", "unsup", "unsup"] and not chosen.findings
    write(tmp_path / "train.csv")
    assert loaded(str(tmp_path)).splits["train"].column_names != ["text", "label", "id"]


def test_folders_of_labels_without_splits_are_train(tmp_path: Path) -> None:
    texts(tmp_path, "ham/2.txt", "spam/1.txt", "ham/1.txt", "notes/a.pdf")
    assert loaded(str(tmp_path)).splits["train"]["id"] == ["ham/1.txt", "ham/2.txt", "spam/1.txt"]


def test_texts_without_a_label_next_to_labelled_ones_are_named(tmp_path: Path) -> None:
    texts(tmp_path, "train/a/1.txt", "train/b/1.txt", "dev/a/1.txt", "dev/b/1.txt", "test/1.txt", "test/2.txt")
    left = [finding.message for finding in loaded(str(tmp_path), splits={"validation": "dev"}).findings]
    assert left == ["the 2 texts in the folder 'test' are not used: they have no label."]


def test_a_text_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    texts(tmp_path, "a/1.txt", "b/1.txt")
    (tmp_path / "b" / "2.txt").write_bytes("caf\u00e9".encode("cp1252"))
    error = refusal(str(tmp_path))
    assert [(each.code, each.file, each.line) for each in error.findings] == [
        ("wrong-encoding", str(tmp_path / "b" / "2.txt"), 1)
    ]
    assert loaded(str(tmp_path), encoding="cp1252").splits["train"]["text"][-1] == "caf\u00e9"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": ["a", "b"]}, "has no option 'label'"),
        ({"labels": ["a"]}, "must be a list of two names"),
        ({"labels": "a"}, "must be a list of two names"),
        ({"labels": ["a", "bb"]}, "there is no folder 'bb'. Did you mean 'b'?"),
    ],
)
def test_a_wrong_choice_of_labels_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    texts(tmp_path, "a/1.txt", "b/1.txt")
    assert message in str(refusal(str(tmp_path), options=options))


def test_splits_without_two_common_labels_are_refused(tmp_path: Path) -> None:
    texts(tmp_path, "train/a/1.txt", "train/b/1.txt", "test/b/1.txt", "test/c/1.txt")
    assert "the splits have different folders: a, b, c. Name the labels" in str(refusal(str(tmp_path)))


def test_two_files_for_one_split_of_a_folder_are_refused_and_shards_are_not(tmp_path: Path) -> None:
    write(tmp_path / "train-00000-of-00002.parquet")
    write(tmp_path / "train-00001-of-00002.parquet")
    assert len(loaded(str(tmp_path)).splits["train"]) == 4
    write(tmp_path / "train.csv")
    assert "can be 'train'" in str(refusal(str(tmp_path)))


def test_lists_and_patterns_read_files_in_order(tmp_path: Path) -> None:
    for name in ("b1.csv", "b0.csv", "c.csv"):
        write(tmp_path / name, [{"text": name, "label": "1"}])
    path = {"train": [str(tmp_path / "c.csv"), str(tmp_path / "b?.csv")]}
    assert loaded(path).splits["train"]["text"] == ["c.csv", "b0.csv", "b1.csv"]
    assert codes(refusal({"train": str(tmp_path / "x*.csv")})) == ["no-such-file"]
    assert codes(refusal({"train": []})) == ["no-such-file"]


def test_files_of_one_split_must_have_the_same_columns_in_any_order(tmp_path: Path) -> None:
    first = write(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_text("label,text\n2,c\n")
    (tmp_path / "c.csv").write_text("text,labels\nd,3\n")
    paths = [first, str(tmp_path / "b.csv")]
    assert loaded({"train": paths}).splits["train"].to_list() == [*ROWS, {"text": "c", "label": "2"}]
    error = refusal({"train": [*paths, str(tmp_path / "c.csv")]})
    assert [(f.code, f.column, f.file) for f in error.findings] == [
        ("columns-differ", "label", str(tmp_path / "c.csv"))
    ]
    assert "Did you mean 'labels'?" in str(error)
    write(tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["a"], "label": [1]}), tmp_path / "b.parquet")
    parquet = [str(tmp_path / "a.parquet"), str(tmp_path / "b.parquet")]
    assert codes(refusal({"train": parquet})) == ["columns-differ"]
    assert codes(refusal({"train": [first, parquet[0]]})) == ["mixed-formats"]


@pytest.mark.parametrize("kind", ["name", "symbolic link", "hard link", "list"])
def test_one_file_cannot_be_two_splits(kind: str, tmp_path: Path) -> None:
    path, other = write(tmp_path / "a.csv"), tmp_path / "b.csv"
    if kind == "symbolic link":
        other.symlink_to(path)
    elif kind == "hard link":
        other.hardlink_to(path)
    else:
        other = Path(path)
    given = {"train": [path, str(other)]} if kind == "list" else {"train": path, "validation": str(other)}
    assert codes(refusal(given)) == ["same-file"]


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    (tmp_path / "folder.csv").mkdir()
    assert codes(refusal(str(tmp_path / "pipe.csv"))) == ["not-a-file"]
    assert codes(refusal(str(tmp_path / "loop.csv"))) == ["not-a-file"]
    assert codes(refusal({"train": str(tmp_path / "folder.csv")})) == ["not-a-file"]
    write(tmp_path / "train.csv")
    error = refusal(str(tmp_path / "trian.csv"))
    assert codes(error) == ["no-such-file"]
    assert "Did you mean 'train.csv'?" in str(error)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs Linux")
@pytest.mark.parametrize("target", ["/proc/self/environ", "/proc/self/cmdline", "/proc/version"])
def test_a_file_of_the_system_is_no_data(target: str, tmp_path: Path) -> None:
    (tmp_path / "train.csv").symlink_to(target)
    for given in (target, str(tmp_path / "train.csv"), {"train": str(tmp_path / "train.csv")}, str(tmp_path)):
        error = refusal(given)
        assert codes(error) == ["not-a-file"]
        assert "a file of the system and not of data" in str(error)


def test_a_path_with_backslashes_is_shown_with_slashes_if_that_file_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    write(tmp_path / "data" / "train.csv")
    assert "Write data/train.csv: on this system, '/' separates folders." in str(refusal("data\\train.csv"))
    assert "Relative paths start at" in str(refusal("data\\other.csv"))


def test_a_split_of_a_mapping_must_be_a_part_of_a_run(tmp_path: Path) -> None:
    error = refusal({"train": write(tmp_path / "a.csv"), "dev": write(tmp_path / "b.csv")})
    assert [(f.code, f.split) for f in error.findings] == [("unknown-split", "dev")]


def test_a_key_that_would_be_ignored_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv")
    for key, value in (("name", "en"), ("revision", "main")):
        assert f"dataset.{key} has no effect" in str(refusal(path, **{key: value}))
    assert "dataset.format has no effect" in str(refusal("sample:x", format="csv"))


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, really_open = write(tmp_path / "a.csv"), Path.open

    def forbidden(opened: Path, *arguments: Any, **named: Any) -> Any:
        if str(opened) == str(path):
            raise PermissionError(13, "Permission denied")
        return really_open(opened, *arguments, **named)

    monkeypatch.setattr(Path, "open", forbidden)
    error = refusal(path)
    assert codes(error) == ["unreadable-file"]
    assert "Permission denied" in str(error)


# ---- plugins and Python


def test_a_plugin_s_source_is_called_with_the_rest_and_the_options() -> None:
    examples = loaded("sample:harbour-qa", options={"rows": 2})
    assert examples.splits["train"]["text"] == ["harbour-qa 0", "harbour-qa 1"]
    assert len(examples.splits["test"]) == 1
    error = refusal("sample:harbour-qa", options={"row": 2})
    assert "Did you mean 'rows'?" in str(error)
    assert "Did you mean 'sample'?" in str(refusal("sampel:harbour"))


def test_a_python_function_gives_rows_or_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("my_rows")
    module.generated, module.sample, module.number = generated, lambda: sample("x"), lambda: 7  # type: ignore[attr-defined]
    module.table = lambda: Dataset.from_list(ROWS)  # type: ignore[attr-defined]
    module.tables = lambda: DatasetDict(train=Dataset.from_list(ROWS))  # type: ignore[attr-defined]
    module.__spec__ = sys.__spec__
    monkeypatch.setitem(sys.modules, "my_rows", module)
    with pytest.raises(UntrustedCode, match=r"dataset\.path: 'my_rows:generated' is Python code"):
        loaded("my_rows:generated")
    trust.allow([f"my_rows:{name}" for name in vars(module)])
    assert loaded("my_rows:generated", options={"count": 4}).splits["train"]["label"] == [0, 1, 2, 3]
    assert set(loaded("my_rows:sample").splits) == {"train", "test"}
    assert loaded("my_rows:table").splits["train"].to_list() == ROWS
    assert loaded("my_rows:tables").splits["train"].to_list() == ROWS
    assert "returned a value of type int" in str(refusal("my_rows:number"))


def test_a_plugin_s_reader_is_chosen_by_name_by_suffix_or_by_look(tmp_path: Path) -> None:
    text = "dashes\na - 1\nb - 0\n"
    for name in ("a.dash", "b.json"):
        (tmp_path / name).write_text(text)
        assert loaded(str(tmp_path / name)).splits["train"].to_list() == ROWS
    (tmp_path / "c.txt").write_text(text)
    assert loaded(str(tmp_path / "c.txt"), format="dashes").splits["train"].to_list() == ROWS
    assert loaded(write(tmp_path / "d.json")).splits["train"].to_list() == ROWS
    (tmp_path / "e.dash").write_text(text + "none\n")
    error = refusal(str(tmp_path / "e.dash"))
    assert [(f.code, f.line, f.row, f.file) for f in error.findings] == [("no-dash", 4, 2, str(tmp_path / "e.dash"))]


@dataclass(frozen=True, kw_only=True)
class Separated(Reader):
    """Reads ``text`` and ``label`` with any separator between them."""

    separator: str = "="
    suffixes: ClassVar[tuple[str, ...]] = (".separated",)

    def rows(self, text: Iterable[str], *, file: str) -> Iterator[tuple[int, Row] | Finding]:
        for number, line in enumerate("".join(text).splitlines(), 1):
            yield number, dict(zip(("text", "label"), line.split(self.separator), strict=True))


@pytest.mark.parametrize(("name", "given"), [("a.separated", None), ("a.txt", "separated")])
def test_the_options_of_a_data_set_are_those_of_its_reader(tmp_path: Path, name: str, given: str | None) -> None:
    (tmp_path / name).write_text("a~1\nb~2\n")
    read = plugins(readers={"separated": Separated})
    source = Source(path=str(tmp_path / name), format=given, options={"separator": "~"}, validation_size=0)
    assert load(source, Texts(), plugins=read, seed=0).splits["train"].to_list() == [
        {"text": "a", "label": "1"}, {"text": "b", "label": "2"},
    ]  # fmt: skip
    for options, message in (
        ({"seperator": "~"}, "'seperator' is not an option of Separated. Did you mean 'separator'?"),
        ({"separator": 1}, r"dataset.options: separator: Input should be a valid string, not 1"),
    ):
        with pytest.raises(BadOptions, match=re.escape(message)):
            load(replace(source, options=options), Texts(), plugins=read, seed=0)


def test_a_format_without_options_refuses_them(tmp_path: Path) -> None:
    with pytest.raises(BadOptions, match=r"dataset.options: 'word' is not an option of CsvReader"):
        loaded(write(tmp_path / "a.csv"), options={"word": 1})
    pq.write_table(pa.table({"text": ["a"], "label": ["1"]}), tmp_path / "b.parquet")
    error = refusal(str(tmp_path / "b.parquet"), options={"word": 1})
    assert "dataset.options has no effect for parquet files. Remove it." in str(error)


def test_two_readers_that_recognise_one_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("dashes\na - 1\n")
    both = plugins(readers={"dashes": Dashes, "again": Dashes})
    with pytest.raises(BadData, match=r"the formats again and dashes\. Set dataset\.format: again or dashes"):
        load(Source(path=str(tmp_path / "a.json")), Texts(), plugins=both, seed=0)


def test_a_broken_reader_harms_no_other_format_and_is_named_where_it_is_missed(tmp_path: Path) -> None:
    broken = plugins(readers={"lost": "no_such_module:Reader"})
    source = Source(path=write(tmp_path / "a.csv"), validation_size=0)
    assert len(load(source, Texts(), plugins=broken, seed=0).splits["train"]) == 2
    (tmp_path / "a.lost").write_text("x")
    with pytest.raises(BadData, match=r"Broken: lost .*no_such_module"):
        load(Source(path=str(tmp_path / "a.lost")), Texts(), plugins=broken, seed=0)


# ---- Hub and disk


def test_an_unreachable_data_set_says_what_was_tried() -> None:
    error = str(refusal("someone/harbour", revision="main"))
    assert "'someone/harbour' is neither a file nor a folder here" in error
    assert "huggingface.co/datasets/someone/harbour, revision 'main'" in error
    assert error.count("\n") == 0


def test_a_data_set_of_the_hub_keeps_its_features(monkeypatch: pytest.MonkeyPatch) -> None:
    train = Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}).cast_column(
        "label", ClassLabel(names=["no", "yes"])
    )
    asked = []

    def fake(*arguments: Any, **keywords: Any) -> DatasetDict:
        assert datasets.are_progress_bars_disabled()
        asked.append((arguments, keywords))
        return DatasetDict(train=train, dev=train, extra=train)

    monkeypatch.setattr(datasets, "load_dataset", fake)
    examples = loaded("someone/harbour", name="en", revision="abc", splits={"validation": "dev"})
    assert asked == [(("someone/harbour", "en"), {"revision": "abc"})]
    assert examples.splits["validation"].features["label"].names == ["no", "yes"]
    assert [f.split for f in examples.findings] == ["extra"]
    assert not datasets.are_progress_bars_disabled()


def test_what_looks_like_a_file_is_never_asked_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: pytest.fail("asked"))
    for path in ("train.csv", "data/train.jsonl.gz", "./harbour", "/harbour", "a/b/c", "data/*.dash"):
        assert codes(refusal(path)) == ["no-such-file"]
    assert "is a URL" in str(refusal("https://example.org/train.csv"))


def test_what_datasets_saved_to_disk_is_read(tmp_path: Path) -> None:
    with suppress_progress_bars():
        DatasetDict(train=Dataset.from_list(ROWS), test=Dataset.from_list(ROWS[:1])).save_to_disk(str(tmp_path / "x"))
    assert {split: rows.to_list() for split, rows in loaded(str(tmp_path / "x")).splits.items()} == {
        "train": ROWS,
        "test": ROWS[:1],
    }


# ---- fresh, quiet, lean


def test_a_file_edited_at_the_same_size_and_time_is_read_again(tmp_path: Path) -> None:
    path = Path(write(tmp_path / "a.csv"))
    before, status = loaded(str(path)), path.stat()
    path.write_text(path.read_text().replace("b,0", "c,0"))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    after = loaded(str(path))
    assert after.splits["train"]["text"] == ["a", "c"]
    assert before.splits["train"]["text"] == ["a", "b"]
    assert before.fingerprints != after.fingerprints


def test_nothing_is_left_on_disk_and_nothing_is_printed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    program = f"""
import os
from finetune.data import load
from finetune.interfaces import Columns, Preprocessor
from finetune.plugins import discover
from finetune.recipe import Source
class Texts(Preprocessor):
    def needs(self): return Columns(required=("text",))
    def features(self, examples, tokenizer): return {{}}
examples = load(Source(path={path!r}, validation_size=0.5), Texts(), plugins=discover(), seed=0)
assert os.listdir({str(temporary)!r})
if os.fork() == 0:
    raise SystemExit  # a child that ends as Python does must not take the rows away
os.wait()
assert len(examples.splits["train"].to_list()) == 1
"""
    environment = {**os.environ, "TMPDIR": str(temporary)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert os.listdir(temporary) == []


@pytest.mark.parametrize(("name", "size"), [("a.csv", 150), ("a.json", 60)])
def test_a_large_file_is_read_in_bounded_memory(name: str, size: int, tmp_path: Path) -> None:
    path = tmp_path / name
    row = {"text": "x" * 192 + "00000000é", "label": "1"}
    line = f"{row['text']},1\n" if name == "a.csv" else json.dumps(row) + ",\n"
    with path.open("w", encoding="utf-8") as file:
        file.write("text,label\n" if name == "a.csv" else "[")
        for block in range(size):
            for number in range((1 << 20) // len(line)):
                file.write(line.replace("00000000", f"{block:04}{number:04}"))
        file.write("" if name == "a.csv" else json.dumps(row) + "]")
    program = f"""
import resource
from finetune.data import load
from finetune.interfaces import Columns, Preprocessor
from finetune.plugins import discover
from finetune.recipe import Source
class Texts(Preprocessor):
    def needs(self): return Columns(required=("text",))
    def features(self, examples, tokenizer): return {{}}
found = discover(); found.catalogues
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
before = peak()
examples = load(Source(path={str(path)!r}, validation_size=0.1), Texts(), plugins=found, seed=0)
print(peak() - before, sum(map(len, examples.splits.values())))
"""
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    megabytes, rows = map(int, answer.split())
    assert rows >= size * ((1 << 20) // len(line))
    # The table is mapped from disk, and pages of it that were looked at count as the process's.
    assert megabytes < size + 150, f"{megabytes} MiB above what the imports take"


@pytest.mark.parametrize("streaming", [False, True])
def test_a_file_without_rows_next_to_others_is_a_warning(streaming: bool, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "ship", "label": "sea"}) + "\n")
    (tmp_path / "b.jsonl").write_text("")
    (tmp_path / "c.jsonl").write_text(json.dumps({"text": "tree", "label": "land"}) + "\n")
    source = Source(path={"train": str(tmp_path / "*.jsonl")}, validation_size=0, streaming=streaming)
    found = load(source, toy.SeaOrLand(), plugins=discover(), seed=0)
    (warning,) = [finding for finding in found.findings if finding.code == "no-rows"]
    assert warning.level == "warning" and str(warning.file).endswith("b.jsonl")
    assert len(found.splits["train"]) == 2
