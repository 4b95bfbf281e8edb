"""Trackers: what they get of a run, on local files; a run that continues goes on in the same run of the tracker."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import toy
from transformers import TrainerCallback

import finetune
from finetune import planning, processes
from finetune import recipe as recipes
from finetune.errors import BadOptions, MissingLibrary
from finetune.interfaces import Job
from finetune.kit import tracked
from finetune.result import Result
from finetune.tracking import runs
from finetune.training.arguments import check_installed

SECRET = "s3cr3t-canary-71a0"
STEPS = {"save_strategy": "steps", "save_steps": 1, "logging_steps": 1, "max_steps": 4, "save_total_limit": 9}


class Read(dict[str, Any]):
    """What a store holds: ``numbers``, ``texts``, ``files``, ``runs`` and the ``losses`` by step."""


def read_tensorboard(folder: Path, output: Path) -> Read:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(output / "tensorboard"))
    events.Reload()
    numbers = {name: events.Scalars(name)[-1].value for name in events.Tags()["scalars"]}
    texts = {
        name.removesuffix("/text_summary"): events.Tensors(name)[-1].tensor_proto.string_val[0].decode()
        for name in events.Tags()["tensors"]
    }
    losses = {event.step for event in events.Scalars("train/loss")}
    return Read(numbers=numbers, texts=texts, files=texts["files"], runs=1, losses=losses)


def read_mlflow(folder: Path, output: Path) -> Read:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (experiment,) = client.search_experiments()
    found = client.search_runs([experiment.experiment_id])
    run = found[0]
    files = " ".join(file.path for file in client.list_artifacts(run.info.run_id))
    verdicts = Path(client.download_artifacts(run.info.run_id, "verdicts.txt", str(folder))).read_text()
    losses = {metric.step for metric in client.get_metric_history(run.info.run_id, "loss")}
    texts = {**run.data.tags, "verdicts": verdicts}
    assert run.info.status == "FINISHED"
    return Read(numbers=run.data.metrics, texts=texts, files=files, runs=len(found), losses=losses)


def read_trackio(folder: Path, output: Path) -> Read:
    from trackio.sqlite_storage import SQLiteStorage

    folder = Path(os.environ["TRACKIO_DIR"])
    names = SQLiteStorage.get_runs("huggingface")
    entries = SQLiteStorage.get_logs("huggingface", names[0])
    numbers: dict[str, Any] = {}
    texts: dict[str, Any] = {}
    for entry in entries:
        for name, value in entry.items():
            (texts if isinstance(value, dict) else numbers)[name] = value
    texts = {name: value["_value"] for name, value in texts.items()}
    losses = {entry["train/global_step"] for entry in entries if "train/loss" in entry}
    blobs = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    files = " ".join(name for name in ("report.html", "recipe.yaml") if (output / name).read_bytes() in blobs)
    return Read(numbers=numbers, texts=texts, files=files, runs=len(set(names)), losses=losses)


@pytest.fixture(scope="module", autouse=True)
def _trackio_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Set the folder of Trackio, which reads the variable when it is imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKIO_DIR", str(tmp_path_factory.mktemp("trackio")))
        yield


STORES: dict[str, Callable[[Path, Path], Read]] = {
    "tensorboard": read_tensorboard,
    "mlflow": read_mlflow,
    "trackio": read_trackio,
}


@pytest.mark.filterwarnings("default")  # the trackers and their libraries give some
@pytest.mark.parametrize("name", STORES)
def test_a_tracker_gets_the_log_and_the_result_in_one_run(
    name: str, toy_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(name, reason=f"pip install {name}")
    folder, output = tmp_path / "store", tmp_path / "run"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    monkeypatch.setenv("SOME_API_TOKEN", SECRET)
    recipe = toy.recipe(toy_base, output, training={**STEPS, "report_to": [name]})
    result = finetune.train(**recipe)
    check(STORES[name](folder, output), result)
    for step in (3, 4):  # as if it had been killed after step 2
        shutil.rmtree(output / f"checkpoint-{step}")
    for file in ("result.json", "model.safetensors"):
        (output / file).unlink()
    recipe["training"]["logging_steps"] = 2  # a parameter that MLflow would refuse to change
    resumed = finetune.train(**recipe, resume=True)
    assert resumed.scores == result.scores
    check(STORES[name](folder, output), resumed)
    holds = [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert not holds


def check(found: Read, result: Result) -> None:
    expected = tracked(result, Path(result.directory))
    assert found["runs"] == 1
    assert {f"final/{split}/accuracy" for split in ("train", "validation", "test")} <= set(found["numbers"])
    for name, value in expected.numbers.items():
        assert found["numbers"][name] == pytest.approx(value, rel=1e-5), name
    assert "final/test/accuracy/low" in expected.numbers and "base_model/test/accuracy" in expected.numbers
    assert found["texts"]["fingerprint/train"] == result.fingerprints["train"]
    assert "Accuracy 0." in found["texts"]["verdicts"] or "Accuracy 1." in found["texts"]["verdicts"]
    assert "report.html" in found["files"] and "recipe.yaml" in found["files"]
    assert {1, 2} <= found["losses"] and max(found["losses"]) == 4


def test_a_tracker_that_is_not_installed_is_refused_while_planning(
    toy_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.integrations.get_available_reporting_integrations", list)
    for name in runs.BACKENDS:
        with pytest.raises(MissingLibrary) as raised:
            check_installed({"report_to": ["none", name]})
        text = str(raised.value)
        assert f"Install it: pip install {name}; or write report_to: none." in text and "\n" not in text
    with pytest.raises(MissingLibrary):
        finetune.train(**toy.recipe(toy_base, tmp_path / "run", training={"report_to": "mlflow"}))
    assert not (tmp_path / "run").exists()


class Recorder:
    """A tracker that writes down what happens."""

    events: ClassVar[list[str]] = []
    breaks = ""

    def __init__(self, *, known: Any, step: Any, **_: Any) -> None:
        self.known, self.step = known, step

    def _do(self, event: str) -> None:
        Recorder.events.append(event)
        if event == Recorder.breaks:
            raise ConnectionError(f"no way to the server at https://me:{SECRET}@example.org")

    def begin(self) -> None:
        self._do("begin" if not self.known else f"go on after {self.step}")

    def place(self) -> dict[str, str]:
        return {"id": "7"}

    def callbacks(self) -> list[Any]:
        return []

    def finish(self, content: Any) -> None:
        self._do("finish")

    def fail(self) -> None:
        self._do("fail")


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> type[Recorder]:
    monkeypatch.setattr(runs, "BACKENDS", {"tensorboard": Recorder})
    monkeypatch.setattr("finetune.training.arguments.check_reporters", lambda _: None)
    monkeypatch.setattr(Recorder, "events", [])
    monkeypatch.setattr(Recorder, "breaks", "")
    return Recorder


def test_a_tracker_gets_the_end_and_a_failure(recorded: Any, toy_base: Path, tmp_path: Path) -> None:
    recipe = toy.recipe(toy_base, tmp_path / "run", training={**STEPS, "report_to": "tensorboard"})
    finetune.train(**recipe)
    assert recorded.events == ["begin", "finish"]
    assert json.loads((tmp_path / "run" / "trackers.json").read_text())["tensorboard"] == {"id": "7"}
    (tmp_path / "run" / "result.json").unlink()
    finetune.train(**recipe, resume=True)
    assert recorded.events[2:] == ["go on after 4", "finish"]
    recorded.events.clear()
    with pytest.raises(RuntimeError, match="boom"):
        finetune.train(**{**recipe, "output": str(tmp_path / "other")}, callbacks=[Boom])
    assert recorded.events == ["begin", "fail"]
    recorded.breaks = "fail"
    with pytest.raises(RuntimeError, match="boom"):  # not the error of the tracker
        finetune.train(**{**recipe, "output": str(tmp_path / "third")}, callbacks=[Boom])


class Boom(TrainerCallback):
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        raise RuntimeError("boom")


@pytest.mark.parametrize("breaks", ["begin", "finish"])
def test_an_error_of_a_tracker_is_one_sentence(breaks: str, recorded: Any, toy_base: Path, tmp_path: Path) -> None:
    recorded.breaks = breaks
    recipe = toy.recipe(toy_base, tmp_path / "run", training={"report_to": "tensorboard"})
    notes: list[str] = []

    class Notes(finetune.progress.Reporter):  # type: ignore[name-defined, misc]
        def note(self, text: str) -> None:
            notes.append(text)

    if breaks == "begin":
        with pytest.raises(BadOptions, match="'report_to': tensorboard cannot begin a run: ConnectionError") as refused:
            finetune.train(**recipe)
        assert SECRET not in str(refused.value)
        return
    result = finetune.train(**recipe, reporter=Notes())
    assert (tmp_path / "run" / "result.json").is_file() and result.steps == 2
    (note,) = [note for note in notes if "was not sent to tensorboard" in note]
    assert "ConnectionError" in note and SECRET not in note


def test_only_the_main_process_reports(recorded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "is_main", lambda: False)
    missing: Any = None
    job = Job(
        task=toy.TASK, model=missing, tokenizer=missing, output=tmp_path, seed=1, preprocessor=toy.SeaOrLand(),
        strategy=missing, evaluator=toy.Accuracy(), train=None, validation=None, validation_examples=None,
        arguments={"report_to": ["tensorboard", "codecarbon"]},
    )  # fmt: skip
    with runs.tracking(job, step=None, note=print) as trackers:
        assert not trackers.begun and trackers.job.arguments["report_to"] == ["codecarbon"]
    assert not recorded.events and not list(tmp_path.iterdir())


def test_a_plugin_of_a_stranger_gets_the_same(toy_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_TOKEN", SECRET)
    result = Result.load(toy_run, trust_code=True)
    content = tracked(replace(result, fingerprints={"train": f"the rows of {SECRET}"}), toy_run)
    assert content.numbers["final/test/accuracy"] == result.scores["test"]["accuracy"]
    assert content.texts["fingerprint/train"] == "the rows of ***"
    assert [path.name for path in content.files] == ["report.html", "recipe.yaml"]


def test_a_plan_is_no_run_of_a_tracker(toy_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard", reason="pip install tensorboard")
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    for split, size in (("train", 40), ("validation", 12)):
        lines = [json.dumps(row) + "\n" for row in toy.rows(size, seed=size)]
        (tmp_path / f"{split}.jsonl").write_text("".join(lines))
    recipe = {
        "task": "text-classification",
        "model": str(toy_base),
        "dataset": str(tmp_path),
        "strategy": "full",
        "training": {"report_to": "tensorboard", "early_stopping_patience": 2, "num_train_epochs": 9},
        "output": str(tmp_path / "run"),
    }
    assert planning.plan(recipes.parse(recipe)).measured is not None
    assert not (tmp_path / "events").exists()
