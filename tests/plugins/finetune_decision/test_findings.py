"""Bad rows are named by place, with what is wrong and what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers.decision import DecisionConfig

import finetune
from finetune.errors import BadData, BadRecipe
from finetune.testing import check_finding
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune_decision.checks import check_prompts, check_rows
from finetune_decision.preprocessor import DecisionPreprocessor
from finetune_decision.prompts import Prompts
from finetune_decision.questions import position_of, question_of

CHOICE = {
    "state": "The Tern lies at Salt Quay.",
    "type": "choice",
    "instructions": "Where does she lie?",
    "criteria": '{"Salt Quay": null, "Rope Quay": "Beside the ropewalk"}',
    "answer": "Salt Quay",
}
NOUL = {**CHOICE, "type": "noul", "instructions": "Is she at sea?", "criteria": None, "answer": "false"}
SCORE = {**CHOICE, "type": "score", "criteria": '["can wait", "this week", "today"]', "answer": "2"}


def codes(*rows: dict[str, Any]) -> list[str]:
    found = list(check_rows(rows, DecisionConfig()))
    for finding in found:
        check_finding(finding)
    return [finding.code for finding in found]


def test_good_rows_of_all_types_have_no_finding() -> None:
    assert codes(CHOICE, NOUL, SCORE, {**SCORE, "state": "Fog.", "answer": "today"}) == []


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({**CHOICE, "state": " "}, "state-empty"),
        ({**CHOICE, "state": None}, "state-missing"),
        ({**CHOICE, "instructions": " "}, "instructions-empty"),
        ({**CHOICE, "type": "bool"}, "question-type-unknown"),
        ({**CHOICE, "type": None}, "question-type-unknown"),
        ({**CHOICE, "criteria": None}, "question-not-valid"),
        ({**CHOICE, "criteria": "salt, rope"}, "question-not-valid"),
        ({**CHOICE, "criteria": '{"Salt Quay": null, "Salt Quay": "Here"}'}, "question-not-valid"),
        ({**CHOICE, "criteria": ["Salt Quay", "Salt Quay"]}, "question-not-valid"),
        ({**CHOICE, "criteria": {"Salt Quay": None, "Rope Quay": None}}, "question-not-valid"),
        ({**CHOICE, "criteria": json.dumps([str(number) for number in range(27)])}, "question-not-valid"),
        ({**NOUL, "criteria": '{"yes": "At sea"}'}, "question-not-valid"),
        ({**SCORE, "criteria": '{"low": 1}'}, "question-not-valid"),
        ({**CHOICE, "answer": "Tar Quay"}, "answer-not-an-option"),
        ({**CHOICE, "answer": None}, "answer-not-an-option"),
        ({**NOUL, "answer": "yes"}, "answer-not-an-option"),
        ({**SCORE, "answer": "3"}, "answer-not-an-option"),
        ({**SCORE, "criteria": '["1", "2", "3"]', "answer": "1"}, "answer-ambiguous"),
    ],
)
def test_what_is_wrong_with_a_row_has_a_code(row: dict[str, Any], code: str) -> None:
    assert codes(NOUL, row) == [code]


def test_answers_are_not_asked_of_rows_to_predict() -> None:
    assert codes({**CHOICE, "answer": None}) == []


def test_a_question_that_repeats_is_a_warning_and_so_is_another_answer() -> None:
    assert codes(CHOICE, CHOICE) == ["duplicate-rows"]
    assert codes(CHOICE, {**CHOICE, "answer": "Rope Quay"}) == ["label-conflict"]


def test_answers_are_read_as_people_write_them() -> None:
    config = DecisionConfig()
    choice, noul, score = (question_of(row, config) for row in (CHOICE, NOUL, SCORE))
    assert [position_of(answer, choice) for answer in ("Salt Quay", " Rope Quay ", "salt quay")] == [0, 1, None]
    assert [position_of(answer, noul) for answer in (True, False, "TRUE", "false", 1)] == [0, 1, 0, 1, None]
    assert [position_of(answer, score) for answer in (0, "1", 2.0, "today", "now", -1)] == [0, 1, 2, 2, None, None]


def test_labels_must_be_single_tokens_that_differ() -> None:
    bert = tokenizer("bert", ["A B C yes no salt"])
    prompts = Prompts(bert, {"noul": ["yes", "never"], "choice": ["A", "a"]})
    split, same, fine = (list(check_prompts([row], prompts, max_length=999)) for row in (NOUL, CHOICE, SCORE))
    assert [finding.code for finding in split] == ["label-not-a-token"] and "never" in split[0].message
    assert [finding.code for finding in same] == ["labels-share-a-token"] and "A, a" in same[0].message
    assert fine == []
    check_finding(split[0])
    check_finding(same[0])


def test_a_prompt_that_is_too_long_is_named_and_not_truncated(words: Any) -> None:
    prompts = Prompts(words, {})
    length = len(prompts.tokens(CHOICE["state"], {"type": "noul", "instructions": NOUL["instructions"]}))
    assert list(check_prompts([NOUL], prompts, max_length=length)) == []
    (finding,) = check_prompts([NOUL], prompts, max_length=length - 1)
    assert finding.code == "prompt-too-long" and f"{length:,} tokens" in finding.message


def test_a_chat_template_that_refuses_the_prompt_is_named(words: Any) -> None:
    prompts = Prompts(words, {})
    prompts.config.chat_template = None
    prompts.tokenizer.chat_template = "{{ raise_exception('No user, no chat') }}"
    (finding,) = check_prompts([NOUL], prompts, max_length=999)
    assert finding.code == "prompt-not-rendered" and "No user, no chat" in finding.message
    check_finding(finding)


def test_a_finding_names_the_file_and_the_line(base: Path, tmp_path: Path) -> None:
    file = tmp_path / "letters.jsonl"
    rows = [CHOICE, {**NOUL, "answer": "perhaps"}, {**SCORE, "state": "Fog. " * 400}, SCORE]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(BadData) as raised:
        finetune.train(
            task="decision", model=base, dataset={"path": str(file)}, strategy="full", output=tmp_path / "run",
            preprocessor={"max_length": 256}, general_text="none",
        )  # fmt: skip
    places = {finding.code: (finding.file, finding.line, finding.column) for finding in raised.value.findings}
    assert places["answer-not-an-option"] == (str(file), 2, "answer")
    assert places["prompt-too-long"] == (str(file), 3, "state")


def test_bad_rows_can_be_dropped(base: Path, rows: Any, tmp_path: Path) -> None:
    file = tmp_path / "letters.jsonl"
    bad = {**NOUL, "answer": "perhaps"}
    file.write_text("".join(json.dumps(row) + "\n" for row in [bad, *rows["train"][:18]]))
    result = finetune.train(
        task="decision", model=base, strategy="full", output=tmp_path / "run", general_text="none",
        dataset={"path": str(file), "on_bad": "drop"}, training={"max_steps": 1, "save_strategy": "no"},
        score_base_model=False,
    )  # fmt: skip
    assert result.findings["answer-not-an-option"] == 1
    (dropped,) = map(json.loads, (tmp_path / "run" / "dropped.jsonl").read_text().splitlines())
    assert dropped["example"]["answer"] == "perhaps"


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="'bool' is no question type"):
        DecisionPreprocessor(labels={"bool": ("Y", "N")})
    with pytest.raises(ValueError, match="max_length=0 must be at least 1"):
        DecisionPreprocessor(max_length=0)


def test_a_model_with_an_encoder_is_refused(rows: Any, tmp_path: Path) -> None:
    base = tiny_model("t5", tokenizer("gpt2"), tmp_path / "base", model_class="AutoModelForSeq2SeqLM")
    with pytest.raises(BadRecipe):
        finetune.train(
            task="decision", model=base, strategy="full", output=tmp_path / "run", general_text="none",
            dataset={"train": rows["train"][:8]}, preprocessor={"labels": {"noul": ["Y", "N"]}},
        )  # fmt: skip
