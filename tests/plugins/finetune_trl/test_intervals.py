"""The core gives each score of preferences and rewards one interval, by the tallies of its evaluator."""

from __future__ import annotations

from typing import Any

import pytest

from finetune.evaluation.evidence import intervals_of
from finetune_trl.preference.evaluator import PreferenceEvaluator, RewardEvaluator, preference_record
from finetune_trl.preference.kto_evaluator import KTOEvaluator
from finetune_trl.reinforcement.evaluator import RLEvaluator


def pairs(margins: list[float]) -> list[dict[str, Any]]:
    return [{**preference_record(margin, 0.0), "log_ratio": 0.1, "tokens": 2} for margin in margins]


def thumbs(rewards: list[float]) -> list[dict[str, Any]]:
    records = []
    for number, reward in enumerate(rewards):
        is_desirable = number % 2 == 0
        record = {"prediction": reward > 0 if reward else None, "reference": is_desirable, "reward": reward}
        records.append({**record, "log_ratio": reward, "tokens": 2})
    return records


def answers(rewards: list[Any]) -> list[dict[str, Any]]:
    return [{"prediction": "a", "reference": None, "reward": reward, "length": 3} for reward in rewards]


MIXED: list[tuple[Any, Any, str]] = [
    (PreferenceEvaluator(), pairs([1.0, 2.0, -1.0, 0.0, 3.0, 1.5]), "accuracy"),
    (RewardEvaluator(), pairs([1.0, 2.0, -1.0, 0.0, 3.0, 1.5]), "accuracy"),
    (PreferenceEvaluator(), pairs([1.0, 2.0, -1.0, 0.0, 3.0, 1.5]), "margin"),
    (KTOEvaluator(), thumbs([1.0, -2.0, -1.0, 0.5, 3.0, 0.0]), "accuracy"),
    (KTOEvaluator(), thumbs([1.0, -2.0, -1.0, 0.5, 3.0, 0.0]), "margin"),
    (KTOEvaluator(primary="auc"), thumbs([1.0, -2.0, -1.0, 0.5, 3.0, 0.0]), "auc"),
    (RLEvaluator(), answers([1.0, 2.0, None, 0.0, 3.0, 1.5]), "reward"),
]


@pytest.mark.parametrize(("evaluator", "records", "score"), MIXED)
def test_a_score_lies_in_its_interval_and_is_not_given_another(evaluator: Any, records: Any, score: str) -> None:
    scores, interval = evaluator.scores(records), intervals_of(evaluator, records)[score]
    assert interval.low < scores[score] < interval.high
    assert not [name for name in scores if name.endswith(("_low", "_high"))]


def test_the_tallies_of_rewards_give_the_scores() -> None:
    records = answers([1.0, 2.0, None, 0.0, 3.0, 1.5])
    tallies = RLEvaluator().tallies(records)
    given = {name: float(value) for name, value in tallies.scores(tallies.values.sum(axis=0)).items()}
    scores = RLEvaluator().scores(records)
    assert given == pytest.approx({name: scores[name] for name in given})


def test_scores_of_reward_models_are_those_worked_out_by_hand() -> None:
    scores = RewardEvaluator().scores(pairs([1.0, 2.0, -1.0, 0.0, 3.0, 1.5]))
    wanted = {"accuracy": 4.5 / 6, "margin": 6.5 / 6, "chosen_reward": 6.5 / 6, "rejected_reward": 0.0}
    assert scores == pytest.approx(wanted)


def test_scores_of_thumbs_are_those_worked_out_by_hand() -> None:
    scores = KTOEvaluator().scores(thumbs([1.0, -2.0, -1.0, 0.5, 3.0, 0.0]))
    rewards = {"desirable_reward": 1.0, "undesirable_reward": -0.5, "margin": 1.5}
    # auc: of the nine pairs of a desirable and an undesirable answer, -1 loses to 0.5 and to 0
    assert scores == pytest.approx({"accuracy": 3.5 / 6, "auc": 7 / 9, "kl": 1.5 / 12, **rewards})


@pytest.mark.parametrize("evaluator", [PreferenceEvaluator(), RewardEvaluator()])
def test_pairs_that_are_all_alike_have_an_interval_of_bounded_scores_alone(evaluator: Any) -> None:
    bounds = intervals_of(evaluator, pairs([1.0] * 100))
    assert bounds["accuracy"].low == pytest.approx(0.964, abs=1e-3) and bounds["accuracy"].high == 1.0
    assert "margin" not in bounds, "nothing says how far from 1 a margin can be"
    one = intervals_of(evaluator, pairs([1.0]))
    assert one["accuracy"].low == pytest.approx(0.025) and one["accuracy"].high == 1.0


def test_pairs_of_one_prompt_are_one_unit() -> None:
    records = pairs([1.0, -1.0, 2.0, -2.0])
    alone = intervals_of(PreferenceEvaluator(), records, [0, 0, 0, 0])["accuracy"]
    assert (alone.low, alone.high) == pytest.approx((0.5 * 0.025, 1 - 0.5 * 0.025))


def test_thumbs_that_are_all_alike_have_an_interval_of_bounded_scores_alone() -> None:
    bounds = intervals_of(KTOEvaluator(), thumbs([1.0, -1.0] * 50))
    assert bounds["accuracy"].low == pytest.approx(0.964, abs=1e-3) and "margin" not in bounds
    assert intervals_of(KTOEvaluator(), thumbs([1.0]))["accuracy"].low == pytest.approx(0.025)


@pytest.mark.parametrize("rewards", [[1.0], [1.0] * 20, [None, 1.0, 1.0]])
def test_a_reward_without_a_difference_has_no_interval(rewards: list[Any]) -> None:
    assert "reward" not in intervals_of(RLEvaluator(), answers(rewards))
