"""What only the chat template shows: refused rows, words that it leaves out, keys and columns that nothing reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from stock_templates import SHAPES, TEMPLATES, words

from finetune import data
from finetune.errors import BadData
from finetune.testing.tokenizers import tokenizer
from finetune_trl.chat import templates
from finetune_trl.preference.dpo import DPOPreprocessor
from finetune_trl.preference.kto import KTOPreprocessor
from finetune_trl.preference.reward import RewardPreprocessor
from finetune_trl.reinforcement.prompts import RLPreprocessor
from finetune_trl.sft.preprocessor import SFTPreprocessor

USER = {"role": "user", "content": "Who mends the nets?"}
AYE = {"role": "assistant", "content": "Inès does."}
NO = {"role": "assistant", "content": "No one."}
SYSTEM = {"role": "system", "content": "Be brief."}
STRICT = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
WITH_TOOLS = "{% if tools %}{{ tools | tojson }}{% endif %}" + STRICT
TOOLS = [{"type": "function", "function": {"name": "tide", "parameters": {}}}]


def load(
    preprocessor: Any, rows: list[Mapping[str, Any]], *, on_bad: Any = "error", words: Any = None
) -> data.Examples:
    made = words or tokenizer("gpt2")
    return data.from_rows({"train": rows}, preprocessor, on_bad=on_bad, tokenizer=lambda: made)


def found(preprocessor: Any, rows: list[Mapping[str, Any]], **options: Any) -> list[tuple[str, int | None, str | None]]:
    try:
        findings = load(preprocessor, rows, **options).findings
    except BadData as error:
        findings = error.findings
    return [(finding.code, finding.row, finding.column) for finding in findings]


REFUSED = {
    "sft": (
        SFTPreprocessor(chat_template=STRICT),
        [{"messages": [USER, AYE]}, {"messages": [SYSTEM, USER, AYE]}],
        "messages",
    ),
    "prompt and completion": (
        SFTPreprocessor(chat_template=STRICT),
        [{"prompt": [USER], "completion": [AYE]}, {"prompt": [SYSTEM, USER], "completion": [AYE]}],
        "prompt",
    ),
    "alpaca": (
        SFTPreprocessor(chat_template=STRICT, converter="alpaca"),
        [
            {"instruction": "Who?", "output": "Inès.", "system": None},
            {"instruction": "Why?", "output": "Fog.", "system": "Be brief."},
        ],
        "instruction",
    ),
    "sharegpt": (
        SFTPreprocessor(chat_template=STRICT, converter="sharegpt"),
        [
            {"conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Inès."}], "system": None},
            {
                "conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "Fog."}],
                "system": "Rhyme.",
            },
        ],
        "conversations",
    ),
    "dpo": (
        DPOPreprocessor(chat_template=STRICT),
        [
            {"prompt": [USER], "chosen": [AYE], "rejected": [NO]},
            {"prompt": [SYSTEM, USER], "chosen": [AYE], "rejected": [NO]},
        ],
        "prompt",
    ),
    "implicit prompt": (
        RewardPreprocessor(chat_template=STRICT),
        [
            {"chosen": [USER, AYE], "rejected": [USER, NO]},
            {"chosen": [SYSTEM, USER, AYE], "rejected": [SYSTEM, USER, NO]},
        ],
        "chosen",
    ),
    "kto": (
        KTOPreprocessor(chat_template=STRICT),
        [
            {"prompt": [USER], "completion": [AYE], "label": True},
            {"prompt": [SYSTEM, USER], "completion": [AYE], "label": False},
            {"prompt": [USER], "completion": [NO], "label": False},
        ],
        "prompt",
    ),
    "rloo": (
        RLPreprocessor(chat_template=STRICT, reward="finetune_trl.reinforcement.rewards:brevity"),
        [{"prompt": [USER]}, {"prompt": [SYSTEM, USER]}],
        "prompt",
    ),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_a_row_that_the_template_refuses_is_found_and_can_be_dropped(name: str) -> None:
    preprocessor, rows, column = REFUSED[name]
    assert ("template-refuses", 1, column) in found(preprocessor, rows)
    kept = load(preprocessor, rows, on_bad="drop")
    assert [row["row"] for row in kept.dropped] == [1]
    assert len(kept.splits["train"]) == len(rows) - 1
    assert "no system" in kept.dropped[0]["messages"][0]


def test_positions_count_the_rows_that_other_findings_drop() -> None:
    rows: list[Mapping[str, Any]] = [{"messages": []}, {"messages": [USER, AYE]}, {"messages": [SYSTEM, USER, AYE]}]
    kept = load(SFTPreprocessor(chat_template=STRICT), rows, on_bad="drop")
    assert [(row["row"], row["codes"]) for row in kept.dropped] == [(0, ["messages-empty"]), (2, ["template-refuses"])]


def test_the_tokenizer_is_not_loaded_where_the_data_stop_the_run() -> None:
    def no_tokenizer() -> Any:
        raise AssertionError("it is loaded")

    with pytest.raises(BadData):
        data.from_rows({"train": [{"name": "Inès"}]}, SFTPreprocessor(), tokenizer=no_tokenizer)
    data.from_rows({"train": [{"text": "Inès mends nets."}]}, SFTPreprocessor(), tokenizer=lambda: None)


LEFT_OUT = {
    ("llama3_1", "text and call"): "messages[1].content",
    ("gptoss", "text and call"): "messages[1].content",
    ("gptoss", "two calls"): "messages[1].tool_calls[1]",
    ("deepseek_r1_distill", "text and call"): "messages[1].tool_calls[0]",
    ("gemma4", "text and call"): "messages[1].content",
    ("muse_glimmer", "text and call"): "messages[1].content",
    ("qwen2_5", "text and call"): None,
    ("qwen3", "two calls"): None,
}


@pytest.mark.parametrize(("name", "shape"), list(LEFT_OUT))
def test_what_a_template_leaves_out_is_found_where_it_stands(name: str, shape: str) -> None:
    template = TEMPLATES[name].read_text(encoding="utf-8")
    codes = found(SFTPreprocessor(chat_template=template), [SHAPES[shape]], words=words(template))
    column = LEFT_OUT[name, shape]
    expected = [] if column is None else [("template-leaves-out", 0, column)]
    assert [each for each in codes if each[0] == "template-leaves-out"] == expected


@pytest.mark.parametrize("name", ["deepseek_r1_distill", "qwen3"])
def test_thoughts_that_are_not_written_are_found_in_the_last_turn_alone(name: str) -> None:
    template = TEMPLATES[name].read_text(encoding="utf-8")
    thought = {"role": "assistant", "content": "<think>\nNets need hands.\n</think>\n\nInès does."}
    preprocessor = SFTPreprocessor(chat_template=template)
    expected = [("template-leaves-out", 0, "messages[1].content")] if name.startswith("deepseek") else []
    assert found(preprocessor, [{"messages": [USER, thought]}], words=words(template)) == expected
    earlier = [{"messages": [USER, thought, USER, AYE]}]
    assert found(preprocessor, earlier, words=words(template)) == []


@pytest.mark.parametrize("written", ["{{ m.content | trim }}", "{{ m.content | tojson }}"])
def test_a_text_that_is_written_in_another_way_is_not_left_out(written: str) -> None:
    template = "{% for m in messages %}<{{ m.role }}>" + written + "{{ eos_token }}{% endfor %}"
    rows: list[Mapping[str, Any]] = [{"messages": [USER, {"role": "assistant", "content": '  "Inès"\n does.  '}]}]
    assert found(SFTPreprocessor(chat_template=template, loss_on="all"), rows) == []


KEYS = {
    "sft": (
        SFTPreprocessor(chat_template=STRICT),
        [{"messages": [USER, {**AYE, "mood": "calm", "weight": 1}]}],
        "mood",
    ),
    "dpo": (
        DPOPreprocessor(chat_template=STRICT),
        [{"prompt": [{**USER, "mood": "calm"}], "chosen": [{**AYE, "weight": 0}], "rejected": [NO]}],
        "mood",
    ),
    "kto": (
        KTOPreprocessor(chat_template=STRICT),
        [
            {"prompt": [USER], "completion": [{**AYE, "weight": 0}], "label": True},
            {"prompt": [USER], "completion": [NO], "label": False},
        ],
        "weight",
    ),
}


@pytest.mark.parametrize("name", list(KEYS))
def test_keys_of_messages_that_nothing_reads_are_one_warning(name: str) -> None:
    preprocessor, rows, key = KEYS[name]
    (finding,) = [each for each in load(preprocessor, rows).findings if each.code != "missing-nested-key"]
    assert finding.code == "unread-keys"
    assert f"{key!r} (1)" in finding.message
    assert ("weight" in finding.message) == (name != "sft")
    assert "loss_on" not in finding.fix


def test_a_key_that_the_template_reads_is_no_finding() -> None:
    template = STRICT.replace("{{ m.content }}", "{{ m.mood }}{{ m.content }}")
    codes = {code for code, *_ in found(SFTPreprocessor(chat_template=template), KEYS["sft"][1])}
    assert codes == {"missing-nested-key"}


COLUMNS = {
    "tools of texts": (SFTPreprocessor(), {"prompt": "Who?", "completion": " Inès.", "tools": TOOLS}, "tools"),
    "system": (SFTPreprocessor(chat_template=STRICT), {"messages": [USER, AYE], "system": "Rhyme."}, "system"),
    "margin": (DPOPreprocessor(), {"prompt": "Who?", "chosen": " Inès.", "rejected": " I.", "margin": 1.0}, "margin"),
    "weight": (RewardPreprocessor(), {"prompt": "Who?", "chosen": " Inès.", "rejected": " I.", "weight": 2}, "weight"),
}


@pytest.mark.parametrize("name", list(COLUMNS))
def test_a_column_with_a_meaning_elsewhere_is_named_with_a_remedy(name: str) -> None:
    preprocessor, row, column = COLUMNS[name]
    findings = [finding for finding in load(preprocessor, [row]).findings if finding.code == "unread-columns"]
    assert [finding.column for finding in findings] == [column]
    assert findings[0].fix
    empty = {**row, column: None}
    assert [code for code, *_ in found(preprocessor, [empty])] == []


# --- tools and margins of preferences ---------------------------------------------------------------------------------

TOOL_ROWS: dict[str, tuple[Any, dict[str, Any]]] = {
    "dpo": (DPOPreprocessor, {"prompt": [USER], "chosen": [AYE], "rejected": [NO]}),
    "kto": (KTOPreprocessor, {"prompt": [USER], "completion": [AYE], "label": True}),
    "reward": (RewardPreprocessor, {"prompt": [USER], "chosen": [AYE], "rejected": [NO]}),
}


@pytest.mark.parametrize("name", list(TOOL_ROWS))
def test_preferences_write_the_tools_as_sft_does(name: str) -> None:
    kind, row = TOOL_ROWS[name]
    made = tokenizer("gpt2")
    texts = []
    for tools in (TOOLS, '[{"type": "function", "function": {"name": "tide", "parameters": {}}}]', None):
        full = {**row, "tools": tools}
        fitted = kind(chat_template=WITH_TOOLS).fit([full])
        made_of = fitted.features({column: [value] for column, value in full.items()}, made)
        columns = {column[0]: column[1][0] for column in made_of.items()}
        ids = columns.get("prompt_ids", columns.get("chosen_ids"))
        texts.append(made.decode(ids))
    sft = templates.render(made, [USER], inputs=templates.TemplateInputs(tools=TOOLS))
    assert texts[0] == texts[1]
    assert texts[0].startswith(sft.partition("</s>")[0][:40])
    assert "tide" not in texts[2]
    bad = [finding.code for finding in kind(chat_template=WITH_TOOLS).fit([row]).check([{**row, "tools": "tide"}])]
    assert "bad-tools" in bad


def test_tools_that_the_template_does_not_write_are_a_warning() -> None:
    rows: list[Mapping[str, Any]] = [{"messages": [USER, AYE], "tools": TOOLS}]
    assert found(SFTPreprocessor(chat_template=STRICT), rows) == [("tools-not-written", 0, "tools")]
    assert found(SFTPreprocessor(chat_template=WITH_TOOLS), rows) == []


def test_a_null_in_the_json_text_of_tools_is_kept() -> None:
    text = '[{"name": "tide", "parameters": {"port": {"default": null}}}]'
    row = {"messages": [USER, AYE], "tools": text}
    fitted = SFTPreprocessor(chat_template=WITH_TOOLS).fit([row])
    assert fitted.prompt_completion(row).tools[0]["parameters"] == {"port": {"default": None}}


MARGINS = [(0.5, None), ("2", None), (0, None), (-1, "negative-margin"), ("much", "bad-margin"), (True, "bad-margin"),
           (float("nan"), "bad-margin")]  # fmt: skip


@pytest.mark.parametrize(("margin", "code"), MARGINS)
def test_margins_are_numbers(margin: Any, code: str | None) -> None:
    row = {"prompt": "Who?", "chosen": " Inès.", "rejected": " I."}
    codes = [finding.code for finding in RewardPreprocessor().fit([row]).check([{**row, "margin": margin}])]
    assert codes == ([code] if code else [])


def test_a_row_without_the_margin_that_others_have_is_bad() -> None:
    row = {"prompt": "Who?", "chosen": " Inès.", "rejected": " I."}
    rows = [{**row, "margin": 1.0}, {"prompt": "Why?", "chosen": " Fog.", "rejected": " Rain.", "margin": None}]
    (finding,) = RewardPreprocessor().fit(rows).check(rows)
    assert (finding.code, finding.row, finding.level) == ("bad-margin", 1, "row")


# --- the tokens that only a template may write ------------------------------------------------------------------------


def test_control_tokens_are_listed_once_until_they_change(monkeypatch: pytest.MonkeyPatch) -> None:
    made = tokenizer("llama")
    templates.set_template(made, "chatml")
    made.add_tokens(["<sea>"])
    calls = 0
    listed = type(made).added_tokens_decoder.fget

    def counted(self: Any) -> Any:
        nonlocal calls
        calls += 1
        return listed(self)

    monkeypatch.setattr(type(made), "added_tokens_decoder", property(counted))
    for _ in range(5):
        templates.render(made, [USER, AYE])
    assert calls == 1
    assert "<sea>" not in templates.control_tokens(made)
    made.add_special_tokens({"additional_special_tokens": ["<sea>"]})
    assert "<sea>" in templates.special_tokens(made)
    made.chat_template = "<quay>{{ messages }}"
    made.add_tokens(["<quay>"])
    assert "<quay>" in templates.control_tokens(made)
