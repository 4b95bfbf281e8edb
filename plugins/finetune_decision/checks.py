"""What is wrong with rows: the question, the answer, the tokens of the labels, the length of the prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jinja2 import TemplateError
from transformers.decision import DecisionConfig, Question

from finetune.interfaces import Finding, Row
from finetune.kit import DuplicateCounter, TextWarnings, check_text
from finetune_decision.prompts import Prompts
from finetune_decision.questions import (
    NAME,
    TYPES,
    answers_of,
    identity_of,
    is_ambiguous,
    position_of,
    question_of,
    request_of,
)


def check_rows(examples: Sequence[Row], config: DecisionConfig) -> Iterator[Finding]:
    """Yield what is wrong with the rows of a split, as far as no tokenizer is needed.

    Args:
        examples: The rows.
        config: Says how many options a question can have.
    """
    labelled = any(row.get("answer") is not None for row in examples)
    duplicates, warnings = DuplicateCounter(), TextWarnings()
    for number, row in enumerate(examples):
        for column in ("state", "instructions"):
            warnings.add(number, column, row.get(column))
        problems = list(check_text(row.get("state"), row=number, column="state", name="state"))
        instructions = row.get("instructions")
        if instructions not in (None, ""):
            problems += check_text(instructions, row=number, column="instructions", name="instructions")
        question = _question(row, number, config, problems)
        if question is not None and labelled:
            problems += _check_answer(row, number, question)
        yield from problems
        if not problems and question is not None:
            duplicates.add(number, (row["state"], identity_of(question)), str(row.get("answer")))
    yield from warnings.findings()
    yield from duplicates.repeat_warning("rows repeat an earlier question about the same state.", column="state")
    yield from duplicates.conflict_warning(
        "rows repeat an earlier question about the same state with another answer.", column="state"
    )


def _question(row: Row, number: int, config: DecisionConfig, problems: list[Finding]) -> Question | None:
    """Return the question of a row, or add what is wrong with it."""
    kind = row.get("type")
    if kind not in TYPES:
        problems.append(
            Finding(
                code="question-type-unknown",
                message=f"the type must be one of {', '.join(TYPES)}.",
                fix="Correct the type; `noul` is a yes/no question.",
                row=number,
                column="type",
                value=str(kind),
            )
        )
        return None
    try:
        return question_of(row, config)
    except ValueError as error:
        text = " ".join(str(error).split()).removeprefix(f"Question {NAME!r}: ").rstrip(".")
        problems.append(
            Finding(
                code="question-not-valid",
                message=f"{text}.",
                fix="Correct the criteria, or drop the row.",
                row=number,
                column="criteria",
                value=str(row.get("criteria")),
            )
        )
    return None


def _check_answer(row: Row, number: int, question: Question) -> Iterator[Finding]:
    answer = row.get("answer")
    if answer is None or position_of(answer, question) is None:
        yield Finding(
            code="answer-not-an-option", message=f"the answer must be {answers_of(question)}.",
            fix="Correct the answer or the criteria, or drop the row.", row=number, column="answer", value=str(answer),
        )  # fmt: skip
    elif is_ambiguous(answer, question):
        yield Finding(
            code="answer-ambiguous",
            message="the answer is the number of one level, counted from 0, and the text of another.",
            fix="Write the levels in words: `1 star` in place of `1`.", row=number, column="answer", value=str(answer),
        )  # fmt: skip


def check_prompts(examples: Sequence[Row], prompts: Prompts, *, max_length: int) -> Iterator[Finding]:
    """Yield the rows whose labels the pipeline could not read, and those whose prompt is too long.

    Args:
        examples: Rows that `check_rows` accepts.
        prompts: Makes the prompts.
        max_length: Longest prompt, in tokens.
    """
    for number, row in enumerate(examples):
        question = question_of(row, prompts.config)
        split, same = prompts.bad_labels(question)
        if split:
            yield Finding(
                code="label-not-a-token", message=f"not a single token of the model: {', '.join(split)}.",
                fix="Set preprocessor.labels to labels that are single tokens.", row=number, column="type",
                value=question.type,
            )  # fmt: skip
        if same:
            yield Finding(
                code="labels-share-a-token", message=f"labels with the same token: {', '.join(same)}.",
                fix="Set preprocessor.labels to labels with a token each.", row=number, column="type",
                value=question.type,
            )  # fmt: skip
        try:
            length = len(prompts.tokens(row["state"], request_of(row)))
        except (ValueError, TemplateError, NotImplementedError) as error:
            text = " ".join(str(error).split()).rstrip(".")
            yield Finding(
                code="prompt-not-rendered", message=f"the prompt cannot be made: {text}.",
                fix="Drop the row, or name a model with another chat template.", row=number, column="state",
                value=str(row["state"]),
            )  # fmt: skip
            continue
        if length > max_length:
            yield Finding(
                code="prompt-too-long",
                message=f"the prompt has {length:,} tokens, and at most {max_length:,} are allowed; "
                "it is never truncated.",
                fix=f"Set preprocessor.max_length to {length} if the model can read that many, or drop the row.",
                row=number, column="state", value=str(row["state"]),
            )  # fmt: skip
