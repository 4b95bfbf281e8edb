"""A chat template of a stranger ends, and takes no more memory than it needs."""

from __future__ import annotations

import resource
import signal
import sys
import time
from pathlib import Path

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from finetune.testing.tokenizers import tokenizer
from finetune_trl.chat import bounds, templates
from finetune_trl.chat.messages import Message
from finetune_trl.chat.templates import TemplateRefusal

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the limits are those of Linux")

ENDLESS = {
    "nested loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "product": "{{ 'a' * 10000000000 }}",
    "doubling": "{% set n = namespace(t='aaaa') %}{% for i in range(60) %}{% set n.t = n.t ~ n.t %}{% endfor %}",
    "squares": "{% set n = namespace(t=99999) %}{% for i in range(60) %}{% set n.t = n.t * n.t %}{% endfor %}",
    "wide": "{{ 'a'.center(10000000000) }}",
    "format width": "{{ '%100000000000d' % 1 }}",
    "recursion": "{% macro a() %}{{ a() }}{{ a() }}{% endmacro %}{{ a() }}",
    "power": "{{ 10 ** 1000000000 }}",
    "power of names": "{% set a = 10 %}{{ (a) ** a ** a ** a }}",
}


@pytest.mark.parametrize("name", ENDLESS)
def test_a_template_that_does_not_end_is_stopped(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "SECONDS", 0.2)
    monkeypatch.setattr(bounds, "MEMORY", 2**28)
    before = resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGALRM)
    with (
        pytest.raises((TimeoutError, MemoryError, RecursionError, ValueError)) as caught,
        bounds.bounded(ENDLESS[name]),
    ):
        render_jinja_template(conversations=[[]], chat_template=ENDLESS[name])
    assert str(caught.value)
    assert (resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGALRM)) == before


def test_a_template_that_went_over_a_limit_twice_is_not_tried_again_and_its_memory_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "MEMORY", 2**30)
    words = tokenizer("llama")
    words.chat_template = ENDLESS["doubling"] + "{# another text #}"
    before, refusals = resident(), []
    for _ in range(4):
        with pytest.raises(TemplateRefusal) as caught:
            templates.render(words, [Message(role="user", content="a")])
        refusals.append(caught.value)
        assert resident() < before + bounds.MEMORY + 2**28, "what one dialogue took is free before the next one"
    assert resident() < before + 2**28, "the refusals hold no variables of the template"
    assert "it takes more than 1 GiB of memory; it is not tried again" in str(refusals[-1])


def resident() -> int:
    """Return the bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{{ m.content }}{% endfor %}", "**bold** {{ 2 * 3 }}", "{{ dict(**{}) }}",
        "{{ dict(a=1, **{}) }}",
    ],
)  # fmt: skip
def test_an_ordinary_template_is_rendered(template: str) -> None:
    with bounds.bounded(template):
        texts, _ = render_jinja_template(conversations=[[{"role": "user", "content": "a"}]], chat_template=template)
    assert len(texts) == 1


def test_a_timer_of_somebody_else_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "SECONDS", 0.2)
    before, left = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    rung = []
    signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 100)
        with pytest.raises(TimeoutError), bounds.bounded("a"):
            time.sleep(5)
        assert 90 < signal.getitimer(signal.ITIMER_REAL)[0] < 100
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with bounds.bounded("a"):
            time.sleep(0.1)
        time.sleep(0.1)
        assert rung == [1]
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *left)
