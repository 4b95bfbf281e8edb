"""The temporary folders of killed processes are deleted by the next process; those of living ones are not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from finetune.data import storage

KEEP = "from finetune.data import storage; print(storage.folder(), flush=True); input()"


def started(temporary: Path) -> tuple[subprocess.Popen[str], Path]:
    """Start a process with a table; return it and its folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", KEEP], env={**os.environ, "TMPDIR": str(temporary)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    table = Path(process.stdout.readline().strip())
    (table / "rows.arrow").write_bytes(b"x")
    return process, table.parent


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_folder_of_a_killed_process_is_deleted_and_that_of_a_living_one_is_not(temporary: Path) -> None:
    killed, abandoned = started(temporary)
    living, used = started(temporary)
    try:
        assert abandoned.is_dir() and used.is_dir() and used != abandoned
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        storage.remove_abandoned()
        assert not abandoned.exists()
        assert [path.name for path in used.rglob("*.arrow")] == ["rows.arrow"]
        assert living.stdin is not None
        living.stdin.write("\n")
        living.stdin.close()
        living.wait()
        assert not used.exists(), "a process that ends deletes its folder"
    finally:
        for process in (killed, living):
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def test_what_a_process_leaves_that_is_killed_while_it_makes_or_deletes_its_folder_is_deleted(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, abandoned = started(temporary)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    removed: list[str] = []

    def cut(path: str) -> None:  # the process ends here, after some files are gone
        removed.append(path)
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", cut)
    with pytest.raises(KeyboardInterrupt):
        storage.remove_abandoned()
    monkeypatch.undo()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    assert removed and abandoned.is_dir()
    storage.remove_abandoned()
    assert not abandoned.exists()
    for name in ("finetune-data-empty", "finetune-data-unlocked", "finetune-data-full", "finetune-data-young"):
        (temporary / name).mkdir(0o700)
    (temporary / "finetune-data-unlocked" / f"{storage.LOCK}.new").touch()
    (temporary / "finetune-data-full" / "rows.arrow").touch()
    for name in ("empty", "unlocked", "full"):
        os.utime(temporary / f"finetune-data-{name}", (0, 0))
    storage.remove_abandoned()
    assert sorted(path.name for path in temporary.iterdir()) == ["finetune-data-full", "finetune-data-young"]


def test_nothing_else_is_deleted(temporary: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / storage.LOCK).touch(0o600)
    elsewhere.chmod(0o700)
    (temporary / "finetune-data-link").symlink_to(elsewhere)
    kept = {}
    for name, mode in (("finetune-data-open", 0o755), ("finetune-data-new", 0o700), ("other-data", 0o700)):
        kept[name] = temporary / name
        kept[name].mkdir()
        kept[name].chmod(mode)
    (kept["finetune-data-open"] / storage.LOCK).touch()
    (kept["other-data"] / storage.LOCK).touch()
    link = temporary / "finetune-data-linked-lock"
    link.mkdir(0o700)
    (link / storage.LOCK).symlink_to(elsewhere / storage.LOCK)
    (temporary / "finetune-data-file").touch()
    before = sorted(path.name for path in temporary.iterdir())
    storage.remove_abandoned()
    assert sorted(path.name for path in temporary.iterdir()) == before
    assert (elsewhere / storage.LOCK).is_file()
    control = temporary / "finetune-data-control"
    control.mkdir(0o700)
    (control / storage.LOCK).touch()
    storage.remove_abandoned()
    assert not control.exists(), "a folder that nobody has locked"
