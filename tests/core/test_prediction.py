"""Predictions of many rows: the same lines whatever predicts them, and a folder that a second call completes."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import command
import psutil
import pytest
import toy
from click.testing import CliRunner, Result
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from machine_faults import fail_to_load

from finetune import api, data, recipe
from finetune.cli import main
from finetune.errors import Incompatible, OutOfMemory, OutputExists, ProcessFailed, UserCodeFailed
from finetune.plugins import discover
from finetune.prediction import Blocks, Output, cluster, engines, predicted
from finetune.prediction.output import MANIFEST, STATE

LABELS = ("land", "sea")


def blocks_of(splits: dict[str, list[str]], folder: Path, *, rows: int) -> Blocks:
    """Return the blocks of texts that are read from files; an empty text is a bad row."""
    for split, texts in splits.items():
        lines = [json.dumps({"text": text}) + "\n" for text in texts]
        (folder / f"{split}.jsonl").write_text("".join(lines))
    source = recipe.Source(path={split: str(folder / f"{split}.jsonl") for split in splits}, on_bad="drop")
    found = data.load(
        source, toy.SeaOrLand(labels=LABELS), plugins=discover(), seed=0, fit=False, answers=False
    )  # fmt: skip
    return Blocks(found, rows=rows)


def echo(examples: Dataset, number: int) -> list[dict[str, Any]]:
    return [{"prediction": text, "block": number} for text in examples["text"]]


@settings(max_examples=30)
@given(
    train=st.lists(st.booleans(), min_size=1, max_size=12).filter(any),
    test=st.lists(st.booleans(), max_size=12).filter(lambda goods: not goods or any(goods)),
    rows=st.integers(min_value=1, max_value=13),
)
def test_blocks_hold_each_row_once_in_order_and_also_in_another_process(
    train: list[bool], test: list[bool], rows: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    splits = {"train": train, "test": test} if test else {"train": train}
    texts = {
        split: [f"{split} {place}" if good else "" for place, good in enumerate(goods)]
        for split, goods in splits.items()
    }
    blocks = blocks_of(texts, tmp_path_factory.mktemp("rows"), rows=rows)
    assert [len(block.records(echo)) for block in blocks] == [block.rows for block in blocks]
    assert blocks.rows == sum(map(len, texts.values()))
    every = [record for block in blocks for record in block.records(echo)]
    assert [record["prediction"] for record in every] == [
        text or None for split in ("train", "test") for text in texts.get(split, [])
    ]
    assert all(record["row"] == place for place, record in enumerate(every[: len(train)]) if "row" in record)
    elsewhere = pickle.loads(pickle.dumps(blocks))
    assert [block.text(echo) for block in elsewhere] == [block.text(echo) for block in blocks]
    assert all(len(pickle.dumps(block)) < 10_000 for block in blocks)


def test_the_digest_of_the_rows_is_that_of_their_content(tmp_path: Path) -> None:
    texts = {"test": ["ship", "", "hill"]}
    (tmp_path / "b").mkdir()
    digest = blocks_of(texts, tmp_path, rows=2).input
    assert blocks_of(texts, tmp_path, rows=1).input == digest
    for other in (["ship", "hill", ""], ["ship", "", "hills"], ["ship", "", "hill", "hill"], ["ship", "hill"]):
        assert blocks_of({"test": other}, tmp_path / "b", rows=2).input != digest


def output(path: Path, **changes: Any) -> Output:
    return Output(path, **{"model": "m", "input": "i", "block_rows": 2, "blocks": 3, "rows": 5, **changes})


def written(path: Path) -> Output:
    made = output(path)
    path.mkdir()
    assert made.begin(overwrite=False) == [0, 1, 2]
    for number in range(3):
        made.write(number, f'{{"prediction": "é{number}"}}\n')
    assert made.begin(overwrite=False) == []
    return made


DAMAGE = {
    "shortened": lambda part, state: part.write_text(part.read_text()[:-2]),
    "changed": lambda part, state: part.write_bytes(part.read_bytes().replace(b"1", b"7")),
    "emptied": lambda part, state: part.write_text(""),
    "deleted": lambda part, state: part.unlink(),
    "without a record": lambda part, state: (state / "part-00001.json").unlink(),
    "with half a record": lambda part, state: (state / "part-00001.json").write_text('{"bytes": 1'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_made_again_and_no_other(damage: str, tmp_path: Path) -> None:
    made = written(tmp_path / "out")
    DAMAGE[damage](tmp_path / "out" / "part-00001.jsonl", tmp_path / "out" / STATE)
    (tmp_path / "out" / ".part-00001.jsonl.7.scratch").write_text("half")
    assert made.begin(overwrite=False) == [1]
    assert not list((tmp_path / "out").glob(".*.scratch"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "n"}, "of another model"),
        ({"input": "j"}, "of other rows"),
        ({"block_rows": 1}, "in files of 2 rows"),
    ],
)
def test_other_predictions_are_refused_and_replaced_on_request(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    written(tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    other = output(tmp_path / "out", **change)
    with pytest.raises(OutputExists, match=message):
        other.begin(overwrite=False)
    assert before == {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert other.begin(overwrite=True) == [0, 1, 2]
    assert [path.name for path in (tmp_path / "out").iterdir()] == [STATE]
    with pytest.raises(OutputExists, match=r"of another model|of other rows|in files of"):
        output(tmp_path / "out").begin(overwrite=False)


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for overwrite in (False, True):
        with pytest.raises(OutputExists, match="holds files that are no predictions"):
            output(tmp_path).begin(overwrite=overwrite)
    with pytest.raises(OutputExists, match="is a file"):
        output(tmp_path / "notes.txt").begin(overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    written(tmp_path / "out")
    (tmp_path / "out" / STATE / MANIFEST).write_text("{")
    with pytest.raises(OutputExists, match="is damaged"):
        output(tmp_path / "out").begin(overwrite=False)


def test_names_sort_in_the_order_of_the_rows(tmp_path: Path) -> None:
    for blocks, name in ((1, "part-00000"), (100_000, "part-00000"), (100_001, "part-000000")):
        assert output(tmp_path, blocks=blocks)._part(0).stem == name


def finetune(*arguments: str, code: int = 0) -> Result:
    """Run a command in this process and check its exit code."""
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == code, (result.output, result.stderr, result.exception)
    return result


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a tiny classifier, and write rows to predict beside it, one of them bad."""
    folder = tmp_path_factory.mktemp("predict")
    toy.base(folder / "base")
    for split, size in (("train", 24), ("validation", 8)):
        lines = [f"{row['text']},{row['label']}\n" for row in toy.rows(size, seed=size)]
        (folder / f"{split}.csv").write_text("text,label\n" + "".join(lines))
    content = {
        "task": "text-classification", "model": str(folder / "base"), "strategy": "full", "output": str(folder / "run"),
        "dataset": {"path": {split: str(folder / f"{split}.csv") for split in ("train", "validation")}},
        "training": {"max_steps": 2, "learning_rate": 1e-2, "save_strategy": "no"},
        "score_base_model": False, "general_text": "none",
    }  # fmt: skip
    (folder / "recipe.yaml").write_text(recipe.dump(content))
    finetune("train", str(folder / "recipe.yaml"), "--quiet")
    texts = [" ".join(row["text"].split()[: 1 + place % 8]) for place, row in enumerate(toy.rows(1_003, seed=3))]
    texts[1_001] = " "
    for name, some in (("ask", texts), ("few", texts[-300:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in some))
    answered = [*toy.rows(60, seed=4), {"text": " ", "label": "sea"}]
    (folder / "answered.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answered))
    return folder / "run"


@pytest.fixture(scope="module")
def printed(run: Path) -> str:
    """Return what the command prints for the rows."""
    return finetune("predict", str(run), str(run.with_name("ask.jsonl")), "--on-bad", "drop").stdout


def lines(folder: Path) -> str:
    return "".join(path.read_text() for path in sorted(folder.glob("*.jsonl")))


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.jsonl")}


def test_the_files_hold_the_lines_that_are_printed_and_a_second_call_makes_the_missing_ones(
    run: Path, printed: str, tmp_path: Path
) -> None:
    ask = str(run.with_name("ask.jsonl"))
    call = ["predict", str(run), ask, "--on-bad", "drop", "--output", str(tmp_path / "out")]
    first = finetune(*call)
    assert f"1,003 rows in 2 files: {tmp_path / 'out'}" in first.stdout
    assert "left out 1 of 1,003 rows, first " in first.stderr
    assert sorted(times(tmp_path / "out")) == ["part-00000.jsonl", "part-00001.jsonl"]
    assert lines(tmp_path / "out") == printed
    before = times(tmp_path / "out")
    (tmp_path / "out" / "part-00001.jsonl").write_text("damaged\n")
    assert "1,003 rows in 2 files, 1 of them by an earlier call" in finetune(*call).stdout
    assert lines(tmp_path / "out") == printed
    after = times(tmp_path / "out")
    assert after["part-00000.jsonl"] == before["part-00000.jsonl"]
    assert "2 of them by an earlier call" in finetune(*call).stdout
    assert times(tmp_path / "out") == after
    moved = tmp_path / "moved.jsonl"
    moved.write_text(Path(ask).read_text().replace("harbour", "tree"))
    refused = finetune("predict", str(run), str(moved), *call[3:], code=2)
    assert "holds predictions of other rows" in refused.stderr
    bad = finetune("predict", str(run), ask, "--on-bad", "error", "--output", str(tmp_path / "none"), code=2)
    assert "ask.jsonl:1002" in bad.stderr and not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rows.jsonl", "--processes", "2"], "--processes has an effect with --output only"),
        (["rows.jsonl", "--overwrite"], "--overwrite has an effect with --output only"),
        (["rows.jsonl", "--format", "parquet"], "--format parquet needs --output"),
        (["rows.jsonl", "--outptu", "x.csv"], "no such option --outptu. Did you mean '--output'?"),
        (["rows.jsonl", "--fast"], "no such option --fast."),
        (["rows.jsonl", "-x"], "no such option -x."),
        (["--txet", "ship"], "no such option --txet. Did you mean '--text'?"),
        (["--text"], "--text needs a value."),
        (["rows.jsonl", "more.jsonl"], "one file at a time"),
        (["--text", "ship", "--output", "out"], "--output needs a file with rows"),
        (["rows.jsonl", "--output", "out", "--address", "here"], "--address has an effect with --engine ray only"),
    ],
)
def test_options_without_an_effect_are_refused(arguments: list[str], message: str, run: Path) -> None:
    assert message in finetune("predict", str(run), *arguments, code=2).stderr


