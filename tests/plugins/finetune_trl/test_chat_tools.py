"""Calls of tools and their results are trained as the template writes them; wrong ones are named."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.testing import check_preprocessor
from finetune.testing.tokenizers import tokenizer
from finetune_trl.sft.preprocessor import SFTPreprocessor
from tests.plugins.finetune_trl.test_sft import TASK, runs

WORDS = tokenizer("gpt2")
WORDS.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
WORDS.add_tokens(["<tool_call>", "</tool_call>"])
TEMPLATE = (
    "{% if tools %}{{ 'tools: ' + (tools | tojson) + '\\n' }}{% endif %}{% for m in messages %}"
    "{{ '<|im_start|>' + m.role + '\\n' + m.content }}{% for c in m.tool_calls or [] %}"
    "{{ '<tool_call>' + c.function.name + ' ' + (c.function.arguments | tojson) + '</tool_call>' }}{% endfor %}"
    "{{ '<|im_end|>\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TOOLS = [{"type": "function", "function": {"name": "tide", "parameters": {"type": "object"}}}]


def call(arguments: Any, name: str = "tide") -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


def dialogue(arguments: Any, **more: Any) -> list[dict[str, Any]]:
    return [
        {"role": "user", "content": "Tide?"},
        {"role": "assistant", "tool_calls": [call(arguments)], **more},
        {"role": "tool", "name": "tide", "content": "4.5 m"},
        {"role": "assistant", "content": "High."},
    ]


def features(row: dict[str, Any], **options: Any) -> dict[str, list[Any]]:
    fitted = SFTPreprocessor(chat_template=TEMPLATE, max_length=10_000, **options).fit([row])
    return dict(fitted.features({name: [value] for name, value in row.items()}, WORDS))


JSON = st.booleans() | st.integers(-9, 9) | st.text("ab é", max_size=4) | st.lists(st.integers(0, 9), max_size=3)


@settings(max_examples=15)
@given(
    arguments=st.dictionaries(st.sampled_from("abcd"), JSON, max_size=3),
    as_text=st.booleans(),
    content=st.sampled_from([None, "", "So."]),
)
def test_calls_are_trained_and_results_are_not(arguments: dict[str, Any], as_text: bool, content: str | None) -> None:
    given_arguments = json.dumps(arguments) if as_text else {**arguments, "filled by a table": None}
    messages = dialogue(given_arguments, content=content)
    made = features({"messages": messages, "tools": json.dumps(TOOLS) if as_text else TOOLS})
    upstream = WORDS.apply_chat_template(
        dialogue(arguments, content=content or ""), tools=TOOLS, return_dict=True, sanitize_control_tokens=False
    )
    assert made["input_ids"] == [upstream["input_ids"]]
    written = json.dumps(arguments, ensure_ascii=False)
    said = f"{content or ''}<tool_call>tide {written}</tool_call><|im_end|>"
    assert runs(made["labels"][0], WORDS) == [said, "High.<|im_end|>"]


def test_sharegpt_calls_and_results_are_those_of_messages() -> None:
    turns = [
        {"from": "human", "value": "Tide?"},
        {"from": "function_call", "value": '{"name": "tide", "arguments": {"port": "Elm"}}'},
        {"from": "observation", "value": "4.5 m"},
        {"from": "gpt", "value": "High."},
    ]
    shared = {"conversations": turns, "tools": json.dumps(TOOLS)}
    plain = {"messages": dialogue({"port": "Elm"}), "tools": TOOLS}
    assert features(shared, converter="sharegpt") == features(plain)


def test_rows_with_tools_obey_the_laws() -> None:
    rows = [{"messages": dialogue({"port": "Elm"}), "tools": TOOLS} for _ in range(3)]
    check_preprocessor(SFTPreprocessor(chat_template=TEMPLATE), examples=rows, tokenizer=WORDS, task=TASK)


def test_content_in_parts_is_their_text() -> None:
    parts = [{"type": "text", "text": "Who "}, {"type": "text", "text": "keeps it?"}]
    answer = {"role": "assistant", "content": "Inès."}
    rows = [{"messages": [{"role": "user", "content": content}, answer]} for content in (parts, "Who keeps it?")]
    assert features(rows[0]) == features(rows[1])
    assert not list(SFTPreprocessor().fit(rows).check(rows))


@pytest.mark.parametrize(
    ("turn", "code", "place"),
    [
        ({"tool_calls": [{"type": "function"}]}, "bad-tool-call", "messages[1].tool_calls[0]"),
        ({"tool_calls": [call({}), call("fast")]}, "bad-tool-call", "messages[1].tool_calls[1]"),
        ({"tool_calls": 4}, "bad-tool-call", "messages[1].tool_calls"),
        ({"content": "So."}, "tool-without-call", "messages[2].role"),
        ({}, "content-missing", "messages[1].content"),
    ],
)
def test_a_wrong_call_is_named_with_its_turn(turn: dict[str, Any], code: str, place: str) -> None:
    messages = dialogue({})
    messages[1] = {"role": "assistant", **turn}
    rows = [{"messages": messages}]
    assert [(found.code, found.column) for found in SFTPreprocessor().fit(rows).check(rows)] == [(code, place)]


@pytest.mark.parametrize(
    ("tools", "code"), [("[", "bad-tools"), ([4], "bad-tools"), (None, None), ("", None), ([], None)]
)
def test_wrong_tools_are_named(tools: Any, code: str | None) -> None:
    rows = [{"messages": dialogue({}), "tools": tools}]
    found = [(finding.code, finding.column) for finding in SFTPreprocessor().fit(rows).check(rows)]
    assert found == ([(code, "tools")] if code else [])


@pytest.mark.parametrize("value", ["{}", "not JSON", "4", '{"name": "tide", "arguments": 4}'])
def test_a_call_of_sharegpt_that_is_none_is_named(value: str) -> None:
    turns = [{"from": "human", "value": "Tide?"}, {"from": "function_call", "value": value}]
    rows = [{"system": "Be brief.", "conversations": turns}]
    found = list(SFTPreprocessor(converter="sharegpt").fit(rows).check(rows))
    assert {finding.code for finding in found} == {"bad-tool-call"}
    assert found[0].column is not None and found[0].column.startswith("conversations[1]")


def test_keyword_arguments_reach_the_template_in_training_and_prediction() -> None:
    template = TEMPLATE.replace("'<|im_start|>assistant\\n'", "'<|im_start|>assistant\\n' + (style or '')")
    row = {"messages": [{"role": "user", "content": "Fog?"}, {"role": "assistant", "content": "briefly Aye."}]}
    fitted = SFTPreprocessor(chat_template=template, chat_template_kwargs={"style": "briefly"}).fit([row])
    made = fitted.features({"messages": [row["messages"]]}, WORDS)
    assert runs(made["labels"][0], WORDS) == [" Aye.<|im_end|>"]
    asked = fitted.features({"prompt": ["Fog?"]}, WORDS)
    assert WORDS.decode(asked["input_ids"][0]).endswith("assistant\nbriefly")
