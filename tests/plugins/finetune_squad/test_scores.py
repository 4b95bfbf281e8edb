"""Scores and thresholds: by hand, and against a search through every threshold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.errors import BadOptions
from finetune.recipe.options import build
from finetune_squad import scores
from finetune_squad.evaluator import SquadEvaluator


@pytest.mark.parametrize(
    ("prediction", "references", "exact", "f1"),
    [
        ("the pier", ["Pier"], 1, 1.0),
        ("Pier.", ["the pier"], 1, 1.0),
        ("a an the", ["The"], 1, 1.0),  # all normalise to nothing, which the official script takes for "no answer"
        ("", [], 1, 1.0),
        ("pier", [], 0, 0.0),
        ("", ["pier"], 0, 0.0),
        ("old pier", ["pier"], 0, 2 / 3),  # precision 1/2, recall 1
        ("old stone pier", ["old pier of stone"], 0, 6 / 7),  # 3 common of 3 and of 4
        ("tar tar", ["tar"], 0, 2 / 3),  # a word counts as often as it stands
        ("quay", ["pier", "the quay"], 1, 1.0),  # the best of several
        ("£12.54", ["£1254"], 1, 1.0),  # ASCII punctuation goes, £ stays
        ("“pier”", ["pier"], 0, 0.0),  # typographic quotes are no ASCII punctuation
        ("theatre", ["atre"], 0, 0.0),  # an article is a word
        ("  two\n words ", ["two words"], 1, 1.0),
        ("ÉCOLE", ["école"], 1, 1.0),
    ],
)
def test_exact_match_and_f1_by_hand(prediction, references, exact, f1):
    assert scores.exact(prediction, references) == exact
    assert scores.f1(prediction, references) == pytest.approx(f1)


def record(prediction, reference, *, odds=0.0, best=None, name="q"):
    return {
        "id": name,
        "prediction": prediction,
        "reference": reference,
        "null_odds": odds,
        "best_answer": prediction if best is None else best,
        "no_candidate": False,
        "answer_tokens": 1,
        "nbest": [],
    }


def test_scores_are_those_of_the_official_script_by_hand():
    """Four questions: right, half right, rightly and wrongly left unanswered."""
    records = [
        record("pier", ["the pier"], odds=-2.0),
        record("old pier", ["pier"], odds=-1.0),
        record("", [], odds=3.0),
        record("", ["quay"], odds=1.0),
    ]
    found = SquadEvaluator().scores(records)
    assert found == {
        "exact": 50.0,
        "f1": pytest.approx(100 * (1 + 2 / 3 + 1 + 0) / 4),
        "total": 4,
        "HasAns_exact": pytest.approx(100 / 3),
        "HasAns_f1": pytest.approx(100 * (1 + 2 / 3) / 3),
        "HasAns_total": 3,
        "NoAns_exact": 100.0,
        "NoAns_f1": 100.0,
        "NoAns_total": 1,
        "best_exact": 50.0,
        "best_exact_thresh": -2.0,
        "best_f1": pytest.approx(100 * (1 + 1 + 2 / 3) / 4),
        "best_f1_thresh": -1.0,
    }


def test_perfect_predictions_score_100_and_empty_ones_what_is_unanswerable():
    records = [record("pier", ["pier"]), record("", []), record("tar", ["tar"])]
    assert SquadEvaluator().scores(records)["exact"] == SquadEvaluator().scores(records)["f1"] == 100.0
    silent = [{**each, "prediction": ""} for each in records]
    assert SquadEvaluator().scores(silent)["exact"] == pytest.approx(100 / 3)


def test_questions_that_all_have_answers_are_scored_as_squad_1():
    records = [record("pier", ["pier"]), record("tar", ["pier"])]
    evaluator = SquadEvaluator().fit(records)
    assert evaluator.always_answer is True
    assert evaluator.null_score_diff_threshold is None
    assert set(evaluator.scores(records)) == {"exact", "f1", "total", "HasAns_exact", "HasAns_f1", "HasAns_total"}
    assert set(evaluator.files(records)) == {"predictions.json", "nbest_predictions.json"}


def test_before_it_is_fitted_questions_that_all_have_answers_get_one(family):
    """A trainer scores while it trains, and chooses by it."""
    from finetune.interfaces import Predictions
    from finetune_squad.preprocessor import SquadPreprocessor

    context = "tar pier"
    example = {"question": "Who?", "context": context, "answers": {"text": ["tar"], "answer_start": [0]}}
    columns = dict(SquadPreprocessor().features({name: [value] for name, value in example.items()}, family("bert")))
    columns["example"] = columns.pop("overflow_to_sample_mapping")
    row = {name: values[0] for name, values in columns.items()}
    logits = np.zeros((1, len(row["input_ids"])), np.float32)
    logits[0, row["null_token"]] = 9  # surely no answer
    found = []
    for answers in (example["answers"], {"text": [], "answer_start": []}):
        predictions = Predictions(
            examples=[{**example, "answers": answers}],
            features=[row],
            outputs=(logits, logits),
            tokenizer=None,
            preprocessor=SquadPreprocessor(),
        )
        found += SquadEvaluator().records(predictions)
    assert [record["prediction"] == "" for record in found] == [False, True]


def test_a_fixed_threshold_is_left_alone():
    records = [record("pier", ["pier"], odds=5.0), record("tar", [], odds=9.0)]
    fitted = SquadEvaluator(null_score_diff_threshold=0.0).fit(records)
    assert fitted.null_score_diff_threshold == 0.0
    assert SquadEvaluator().fit(records).null_score_diff_threshold == 5.0
    assert SquadEvaluator(always_answer=True).fit(records).null_score_diff_threshold is None


cases = st.lists(
    st.tuples(st.integers(-4, 4).map(float), st.sampled_from([0.0, 0.5, 1.0]), st.booleans()), min_size=1, max_size=12
)


def total(cases, threshold):
    return sum((right if has else 0.0) if not odds > threshold else float(not has) for odds, right, has in cases)


@given(cases)
@settings(max_examples=300, deadline=None)
def test_no_threshold_is_better_than_the_tuned_one(cases):
    odds, right, has = ([case[i] for case in cases] for i in range(3))
    right = [r if h else 0.0 for r, h in zip(right, has, strict=True)]
    chosen, best = scores.threshold(odds, right, has)
    plain = list(zip(odds, right, has, strict=True))
    assert best == pytest.approx(100 * total(plain, chosen) / len(cases))
    for other in {-99.0, 99.0, *odds, *(o + 0.5 for o in odds)}:
        assert total(plain, other) <= total(plain, chosen) + 1e-9


def test_the_official_threshold_reads_predictions_as_they_were_written():
    odds, given, has = [-1.0, 0.0, 2.0], [1.0, 0.0, 0.0], [True, False, True]
    assert scores.official_threshold(odds, given, has, ["pier", "tar", ""]) == (-1.0, pytest.approx(200 / 3))
    assert scores.official_threshold([1.0], [0.0], [False], [""]) == (0.0, 100.0)


def test_files_have_the_official_form():
    entry = {"text": "pier", "start_logit": 1.0, "end_logit": 2.0, "probability": 1.0}
    records = [{**record("pier", ["pier"], odds=-3.0, name="q1"), "nbest": [entry]}]
    assert SquadEvaluator(always_answer=False).files(records) == {
        "predictions.json": {"q1": "pier"},
        "nbest_predictions.json": {"q1": [entry]},
        "null_odds.json": {"q1": -3.0},
    }


def test_options_that_cannot_be_are_refused():
    with pytest.raises(BadOptions, match="n_best_size=0 must be at least 1"):
        build(SquadEvaluator, {"n_best_size": 0}, where="evaluator")
    with pytest.raises(BadOptions, match="primary"):
        build(SquadEvaluator, {"primary": "em"}, where="evaluator")
