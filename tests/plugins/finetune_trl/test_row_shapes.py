"""Rows as well-known libraries write them: each works, or is refused with its place and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from finetune import data
from finetune.errors import BadData
from finetune_trl.preference.dpo import DPOPreprocessor
from finetune_trl.preference.kto import KTOPreprocessor
from finetune_trl.preference.reward import RewardPreprocessor
from finetune_trl.sft.preprocessor import SFTPreprocessor

ASK = {"role": "user", "content": "Is the tide high?"}
SAY = {"role": "assistant", "content": "It is."}
NAY = {"role": "assistant", "content": "No."}
HUMAN, GPT = {"from": "human", "value": "Is the tide high?"}, {"from": "gpt", "value": "It is."}
CALL = {"id": "c1", "type": "function", "function": {"name": "tide", "arguments": '{"port": "Elm"}'}}
FUNCTION = {"name": "tide", "parameters": {"type": "object", "properties": {}}}

Shape = tuple[Any, dict[str, Any], str | None, str]
"""The preprocessor, a row, the code of the one finding (None for none), and words of its remedy."""
SHAPES: dict[str, Shape] = {
    "Alpaca": (
        SFTPreprocessor(converter="alpaca"),
        {"instruction": "Translate.", "input": "the pier", "output": "la jetée"}, None, "",
    ),
    "Alpaca with history": (
        SFTPreprocessor(converter="alpaca"),
        {"instruction": "And at sea?", "input": "", "output": "Fog.", "system": "Be brief.",
         "history": [["Who?", "Inès."]]}, None, "",
    ),
    "Alpaca without converter": (
        SFTPreprocessor(), {"instruction": "Who?", "output": "Inès."}, "no-form", "preprocessor.converter: alpaca",
    ),
    "ShareGPT": (SFTPreprocessor(converter="sharegpt"), {"conversations": [HUMAN, GPT]}, None, ""),
    "ShareGPT without converter": (
        SFTPreprocessor(), {"conversations": [HUMAN, GPT]}, "no-form", "preprocessor.converter: sharegpt",
    ),
    "ShareGPT's keys in messages": (
        SFTPreprocessor(), {"messages": [{**HUMAN}, {**GPT}]}, "no-form", "End the messages",
    ),
    "OpenAI, calls with JSON text": (
        SFTPreprocessor(),
        {"messages": [ASK, {"role": "assistant", "content": None, "tool_calls": [CALL]},
                      {"role": "tool", "tool_call_id": "c1", "content": "high"}, SAY],
         "tools": [{"type": "function", "function": FUNCTION}], "parallel_tool_calls": False}, None, "",
    ),
    "OpenAI, functions": (
        SFTPreprocessor(), {"messages": [ASK, SAY], "functions": [FUNCTION]}, "unread-columns", "tools",
    ),
    "OpenAI, function_call": (
        SFTPreprocessor(),
        {"messages": [ASK, {"role": "assistant", "content": None, "function_call": FUNCTION}]},
        "content-missing", "tool_calls",
    ),
    "OpenAI, developer": (
        SFTPreprocessor(), {"messages": [{"role": "developer", "content": "Be brief."}, ASK, SAY]},
        "unknown-role", "these names",
    ),
    "prompt and completion of messages": (SFTPreprocessor(), {"prompt": [ASK], "completion": [SAY]}, None, ""),
    "ms-swift, query and response": (
        SFTPreprocessor(), {"query": "Who?", "response": "Inès."}, "no-form", "{query: prompt, response: completion}",
    ),
    "Axolotl, segments": (
        SFTPreprocessor(), {"segments": [{"label": True, "text": "Aye"}]}, "no-form", "dataset.columns",
    ),
    "messages as JSON text": (SFTPreprocessor(), {"messages": '[{"role": "user"}]'}, "no-form", "End the messages"),
    "KTO, text as label": (KTOPreprocessor(), {"prompt": "Who?", "completion": " Inès.", "label": "true"}, None, ""),
    "KTO, number as label": (
        KTOPreprocessor(), {"prompt": "Who?", "completion": " Inès.", "label": 1}, "label-not-boolean", "Write true",
    ),
    "whole dialogues": (
        RewardPreprocessor(), {"chosen": [ASK, SAY], "rejected": [ASK, NAY]}, None, "",
    ),
    "whole dialogues with a prompt": (
        DPOPreprocessor(), {"prompt": "Is the tide high?", "chosen": [ASK, SAY], "rejected": [ASK, NAY]},
        None, "",
    ),
    "ratings of both answers": (
        DPOPreprocessor(),
        {"prompt": "Who?", "chosen": " Inès.", "rejected": " I.", "chosen_rating": 4.5, "rejected_rating": 1.0},
        None, "",
    ),
    "LLaMA-Factory, preferences": (
        DPOPreprocessor(converter="sharegpt"),
        {"conversations": [HUMAN], "chosen": GPT, "rejected": {"from": "gpt", "value": "No."}}, None, "",
    ),
    "HH-RLHF": (
        RewardPreprocessor(),
        {"chosen": "\n\nHuman: Who?\n\nAssistant: Inès.", "rejected": "\n\nHuman: Who?\n\nAssistant: I."},
        None, "",
    ),
    "Stack Exchange, response_j": (
        DPOPreprocessor(), {"question": "Who?", "response_j": "Inès.", "response_k": "I."},
        "missing-column", "Rename it",
    ),
}  # fmt: skip


def test_a_prompt_that_both_dialogues_repeat_comes_once() -> None:
    _, row, *_ = SHAPES["whole dialogues with a prompt"]
    fitted = DPOPreprocessor().fit([row])
    pair = fitted.read(row)
    assert (fitted.conversational, pair.prompt, pair.chosen, pair.rejected) == (True, [ASK], [SAY], [NAY])
    found = DPOPreprocessor().fit([row]).check([{**row, "prompt": "Is it deep?"}])
    assert {finding.code for finding in found} == {"completion-not-assistant"}


@pytest.mark.parametrize("name", list(SHAPES))
def test_a_row_of_another_library_works_or_is_refused_with_a_remedy(name: str) -> None:
    preprocessor, row, code, remedy = SHAPES[name]
    try:
        findings = data.from_rows({"train": [row]}, preprocessor).findings
    except BadData as error:
        findings = error.findings
    codes = {finding.code for finding in findings} - {"missing-nested-key", "one-kind-of-label"}
    if code is None:
        assert codes == set()
        return
    found = next(finding for finding in findings if finding.code == code)
    assert remedy in found.fix
    assert found.split == "train"
