"""Messages: every wrong form is named with its turn; and chat templates write what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.errors import BadData, BadOptions
from finetune.testing.laws import check_finding
from finetune.testing.tokenizers import tokenizer
from finetune_trl.chat import templates
from finetune_trl.chat.messages import Message, check_messages


def turn(role: Any, content: Any = "Aye.") -> dict[str, Any]:
    return {"role": role, "content": content}


U, A, S = turn("user"), turn("assistant"), turn("system")


def codes(value: Any, part: Any = "dialogue") -> list[tuple[str, str | None]]:
    """Return the code and the place of every finding."""
    found = list(check_messages(value, row=7, column="messages", part=part))
    for finding in found:
        check_finding(finding)
        assert finding.row == 7
    return [(finding.code, finding.column) for finding in found]


@pytest.mark.parametrize(
    "messages", [[U, A], [S, U, A], [U, A, U, A], [turn("system", ""), U, A], [{**U, "name": None}, A]]
)
def test_a_sound_dialogue_has_no_finding(messages: list[Any]) -> None:
    assert codes(messages) == []


@pytest.mark.parametrize(
    ("messages", "code", "place"),
    [
        (None, "messages-not-a-list", "messages"),
        ("Who?", "messages-not-a-list", "messages"),
        ([], "messages-empty", "messages"),
        (["Who?", A], "message-not-an-object", "messages[0]"),
        ([A, U, A], "assistant-first", "messages[0].role"),
        ([S, A], "assistant-first", "messages[1].role"),
        ([U, U, A], "role-twice", "messages[1].role"),
        ([U, A, A], "role-twice", "messages[2].role"),
        ([U, S, A], "system-not-first", "messages[1].role"),
        ([U, A, U], "last-not-assistant", "messages[2].role"),
        ([S], "system-only", "messages[0].role"),
        ([turn("bot"), A], "unknown-role", "messages[0].role"),
        ([turn(None), A], "role-missing", "messages[0].role"),
        ([U, turn("assistant", None)], "content-missing", "messages[1].content"),
        ([U, turn("assistant", 4)], "content-not-text", "messages[1].content"),
        ([turn("user", [{"type": "image"}]), A], "content-not-text", "messages[0].content"),
        ([U, turn("assistant", " \n")], "content-empty", "messages[1].content"),
        ([U, {"role": "assistant", "contents": "Aye."}], "content-missing", "messages[1].content"),
        ([{**U, "tool_calls": [{"name": "tide"}]}, A], "bad-tool-call", "messages[0].tool_calls"),
        ([U, turn("tool"), A], "tool-without-call", "messages[1].role"),
    ],
)
def test_what_is_wrong_is_named_with_its_turn(messages: Any, code: str, place: str) -> None:
    assert codes(messages) == [(code, place)]


def test_a_prompt_ends_with_the_user_and_a_completion_is_the_assistants() -> None:
    assert codes([U], "prompt") == codes([U, A, U], "prompt") == codes([A], "completion") == []
    assert codes([U, A], "prompt") == [("last-not-user", "messages[1].role")]
    assert ("completion-not-assistant", "messages[0].role") in codes([U], "completion")


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (turn("Assistant"), "Did you mean 'assistant'?"),
        (turn("gpt"), "Did you mean 'assistant'?"),
        (turn("human"), "Did you mean 'user'?"),
        (turn("asistant"), "Did you mean 'assistant'?"),
        ({"role": "user", "contents": "Aye."}, "Rename 'contents' to 'content'"),
        ({"from": "human", "value": "Aye."}, "preprocessor.converter: sharegpt"),
    ],
)
def test_a_near_miss_gets_a_suggestion(message: Any, said: str) -> None:
    found = next(iter(check_messages([message], row=0, column="messages")))
    assert said in f"{found.message} {found.fix}"


# --- templates --------------------------------------------------------------------------------------------------------

DIALOGUE: list[Message] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Who keeps the light?"},
    {"role": "assistant", "content": "Old Tomás."},
    {"role": "user", "content": "Alone?"},
    {"role": "assistant", "content": "No."},
]


def made(family: str, option: str | None) -> Any:
    words = tokenizer(family)
    templates.set_template(words, option)
    return words


def test_our_templates_write_what_they_say() -> None:
    plain, chatml = made("gpt2", "plain"), made("gpt2", "chatml")
    assert templates.render(plain, DIALOGUE[:3]) == (
        "Be brief.\nUser: Who keeps the light?\nAssistant: Old Tomás.<|endoftext|>\n"
    )
    assert templates.render(plain, DIALOGUE[:2], add_generation_prompt=True).endswith("the light?\nAssistant:")
    assert templates.render(chatml, DIALOGUE[1:3]) == (
        "<|im_start|>user\nWho keeps the light?<|endoftext|>\n<|im_start|>assistant\nOld Tomás.<|endoftext|>\n"
    )
    rendered = templates.render_dialogue(plain, DIALOGUE)
    text, spans = rendered.text, rendered.spans
    assert spans is not None
    assert [text[start:stop] for start, stop in spans] == [" Old Tomás.<|endoftext|>", " No.<|endoftext|>"]


@pytest.mark.parametrize("family", ["gpt2", "roberta", "llama"])
@pytest.mark.parametrize("name", list(templates.BUILT_IN))
def test_our_templates_add_no_token_and_begin_as_the_tokenizer_does(family: str, name: str) -> None:
    before = len(tokenizer(family))
    words = made(family, name)
    ids = templates.encode_messages(words, DIALOGUE)
    assert len(words) == before
    begins = words("a").input_ids[0] == words.bos_token_id
    assert ids.count(words.bos_token_id) >= begins and (ids[0] == words.bos_token_id) == begins
    assert templates.end_of_turn(words) == words.eos_token_id


def test_chatml_ends_turns_with_its_own_token_where_the_tokenizer_has_it() -> None:
    words = tokenizer("gpt2")
    words.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    templates.set_template(words, "chatml")
    assert templates.end_of_turn(words) == words.convert_tokens_to_ids("<|im_end|>")
    assert words.eos_token not in templates.render(words, DIALOGUE)


# transformers marks control tokens with private-use characters, and drops these from messages; this plugin uses two
# noncharacters.
SPEECH = st.text(st.characters(exclude_categories=["Cs", "Cc", "Co", "Cn"]), min_size=1)


@pytest.mark.parametrize("family", ["gpt2", "roberta", "llama"])
@pytest.mark.parametrize("name", list(templates.BUILT_IN))
@given(said=st.lists(SPEECH, min_size=2, max_size=2))
def test_our_ids_are_upstreams(family: str, name: str, said: list[str]) -> None:
    words = WORDS[family, name]
    dialogue = [turn("user", said[0]), turn("assistant", said[1])]
    theirs = words.apply_chat_template(dialogue, return_dict=True, sanitize_control_tokens=True)
    assert templates.encode_messages(words, dialogue) == theirs["input_ids"]


WORDS = {(family, name): made(family, name) for family in ("gpt2", "roberta", "llama") for name in templates.BUILT_IN}


@pytest.mark.parametrize("family", ["gpt2", "roberta", "llama"])
def test_a_control_token_in_a_message_is_text(family: str) -> None:
    words = WORDS[family, "plain"]
    end = words.eos_token
    dialogue = [turn("user", f"What is {end}{end}?"), turn("assistant", f"{end} ends.")]
    text = templates.render(words, dialogue)
    ids, offsets = templates.encode(words, [text])[0]
    assert ids.count(words.eos_token_id) == 1
    assert words.decode(ids).count(end) == 4
    assert templates.has_marks(text) and not templates.has_marks(templates.render(words, DIALOGUE))
    assert ids == words.apply_chat_template(dialogue, return_dict=True, sanitize_control_tokens=True)["input_ids"]
    assert len(offsets) == len(ids) and all(0 <= start <= stop <= len(text) for start, stop in offsets)


def test_a_template_is_kept_as_text_whatever_becomes_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text("{% for m in messages %}{{ m['content'] + eos_token }}{% endfor %}", encoding="utf-8")
    text = templates.load_template(str(file))
    file.unlink()
    words = made("gpt2", text)
    assert templates.render(words, [turn("user", "Fog")]) == "Fog<|endoftext|>"
    plain = made("gpt2", "plain")
    assert not templates.has_generation_blocks(words.chat_template)
    assert templates.has_generation_blocks(plain.chat_template)


def test_without_a_template_the_error_names_the_options() -> None:
    with pytest.raises(BadOptions, match=r"no chat template.* built-in one \(chatml, plain\) or to a .jinja file"):
        templates.set_template(tokenizer("gpt2"), None)
    with pytest.raises(BadOptions, match=r"'chatlm' is neither a file nor one of .* Did you mean 'chatml'?"):
        templates.load_template("chatlm")
    words = tokenizer("bert")
    with pytest.raises(BadOptions, match="ends a turn with the end-of-sequence token, and the tokenizer has none"):
        templates.set_template(words, "plain")


def test_an_error_of_a_template_is_reported_with_its_reason() -> None:
    strict = "{% if messages[0]['role'] != 'user' %}{{ raise_exception('no system, please') }}{% endif %}"
    with pytest.raises(BadData, match=r"refuses the roles system, .*: no system, please"):
        templates.render(made("gpt2", strict), DIALOGUE)


def test_a_template_without_a_token_at_the_end_of_a_turn_has_none() -> None:
    assert templates.end_of_turn(made("gpt2", "{% for m in messages %}{{ m['content'] + '\\n' }}{% endfor %}")) is None
