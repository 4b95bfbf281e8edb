"""The scores of a task as a metric of evaluate: the same numbers, no network, no file."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import evaluate
import pytest

from finetune.errors import BadOptions, FinetuneError, Incompatible
from finetune.plugins import discover, resolve
from finetune_evaluate.scores import ScoresOf, entities


def test_answers_are_scored_as_the_official_script_scores_them() -> None:
    # By hand: articles and case do not count; "old quay" and "quay" share one word: precision 1/2, recall 1.
    found = ScoresOf("question-answering").compute(
        predictions=["The quay", "old quay", ""], references=[["quay", "pier"], ["quay"], []]
    )
    assert found["exact"] == pytest.approx(200 / 3)
    assert found["f1"] == pytest.approx((100 + 200 / 3 + 100) / 3)
    assert found["NoAns_exact"] == 100
    assert not [name for name in found if name.startswith("best_")]


def test_squads_own_form_gives_what_texts_give() -> None:
    metric = ScoresOf("question-answering")
    nested = metric.compute(
        predictions=[{"id": "a", "prediction_text": "old quay"}],
        references=[{"id": "a", "answers": {"text": ["quay"], "answer_start": [4]}}],
    )
    assert nested == metric.compute(predictions=["old quay"], references=[["quay"]])


@pytest.mark.parametrize(("a", "b"), [("sea", "land"), (0, 1)])
def test_labels_may_be_texts_or_numbers(a: Any, b: Any) -> None:
    found = ScoresOf("text-classification").compute(predictions=[a, b, b], references=[a, a, b])
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found[f"precision/{b}"] == 0.5
    assert found[f"recall/{a}"] == 0.5
    assert "roc_auc" not in found  # the probabilities are unknown


def test_several_labels_are_scored_by_label() -> None:
    found = ScoresOf("multi-label-classification").compute(
        predictions=[["sea", "land"], ["sea"]], references=[["sea"], ["sea"]]
    )
    assert found["subset_accuracy"] == 0.5
    assert found["precision/land"] == 0
    assert found["f1_micro"] == pytest.approx(2 * 2 / (3 + 2))


def test_tags_are_scored_by_entity() -> None:
    found = ScoresOf("token-classification").compute(
        predictions=[["B-SHIP", "I-SHIP", "O"], ["B-BAY"]], references=[["B-SHIP", "O", "O"], ["B-BAY"]]
    )
    assert found["f1"] == 0.5  # one of two found, one of two right
    assert found["accuracy"] == 0.75
    assert found["f1/BAY"] == 1


def test_an_entity_ends_with_its_type_or_its_words() -> None:
    found = [tuple(each.values()) for each in entities(["I-A", "I-B", "O", "I-B", "B-B"])]
    assert found == [("A", 0, 0), ("B", 1, 1), ("B", 3, 3), ("B", 4, 4)]


def test_numbers_are_scored_as_numbers() -> None:
    found = ScoresOf("text-regression").compute(predictions=[1, 2.5, 3], references=[1, 2, 3])
    assert found["mae"] == pytest.approx(0.5 / 3)


def test_a_perfect_text_has_every_score_that_a_text_can_have() -> None:
    text = "The ferry is late because of the fog."
    assert ScoresOf("summarization").compute(predictions=[text], references=[text])["rougeL"] == 1
    both = evaluate.combine([ScoresOf("summarization"), ScoresOf("translation")])
    found = both.compute(predictions=[text], references=[[text, "Fog."]])
    assert found["rouge1"] == 1
    assert found["bleu"] == pytest.approx(100)
    assert "length" not in found


def test_scores_with_the_same_name_get_the_name_of_their_task() -> None:
    both = evaluate.combine([ScoresOf("question-answering"), ScoresOf("token-classification")])
    assert both.evaluation_module_names == ["question-answering", "token-classification"]


def test_it_adds_up_pickles_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    metric = pickle.loads(pickle.dumps(ScoresOf("question-answering")))
    metric.add(prediction="quay", reference=["quay"])
    metric.add_batch(predictions=["pier"], references=[["quay"]])
    assert metric.compute()["exact"] == 50
    assert list(tmp_path.iterdir()) == []


def test_the_numbers_are_the_evaluators_own() -> None:
    evaluator = resolve(discover().find("tasks", "question-answering").evaluator)()
    records = [{"prediction": "old quay", "reference": ["quay"]}, {"prediction": "x", "reference": ["y"]}]
    metric = ScoresOf("question-answering")
    found = metric.compute(
        predictions=[record["prediction"] for record in records], references=[record["reference"] for record in records]
    )
    assert found == evaluator.scores(records)


def test_options_are_the_evaluators() -> None:
    texts = {"predictions": ["Туман."], "references": ["Туман."]}
    metric = ScoresOf("summarization", words="unicode", use_stemmer=False)
    assert metric.compute(**texts)["rouge1"] == 1
    with pytest.raises(BadOptions, match="wrods"):
        ScoresOf("summarization", wrods="unicode")


def test_scores_that_need_more_than_predictions_are_refused_by_name() -> None:
    with pytest.raises(Incompatible, match=r"'sft' need more than predictions .* they read 'nll'"):
        ScoresOf("sft").compute(predictions=["a"], references=["a"])
    with pytest.raises(FinetuneError, match="Did you mean 'question-answering'"):
        ScoresOf("question-answerin")
