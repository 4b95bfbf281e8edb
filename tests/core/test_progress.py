"""What a command shows while it works: bars with count and time left, and lines that break between words."""

from __future__ import annotations

import io
import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console as RichConsole

from finetune.cli import output
from finetune.evaluation import verdicts
from finetune.progress import Console

NAMES = ("train", "score", "read and check the data", "search the other splits for rows of train")
NUMBERS = {"loss": 0.58764321, "grad_norm": 0.1446, "learning_rate": 0.01716}


def console(width: int, *, terminal: bool = True, lasting: bool = True) -> tuple[Console, io.StringIO]:
    shown, text = Console(lasting=lasting), io.StringIO()
    shown.console = RichConsole(
        file=text, force_terminal=terminal, width=width, highlight=False, soft_wrap=True, color_system=None
    )
    return shown, text


@settings(max_examples=25, deadline=None)
@given(name=st.sampled_from(NAMES), total=st.integers(2, 10**7), share=st.floats(0, 0.99), width=st.integers(80, 200))
def test_a_bar_fits_the_line_with_its_count_and_the_time_left(name: str, total: int, share: float, width: int) -> None:
    shown, _ = console(width)
    done = int(total * share)
    with shown.phase(name):
        shown.step(done, total, **NUMBERS)
        room = shown._room(total)
        rendered = shown.console.render_lines(shown._bar.get_renderable(), pad=False)
    (line,) = ("".join(segment.text for segment in segments).rstrip() for segments in rendered)
    assert len(line) <= width
    assert name in line and f"{done}/{total}" in line.replace(" ", "") and ("-:--:--" in line or ":" in line)
    assert ("loss 0.5876" in line) == (room >= len("loss 0.5876"))


def test_without_a_terminal_each_line_names_its_phase_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, text = console(80, terminal=False)
    now = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with shown.phase("predict"):
        for done in range(5):
            now[0] += 11
            shown.step(done, 10)
    now[0] += 60
    shown.step(3, 10)  # outside a phase
    lines = text.getvalue().splitlines()
    assert lines[0].startswith("  predict: 0 of 10") and lines[4].startswith("  predict: 4 of 10, 1:06 left")
    assert lines[5].startswith("✓ predict") and len(lines) == 6


def test_a_phase_that_does_not_last_leaves_no_line() -> None:
    shown, text = console(80, terminal=False, lasting=False)
    with shown.phase("predict"):
        pass
    assert text.getvalue() == ""


@given(st.lists(st.text("abcdefgh", min_size=1, max_size=30), min_size=1), st.integers(25, 120), st.integers(0, 9))
def test_a_sentence_breaks_between_words(words: list[str], width: int, first: int) -> None:
    sentence = " ".join(words)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("shutil.get_terminal_size", lambda: os.terminal_size((width, 24)))
        text = output.wrapped(sentence, first=first)
    assert text.split() == words
    for number, line in enumerate(text.splitlines()):
        taken = 0 if number else first
        assert len(line) + taken <= width or len(line.split()) == 1


@pytest.mark.parametrize(
    ("scores", "primary", "kept"),
    [
        ({"accuracy": 0.5, "precision_micro": 0.5, "recall_micro": 0.5, "f1_micro": 0.5, "f1_macro": 0.4}, "accuracy",
         ["accuracy", "f1_macro"]),
        ({"accuracy": 0.3, "precision_micro": 0.5, "recall_micro": 0.6, "f1_micro": 0.55}, "f1_micro",
         ["accuracy", "precision_micro", "recall_micro", "f1_micro"]),
        ({"accuracy": 1.0, "precision_micro": 1.0, "recall_micro": 1.0, "f1_micro": 1.0}, "f1_micro",
         ["accuracy", "f1_micro"]),
        ({"exact": 50.0, "f1": 60.0, "total": 240, "HasAns_total": 201, "best_exact": 51.0, "best_exact_thresh": 0.1},
         "f1", ["exact", "f1", "best_exact"]),
        ({"f1@a": 0.5, "total@a": 3}, "f1", ["f1@a"]),
    ],
)  # fmt: skip
def test_tables_show_scores_and_no_counts(scores: dict[str, float], primary: str, kept: list[str]) -> None:
    assert list(verdicts.shown(scores, primary=primary)) == kept
