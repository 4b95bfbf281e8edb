"""What `max_length` and the limit of generation cut off is counted, with the value that is enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from datasets import Dataset

from finetune import limits
from finetune.interfaces import Predictions
from finetune.testing.tokenizers import tokenizer
from finetune_trl.preference.dpo import DPOPreprocessor
from finetune_trl.preference.evaluator import PreferenceEvaluator, RewardEvaluator
from finetune_trl.preference.kto import KTOPreprocessor
from finetune_trl.preference.kto_evaluator import KTOEvaluator
from finetune_trl.preference.reward import RewardPreprocessor
from finetune_trl.sft.evaluator import SFTEvaluator
from finetune_trl.sft.preprocessor import SFTPreprocessor

SHORT, LONG = " net", " net and tar" * 20
PAIRS = [{"prompt": "Who?", "chosen": SHORT, "rejected": LONG}, {"prompt": "Who?", "chosen": SHORT, "rejected": " a"}]
CASES: dict[str, tuple[Any, Any, list[dict[str, Any]]]] = {
    "sft": (SFTPreprocessor, SFTEvaluator(), [{"prompt": "Who?", "completion": each} for each in (SHORT, LONG)]),
    "silent": (SFTPreprocessor, SFTEvaluator(generate=False), [{"prompt": "Who?", "completion": LONG}] * 2),
    "dpo": (DPOPreprocessor, PreferenceEvaluator(), PAIRS),
    "reward": (RewardPreprocessor, RewardEvaluator(), PAIRS),
    "kto": (
        KTOPreprocessor,
        KTOEvaluator(),
        [{"prompt": "Who?", "completion": each, "label": each == LONG} for each in (SHORT, LONG)],
    ),
}


def found(task: str, generation: Mapping[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    kind, evaluator, rows = CASES[task]
    preprocessor = kind(**options).fit(rows)
    made = tokenizer("gpt2")
    features = preprocessor.features({name: [row[name] for row in rows] for name in rows[0]}, made)
    given = Predictions(
        examples=rows, features=Dataset.from_dict(features), outputs=None, tokenizer=made, preprocessor=preprocessor
    )
    return {limit.option: limits.count(limit) for limit in evaluator.limits(given, generation=generation or {})}


@pytest.mark.parametrize("task", ["sft", "dpo", "reward", "kto"])
def test_the_named_length_is_the_least_with_which_no_row_is_cut(task: str) -> None:
    cut = found(task, max_length=16)["preprocessor.max_length"]
    assert (cut["answers"], cut["too_long"]) == (2, 1)
    enough = cut["enough"]
    assert found(task, max_length=enough)["preprocessor.max_length"]["too_long"] == 0
    assert found(task, max_length=enough - 1)["preprocessor.max_length"]["too_long"] == 1
    (sentence,) = limits.sentences({"train": [cut]})
    assert sentence == (
        "On train, 1 of 2 rows (50.0%) is longer than preprocessor.max_length, which is 16, so training does not read "
        f"its end. Set it to {enough} for all rows."
    )
    assert limits.counts([cut]) == {}


@pytest.mark.parametrize("max_length", [16, 1024])
def test_answers_longer_than_generation_allows_are_counted_whole(max_length: int) -> None:
    answers = found("sft", max_length=max_length)["generation.max_new_tokens"]
    assert (answers["value"], answers["answers"], answers["too_long"]) == (64, 2, 0 if answers["enough"] <= 64 else 1)
    enough = answers["enough"]
    assert enough > 20
    for value, too_long in ((enough, 0), (enough - 1, 1)):
        given = {"max_new_tokens": value}
        assert found("sft", given, max_length=max_length)["generation.max_new_tokens"]["too_long"] == too_long


def test_nothing_is_said_of_generation_where_nothing_is_generated() -> None:
    assert list(found("silent", max_length=16)) == ["preprocessor.max_length"]
