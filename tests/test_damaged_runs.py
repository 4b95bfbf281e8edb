"""A finished run whose files are damaged: each command says so in one line that names the file, and no more."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import toy
from click.testing import CliRunner

import finetune
from finetune import base as bases
from finetune.cli import main
from finetune.errors import BadRecipe
from finetune.result import RESULT, Result

QUICK = {"score_base_model": False, "general_text": "none", "card": {"license": "apache-2.0", "language": "en"}}


@pytest.fixture(scope="module")
def runs(toy_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run of the strategy full and one of lora; the data is in files."""
    folder = tmp_path_factory.mktemp("damaged")
    data = {}
    for split, size in (("train", 24), ("test", 6)):
        data[split] = str(folder / f"{split}.jsonl")
        Path(data[split]).write_text("".join(json.dumps(row) + "\n" for row in toy.rows(size, seed=size)))
    for strategy in ("full", "lora"):
        recipe = toy.recipe(toy_base, folder / strategy, dataset=data, strategy=strategy, **QUICK)
        finetune.train(**{**recipe, "task": "text-classification"})
    return folder


def call(*words: str) -> tuple[int, str, BaseException | None]:
    """Call the command in this process; return its exit code, its output, and an error that it did not explain."""
    ended = CliRunner().invoke(main, words, prog_name="finetune")
    unexplained = ended.exception if ended.exception and not isinstance(ended.exception, SystemExit) else None
    return ended.exit_code, ended.output, unexplained


# --- each file --------------------------------------------------------------------------------------------------------


