"""What is wrong with examples to follow: forms, texts, and what only the whole split shows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any, Literal

from finetune.interfaces import Finding, Row
from finetune_trl.chat import messages as chat

Form = Literal["messages", "prompt-completion", "text"]
COLUMNS: dict[Form, tuple[str, ...]] = {
    "messages": ("messages",),
    "prompt-completion": ("prompt", "completion"),
    "text": ("text",),
}
"""Form → the columns that it needs."""
LONG = 100
"""A row so many times longer than the median decides how much memory a batch needs."""
_CONTROL = re.compile(r"<\|[^|<>\s]{1,40}\|>|</?s>|\[/?INST\]|<(?:start|end)_of_turn>|<<SYS>>")


def forms(row: Row) -> set[Form]:
    """Return the forms whose columns a row fills."""
    return {form for form, columns in COLUMNS.items() if all(row.get(column) is not None for column in columns)}


def check_mixture(rows: Sequence[Row], form: Form | None) -> Iterator[Finding]:
    """Yield an error where a split has no form, or several."""
    found = [(number, forms(row)) for number, row in enumerate(rows)]
    known = set().union(*(kinds for _, kinds in found))
    if form is None:
        names = ", ".join(map(repr, rows[0])) if len(rows) else "none"
        yield Finding(
            code="no-form",
            message=f"no row is an instruction with its answer; the columns are {names}.",
            fix="Call them messages (a list that ends with the assistant), or prompt and completion, or text, under "
            "dataset.columns; or set preprocessor.converter for Alpaca's and ShareGPT's.",
            level="error",
        )
    elif len(known) > 1:
        number = next(number for number, kinds in found if len(known) > 1 and kinds != {form})
        yield Finding(
            code="mixed-forms", message=f"rows have several forms: {', '.join(sorted(known))}.",
            fix="Keep one form a data set; rename what is not meant under dataset.columns: {text: note}.",
            level="error", row=number,
        )  # fmt: skip


def check_pair(row: Row, number: int, *, answered: bool) -> Iterator[Finding]:
    """Yield what is wrong with a prompt and its completion, texts or messages."""
    prompt, completion = row.get("prompt"), row.get("completion")
    if chat.are_messages(prompt):
        yield from chat.check(prompt, row=number, column="prompt", part="prompt")
    else:
        yield from check_text(prompt, number, "prompt")
    if not answered:
        return
    if prompt is not None and completion is not None and chat.are_messages(prompt) != chat.are_messages(completion):
        message = "one of prompt and completion is text, the other messages."
        fix = "Write both in one way."
        yield Finding(code="prompt-completion-differ", message=message, fix=fix, row=number, column="completion")
    elif chat.are_messages(completion):
        yield from chat.check(completion, row=number, column="completion", part="completion")
    else:
        yield from check_text(completion, number, "completion")


def check_text(value: Any, number: int, column: str) -> Iterator[Finding]:
    """Yield what is wrong with a text: ``prompt-not-text``, ``completion-empty``."""
    fix = "Fill it in, or drop the row."
    if not isinstance(value, str):
        message = f"text was wanted, not {'nothing' if value is None else type(value).__name__}."
        shown = None if value is None else str(value)
        yield Finding(code=f"{column}-not-text", message=message, fix=fix, row=number, column=column, value=shown)
    elif not value.strip():
        message = f"the {column} says nothing."
        yield Finding(code=f"{column}-empty", message=message, fix=fix, row=number, column=column)


class Seen:
    """Gathers what is said once a split."""

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._control: list[int] = []
        self._glued: list[int] = []

    def add(self, number: int, row: Row) -> None:
        """Take in one row, with our columns."""
        parts = [row.get(column) for columns in COLUMNS.values() for column in columns]
        texts = [chat.text_of(part) for part in parts if part is not None and isinstance(part, str | list)]
        self._sizes.append(sum(map(len, texts)))
        if any(_CONTROL.search(text) for text in texts):
            self._control.append(number)
        prompt, completion = row.get("prompt"), row.get("completion")
        if isinstance(prompt, str) and isinstance(completion, str) and prompt and completion:
            glued = prompt[-1].isalnum() or prompt[-1] in ".,:;!?)\"'"
            if glued and completion[0].isalnum():
                self._glued.append(number)

    def findings(self) -> Iterator[Finding]:
        """Yield one warning of each kind."""
        usual = median(self._sizes) if self._sizes else 0
        long = [number for number, size in enumerate(self._sizes) if size > LONG * max(usual, 1)]
        if long:
            message = f"a row has {max(self._sizes):,} characters, and half the rows at most {int(usual):,}."
            yield _warning(
                "row-much-longer", long, message, "It decides the memory of its batch; preprocessor.max_length cuts it."
            )
        if self._control:
            message = f"{len(self._control):,} rows hold the text of a control token, such as <|im_end|>."
            fix = "In messages it is encoded as text; in prompt, completion and text it is the token."
            yield _warning("control-token-in-text", self._control, message, fix)
        if self._glued:
            message = f"in {len(self._glued):,} rows the completion follows the prompt without a space."
            fix = (
                "Begin completions with the space or line break that shall stand there. Or make turns of a chat of "
                "them: rename the columns to instruction and output, and set preprocessor.converter: alpaca."
            )
            yield _warning("no-space-between", self._glued, message, fix)


def _warning(code: str, rows: Sequence[int], message: str, fix: str) -> Finding:
    return Finding(code=code, message=message, fix=fix, level="warning", row=rows[0])
