"""Checks of examples to follow: their form, their texts, their counts, and what only the whole split shows."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from finetune.errors import BadData
from finetune.interfaces import Finding, Row
from finetune_trl.chat.messages import (
    MissingSpaceCounter,
    TurnPlace,
    check_same_form,
    check_text_or_messages,
    text_of,
)

Form = Literal["messages", "prompt-completion", "text"]
COLUMNS: dict[Form, tuple[str, ...]] = {
    "messages": ("messages",),
    "prompt-completion": ("prompt", "completion"),
    "text": ("text",),
}
"""Form → the columns that it needs."""
MUCH_LONGER = 100
"""A row this many times as long as the median decides how much memory its batch needs."""
_CONTROL = re.compile(r"<\|[^|<>\s]{1,40}\|>|</?s>|\[/?INST\]|<(?:start|end)_of_turn>|<<SYS>>")

REMEDIES: Mapping[str, str] = {
    "truncated": "The model would not learn to end. Raise preprocessor.max_length.",
    "prompt_not_prefix": "Prediction would give the model another prompt than training did. Use a template that writes "
    "earlier turns as it writes the last (preprocessor.chat_template), or end prompts where a token ends.",
    "end_of_turn_outside_loss": "The model would not learn to stop. Use a template that ends a turn of the assistant "
    "with a special token, inside its generation block if it has one.",
    "double_bos": "The tokenizer begins each row with that token; remove it from the data.",
}
"""Counts that spoil a model if they concern many rows, and what to do."""


def forms(row: Row) -> set[Form]:
    """Return the forms whose columns a row fills."""
    filled: set[Form] = set()
    for form, columns in COLUMNS.items():
        if all(row.get(column) is not None for column in columns):
            filled.add(form)
    return filled


_PROMPTS = ("question", "query", "instruction", "input")
_COMPLETIONS = ("answer", "response", "output", "target")
"""Names that other data sets give to prompts and completions."""


def no_form(columns: Sequence[str], *, converter: str | None) -> Finding:
    """Return the error about a split without a row that has an answer.

    Args:
        columns: Those of the data.
        converter: The option of the preprocessor.
    """
    names = ", ".join(map(repr, columns)) or "none"
    prompt = next((name for name in _PROMPTS if name in columns), None)
    completion = next((name for name in _COMPLETIONS if name in columns), None)
    if converter is None and {"instruction", "output"} <= set(columns):
        fix = "Set preprocessor.converter: alpaca."
    elif converter is None and "conversations" in columns:
        fix = "Set preprocessor.converter: sharegpt."
    elif "messages" in columns or "conversations" in columns:
        fix = "End the messages of each row with a turn of the assistant."
    elif converter is not None:
        fix = "Leave preprocessor.converter out, or set the one whose columns the data have: alpaca or sharegpt."
    elif prompt and completion:
        fix = f"Set dataset.columns: {{{prompt}: prompt, {completion}: completion}}."
    else:
        fix = (
            "Call them messages (a list that ends with the assistant), or prompt and completion, or text, under "
            "dataset.columns; or set preprocessor.converter for Alpaca's and ShareGPT's columns."
        )
    message = f"no row is an instruction with its answer; the columns are {names}."
    return Finding(code="no-form", message=message, fix=fix, level="error")


def check_form(rows: Sequence[Row], form: Form) -> Iterator[Finding]:
    """Yield an error if a split has several forms."""
    known: set[Form] = set()
    first_other: int | None = None
    for number, row in enumerate(rows):
        filled = forms(row)
        known |= filled
        if first_other is None and filled - {form}:
            first_other = number
    if len(known) > 1:
        yield Finding(
            code="mixed-forms",
            message=f"rows have several forms: {', '.join(sorted(known))}.",
            fix="Keep one form in a data set. To ignore a column, rename it under dataset.columns: {text: note}.",
            level="error",
            row=first_other,
        )


def check_prompt_completion(
    row: Row, number: int, *, answered: bool, places: Mapping[str, Sequence[TurnPlace]] = {}
) -> Iterator[Finding]:
    """Yield what is wrong with a prompt and its completion, texts or messages.

    Args:
        row: The row.
        number: Its position.
        answered: Whether it must have a completion.
        places: Column → where the data hold each of its messages, if a converter made them.
    """
    prompt, completion = row.get("prompt"), row.get("completion")
    yield from check_text_or_messages(
        prompt, row=number, column="prompt", part="prompt", name="prompt", places=places.get("prompt"), weights=True
    )
    if not answered:
        return
    if prompt is not None and completion is not None:
        different = list(check_same_form({"prompt": prompt, "completion": completion}, row=number))
        yield from different
        if different:
            return
    yield from check_text_or_messages(
        completion,
        row=number,
        column="completion",
        part="completion",
        name="completion",
        places=places.get("completion"),
        weights=True,
    )


class SplitWarnings:
    """Gathers the warnings that are given once for a split."""

    def __init__(self) -> None:
        self._sizes = array("q")
        self._control: int | None = None
        self._controls = 0
        self._missing_spaces = MissingSpaceCounter()

    def add(self, number: int, row: Row) -> None:
        """Add one row, with the columns of this plugin."""
        size, has_control = 0, False
        for columns in COLUMNS.values():
            for column in columns:
                value = row.get(column)
                text = text_of(value) if isinstance(value, str | list) else ""
                size += len(text)
                has_control = has_control or bool(_CONTROL.search(text))
        self._sizes.append(size)
        if has_control:
            self._control = number if self._control is None else self._control
            self._controls += 1
        self._missing_spaces.add(number, row.get("prompt"), row.get("completion"))

    def findings(self) -> Iterator[Finding]:
        """Yield one warning of each kind."""
        yield from self._long_rows()
        if self._controls:
            yield Finding(
                code="control-token-in-text",
                message=f"{self._controls:,} rows hold the text of a control token, such as <|im_end|>.",
                fix="In messages it is encoded as text; in prompt, completion and text it is the token.",
                level="warning",
                row=self._control,
            )
        yield from self._missing_spaces.findings(
            column="completion",
            fix="Begin completions with the space or line break that belongs there. Or make them turns of a chat: "
            "rename the columns to instruction and output, and set preprocessor.converter: alpaca.",
        )

    def _long_rows(self) -> Iterator[Finding]:
        usual = float(np.median(self._sizes)) if self._sizes else 0
        longest = max(self._sizes, default=0)
        if longest > MUCH_LONGER * max(usual, 1):
            yield Finding(
                code="row-much-longer",
                message=f"the row has {longest:,} characters, and half of the rows have at most {int(usual):,}.",
                fix="The memory of its batch depends on it; preprocessor.max_length cuts it.",
                level="warning",
                row=self._sizes.index(longest),
            )


def refuse_spoiled_rows(
    counts: Mapping[str, int],
    *,
    split: str,
    max_length: int,
    tolerance: float,
    keep: bool,
    explain: Callable[[str], str | None] = lambda name: None,
) -> None:
    """Refuse rows that spoil a model, beyond the tolerance.

    Args:
        counts: The counts of the data report.
        split: Its name.
        max_length: Of the preprocessor, for the message.
        tolerance: Share of the rows that may have each issue.
        keep: Whether some rows may have no trained token.
        explain: Name of a count → the cause in these rows and what to do; None for the usual remedy.

    Raises:
        BadData: With the number of such rows, and what to do.
    """
    rows, untrained = counts["features"], counts.get("rows_without_trained_tokens", 0)
    if untrained == rows and not counts.get("truncated"):
        raise BadData(
            f"{split}: none of {rows:,} rows has a trained token, and max_length cuts none of them: the chat template "
            "writes nothing of the answers between {% generation %} and {% endgeneration %}. Correct the template, or "
            "set preprocessor.loss_on: completion."
        )
    if untrained == rows or (untrained and not keep):
        raise BadData(
            f"{split}: {untrained:,} of {rows:,} rows have no trained token: the prompt alone fills max_length "
            f"({max_length}). Raise preprocessor.max_length, or set preprocessor.untrained_rows: keep."
        )
    for name, remedy in REMEDIES.items():
        if counts.get(name, 0) > tolerance * rows:
            raise BadData(
                f"{split}: {name} counts {counts[name]:,} of {rows:,} rows, more than preprocessor.tolerance "
                f"({tolerance:g}) allows. {explain(name) or remedy}"
            )
