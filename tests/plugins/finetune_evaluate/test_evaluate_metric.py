"""`evaluate:…` in a recipe: loaded while planning, given inputs of its form, or refused before training."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import datasets
import evaluate
import pytest
import toy
from datasets import Features, Value

import finetune
from finetune.errors import BadOptions, BadRecipe, FinetuneError, UnknownName
from finetune.plan import make
from finetune.plugins import discover
from finetune.recipe import parse
from finetune_evaluate import formats
from finetune_evaluate.metric import metric

SCRIPT = """
import datasets
import evaluate


class Agreement(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="", citation="", inputs_description="",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
            ),
        )

    def _compute(self, predictions, references, scale=1):
        same = [a == b for a, b in zip(predictions, references)]
        return {"agreement": scale * sum(same) / len(same), "by": {"first": float(same[0])}, "note": "no number"}
"""


def of(*features: Features, answer: Any = None) -> Any:
    """Return a metric of evaluate that takes inputs of these forms and returns them, or the answer."""

    class Echo(evaluate.Metric):
        def _info(self) -> Any:
            forms = list(features) if len(features) > 1 else features[0]
            return evaluate.MetricInfo(description="", citation="", inputs_description="", features=forms)

        def _compute(self, **inputs: Any) -> Any:
            return answer or inputs

    return Echo(keep_in_memory=True)


def both(form: Any) -> Features:
    return Features({"predictions": form, "references": form})


INT, TEXT, FLOAT = Value("int32"), Value("string"), Value("float32")
TEXTS = datasets.List(TEXT)
SQUAD = Features(
    {
        "predictions": {"id": TEXT, "prediction_text": TEXT},
        "references": {"id": TEXT, "answers": datasets.Sequence({"text": TEXT, "answer_start": INT})},
    }
)
SQUAD_2 = Features({**SQUAD, "predictions": {**SQUAD["predictions"], "no_answer_probability": FLOAT}})
LABELLED = [
    {"prediction": "pos", "reference": "neg", "probabilities": {"neg": 0.25, "pos": 0.75}},
    {"prediction": "neg", "reference": "neg", "probabilities": {"neg": 0.9, "pos": 0.1}},
]
SEVERAL = [{"prediction": ["pos"], "reference": [], "probabilities": {"neg": 0.2, "pos": 0.7, "odd": 0.1}}]
TAGGED = [{"prediction": [], "reference": [], "tags": ["B-A", None], "reference_tags": ["B-A", "I-A"]}]


@pytest.mark.parametrize(
    ("features", "records", "predictions", "references"),
    [
        (both(INT), LABELLED, [1, 0], [0, 0]),
        (both(TEXT), LABELLED, ["pos", "neg"], ["neg", "neg"]),
        (both(FLOAT), [{"prediction": 1.5, "reference": 2.0}], [1.5], [2.0]),
        (both(datasets.List(INT)), SEVERAL, [[0, 1, 0]], [[0, 0, 0]]),
        (both(TEXTS), TAGGED, [["B-A", "O"]], [["B-A", "I-A"]]),
        (
            Features({"predictions": TEXT, "references": TEXTS}),
            [{"prediction": "a", "reference": "b"}, {"prediction": "a", "reference": ["b", "c"]}],
            ["a", "a"],
            [["b"], ["b", "c"]],
        ),
        (
            SQUAD,
            [{"prediction": "quay", "reference": ["quay", "pier"]}],
            [{"id": "0", "prediction_text": "quay"}],
            [{"id": "0", "answers": {"text": ["quay", "pier"], "answer_start": [0, 0]}}],
        ),
        (
            SQUAD_2,
            [{"prediction": "", "reference": []}],
            [{"id": "0", "prediction_text": "", "no_answer_probability": 1.0}],
            [{"id": "0", "answers": {"text": [], "answer_start": []}}],
        ),
    ],
)
def test_records_are_converted_to_the_form_that_a_module_takes(
    features: Features, records: Any, predictions: Any, references: Any
) -> None:
    module = of(features)
    inputs = formats.inputs(module, records, name="m")
    assert inputs == {"predictions": predictions, "references": references}
    assert module.compute(**inputs) == inputs  # evaluate accepts it, and passes the same on


def test_of_several_forms_the_first_that_fits_is_taken() -> None:
    module = of(Features({"predictions": TEXT, "references": TEXTS}), both(TEXT), both(INT))
    assert formats.inputs(module, LABELLED, name="m")["references"] == [["neg"], ["neg"]]
    assert formats.inputs(module, [{"prediction": 1, "reference": 2}], name="m") == {
        "predictions": [1],
        "references": [2],
    }


@pytest.mark.parametrize(
    ("features", "records", "message"),
    [
        (both(INT), [{"prediction": "pos", "reference": "neg"}], "'pos', a text, not a whole number"),
        (both(INT), [{"prediction": 1.5, "reference": 1.0}], "1.5, not a whole number"),
        (both(FLOAT), LABELLED, "'pos', not a number"),
        (both(TEXT), [{"prediction": 1.5, "reference": 1.0}], "1.5, not a text"),
        (both(TEXT), [{"prediction": "a", "reference": ["b"]}], r"the reference of record 0 is \['b'\]"),
        (both(TEXTS), [{"prediction": "a", "reference": ["b"]}], "'a', not a list"),
        (SQUAD, [{"prediction": "", "reference": []}], "record 0 is a question without an answer"),
        (SQUAD, [{"prediction": 1.5, "reference": 1.0}], "1.5, not a text"),
        (both(Value("timestamp[s]")), LABELLED, "records cannot be converted to"),
        (both(TEXT), [], "there is no record"),
    ],
)
def test_a_record_that_does_not_fit_is_refused_with_its_value_and_the_expected_form(
    features: Features, records: Any, message: str
) -> None:
    with pytest.raises(BadOptions, match=message):
        formats.inputs(of(features), records, name="m")


def test_a_module_that_takes_more_than_records_hold_is_refused() -> None:
    with pytest.raises(BadRecipe, match="and no sources"):
        formats.require(of(Features({"sources": TEXT, "predictions": TEXT, "references": TEXT})), name="comet")


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return where evaluate copies scripts to: one folder for all, as Python keeps a package's first place."""
    return str(tmp_path_factory.mktemp("modules"))


