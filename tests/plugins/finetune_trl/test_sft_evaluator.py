"""Scores are summed by token, and what was written is compared as a person would."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from finetune.errors import BadData, BadOptions
from finetune.interfaces import Predictions
from finetune.recipe.options import build
from finetune.testing import check_evaluator
from finetune.testing.tokenizers import tokenizer
from finetune_trl.sft.evaluator import SFTEvaluator
from finetune_trl.sft.preprocessor import SFTPreprocessor

WORDS = tokenizer("gpt2")
ROWS = [{"prompt": "Who?", "completion": " Old Tomás.\n"}, {"prompt": "Who?", "completion": " Nobody."}]


def predicted(written: list[str], numbers: list[list[float]], rows: Any = ROWS) -> Predictions:
    """Return predictions of such texts and numbers."""
    ids = [WORDS(text).input_ids for text in written]
    width = max([1, *map(len, ids)])
    padded = np.array([[*row, *[-100] * (width - len(row))] for row in ids])
    return Predictions(
        examples=rows,
        features=[{"labels": [-100, 5, 7]} for _ in rows],
        outputs=(padded, np.array(numbers, dtype=np.float32)),
        tokenizer=WORDS,
        preprocessor=SFTPreprocessor(form="prompt-completion", conversational=False),
    )


def test_scores_are_those_of_a_table_worked_out_by_hand() -> None:
    # 3 tokens of probability 1/2 each, all likeliest; 1 token of probability 1/8, not the likeliest
    given = predicted(["  Old Tomás.", " nobody."], [[3 * math.log(2), 3, 3, 1], [math.log(8), 1, 0, 0]])
    evaluator = SFTEvaluator()
    records = evaluator.records(given)
    assert [record["prediction"] for record in records] == ["Old Tomás.", "nobody."]
    scores = evaluator.scores(records)
    # (1/2)^3 · 1/8 = 2^-6, over 4 tokens: 2^1.5. The mean over rows would be another.
    assert scores["perplexity"] == pytest.approx(2**1.5, rel=1e-6)
    assert (scores["token_accuracy"], scores["exact_match"], scores["stopped"]) == (0.75, 0.5, 0.5)


def test_it_obeys_the_laws() -> None:
    check_evaluator(SFTEvaluator(), predictions=predicted(["I", ""], [[2.0, 3, 1, 1], [4.0, 2, 0, 0]]))
    check_evaluator(
        SFTEvaluator(primary="exact_match"), predictions=predicted(["I", ""], [[2.0, 3, 1, 1], [4, 2, 0, 0]])
    )


def test_lower_is_better_for_perplexity_alone() -> None:
    assert not SFTEvaluator().greater_is_better
    assert SFTEvaluator(primary="exact_match").greater_is_better
    assert SFTEvaluator(primary="token_accuracy").greater_is_better


def test_without_writing_there_is_perplexity_and_no_answer() -> None:
    evaluator = SFTEvaluator(generate=False)
    records = evaluator.records(predicted(["", ""], [[1.0, 3, 3, 0], [1.0, 3, 3, 0]]))
    assert [record["prediction"] for record in records] == [None, None]
    assert set(evaluator.scores(records)) == {"perplexity", "token_accuracy"}
    with pytest.raises(BadOptions, match="primary is exact_match, which needs generate: true"):
        build(SFTEvaluator, {"primary": "exact_match", "generate": False}, where="evaluator")


def test_a_prompt_without_an_answer_has_a_prediction_and_no_reference() -> None:
    records = SFTEvaluator(generate=False).records(predicted([" I."], [[0, 0, 0, 1]], rows=[{"prompt": "Who?"}]))
    assert records == [{"prediction": "I.", "stopped": True}]


def test_a_model_gone_astray_has_a_finite_perplexity_and_no_tokens_have_none() -> None:
    evaluator = SFTEvaluator()
    lost = evaluator.records(predicted(["", ""], [[1e6, 3, 0, 0], [1e6, 3, 0, 0]]))
    assert math.isfinite(evaluator.scores(lost)["perplexity"])
    with pytest.raises(BadData, match="no token of these rows is trained"):
        evaluator.scores(evaluator.records(predicted(["", ""], [[0, 0, 0, 0], [0, 0, 0, 0]])))


def test_a_perplexity_that_is_no_number_is_reported_and_the_data_are_not_blamed() -> None:
    for evaluator, names in (
        (SFTEvaluator(), {"perplexity", "token_accuracy", "exact_match", "stopped"}),
        (SFTEvaluator(generate=False), {"perplexity", "token_accuracy"}),
    ):
        scores = evaluator.scores(evaluator.records(predicted(["I", ""], [[math.nan, 3, 0, 0], [1.0, 3, 0, 0]])))
        assert set(scores) == names and math.isnan(scores["perplexity"]) and scores["token_accuracy"] == 0.0


def test_texts_without_prompts_have_no_primary_score_of_answers() -> None:
    record = {"prediction": None, "reference": "I.", "nll": 1.0, "tokens": 2, "hits": 1}
    with pytest.raises(BadOptions, match="the data are texts without prompts"):
        SFTEvaluator(primary="exact_match").scores([record])


def test_a_call_of_a_tool_is_compared_as_the_template_writes_it() -> None:
    template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% for call in m.tool_calls or [] %}"
        "[{{ call.function.name }}]{% endfor %}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    call = {"type": "function", "function": {"name": "tide", "arguments": {}}}
    asked = {"role": "user", "content": "High?"}
    row = {"messages": [asked, {"role": "assistant", "content": "", "tool_calls": [call]}]}
    preprocessor = SFTPreprocessor(chat_template=template).fit([row])
    features = preprocessor.features({"messages": [row["messages"]]}, WORDS)
    given = Predictions(
        examples=[row],
        features=[{name: values[0] for name, values in features.items()}],
        outputs=(np.array([WORDS("[tide]").input_ids]), np.array([[1.0, 3, 3, 1]], dtype=np.float32)),
        tokenizer=WORDS,
        preprocessor=preprocessor,
    )
    (record,) = SFTEvaluator().records(given)
    assert (record["reference"], record["prediction"]) == ("[tide]", "[tide]")
    assert SFTEvaluator().scores([record])["exact_match"] == 1
