"""Checks of pairs of answers, and of single answers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from finetune.interfaces import Finding, Row
from finetune.kit import DuplicateCounter
from finetune_trl.chat.columns import MARGIN
from finetune_trl.chat.messages import check_same_form, check_text_or_messages, text_of
from finetune_trl.chat.rows import COMPLETION, PROMPT, PromptCompletion
from finetune_trl.preference.pairs import CHOSEN, REJECTED, PreferencePair

SPACE_FIX = (
    "Begin answers with the space that belongs there, or set preprocessor.conversational: true for a model that was "
    "trained on chats."
)


def has_answers(rows: Sequence[Row]) -> bool:
    """Say whether any row has one of the two answers of a pair."""
    return any(row.get(CHOSEN) is not None or row.get(REJECTED) is not None for row in rows)


def check_pair(pair: PreferencePair, *, row: int, conversational: bool = False) -> Iterator[Finding]:
    """Yield what is wrong with one pair.

    Args:
        pair: As the row gives it.
        row: Its position.
        conversational: Whether text will become turns of a chat.
    """
    if not pair.implicit and _starts_with(pair.chosen, pair.prompt) and _starts_with(pair.rejected, pair.prompt):
        yield Finding(
            code="prompt-repeated",
            message="both answers begin with the prompt, so that it would come twice.",
            fix="Remove the prompt from the answers, or the column prompt from the data.",
            row=row,
            column=CHOSEN,
        )
        return
    form = list(_check_parts(pair, row=row))
    yield from form
    if form:
        return
    if conversational and pair.implicit and isinstance(pair.chosen, str):
        yield Finding(
            code="no-prompt-for-turns",
            message="preprocessor.conversational needs a prompt for the user's message, and the row has none.",
            fix="Give the prompt in its own column, or leave preprocessor.conversational out.",
            level="error",
            row=row,
            column=PROMPT,
        )
        return
    parts = {PROMPT: pair.prompt, CHOSEN: pair.chosen, REJECTED: pair.rejected}
    mixed = list(check_same_form(parts, row=row))
    yield from mixed
    if not mixed and _stripped(pair.chosen) == _stripped(pair.rejected):
        yield Finding(
            code="identical-answers",
            message="chosen and rejected are equal, apart from outer space.",
            fix="Drop the row: it holds no preference.",
            row=row,
            column=CHOSEN,
            value=text_of(pair.chosen),
        )


def has_margins(rows: Sequence[Row]) -> bool:
    """Say whether any row says how much better its chosen answer is."""
    return any(row.get(MARGIN) is not None for row in rows)


def parse_margin(value: Any) -> float | None:
    """Return a margin as a number; None for any other value.

    >>> parse_margin("0.5"), parse_margin(2), parse_margin("much"), parse_margin(True)
    (0.5, 2.0, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def check_margins(rows: Sequence[Row]) -> Iterator[Finding]:
    """Yield what is wrong with the margins of rows, of which one at least has a margin."""
    negative: list[int] = []
    for number, row in enumerate(rows):
        value = row.get(MARGIN)
        margin = parse_margin(value)
        if margin is None:
            found = "nothing" if value is None else repr(value)
            yield Finding(
                code="bad-margin",
                message=f"expected a number as margin, found {found}.",
                fix="Write how much better the chosen answer is in all rows, or remove the column.",
                row=number,
                column=MARGIN,
                value=None if value is None else str(value),
            )
        elif margin < 0:
            negative.append(number)
    if negative:
        yield Finding(
            code="negative-margin",
            message=f"{len(negative):,} rows have a margin below 0, which lets the rejected answer score higher.",
            fix="Swap the answers, or write 0.",
            level="warning",
            row=negative[0],
            column=MARGIN,
        )


def check_single(single: PromptCompletion, *, row: int) -> Iterator[Finding]:
    """Yield what is wrong with a prompt and its one answer.

    Args:
        single: As the row gives them.
        row: Its position.
    """
    prompt, completion = single.prompt, single.completion
    findings = [
        *check_text_or_messages(prompt, row=row, column=PROMPT, part="prompt", name="prompt"),
        *check_text_or_messages(completion, row=row, column=COMPLETION, part="completion", name="answer"),
    ]
    yield from findings or check_same_form({PROMPT: prompt, COMPLETION: completion}, row=row)


def _check_parts(pair: PreferencePair, *, row: int) -> Iterator[Finding]:
    if pair.implicit and not pair.prompt:
        yield Finding(
            code="no-common-prompt",
            message="there is no prompt, and chosen and rejected do not begin with the same words or messages.",
            fix="Give the prompt in its own column, or at the beginning of both answers.",
            row=row,
            column=PROMPT,
        )
    else:
        yield from check_text_or_messages(pair.prompt, row=row, column=PROMPT, part="prompt", name="prompt")
    for column, answer in ((CHOSEN, pair.chosen), (REJECTED, pair.rejected)):
        yield from check_text_or_messages(answer, row=row, column=column, part="completion", name="answer")


def _starts_with(answer: Any, prompt: Any) -> bool:
    """Say whether an answer repeats its prompt at its beginning."""
    if not isinstance(answer, str | list) or type(answer) is not type(prompt):
        return False
    return bool(text_of(prompt).strip()) and bool(answer[: len(prompt)] == prompt)


def _stripped(answer: Any) -> Any:
    if isinstance(answer, str):
        return answer.strip()
    return [(message["role"], message["content"].strip(), message.get("tool_calls")) for message in answer]


class RepeatedPairs:
    """Counts pairs that repeat an earlier one, with the same preference or with the opposite one."""

    def __init__(self) -> None:
        self._pairs = DuplicateCounter()

    def add(self, row: int, pair: PreferencePair) -> None:
        """Count one sound pair."""
        answers = sorted([repr(pair.chosen), repr(pair.rejected)])
        prefers_first = repr(pair.chosen) == answers[0]
        self._pairs.add(row, (pair.prompt, answers), label=prefers_first)

    def findings(self) -> Iterator[Finding]:
        """Yield a warning for repeated pairs, and one for opposite preferences."""
        yield from self._pairs.repeat_warning("rows repeat an earlier pair.", column=PROMPT)
        yield from self._pairs.conflict_warning(
            "rows prefer the answer that an earlier row rejects for the same prompt.",
            column=CHOSEN,
            code="contradictory-preferences",
            fix="Decide which answer is better: the two rows cancel each other.",
        )