def test_scores_of_blocks_are_those_of_the_whole_set(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    data = {"path": str(run.with_name("answered.jsonl")), "on_bad": "drop"}
    whole = api.evaluate(run, data)
    few = {"block_rows": 25, "output": tmp_path / "out"}
    assert api.evaluate(run, data, **few) == pytest.approx(whole, rel=1e-5)
    records = [json.loads(line) for line in lines(tmp_path / "out").splitlines()]
    assert len(records) == 60 and {record["reference"] for record in records} == {"land", "sea"}
    before = times(tmp_path / "out")
    (tmp_path / "out" / "part-00001.jsonl").unlink()
    assert api.evaluate(run, data, **few) == pytest.approx(whole, rel=1e-5)
    after = times(tmp_path / "out")
    assert [name for name in after if after[name] != before[name]] == ["part-00001.jsonl"]
    assert api.evaluate(run, data, block_rows=25, processes=2) == pytest.approx(whole, rel=1e-5)


def test_predictions_to_score_are_not_mixed_with_others(run: Path, tmp_path: Path) -> None:
    data, output = str(run.with_name("validation.csv")), str(tmp_path / "out")
    finetune("predict", str(run), data, "--output", output)
    refused = finetune("evaluate", str(run), "--data", data, "--output", output, code=2)
    assert "holds predictions without answers" in refused.stderr
    shown = finetune("evaluate", str(run), "--data", data, "--output", output, "--overwrite", "--json")
    again = finetune("evaluate", str(run), "--data", data, "--json").stdout
    assert json.loads(shown.stdout)["scores"] == json.loads(again)["scores"]
    for option in (["--block-rows", "5"], ["--overwrite"], ["--address", "here"]):
        assert "has an effect with" in finetune("evaluate", str(run), "--data", data, *option, code=2).stderr


def test_another_model_is_refused(run: Path, tmp_path: Path) -> None:
    ask, out = tmp_path / "ask.jsonl", str(tmp_path / "out")
    ask.write_text('{"text": "ship"}\n{"text": "hill road"}\n')
    finetune("predict", str(run), str(ask), "--output", out)
    other = json.loads((run / "result.json").read_text())
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(run), str(copy)], check=True)
    assert "2 rows in 1 file, 1 of them" in finetune("predict", str(copy), str(ask), "--output", out).stdout
    other["preprocessor"]["max_length"] = 4
    (copy / "result.json").write_text(json.dumps(other))
    refused = finetune("predict", str(copy), str(ask), "--output", out, code=2)
    assert "holds predictions of another model" in refused.stderr
    finetune("predict", str(copy), str(ask), "--output", out, "--overwrite")