@pytest.fixture
def script(tmp_path: Path, modules: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a local script, below the folder that we are in."""
    monkeypatch.setattr(evaluate.config, "HF_MODULES_CACHE", modules)
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", str(tmp_path / "metrics"))
    monkeypatch.setattr("sys.path", [*sys.path])  # to which evaluate adds
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "agreement"
    folder.mkdir()
    (folder / "agreement.py").write_text(SCRIPT, encoding="utf-8")
    return folder


def test_a_local_script_gives_scores_under_its_name(script: Path) -> None:
    found = metric("./agreement")(LABELLED)
    assert found == {"agreement/agreement": 0.5, "agreement/by/first": 0.0}
    scaled = metric("./agreement?scale=100")(LABELLED)
    assert scaled == {"agreement?scale=100/agreement": 50.0, "agreement?scale=100/by/first": 0.0}
    with pytest.raises(BadOptions, match=r"failed: TypeError: .*'sclae'"):
        metric("./agreement?sclae=100")(LABELLED)


def test_a_folder_with_the_name_of_a_module_is_not_run(script: Path) -> None:
    with pytest.raises(BadRecipe, match=r"current folder contains agreement/agreement.py.*`evaluate:./agreement`"):
        metric("agreement")


def test_a_module_of_the_hub_is_refused_at_once_without_a_network(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    for name in ("accuracy", "glue/mrpc", "spaces/someone/theirs"):
        begun = time.perf_counter()
        with pytest.raises(BadRecipe, match="switched off"):
            metric(name)
        assert time.perf_counter() - begun < 0.5


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("./nowhere", BadRecipe, r"there is no script .*nowhere/nowhere\.py"),
        ("a b", BadRecipe, "is not the name of a module of evaluate"),
        ("someone/their/thing/else", BadRecipe, "spaces/OWNER/NAME"),
        ("json:dumps", BadRecipe, "not a subclass of evaluate.Metric"),
        ("no_such_module:Metric", UnknownName, "there is no module"),
        ("./agreement?scale", BadRecipe, "not of the form `name=value&name=value`"),
    ],
)
def test_a_name_without_a_module_is_refused(script: Path, name: str, error: type[FinetuneError], message: str) -> None:
    with pytest.raises(error, match=message):
        metric(name)


def test_a_script_that_fails_is_named_with_its_reason(script: Path) -> None:
    (script / "agreement.py").write_text("raise ZeroDivisionError('on purpose')\n", encoding="utf-8")
    with pytest.raises(BadRecipe, match=r"cannot load './agreement': ZeroDivisionError: on purpose"):
        metric("./agreement")


def test_a_metric_without_a_number_is_refused() -> None:
    from finetune_evaluate.metric import EvaluateMetric

    further = EvaluateMetric(name="m", module=of(both(TEXT), answer={"text": "good"}), arguments={})
    with pytest.raises(BadOptions, match="returns no number"):
        further(LABELLED)


class Hits(evaluate.Metric):
    """The metric that the recipes below name."""

    def _info(self) -> Any:
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=both(TEXT))

    def _compute(self, predictions: Any, references: Any) -> dict[str, int]:
        return {"hits": sum(a == b for a, b in zip(predictions, references, strict=True))}


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the class into a module, where a recipe finds it."""
    monkeypatch.setattr(toy, "Hits", Hits, raising=False)


def recipe(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in toy.rows(32)), encoding="utf-8")
    return {
        "task": "toy:TASK",
        "model": str(toy.base(tmp_path / "base")),
        "dataset": {"path": str(data), "validation_size": 0.25},
        "strategy": "full",
        "training": {"max_steps": 2, "per_device_train_batch_size": 8},
        "output": str(tmp_path / "run"),
        "general_text": "none",
        **changes,
    }


@pytest.mark.usefixtures("named")
def test_a_run_has_the_scores_of_a_class_and_so_has_its_evaluation(tmp_path: Path) -> None:
    result = finetune.train(parse(recipe(tmp_path, metrics=["evaluate:toy:Hits"])))
    scores = result.scores["validation"]
    assert scores["toy:Hits/hits"] == pytest.approx(8 * scores["accuracy"])
    assert finetune.evaluate(tmp_path / "run", split="validation")["toy:Hits/hits"] == scores["toy:Hits/hits"]
    loaded = finetune.load(tmp_path / "run")
    assert not loaded.plan.metrics  # prediction runs no metric
    assert loaded.plan.recipe.metrics == ("evaluate:toy:Hits",)


@pytest.mark.usefixtures("named")
def test_a_metric_that_does_not_fit_is_refused_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_lists = evaluate.MetricInfo(
        description="", citation="", inputs_description="", features=both(datasets.List(Value("float64")))
    )
    monkeypatch.setattr(Hits, "_info", lambda self: of_lists)
    content = recipe(tmp_path, metrics=["evaluate:toy:Hits"], score_base_model=False)
    with pytest.raises(BadOptions, match="'toy:Hits' does not fit this task"):
        finetune.train(parse(content))
    assert (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8") == ""


@pytest.mark.usefixtures("named")
def test_a_class_without_the_prefix_evaluate_is_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="evaluate:toy:Hits"):
        make(parse(recipe(tmp_path, metrics=["toy:Hits"])), discover())
