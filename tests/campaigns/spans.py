"""Turn answers into token labels and back, with texts in many scripts and every family of tokenizers.

``python tests/campaigns/spans.py`` measures the line "span round trip": 100,000 questions with a context of up to 40
pieces (scripts from left and right, combined letters, emoji, characters without width, all kinds of space and line
ends) and an answer anywhere in it. The windows have to hold every token of the context; a window that is labelled has
to hold the whole answer, and its labels have to give the answer back: exactly, if the answer is made of whole tokens.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "plugins" / "finetune_squad"))

from scorecard import Line, record
from test_spans import PIECES, inner, labelled

from finetune.testing.tokenizers import FAMILIES, tokenizer
from finetune_squad.preprocessor import EXACT, SquadPreprocessor

LENGTH, STRIDE = 40, 8
MORE = (
    *("٤٥", "🏳️\u200d🌈", "ไทย", "한국어", "नमस्ते", "ﷺ", "𝔘𝔫𝔦", "🜁", "ß", "Ω", "ǅ"),
    *("\u202e", "\u2028", "\x85", "\u00ad", "a\u0308\u0323"),
)
"""Pieces of contexts, besides those of the tests."""
BATCH = 200

Answer = tuple[str, int]
Window = dict[str, Any]


@dataclass
class Figures:
    """What the examples showed."""

    seed: int
    families: int = 0
    examples: int = 0
    windows: int = 0
    labelled: int = 0
    """Windows whose labels name an answer."""
    whole: int = 0
    """Examples whose answer is made of whole tokens."""
    problems: list[str] = field(default_factory=list)


def measure(
    *, examples: int, seed: int, families: Sequence[str] = FAMILIES, back: Callable[..., str | None] = labelled
) -> Figures:
    """Label answers, and read the labels back.

    Args:
        examples: How many.
        seed: Seed of the texts.
        families: Families of tokenizers, each in turn.
        back: Returns the text that the labels of a window stand for.
    """
    draw, figures = random.Random(seed), Figures(seed, families=len(families))
    number = 0
    while figures.examples < examples:
        name = families[number % len(families)]
        one_batch(name, min(BATCH, examples - figures.examples), draw, figures, back)
        number += 1
    return figures


BUILT: dict[str, Any] = {}


def one_batch(name: str, size: int, draw: random.Random, figures: Figures, back: Callable[..., str | None]) -> None:
    """Label answers of one family of tokenizers, and read the labels back."""
    words = BUILT.setdefault(name, tokenizer(name))
    contexts = ["".join(draw.choices(PIECES + MORE, k=draw.randint(1, 40))) for _ in range(size)]
    questions = ["Who?"] * size
    tokens = SquadPreprocessor(max_length=5000).features({"question": questions, "context": contexts}, words)
    raw = words(contexts, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    answers: list[Answer] = []
    whole: list[bool] = []
    for context, starts, ends in zip(contexts, tokens["start_chars"], tokens["end_chars"], strict=True):
        answer = whole_tokens(context, starts.tolist(), ends.tolist(), draw) if draw.random() < 0.5 else None
        whole.append(answer is not None)
        if answer is None:
            start = draw.randrange(len(context))
            answer = context[start : start + draw.randint(1, 30)], start
        answers.append(answer)
    batch = {
        "question": questions,
        "context": contexts,
        "answers": [{"text": [text], "answer_start": [start]} for text, start in answers],
    }
    made = SquadPreprocessor(max_length=LENGTH, stride=STRIDE).features(batch, words)
    windows: list[list[Window]] = [[] for _ in contexts]
    for row in zip(*made.values(), strict=True):
        window = dict(zip(made, row, strict=True))
        windows[window["overflow_to_sample_mapping"]].append(window)
    for number, context in enumerate(contexts):
        figures.examples += 1
        figures.windows += len(windows[number])
        figures.whole += whole[number]
        problem = wrong(windows[number], context, answers[number], raw[number], whole[number], figures, back)
        if problem:
            figures.problems.append(f"{name}: {context!r}: {answers[number]}: {problem}")


def whole_tokens(context: str, starts: list[int], ends: list[int], draw: random.Random) -> Answer | None:
    """Return an answer that is made of whole tokens, or None if there is none at a place drawn."""
    visible = [place for place in range(len(starts)) if starts[place] < ends[place]]
    if not visible:
        return None
    first = draw.choice(visible)
    last = draw.choice([place for place in visible if place >= first and ends[place] > starts[first]])
    start, end = starts[first], ends[last]
    for place in visible:
        touches = max(starts[place], start) < min(ends[place], end)
        if touches and not start <= starts[place] <= ends[place] <= end:
            return None  # another token crosses an edge
    return context[start:end], start


def touched(raw: Sequence[tuple[int, int]], context: str, wanted: set[int]) -> set[int]:
    """Return the tokens that hold one of the wanted characters.

    A combining mark that no token covers belongs to the tokens of the character that it changes, as
    `finetune_squad.spans.tokens_of` says: an answer that begins with such a mark touches the token before.
    """
    covered = {place for start, end in raw for place in range(start, end)}
    meant = set()
    for place in wanted:
        while place and place not in covered and unicodedata.category(context[place])[0] == "M":
            place -= 1
        meant.add(place)
    return {token for token, (start, end) in enumerate(raw) if not meant.isdisjoint(range(start, end))}


def wrong(
    windows: Sequence[Window],
    context: str,
    answer: Answer,
    raw: Sequence[tuple[int, int]],
    is_whole: bool,
    figures: Figures,
    back: Callable[..., str | None],
) -> str:
    """Return what is wrong with the windows of an example, or an empty text."""
    wanted = {place for place in range(answer[1], answer[1] + len(answer[0])) if not context[place].isspace()}
    touch = touched(raw, context, wanted)
    begin = 0
    for window in windows:
        count = len(window["start_chars"])
        held = set(range(begin, begin + count))
        text = back(window, context)
        if text is None and touch and touch <= held:
            return "a window holds the whole answer and is not labelled"
        if text is not None:
            figures.labelled += 1
            first, last = (
                window[name] - window["context_first_token"] + begin for name in ("start_positions", "end_positions")
            )
            if not touch <= set(range(first, last + 1)) <= held:
                return f"the labels are a part of the answer: {text!r}"
            if inner(answer[0]) not in text or text != text.strip():
                return f"the labels are {text!r}"
            if (is_whole and text != answer[0]) or (
                window["answer_status"] == EXACT and inner(text) != inner(answer[0])
            ):
                is_mark = bool(wanted) and unicodedata.category(context[min(wanted)])[0] == "M"
                return "" if is_mark else f"the labels are not exact: {text!r}"
        begin += count - STRIDE
    if begin + STRIDE != len(raw):
        return f"the windows hold {begin + STRIDE} tokens of {len(raw)}"
    return ""


def main() -> None:
    """Measure the line, and record it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--examples", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    options, started = parser.parse_args(), time.monotonic()
    found = measure(examples=options.examples, seed=options.seed)
    problems = found.problems
    found.problems = problems[:10]
    print(found)
    record(
        Line(
            name="span round trip",
            goal="100,000 examples, 0 violations",
            stock="with tokenizers such as that of RobBERT, answers lose letters",
            ours=f"{found.examples:,} examples in {found.windows:,} windows of {found.families} families of "
            f"tokenizers, {found.labelled:,} windows with an answer, {found.whole:,} answers of whole tokens: "
            f"{len(problems)} violations",
            met=not problems and found.examples >= 100_000,
            not_covered="Tokenizers without offsets, which are refused.",
        ),
        started=started,
    )


if __name__ == "__main__":
    main()
