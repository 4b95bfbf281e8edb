"""Runs that cannot be compared are refused by name, without a traceback."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner

import finetune
from finetune.cli import main
from finetune.cli.output import page as write_page
from finetune.cli.output import table
from finetune.errors import BadData, NoRoom
from finetune.evaluation import comparison
from finetune.result import PREDICTIONS


@pytest.fixture(scope="module")
def run(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run whose test split has one number throughout, so that nothing correlates with it."""
    folder = tmp_path_factory.mktemp("compared")
    rows = [{"text": f"{n} boats at the quay", "label": n / 2} for n in range(12)]
    finetune.train(
        task="text-regression",
        model=str(tiny_bert),
        dataset={"train": rows, "validation": rows[:6], "test": [{**row, "label": 2.0} for row in rows]},
        strategy="full",
        preprocessor={"max_length": 16},
        training={"max_steps": 1, "save_strategy": "no"},
        output=str(folder / "run"),
    )
    return folder / "run"


def test_a_score_that_a_run_lacks_is_named_with_its_reason(run: Path) -> None:
    with pytest.raises(BadData, match=r"has no pearson on test: every reference is 2\. Choose"):
        comparison.compare([run, run])
    assert comparison.compare([run, run], split="validation").runs[1].verdict == "inconclusive"


def test_rows_that_are_not_there_are_counted(run: Path, tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"holds 0 of 12 rows of train\. A run does not keep rows of train"):
        comparison.compare([run, run], split="train")
    torn = tmp_path / "torn"
    shutil.copytree(run, torn)
    lines = (run / PREDICTIONS).read_text(encoding="utf-8").splitlines(keepends=True)
    (torn / PREDICTIONS).write_text("".join(lines[:4]), encoding="utf-8")
    with pytest.raises(BadData, match="holds 4 of 6 rows of validation"):
        comparison.compare([run, torn], split="validation")


def test_a_page_that_cannot_be_written_is_refused_without_a_traceback(run: Path, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "no" / "page.html")
    for words in (["compare", str(run), str(run), "--split", "validation", "--html"], ["report", str(run), "--output"]):
        done = CliRunner().invoke(main, [*words, nowhere])
        assert (done.exit_code, "cannot be written" in done.output) == (2, True), done.output


@pytest.mark.parametrize("command", ["compare", "report"])
def test_a_page_is_complete_or_as_it_was(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    page = tmp_path / "page.html"
    page.write_text("the page before", encoding="utf-8")
    words = {"compare": [str(run), str(run), "--split", "validation", "--html"], "report": [str(run), "--output"]}

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        done = CliRunner().invoke(main, [command, *words[command], str(page)])
    assert (done.exit_code, "No space left" in done.output) == (NoRoom.exit_code, True), done.output
    assert page.read_text(encoding="utf-8") == "the page before" and list(tmp_path.iterdir()) == [page]
    assert CliRunner().invoke(main, [command, *words[command], str(page)]).exit_code == 0
    assert page.read_text(encoding="utf-8").endswith("</html>")


def test_a_page_can_go_to_a_device_or_through_a_link(tmp_path: Path) -> None:
    target, link, pipe = tmp_path / "target.html", tmp_path / "link.html", tmp_path / "pipe"
    link.symlink_to(target)
    write_page(link, "<html>")
    assert link.is_symlink() and target.read_text(encoding="utf-8") == "<html>"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_page(pipe, "<html>")
    assert os.read(reader, 100) == b"<html>" and stat.S_ISFIFO(pipe.stat().st_mode)
    os.close(reader)


def test_a_label_cannot_move_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    table(["score", "test"], [["f1/\x1b[31mred\nand\u202eright", 0.5]])
    shown = capsys.readouterr().out
    assert shown.splitlines()[1] == "f1/\\x1b[31mred\\nand\\u202eright   0.5"


def test_three_runs_are_compared_as_json(run: Path) -> None:
    done = CliRunner().invoke(main, ["compare", *[str(run)] * 3, "--split", "validation", "--json"])
    assert [each["verdict"] for each in json.loads(done.output)["runs"]] == ["first", *["inconclusive"] * 2]