def missing(path: Path) -> None:
    path.unlink()


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def zeroed(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def folder_instead(path: Path) -> None:
    path.unlink()
    path.mkdir()


def one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 4
    path.write_bytes(content)


def other_json(path: Path) -> None:
    path.write_text("[1, 2]")


def deep(path: Path) -> None:
    path.write_text('{"a": ' + "[" * 9000)


FAULTS: tuple[Callable[[Path], None], ...] = (missing, truncated, empty, zeroed, folder_instead, one_bit)
OF_JSON = (*FAULTS, other_json, deep)
TABLE = {
    ("full", "config.json"): ("predict", OF_JSON),
    ("full", "model.safetensors"): ("predict", FAULTS),
    ("full", "tokenizer.json"): ("predict evaluate", OF_JSON),
    ("full", "tokenizer_config.json"): ("predict", OF_JSON),
    ("full", "predictions.jsonl"): ("compare", FAULTS[1:-1]),
    ("full", "result.json"): ("predict evaluate report compare card push", OF_JSON),
    ("lora", "adapter_config.json"): ("predict merge push", OF_JSON),
    ("lora", "adapter_model.safetensors"): ("predict merge", FAULTS),
    ("lora", "result.json"): ("merge", OF_JSON),
}


def arguments(command: str, run: Path, good: Path) -> list[str]:
    """Return the words of a command that reads a run."""
    more = {
        "predict": ["--text", "the ship"],
        "compare": [str(good)],
        "push": ["me/name", "--check"],
        "merge": ["--output", str(run.with_name("merged"))],
    }
    return [command, str(run), *more.get(command, [])]


@pytest.mark.parametrize(("strategy", "name"), TABLE, ids=lambda value: str(value))
def test_a_damaged_file_is_named_in_one_line(strategy: str, name: str, runs: Path, tmp_path: Path) -> None:
    commands, faults = TABLE[strategy, name]
    for fault in faults:
        for command in commands.split():
            run = tmp_path / f"{fault.__name__}-{command}"
            shutil.copytree(runs / strategy, run)
            fault(run / name)
            code, output, unexplained = call(*arguments(command, run, runs / strategy))
            if name == RESULT and fault is one_bit and code == 0:
                continue  # a bit of white space, or of a number
            assert unexplained is None, (fault.__name__, command, unexplained)
            lines = [line for line in output.splitlines() if "error: " in line or "not ready: " in line]
            assert code == 2, (fault.__name__, command, output)
            assert any(name in line for line in lines), (fault.__name__, command, output)
            assert command == "push" or len(output.splitlines()) == 1, output
            assert not run.with_name("merged").exists()


@pytest.mark.parametrize(
    ("command", "name", "fault", "code"),
    [
        ("report", "report.html", folder_instead, 6),
        ("card", "README.md", folder_instead, 6),
        ("card", "predictions.jsonl", zeroed, 2),
        ("card", "predictions.jsonl", truncated, 0),
        ("predict", "predictions.jsonl", missing, 0),
        ("report", "model.safetensors", missing, 0),
    ],
)
def test_other_files_stop_only_the_command_that_needs_them(
    command: str, name: str, fault: Callable[[Path], None], code: int, runs: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs / "full", run)
    fault(run / name)
    ended, output, unexplained = call(*arguments(command, run, runs / "full"))
    assert unexplained is None
    assert ended == code, output
    assert code == 0 or name in output


@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_a_run_without_digests_names_the_file_that_cannot_be_read(strategy: str, runs: Path, tmp_path: Path) -> None:
    weights = "model.safetensors" if strategy == "full" else "adapter_model.safetensors"
    config = "config.json" if strategy == "full" else "adapter_config.json"
    for number, (fault, name) in enumerate([(truncated, weights), (missing, weights), (empty, config), (deep, config)]):
        run = tmp_path / str(number)
        shutil.copytree(runs / strategy, run)
        content = json.loads((run / RESULT).read_text())
        del content["base"]["saved_model"]
        (run / RESULT).write_text(json.dumps(content))
        fault(run / name)
        with pytest.raises(BadRecipe, match=r"the model in .* cannot be loaded: ") as caught:
            finetune.load(run)
        assert name in str(caught.value) or "no weights" in str(caught.value), str(caught.value)


def test_what_is_changed_on_purpose_is_accepted_with_a_flag(runs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs / "full", run)
    one_bit(run / "model.safetensors")
    assert call("predict", str(run), "--text", "the ship")[0] == 2
    assert call("predict", str(run), "--text", "the ship", "--accept-changes")[0] == 0


def test_an_error_that_is_not_of_the_files_stays_as_it_is(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise TypeError("a fault of ours")

    monkeypatch.setattr("finetune.run.reload", fail)
    with pytest.raises(TypeError, match="a fault of ours"):
        finetune.load(runs / "full")


def test_the_digests_of_an_adapter_hold_for_another_place_of_its_base(runs: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(runs / "lora", run)
    content = json.loads((run / "adapter_config.json").read_text())
    (run / "adapter_config.json").write_text(json.dumps({**content, "base_model_name_or_path": "me/base"}))
    recorded = Result.load(run).base
    assert set(recorded["saved_model"]) == {"adapter_config.json", "adapter_model.safetensors"}
    bases.check_saved(recorded, run)


# --- result.json ------------------------------------------------------------------------------------------------------

WRONG: tuple[Any, ...] = (None, 5, "x", [], {}, [1], {"a": 1}, True)
"""Values of which most are of a wrong type at any place."""


def places(content: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of each value, and of the first element of each list; of many equal entries the first two."""
    if at:
        yield at
    if len(at) == 5:
        return
    parts: list[tuple[Any, Any]] = []
    if isinstance(content, dict):
        parts = list(content.items())[: None if len(at) < 2 else 2]
    elif isinstance(content, list):
        parts = list(enumerate(content))[:1]
    for key, value in parts:
        yield from places(value, (*at, key))


def changed(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return content with another value at a path; without the value for `changed` itself."""
    result = copy.deepcopy(content)
    holder = result
    for key in path[:-1]:
        holder = holder[key]
    if value is changed:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return result


def test_each_key_of_a_result_is_read_or_refused_by_name(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything that `Result.load` accepts can be shown; `report` reads more of it than any other command."""
    from finetune import report
    from finetune.evaluation import verdicts
    from finetune.report import charts

    monkeypatch.setattr(charts, "LIBRARIES", {"no_such_module": "matplotlib"})  # drawing takes long
    right = json.loads((runs / "full" / RESULT).read_text())
    refused, accepted = [], 0
    for number, path in enumerate(places(right)):
        if path[0] in {"arguments", "environment"} and len(path) > 1:
            continue
        for turn, value in enumerate((WRONG[number % len(WRONG)], WRONG[(number + 3) % len(WRONG)], changed)):
            (tmp_path / RESULT).write_text(json.dumps(changed(right, path, value)))
            try:
                result = Result.load(tmp_path)
            except BadRecipe as error:
                refused.append(str(error))
                continue
            accepted += 1
            try:
                verdicts.all_verdicts(result)
                if (number + turn) % 4 == 0 or path[0] == "details":
                    report.page(result)
            except Exception as error:
                raise AssertionError(f"{path} = {value!r} is accepted, and cannot be shown") from error
    assert all(RESULT in message and "\n" not in message for message in refused)
    assert len(refused) > 300
    assert accepted > 100
