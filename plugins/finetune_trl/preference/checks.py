"""What can be wrong with pairs of answers, and with prompts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any

from finetune.interfaces import Finding
from finetune_trl.chat import messages as chat
from finetune_trl.chat.messages import Part
from finetune_trl.preference.pairs import CHOSEN, PROMPT, REJECTED, Pair

PAIR_FORM = "Write prompt, chosen and rejected as text, or all as messages."


def check_pair(pair: Pair, *, row: int, conversational: bool = False) -> Iterator[Finding]:
    """Yield what is wrong with one pair, of which turns are to be made where pairs are ``conversational``."""
    if not pair.implicit and all(begins_with(answer, pair.prompt) for answer in (pair.chosen, pair.rejected)):
        yield Finding(code="prompt-repeated", message="both answers begin with the prompt, which would come twice.",
                      fix="Leave the prompt out of the answers, or the column prompt out of the data.", row=row,
                      column=CHOSEN)  # fmt: skip
        return
    found = [*check_form(pair.prompt, row=row, column=PROMPT, part="prompt", empty="prompt-missing")] if (
        pair.prompt or not pair.implicit
    ) else [_no_common_prompt(row)]  # fmt: skip
    for column, answer in ((CHOSEN, pair.chosen), (REJECTED, pair.rejected)):
        found += check_form(answer, row=row, column=column, part="completion", empty="answer-empty")
    yield from found
    if found:
        return
    if conversational and pair.implicit and isinstance(pair.chosen, str):
        yield Finding(code="no-prompt-for-turns", row=row, column=PROMPT, level="error",
                      message="conversational makes turns of text, and there is no prompt to make the user's turn of.",
                      fix="Give the prompt in its own column, or leave preprocessor.conversational out.")  # fmt: skip
        return
    mixed = list(check_forms_agree(
        {PROMPT: pair.prompt, CHOSEN: pair.chosen, REJECTED: pair.rejected}, row=row))  # fmt: skip
    yield from mixed
    if mixed:
        return
    if _stripped(pair.chosen) == _stripped(pair.rejected):
        yield Finding(code="identical-answers", message="chosen and rejected are the same, but for outer space.",
                      fix="Drop the row: there is nothing to prefer.", row=row, column=CHOSEN,
                      value=chat.text_of(pair.chosen))  # fmt: skip


def check_forms_agree(parts: Mapping[str, Any], *, row: int) -> Iterator[Finding]:
    """Yield a finding where some parts of a row, by their columns, are text and others messages."""
    if len({chat.are_messages(part) for part in parts.values()}) > 1:
        *others, last = parts
        names = f"{', '.join(others)} and {last}"
        yield Finding(code="mixed-forms", message=f"some of {names} are text, others messages.",
                      fix=f"Write {names} as text, or all as messages.", row=row, column=PROMPT)  # fmt: skip


def check_form(value: Any, *, row: int, column: str, part: Part, empty: str) -> Iterator[Finding]:
    """Yield what is wrong with one prompt or answer, as text or as messages.

    ``empty`` is the code where nothing is there.
    """
    if chat.are_messages(value):
        yield from chat.check(value, row=row, column=column, part=part)
    elif value is None or (isinstance(value, str) and not value.strip()):
        what = "is missing" if value is None else "holds no visible character"
        yield Finding(code=empty, message=f"the {column} {what}.", fix="Fill it in, or drop the row.", row=row,
                      column=column)  # fmt: skip
    elif not isinstance(value, str):
        yield Finding(code="neither-text-nor-messages", fix=PAIR_FORM, row=row, column=column, value=str(value),
                      message=f"text or a list of messages was wanted, not {type(value).__name__}.")  # fmt: skip


def begins_with(answer: Any, prompt: Any) -> bool:
    """Say whether an answer holds its prompt once more, at its beginning."""
    comparable = isinstance(answer, str | list) and type(answer) is type(prompt)
    return comparable and bool(chat.text_of(prompt).strip()) and bool(answer[: len(prompt)] == prompt)


def _no_common_prompt(row: int) -> Finding:
    return Finding(
        code="no-common-prompt", message="there is no prompt, and chosen and rejected do not begin alike.",
        fix="Give the prompt in a column of its own, or at the beginning of both answers.", row=row, column=PROMPT,
    )  # fmt: skip


def _stripped(answer: Any) -> Any:
    if isinstance(answer, str):
        return answer.strip()
    return [(message["role"], message["content"].strip()) for message in answer]


class Joined:
    """Counts answers that follow their prompt without a space, where both are text."""

    def __init__(self) -> None:
        self._rows: list[int] = []

    def add(self, number: int, prompt: Any, *answers: Any) -> None:
        """Take in one row with its answers."""
        texts = [answer for answer in answers if isinstance(answer, str)]
        if isinstance(prompt, str) and not prompt[-1:].isspace() and not all(text[:1].isspace() for text in texts):
            self._rows.append(number)

    def findings(self) -> Iterator[Finding]:
        """Yield one warning for all of them."""
        if self._rows:
            yield Finding(
                code="no-space-between", level="warning", column=PROMPT, row=self._rows[0],
                message=f"in {len(self._rows):,} rows an answer follows the prompt without a space.",
                fix="Begin answers with the space that shall stand there, or set preprocessor.conversational: true for "
                "a model that was trained on chats.",
            )  # fmt: skip


class Preferred:
    """Counts pairs that come back, the same way round or the other, in 16 bytes a pair."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._repeats = [0, 0]
        self._first: list[int | None] = [None, None]

    def add(self, number: int, pair: Pair) -> None:
        """Take in one sound pair."""
        ways = [
            _digest(pair.prompt, *answers) for answers in ((pair.chosen, pair.rejected), (pair.rejected, pair.chosen))
        ]
        for way, digest in enumerate(ways):
            if digest in self._seen:
                self._repeats[way] += 1
                self._first[way] = number if self._first[way] is None else self._first[way]
        self._seen.add(ways[0])

    def findings(self) -> Iterator[Finding]:
        """Yield a warning for pairs that come back, and one for pairs that come back the other way round."""
        same, opposed = self._repeats
        if same:
            yield Finding(
                code="duplicate-rows", message=f"{same:,} rows repeat an earlier pair.", level="warning", column=PROMPT,
                fix="Remove them, or know that they count more than once.", row=self._first[0],
            )  # fmt: skip
        if opposed:
            yield Finding(
                code="contradictory-preferences", level="warning", column=CHOSEN, row=self._first[1],
                message=f"{opposed:,} rows prefer the answer that an earlier row rejects for the same prompt.",
                fix="Decide which answer is better: the two cancel each other.",
            )  # fmt: skip


def _digest(*parts: Any) -> bytes:
    return blake2b(repr(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()
