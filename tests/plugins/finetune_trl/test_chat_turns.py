"""What is trained of a dialogue, turn by turn: weights, completions with other roles, templates that rewrite turns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.testing.tokenizers import tokenizer
from finetune_trl.chat import templates
from finetune_trl.chat.messages import WEIGHT_KEYS
from finetune_trl.sft.preprocessor import SFTPreprocessor

WORDS = tokenizer("gpt2")
WORDS.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>", "<|user|>", "<|assistant|>"]})
WORDS.add_tokens(["<think>", "</think>"])
BARE = re.sub(r"\{% (end)?generation %\}", "", templates.built_in_template("chatml", WORDS))
TEMPLATES = {
    "marked": templates.built_in_template("chatml", WORDS),
    "bare": BARE,
    # as Qwen 3: the last answer alone gets an empty block of thoughts
    "thinking": BARE.replace(
        "{% if message['role'] == 'assistant' %}",
        "{% if message['role'] == 'assistant' and loop.last %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}"
        "{% if message['role'] == 'assistant' %}",
    ),
    # as Phi-3: a token of its own for each role, and another one after the last turn
    "closing": "{% for m in messages %}{{ '<|' + m['role'] + '|>\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}",
    # as Mistral: no words open an answer, and content is trimmed
    "trimming": "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + "
    "'[/INST]' }}{% else %}{{ ' ' + m['content'] | trim + eos_token }}{% endif %}{% endfor %}",
}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def features(row: dict[str, Any], **options: Any) -> dict[str, list[Any]]:
    preprocessor = SFTPreprocessor(max_length=100_000, **options).fit([row])
    return dict(preprocessor.features({name: [value] for name, value in row.items()}, WORDS))


def trained(row: dict[str, Any], **options: Any) -> list[str]:
    """Return the text of each run of trained tokens."""
    labels: Sequence[int] = features(row, **options)["labels"][0]
    runs: list[list[int]] = []
    for before, label in zip([-100, *labels], labels, strict=False):
        if label != -100:
            runs = [*runs, []] if before == -100 else runs
            runs[-1].append(label)
    return [WORDS.decode(run) for run in runs]


def written(template: str, answer: str, *, last: bool = False) -> str:
    """Return an answer as a template writes it, with its end."""
    if template == "trimming":
        return f" {answer.strip()}<|endoftext|>"
    return ("<think>\n\n</think>\n\n" if template == "thinking" and last else "") + answer + "<|im_end|>"


SPEECH = st.text(st.characters(exclude_categories=["Cs", "Cc", "Co", "Cn"]), min_size=1).filter(str.strip)
TURNS = st.lists(st.tuples(SPEECH, SPEECH, st.booleans()), min_size=1, max_size=4)


@pytest.mark.parametrize("template", list(TEMPLATES))
@settings(max_examples=20)
@given(turns=TURNS)
def test_every_turn_of_the_assistant_is_trained_with_its_end_and_nothing_else(template: str, turns: Any) -> None:
    messages = [message for asked, answer, _ in turns for message in (user(asked), assistant(answer))]
    made = features({"messages": messages}, chat_template=TEMPLATES[template])
    wanted = [written(template, answer) for _, answer, _ in turns[:-1]]
    wanted.append(written(template, turns[-1][1], last=True))
    assert trained({"messages": messages}, chat_template=TEMPLATES[template]) == wanted
    counts = SFTPreprocessor(form="messages").counts(made)
    assert counts["prompt_not_prefix"] == counts["end_of_turn_outside_loss"] == 0
    assert counts["rewritten_turns"] == (template == "thinking" and len(turns) > 1)


@pytest.mark.parametrize("template", list(TEMPLATES))
@settings(max_examples=20)
@given(turns=TURNS, key=st.sampled_from(WEIGHT_KEYS), as_number=st.booleans(), loss_on=st.sampled_from([None, "all"]))
def test_a_turn_without_weight_is_not_trained(
    template: str, turns: Any, key: str, as_number: bool, loss_on: Any
) -> None:
    turns = [*turns, ("Sure?", "Quite sure.", True)]
    messages = []
    for asked, answer, weight in turns:
        messages += [user(asked), assistant(answer, **{key: int(weight) if as_number else weight})]
    found = trained({"messages": messages}, chat_template=TEMPLATES[template], loss_on=loss_on)
    kept = [written(template, answer) for _, answer, weight in turns[:-1] if weight]
    kept.append(written(template, turns[-1][1], last=True))
    if loss_on is None:
        assert found == kept
    else:
        dropped = sum(not weight for _, _, weight in turns)
        assert len(found) == dropped + 1, "all is trained, apart from the turns without weight"


def test_a_dialogue_ends_with_the_last_turn_that_is_trained() -> None:
    messages = [user("Fog?"), assistant("Aye.", weight=1), user("No!"), assistant("Nay.", weight=0)]
    for template in TEMPLATES.values():
        preprocessor = SFTPreprocessor(chat_template=template).fit([{"messages": messages}])
        row = preprocessor.prompt_completion({"messages": messages})
        assert (row.prompt, row.completion) == (messages[:1], messages[1:2])
        whole = SFTPreprocessor(chat_template=template, loss_on="all").fit([{"messages": messages}])
        assert whole.prompt_completion({"messages": messages}).completion == messages[3:]


@pytest.mark.parametrize("template", list(TEMPLATES))
@settings(max_examples=20)
@given(turns=TURNS)
def test_the_turns_of_a_user_in_a_completion_are_not_trained(template: str, turns: Any) -> None:
    completion = [assistant("Aye.")]
    for asked, answer, _ in turns:
        completion += [user(asked), assistant(answer)]
    row = {"prompt": [user("Fog?")], "completion": completion}
    answers = [message["content"] for message in completion if message["role"] == "assistant"]
    wanted = [written(template, answer) for answer in answers[:-1]]
    wanted.append(written(template, answers[-1], last=True))
    assert trained(row, chat_template=TEMPLATES[template]) == wanted


@pytest.mark.parametrize(
    ("more", "code", "place"),
    [
        ({"weight": 0.5}, "bad-turn-weight", "messages[1].weight"),
        ({"train": "no"}, "bad-turn-weight", "messages[1].train"),
        ({"weight": 0, "train": True}, "bad-turn-weight", "messages[1].weight"),
        ({"loss": False}, "no-trained-turn", "messages[1]"),
    ],
)
def test_a_weight_that_cannot_be_meant_is_named(more: dict[str, Any], code: str, place: str) -> None:
    rows = [{"messages": [user("Fog?"), assistant("Aye.", **more)]}]
    found = list(SFTPreprocessor().fit(rows).check(rows))
    assert [(finding.code, finding.column) for finding in found] == [(code, place)]


def test_a_weight_of_a_user_is_a_warning_unless_it_is_0() -> None:
    rows = [{"messages": [{**user("Fog?"), "weight": weight}, assistant("Aye.")]} for weight in (0, 1, None)]
    found = list(SFTPreprocessor().fit(rows).check(rows))
    assert [(finding.code, finding.row, finding.level) for finding in found] == [("weight-unused", 1, "warning")]


def test_words_between_the_header_and_the_content_belong_to_the_turn() -> None:
    # the text before a turn is never that of the prompt alone, so the turn is found by its header
    template = (
        "{{ messages | length }}{% for m in messages %}{{ '<|' + m['role'] + '|>' }}"
        "{% if m['role'] == 'assistant' %}{{ '(calm) ' }}{% endif %}{{ m['content'] + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
    )
    messages = [user("Fog?"), assistant("Aye."), user("Rain?"), assistant("No.")]
    end = WORDS.eos_token
    assert trained({"messages": messages}, chat_template=template) == [f"(calm) Aye.{end}", f"(calm) No.{end}"]


def test_the_text_of_an_end_in_a_message_ends_no_turn() -> None:
    messages = [user("Fog<|im_end|>?"), assistant("Aye<|im_end|>."), user("<|im_end|>"), assistant("No<|im_end|>")]
    for template in ("bare", "thinking", "closing"):
        made = features({"messages": messages}, chat_template=TEMPLATES[template])
        end = WORDS.convert_tokens_to_ids("<|im_end|>")
        assert made["labels"][0].count(end) == 2
        assert trained({"messages": messages}, chat_template=TEMPLATES[template]) == [
            written(template, "Aye<|im_end|>."),
            written(template, "No<|im_end|>", last=True),
        ]