def workers(call: command.Call) -> list[psutil.Process]:
    """Return the processes that predict for a command: the forks of its server."""
    return [worker for server in psutil.Process(call.pid).children() for worker in server.children()]


def is_alive(process: psutil.Process) -> bool:
    return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)


@pytest.mark.parametrize("victim", ["command", "process", "Ctrl-C"])
def test_a_killed_call_ends_with_its_processes_and_the_same_call_goes_on(
    victim: str, run: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    few, out = str(run.with_name("few.jsonl")), tmp_path / "out"
    plain = ["predict", str(run), few, "--on-bad", "drop", "--block-rows", "5", "--output"]
    finetune(*plain, str(tmp_path / "whole"))
    left = Path(tempfile.mkdtemp())  # short enough for a server that forks
    request.addfinalizer(lambda: shutil.rmtree(left))
    call = command.start([*plain, str(out), "--processes", "2"], environment={"TMPDIR": str(left)})
    while len(list((out / STATE).glob("part-*.json"))) < 3:
        assert call.process.is_alive(), call.wait()
        time.sleep(0.01)
    predicting = workers(call)
    assert len(predicting) == 2
    assert list(left.glob("finetune-data-*")), "the folder that must be gone later"
    if victim == "Ctrl-C":
        for process in (*predicting, psutil.Process(call.pid)):  # a terminal sends it to all
            process.send_signal(signal.SIGINT)
    else:
        os.kill(call.pid if victim == "command" else predicting[0].pid, signal.SIGKILL)
    ended = call.wait(60)
    assert not ended.is_traceback, ended.output
    if victim == "command":
        assert ended.exit_code == -signal.SIGKILL
    elif victim == "Ctrl-C":
        assert ended.exit_code == 128 + signal.SIGINT
    else:
        assert ended.exit_code == 1 and not ended.is_traceback
        assert "one of 2 processes was killed by SIGKILL. The files that are written stay" in ended.output
    deadline = time.monotonic() + 120
    while (alive := [each for each in predicting if is_alive(each)]) or any(left.glob("finetune-data-*")):
        assert time.monotonic() < deadline, f"processes {alive} outlive their command, or {list(left.iterdir())} stay"
        time.sleep(0.05)
    finished = {name.removesuffix(".json") for name in (path.name for path in (out / STATE).glob("part-*.json"))}
    before = times(out)
    again = command.call([*plain, str(out)])
    assert again.exit_code == 0, again.output
    assert f"300 rows in 60 files, {len(finished)} of them by an earlier call" in again.output
    assert lines(out) == lines(tmp_path / "whole")
    assert {name: times(out)[name] for name in before if Path(name).stem in finished} == {
        name: time_ for name, time_ in before.items() if Path(name).stem in finished
    }


def test_processes_predict_where_the_path_of_a_socket_would_be_too_long(run: Path, tmp_path: Path) -> None:
    few, folder = str(run.with_name("few.jsonl")), tmp_path / ("t" * 60) / ("t" * 60)
    folder.mkdir(parents=True)
    plain = ["predict", str(run), few, "--on-bad", "drop", "--block-rows", "100", "--output"]
    ended = command.start(
        [*plain, str(tmp_path / "out"), "--processes", "2"], environment={"TMPDIR": str(folder)}
    ).wait(120)
    assert ended.exit_code == 0, ended.output
    finetune(*plain, str(tmp_path / "whole"))
    assert lines(tmp_path / "out") == lines(tmp_path / "whole")


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("refused", Incompatible, "the model is refused"),
        ("user", UserCodeFailed, r"KeyError: 'gold' \(.*machine_faults.py, line \d+\)"),
        ("memory", OutOfMemory, "out of memory: there is no memory"),
        ("exit", ProcessFailed, "one of 2 processes ended with code 3. The files that are written stay"),
    ],
)
def test_an_error_of_a_process_is_that_of_the_call(
    fault: str, error: type[Exception], message: str, tmp_path: Path
) -> None:
    blocks = blocks_of({"test": ["ship", "hill", "road"]}, tmp_path, rows=1)
    made = predicted(partial(fail_to_load, fault), blocks, [0, 1, 2], engine="local", count=2, address=None)
    with pytest.raises(error, match=message):
        list(made)


