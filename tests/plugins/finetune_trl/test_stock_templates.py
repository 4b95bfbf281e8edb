"""The templates that TRL ships: what is trained, what is refused, and what the message advises."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

import pytest
from compatibility import FAILS, as_written
from stock_templates import NO_DEFINITIONS, PAGE, SHAPES, TEMPLATES, outcome, words, written

from finetune_trl.chat import templates
from finetune_trl.chat.turns import TurnFinder
from finetune_trl.sft.preprocessor import SFTPreprocessor

TEXT = PAGE.read_text(encoding="utf-8")
IS_SAME = f"with trl {version('trl')}." in TEXT
pytestmark = pytest.mark.skipif(not IS_SAME, reason="the page is about the templates of another version of trl")


@pytest.mark.parametrize("name", list(TEMPLATES))
def test_the_page_says_what_happens(name: str) -> None:
    page = written(TEXT)
    for shape in SHAPES:
        found = outcome(name, shape)
        assert page[name, shape] == (found if found == NO_DEFINITIONS else as_written(found)), shape
        assert found != FAILS


def test_the_page_has_every_template() -> None:
    assert set(written(TEXT)) == {(name, shape) for name in TEMPLATES for shape in SHAPES}


ADVISED = [cell for cell, found in written(TEXT).items() if "Set preprocessor.chat\\_template\\_kwargs" in found]
ALONE = [cell for cell, found in written(TEXT).items() if "Set preprocessor.loss\\_on" in found]


def counts(name: str, shape: str, **options: Any) -> Any:
    template = TEMPLATES[name].read_text(encoding="utf-8")
    row = SHAPES[shape]
    fitted = SFTPreprocessor(chat_template=template, **options).fit([row])
    made = fitted.features({column: [value] for column, value in row.items()}, words(template))
    return fitted.counts(made)


@pytest.mark.parametrize("name", sorted({name for name, _ in ADVISED}))
def test_the_advised_argument_of_a_template_helps(name: str) -> None:
    shapes = [shape for other, shape in ADVISED if other == name]
    for shape in shapes:
        assert counts(name, shape)["prompt_not_prefix"] == 1
        assert counts(name, shape, chat_template_kwargs={"enable_thinking": False})["prompt_not_prefix"] == 0


@pytest.mark.parametrize(("name", "shape"), ALONE)
def test_training_the_last_turn_alone_helps_where_it_is_advised(name: str, shape: str) -> None:
    assert counts(name, shape)["prompt_not_prefix"] == 1
    assert counts(name, shape, loss_on="completion")["prompt_not_prefix"] == 0


def test_some_rows_are_advised_each_remedy() -> None:
    assert ADVISED
    assert ALONE


PARTS = (
    "{% for m in messages %}{{ m['role'] }}: {% for part in m['content'] %}{% if part['type'] == 'text' %}"
    "{{ part['text'] }}{% endif %}{% endfor %}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def test_a_template_that_reads_parts_gets_parts_and_loses_no_word() -> None:
    messages: Any = [{"role": "user", "content": "Fog</s>?"}, {"role": "assistant", "content": "Aye."}]
    made = words(PARTS)
    made.chat_template = PARTS
    text = templates.render(made, messages)
    assert re.sub("[\ufdd0\ufdd1]", "", text) == "user: Fog</s>?</s>assistant: Aye.</s>"
    (answer,) = TurnFinder(made).find(messages, templates.render_dialogue(made, messages))
    assert [text[slice(*span)] for span in answer.spans] == ["Aye.</s>"]


def test_a_template_that_refuses_made_up_calls_can_write_those_of_the_data() -> None:
    template = (
        "{% for m in messages %}{% if m.tool_calls %}{% for call in m.tool_calls %}"
        "{% if not call.function.arguments.place %}{{ raise_exception('no place') }}{% endif %}"
        "{{ call.function.name + call.function.arguments.place }}{% endfor %}{% else %}{{ m.content }}{% endif %}"
        "{{ eos_token }}{% endfor %}"
    )
    row = SHAPES["tools"]
    made = words(template)
    made.chat_template = template
    assert "look_outlighthouse</s>" in templates.render(made, row["messages"])
