"""Evidence for a score: its interval, the base model, and baselines that need no model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import finetune
from finetune import result
from finetune.errors import BadData, BadOptions, BadRecipe
from finetune.evaluation import evidence
from finetune.interfaces import Evaluator, Tallies
from finetune.result import FORMAT, Result
from finetune_squad.evaluator import SquadEvaluator, first_sentence
from finetune_text.classification_evaluator import TextClassificationEvaluator
from finetune_text.regression_evaluator import TextRegressionEvaluator
from finetune_text.token_evaluator import TokenClassificationEvaluator


def classified(pairs: list[tuple[str, str]]) -> list[dict[str, Any]]:
    names = sorted({name for pair in pairs for name in pair})
    return [
        {"prediction": guess, "reference": truth, "probabilities": {name: float(name == guess) for name in names}}
        for guess, truth in pairs
    ]


@pytest.fixture(scope="module")
def run(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("evidence")
    finetune.train(
        task="text-classification",
        model=str(tiny_bert),
        dataset={
            "path": "sample:harbour-reviews",
            "limit": {"train": 48, "validation": 16, "test": 40},
            "splits": {"train": "train", "validation": "validation", "test": "test"},
        },
        strategy="full",
        preprocessor={"max_length": 32},
        training={"max_steps": 2, "save_strategy": "no", "eval_strategy": "no"},
        output=str(folder / "run"),
    )
    return Result.load(folder / "run")


def test_a_result_states_intervals_baselines_and_differences_of_the_held_out_splits(run: Result) -> None:
    assert set(run.intervals) == set(run.baselines) == set(run.differences) == {"validation", "test"}
    bounds = run.intervals["test"]["accuracy"]
    assert bounds["low"] <= run.scores["test"]["accuracy"] <= bounds["high"]
    assert bounds["high"] - bounds["low"] > 0.05
    assert set(run.differences["test"]) == {"base_model", "majority"}
    majority = run.differences["test"]["majority"]["accuracy"]
    assert majority["value"] == pytest.approx(
        run.scores["test"]["accuracy"] - run.baselines["test"]["majority"]["accuracy"]
    )
    assert run.units["test"] == {"column": None, "size": 40}


def test_the_primary_score_has_an_interval_even_if_it_is_no_sum() -> None:
    pairs = [(x, x + (-1) ** k * 0.4 * k) for k, x in enumerate([0.5 * n for n in range(12)])]
    records = [{"prediction": guess, "reference": truth} for guess, truth in pairs]
    found = evidence.intervals_of(TextRegressionEvaluator(primary="spearman"), records)
    assert found["spearman"].low < found["spearman"].high
    other = [{**record, "prediction": -record["prediction"]} for record in records]
    compared = evidence.compare(TextRegressionEvaluator(primary="spearman"), records, other)["spearman"]
    assert compared["low"] < compared["value"] < compared["high"] and compared["value"] > 1


def test_a_baseline_without_the_primary_score_is_compared_by_the_others() -> None:
    records = [{"prediction": float(n), "reference": n + 0.5 * (-1) ** n} for n in range(10)]
    flat = [{**record, "prediction": 4.5} for record in records]
    compared = evidence.compare(TextRegressionEvaluator(), records, flat)
    assert "pearson" not in compared
    assert compared["mae"]["value"] == pytest.approx(0.5 - 2.5, abs=0.11)
    assert compared["mae"]["high"] < 0


def test_tallies_that_a_plugin_gives_as_lists_do_as_arrays(run: Result) -> None:
    records = classified([("a", "a"), ("b", "b"), ("a", "b"), ("b", "b")])

    class AsListsEvaluator(TextClassificationEvaluator):
        def tallies(self, records: Any) -> Tallies:
            exact = super().tallies(records)
            return Tallies(values=exact.values.tolist(), scores=exact.scores)

    other = list(reversed(records))
    assert evidence.intervals_of(AsListsEvaluator(), records) == evidence.intervals_of(
        TextClassificationEvaluator(), records
    )
    assert evidence.compare(AsListsEvaluator(), records, other) == evidence.compare(
        TextClassificationEvaluator(), records, other
    )


def test_versions_are_those_of_packages_that_a_run_computes_with() -> None:
    found = result.versions()
    assert {"finetune-kit", "torch", "transformers", "peft"} <= set(found)
    assert not {"matplotlib", "mkdocs", "mkdocs-material", "pytest", "ruff"} & set(found)


class PlainEvaluator(Evaluator):
    """An evaluator of a plugin, with two mistakes that options turn on."""

    primary = "f2"
    lost = 0

    def records(self, predictions: Any) -> list[dict[str, Any]]:
        records = [{"prediction": 0, "reference": example["label"]} for example in predictions.examples]
        return records[self.lost :]

    def scores(self, records: Any) -> dict[str, float]:
        return {"accuracy": sum(record["reference"] == "good" for record in records) / len(records)}


class ShortEvaluator(PlainEvaluator):
    lost = 3


def classify(tiny_bert: Path, folder: Path, evaluator: str) -> Result:
    rows = [{"text": f"{word} {n}", "label": word} for n in range(8) for word in ("good", "bad")]
    return finetune.train(
        task="text-classification",
        model=str(tiny_bert),
        dataset={"train": rows, "test": rows},
        strategy="full",
        evaluator={"name": f"test_evidence:{evaluator}"},
        training={"max_steps": 1, "save_strategy": "no"},
        general_text="none",
        output=str(folder / "run"),
    )


def test_a_missing_primary_score_is_noted(tiny_bert: Path, tmp_path: Path) -> None:
    found = classify(tiny_bert, tmp_path, "PlainEvaluator")
    assert found.scores["test"] == {"accuracy": 0.5}
    assert "PlainEvaluator gives no 'f2', the primary score, on test; its scores are: accuracy" in found.notes


def test_an_evaluator_that_loses_records_is_refused_by_name(tiny_bert: Path, tmp_path: Path) -> None:
    with pytest.raises(BadOptions, match=r"ShortEvaluator\.records\(\) gives \d+ records for \d+ examples\. Return"):
        classify(tiny_bert, tmp_path, "ShortEvaluator")


def test_questions_of_one_context_are_one_unit() -> None:
    records = [{"prediction": "a", "reference": ["a" if n < 20 else "b"], "null_odds": 0.0} for n in range(40)]
    alone = evidence.intervals_of(SquadEvaluator(always_answer=True), records)["exact"]
    together = evidence.intervals_of(SquadEvaluator(always_answer=True), records, [n // 10 for n in range(40)])["exact"]
    assert together.high - together.low > 1.5 * (alone.high - alone.low)


def test_a_class_that_a_resample_lacks_counts_nowhere_in_it() -> None:
    tallies = TextClassificationEvaluator().tallies(classified([("a", "a"), ("b", "b"), ("a", "b")]))
    sums = tallies.values[[0]].sum(axis=0)
    found = tallies.scores(sums)
    assert found["f1_macro"] == 1.0
    assert found["f1/b"] != found["f1/b"]


def test_a_score_outside_its_sums_is_caught_by_the_law() -> None:
    from finetune.testing.laws import _check_tallies

    class Wrong(TextClassificationEvaluator):
        def tallies(self, records: Any) -> Tallies:
            right = super().tallies(records)
            return Tallies(values=right.values, scores=lambda sums: {"accuracy": right.scores(sums)["accuracy"] / 2})

    records = classified([("a", "a"), ("b", "b"), ("a", "b")])
    with pytest.raises(AssertionError, match="give accuracy"):
        _check_tallies(Wrong(), records, Wrong().scores(records))


def test_a_first_sentence_ends_where_a_person_would_end_it() -> None:
    assert first_sentence("Old. New.") == "Old."
    assert first_sentence(" No end here") == "No end here"
    assert first_sentence("Is it? Yes.") == "Is it?"


def test_entities_are_counted_by_sentence() -> None:
    entity = {"entity": "PER", "first_word": 0, "last_word": 0}
    records = [
        {"prediction": [entity], "tags": ["B-PER", "O"], "reference": [entity], "reference_tags": ["B-PER", "O"]},
        {"prediction": [entity], "tags": ["B-PER", "O"], "reference": [], "reference_tags": ["O", "O"]},
    ]
    tallies = TokenClassificationEvaluator().tallies(records)
    assert tallies.values.tolist() == [[1, 1, 1, 2, 2], [0, 1, 0, 1, 2]]


def test_records_without_a_label_have_no_tallies() -> None:
    with pytest.raises(BadData, match="no example with a label"):
        TextClassificationEvaluator().tallies([])


@pytest.mark.parametrize(
    ("format_", "message"),
    [
        (
            2,
            r"has format 2, which an older version wrote; .* reads format 3\. Run the recipe again: `finetune",
        ),
        (4, r"has format 4; this version reads format 3\. Install the version of finetune-kit that wrote it"),
        (None, "has format None"),
    ],
)
def test_a_result_of_another_format_is_refused_with_what_to_do(
    tmp_path: Path, run: Result, format_: int | None, message: str
) -> None:
    content = json.loads((Path(run.directory) / "result.json").read_text(encoding="utf-8"))
    assert content["format"] == FORMAT
    (tmp_path / "result.json").write_text(json.dumps({**content, "format": format_}), encoding="utf-8")
    with pytest.raises(BadRecipe, match=message):
        Result.load(tmp_path)


def test_a_result_with_an_unknown_field_is_refused_by_its_name(tmp_path: Path, run: Result) -> None:
    content = json.loads((Path(run.directory) / "result.json").read_text(encoding="utf-8"))
    (tmp_path / "result.json").write_text(json.dumps({**content, "extra": 1}), encoding="utf-8")
    with pytest.raises(BadRecipe, match="unknown fields: extra"):
        Result.load(tmp_path)


@pytest.mark.parametrize("gone", ["low", "high"])
def test_a_slice_with_half_an_interval_is_refused_with_its_place(tmp_path: Path, run: Result, gone: str) -> None:
    content = json.loads((Path(run.directory) / "result.json").read_text(encoding="utf-8"))
    split, part = next(iter(content["slices"])), {"value": "a", "size": 9, "score": 0.5, "low": 0.1, "high": 0.9}
    del part[gone]
    content["slices"][split] = {"label": [part]}
    (tmp_path / "result.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(BadRecipe, match=rf"slices\.{split}\.label\.0\.{gone}: Field required"):
        Result.load(tmp_path)