def test_the_processes_import_nothing_from_the_current_folder(run: Path, tmp_path: Path) -> None:
    for name in ("selectors", "pluggy", "numpy"):  # the first is what Python itself imports to start a process
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w')")
    (tmp_path / "ask.jsonl").write_text('{"text": "ship"}\n{"text": "hill"}\n')
    call = ["predict", str(run), "ask.jsonl", "--block-rows", "1", "--output", "out", "--processes", "2"]
    ended = subprocess.run(
        [sys.executable, "-m", "finetune", *call], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stderr
    assert len(lines(tmp_path / "out").splitlines()) == 2 and not (tmp_path / "imported").exists()


class NotPortable(Exception):
    """An error that pickle cannot make again."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


def test_an_error_of_a_library_keeps_its_traceback() -> None:
    assert "NotPortable: ab" in str(engines.portable(NotPortable("a", "b")))
    kept = engines.portable(ValueError("a"))
    assert isinstance(kept, ValueError) and "ValueError: a" in kept.__notes__[0]


def test_what_runs_in_ray_gives_the_lines_or_the_error_of_a_block(tmp_path: Path) -> None:
    blocks = blocks_of({"test": ["ship", "", "hill"]}, tmp_path, rows=2)
    read, model = cluster._Read(blocks), cluster._Model(lambda: echo, str(tmp_path / "not here"))
    made = [model(read({"block": number})) for number in range(2)]
    assert [(row["block"], pickle.loads(row["answer"])) for row in made] == [
        (number, blocks[number].text(echo)) for number in range(2)
    ]
    failing = cluster._Model(partial(fail_to_load, "refused"), str(tmp_path / "not here"))
    assert isinstance(pickle.loads(failing(read({"block": 0}))["answer"]), Incompatible)


def test_ray_predicts_the_lines_of_one_process(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the ray extra holds it")
    texts = [" ".join(row["text"].split()[: 1 + place % 8]) for place, row in enumerate(toy.rows(10_000, seed=5))]
    texts[7_000] = " "
    (tmp_path / "ask.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    call = ["predict", str(run), str(tmp_path / "ask.jsonl"), "--on-bad", "drop", "--output"]
    finetune(*call, str(tmp_path / "here"))
    ended = subprocess.run(
        [sys.executable, "-m", "finetune", *call, str(tmp_path / "ray"), "--engine", "ray", "--processes", "2"],
        capture_output=True, text=True, timeout=600, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "10,000 rows in 10 files" in ended.stdout
    assert lines(tmp_path / "ray") == lines(tmp_path / "here")
    (tmp_path / "answered.jsonl").write_text("".join(json.dumps(row) + "\n" for row in toy.rows(3_000, seed=6)))
    scored = ["evaluate", str(run), "--data", str(tmp_path / "answered.jsonl"), "--json"]
    ended = subprocess.run(
        [sys.executable, "-m", "finetune", *scored, "--engine", "ray", "--processes", "2"],
        capture_output=True, text=True, timeout=600, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    alone = json.loads(finetune(*scored).stdout)["scores"]
    assert json.loads(ended.stdout)["scores"] == pytest.approx(alone, rel=1e-5)


def test_without_ray_the_command_says_how_to_install_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "not_installed", lambda libraries: dict(libraries))
    (tmp_path / "ask.jsonl").write_text('{"text": "ship"}\n')
    call = ["predict", str(run), str(tmp_path / "ask.jsonl"), "--engine", "ray", "--output", str(tmp_path / "out")]
    assert "needs ray, which is not installed" in finetune(*call, code=2).stderr
