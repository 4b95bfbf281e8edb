"""What a run records of its base model, and what is noticed when the base model is another."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from finetune import base as bases
from finetune.errors import BadRecipe, Incompatible
from finetune.recipe import Model
from finetune.training.checkpoints import BASE, Identity


@pytest.fixture
def model(tiny_bert: Path, tmp_path: Path) -> Model:
    return Model(path=str(shutil.copytree(tiny_bert, tmp_path / "base")))


def replace_weights(folder: Path) -> None:
    """Change one number, and neither size nor times of the file."""
    path = folder / "model.safetensors"
    before = path.stat()
    tensors = load_file(path)
    tensors[min(tensors)].view(-1)[0] += 1
    save_file(tensors, path, metadata={"format": "pt"})
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def test_the_files_of_model_and_tokenizer_are_recorded(model: Model) -> None:
    described = bases.describe(model)
    assert described["path"] == model.path
    assert {"config.json", "model.safetensors"} <= set(described["files"])
    assert {"tokenizer.json", "tokenizer_config.json"} <= set(described["tokenizer"])
    bases.check_content(json.loads(json.dumps(described)), model)


def test_one_changed_number_is_noticed_though_size_and_time_are_the_same(model: Model) -> None:
    described = bases.describe(model)
    replace_weights(Path(model.path))
    with pytest.raises(Incompatible, match=r"is not the base model .* trained on: model\.safetensors changed"):
        bases.check_content(described, model)


def test_weights_in_several_files_are_recorded_each(model: Model) -> None:
    folder = Path(model.path)
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {"model-1.safetensors": names[:5], "model-2.safetensors": names[5:]}
    for part, held in parts.items():
        save_file({name: tensors[name] for name in held}, folder / part)
    index = {"weight_map": {name: part for part, held in parts.items() for name in held}}
    (folder / bases.INDEX).write_text(json.dumps(index))
    (folder / "model.safetensors").unlink()
    described = bases.describe(model)
    assert {*parts, bases.INDEX, "config.json"} <= set(described["files"])
    save_file({name: torch.zeros(2) for name in parts["model-2.safetensors"]}, folder / "model-2.safetensors")
    with pytest.raises(Incompatible, match=r"model-2\.safetensors changed"):
        bases.check_content(described, model)


def test_a_copy_and_a_file_written_again_are_the_same_model(model: Model, tmp_path: Path) -> None:
    described = bases.describe(model)
    copy = Path(shutil.copytree(model.path, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    written = {**config, "transformers_version": "9.9", "_name_or_path": "elsewhere"}
    (copy / "config.json").write_text(json.dumps(written, indent=4))
    (copy / "README.md").write_text("A card.")
    bases.check_content(described, Model(path=str(copy)))


def test_a_file_that_was_not_touched_is_not_read_again(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    described = bases.describe(model)
    monkeypatch.setattr(bases, "_sha256", lambda path: pytest.fail(f"{path} was read"))
    bases.check_content(described, model)


@given(data=st.data())
def test_a_change_anywhere_is_noticed(data: st.DataObject, tiny_bert: Path, tmp_path_factory: Any) -> None:
    folder = Path(shutil.copytree(tiny_bert, tmp_path_factory.mktemp("changed") / "base"))
    model = Model(path=str(folder))
    described = bases.describe(model)
    recorded = {**described["files"], **described["tokenizer"]}
    name = data.draw(st.sampled_from(sorted(recorded)))
    content = bytearray((folder / name).read_bytes())
    if data.draw(st.booleans(), label="remove"):
        (folder / name).unlink()
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1
        (folder / name).write_bytes(content)
    now = bases.describe(model)
    kind = "files" if name in described["files"] else "tokenizer"
    if kind == "files" and name in now["files"]:
        is_same = bases.facts(now) == bases.facts(described)  # a byte between two entries of a JSON file
        assert is_same == (now["files"][name]["sha256"] == described["files"][name]["sha256"])
        assert not is_same or name == "config.json"
    else:
        assert bases.facts(now) != bases.facts(described)


def test_a_base_of_the_hub_is_checked_by_the_files_that_are_there(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, cached = Path(model.path), {"config.json", "model.safetensors"}
    asked: list[bool] = []

    def cached_file(repo: str, name: str, *, revision: str, local_files_only: bool) -> str:
        asked.append(local_files_only)
        if name not in cached:
            raise OSError(f"{repo} has no {name} in the cache")
        return str(folder / name)

    monkeypatch.setattr("transformers.utils.cached_file", cached_file)
    hub = Model(path="skerrow/bert")
    described = bases.describe(hub)
    assert set(described["files"]) == cached and all(asked)
    (folder / "generation_config.json").write_text("{}")
    cached.add("generation_config.json")
    bases.check_content(described, hub)  # a file that no run read
    assert not all(asked), "files that the cache lacks are downloaded"
    cached.clear()
    bases.check_content(described, hub)  # an empty cache, and no network
    cached.add("model.safetensors")
    replace_weights(folder)
    with pytest.raises(Incompatible, match=r"'skerrow/bert' is not the base model .*: model\.safetensors changed"):
        bases.check_content(described, hub)


def test_the_tokenizer_that_a_run_saved_is_checked(model: Model) -> None:
    folder = Path(model.path)
    recorded = bases.describe_tokenizer(folder)
    bases.check_tokenizer(recorded, folder)
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text().replace("the", "teh"))
    with pytest.raises(Incompatible, match=r"is not the one that the run saved: tokenizer\.json changed"):
        bases.check_tokenizer(recorded, folder)


def test_results_without_a_record_are_accepted(model: Model) -> None:
    bases.check_content({}, model)
    bases.check_tokenizer({}, Path(model.path))


@pytest.mark.parametrize("path", ["/no/such/folder", "./no/such/folder", "~/no/such/folder"])
def test_a_base_model_that_is_gone_is_an_error_that_says_how_to_name_another_place(path: str) -> None:
    with pytest.raises(BadRecipe, match=rf"is not in '{path}' any more\. .* name it with --base"):
        bases.check_place(Model(path=path))


# --- resume -----------------------------------------------------------------------------------------------------------


def identity(path: str, digest: str | None) -> Identity:
    facts: dict[str, Any] = {"model": {"path": path, "tokenizer": None, "options": {}}}
    if digest is not None:
        facts[BASE] = {"files": {"model.safetensors": digest}, "tokenizer": {"tokenizer.json": "t"}}
    return Identity(facts, {})


@pytest.mark.parametrize(
    ("then", "now", "changes"),
    [
        (("/a", "1"), ("/a", "1"), []),
        (("/a", "1"), ("/b", "1"), []),  # moved
        (("/a", "1"), ("/a", "2"), ["model.safetensors of the base model: 1 then, 2 now"]),
        (("org/a", None), ("org/a", "1"), []),  # a checkpoint of an older version
        (("/a", None), ("/b", "1"), ["model: "]),
        (("org/a", None), ("org/b", None), ["model: "]),
    ],
)
def test_a_run_resumes_on_the_same_content_wherever_it_is(then: Any, now: Any, changes: list[str]) -> None:
    found = identity(*now).changes({"identity": identity(*then).facts})
    assert len(found) == len(changes)
    assert all(line.startswith(start) for line, start in zip(found, changes, strict=True))


def test_an_older_checkpoint_with_a_relative_path_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "base").mkdir()
    monkeypatch.chdir(tmp_path)
    now = identity(str(tmp_path / "base"), "1")
    assert now.changes({"identity": identity("base", None).facts}) == []
