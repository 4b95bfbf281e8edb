"""The cache of base models notices a folder that changed, and makes it again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune.errors import BadOptions
from finetune_samples import bases


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Path, list[str]]:
    """Make a base model of two small files, and return its folder and a list that grows each time."""
    calls: list[str] = []

    def write(kind: str, making: Any, folder: Path, named: str) -> None:
        calls.append(kind)
        (folder / "model.safetensors").write_bytes(b"weights")
        (folder / "config.json").write_text("{}")
        bases._write_files(folder, {"kind": kind, "fingerprint": named})

    monkeypatch.setattr(bases, "_write", write)
    return bases.base("encoder", cache=tmp_path / "cache"), calls


@pytest.mark.parametrize(
    "fault", ["other weights", "a file more", "a file less", "no record", "another digest", "link", "written by others"]
)
def test_a_base_model_that_changed_is_made_again(made: tuple[Path, list[str]], fault: str, tmp_path: Path) -> None:
    folder, calls = made
    assert bases.base("encoder", cache=tmp_path / "cache") == folder
    assert calls == ["encoder"]
    weights, record = folder / "model.safetensors", folder / bases.RECORD
    if fault == "other weights":
        weights.write_bytes(b"weightz")
    elif fault == "a file more":
        (folder / "pytorch_model.bin").write_bytes(b"pickle")
    elif fault == "a file less":
        weights.unlink()
    elif fault == "no record":
        record.unlink()
    elif fault == "another digest":
        content = json.loads(record.read_text())
        record.write_text(json.dumps({**content, bases.FILES: {**content[bases.FILES], "config.json": "0"}}))
    elif fault == "link":
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        weights.chmod(0o666)
    assert bases.base("encoder", cache=tmp_path / "cache") == folder
    assert calls == ["encoder", "encoder"]
    assert not folder.is_symlink()
    assert weights.read_bytes() == b"weights"
    assert sorted(path.name for path in folder.iterdir()) == [bases.RECORD, "config.json", "model.safetensors"]
    assert bases.base("encoder", cache=tmp_path / "cache") == folder
    assert calls == ["encoder", "encoder"]


def test_a_base_model_of_an_older_version_gets_its_digests(made: tuple[Path, list[str]], tmp_path: Path) -> None:
    folder, calls = made
    record = folder / bases.RECORD
    content = json.loads(record.read_text())
    digests = content.pop(bases.FILES)
    record.write_text(json.dumps(content))
    bases.base("encoder", cache=tmp_path / "cache")
    assert calls == ["encoder"]
    assert json.loads(record.read_text())[bases.FILES] == digests


def test_a_changed_folder_that_cannot_be_removed_is_an_error(
    made: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = made
    (folder / "config.json").write_text("[]")

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(bases.shutil, "rmtree", lambda path, **options: None if options else refuse(path))
    with pytest.raises(BadOptions, match="cannot be removed: Permission denied"):
        bases.base("encoder", cache=tmp_path / "cache")
