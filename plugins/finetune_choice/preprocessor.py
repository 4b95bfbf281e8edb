"""Questions with choices → nested features, one sequence of tokens for each choice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

from finetune.errors import BadData, BadOptions, Incompatible
from finetune.interfaces import Batch, Columns, DataForm, Finding, Preprocessor, Row, Values
from finetune.kit import (
    DuplicateCounter,
    PadLeft,
    PadRight,
    TextWarnings,
    check_text,
    encode_truncated,
    padding_side,
    within_context,
)
from finetune_choice.answers import WRITTEN, LabelForm, choices_of, names_of, position_of
from finetune_choice.collator import PadChoices, cross_entropy

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


_RIGHT = (
    "answer", "answer_key", "correct_answer", "correct", "correct_option", "answer_idx", "answer_index", "cop", "gold",
    "gold_label", "target", "key",
)  # fmt: skip
"""Names that data sets give the right choice."""
_SERIES = (
    "choice", "option", "answer", "ending", "opt", "op", "sol", "solution", "ans", "alternative", "candidate", "",
)  # fmt: skip
"""How the names of columns begin that hold one choice each: `choice1`, `Option B`, or `A` alone."""


@dataclass(frozen=True, kw_only=True)
class MultipleChoicePreprocessor(Preprocessor):
    """A question with several choices, of which one is right.

    The model reads each choice by itself, after the question and its context. All questions have the same number of
    choices.
    """

    max_length: int = 256
    """Longest sequence of context, question and one choice, in tokens, special tokens included. Longer ones are
    truncated in the context, or in the question if there is no context, and the loss is counted."""
    context: bool = True
    """Whether each question is about a text, in the column `context`."""
    choice_columns: tuple[str, ...] | None = None
    """Columns that hold one choice each, in order; if not given, the column `choices` holds a list."""
    label_form: LabelForm = "index"
    """How `label` names the right choice: `index` (a whole number from 0), `number` (from 1), `letter` (from A, or
    one of the names in `choices`, which ARC holds as `{text: [...], label: [...]}`) or `text`."""
    num_choices: int | None = None
    """Choices of each question; learned from train if not given."""

    def __post_init__(self) -> None:
        if self.choice_columns is not None and len(self.choice_columns) < 2:
            raise ValueError("choice_columns must name at least two columns")

    def needs(self) -> Columns:
        """Return the columns that are read; questions about one context stay together."""
        given = ("context", "question") if self.context else ("question",)
        choices = self.choice_columns or ("choices",)
        return Columns(required=(*given, *choices), answers=("label",), group="context" if self.context else None)

    def forms(self) -> Sequence[DataForm]:
        """Return the forms of the data.

        The right choice is a position, a letter or a text; the choices are a list or columns; there is a context or
        not.
        """
        context = Values(  # by its name only: another text can be the explanation of the answer
            what="the text that the question is about", names=("article", "passage", "paragraph", "text", "premise")
        )
        question = Values(
            what="a question", kind="text",
            names=("query", "q", "question_text", "prompt", "sentence", "stem", "ctx", "context", "goal", "sent1"),
        )  # fmt: skip
        choices = Values(
            what='the choices: a list of texts, or {"text": […], "label": […]}', kind="texts",
            names=("options", "answers", "endings"),
        )  # fmt: skip
        columns = Values(what="one choice each", kind="phrase", names=_SERIES)
        labels: dict[LabelForm, Values] = {
            "index": Values(what="the position of the right choice, from 0", kind="index", names=_RIGHT),
            "number": Values(what="the position of the right choice, from 1", kind="ordinal", names=_RIGHT),
            "letter": Values(what="the letter of the right choice, from A", kind="letter", names=_RIGHT),
            "text": Values(what="the right choice", kind="phrase", names=_RIGHT),
        }
        found = []
        for label_form, label in labels.items():
            options = {} if label_form == "index" else {"label_form": label_form}
            asked = {"question": question, "choices": choices, "label": label}
            found.append(DataForm(columns={"context": context, **asked}, options=options))
            found.append(DataForm(columns=asked, options={"context": False, **options}, weight=0.97))
        for label_form, label in labels.items():
            options = {} if label_form == "index" else {"label_form": label_form}
            asked = {"question": question, "label": label}
            groups = {"choice_columns": columns}
            found.append(DataForm(columns={"context": context, **asked}, options=options, groups=groups))
            found.append(
                DataForm(columns=asked, options={"context": False, **options}, groups=groups, weight=0.97)
            )  # fmt: skip
        return found

    def fit(self, train: Sequence[Row]) -> Self:
        """Return a copy that knows how many choices a question has: as most questions of train."""
        if self.num_choices is not None:
            return self
        found = (choices_of(row, self.choice_columns) for row in train)
        counts = Counter(len(choices) for choices in found if choices is not None)
        return replace(self, num_choices=counts.most_common(1)[0][0] if counts else None)

    def for_model(self, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> Self:
        """Return a copy with the length that a trained model takes."""
        return within_context(self, config)

    def learn_form(self, examples: Sequence[Row]) -> Self:
        """Return a copy that knows how many choices a question has."""
        return self.fit(examples)

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with one split."""
        labelled = any(row.get("label") is not None for row in examples)
        duplicates, warnings = DuplicateCounter(), TextWarnings()
        for number, row in enumerate(examples):
            for column in ("context", "question"):
                warnings.add(number, column, row.get(column))
            for choice in choices_of(row, self.choice_columns) or ():
                warnings.add(number, self.choice_columns[0] if self.choice_columns else "choices", choice)
            problems = list(self._check_row(row, number, labelled=labelled))
            yield from problems
            if not problems:
                texts = (row.get("context"), row["question"], choices_of(row, self.choice_columns))
                duplicates.add(number, texts, str(row.get("label")))
        yield from warnings.findings()
        yield from duplicates.repeat_warning("rows repeat an earlier question with its choices.", column="question")
        yield from duplicates.conflict_warning(
            "rows repeat an earlier question with another right choice.", column="question"
        )

    def _check_row(self, row: Row, number: int, *, labelled: bool) -> Iterator[Finding]:
        for column in ("context", "question") if self.context else ("question",):
            yield from check_text(row.get(column), row=number, column=column, name=column)
        choices = choices_of(row, self.choice_columns)
        if choices is None:
            yield Finding(
                code="choices-not-list", message=f"expected a list, found {type(row.get('choices')).__name__}.",
                fix="Write a list, or name one column for each choice in preprocessor.choice_columns.",
                row=number, column="choices", value=str(row.get("choices")),
            )  # fmt: skip
            return
        columns = self.choice_columns or tuple(f"choices[{place}]" for place in range(len(choices)))
        problems = list(self._check_choices(choices, columns, number))
        yield from problems
        if labelled and not problems and self._position(row, choices) is None:
            yield Finding(
                code="label-names-no-choice",
                message=f"expected {WRITTEN[self.label_form]}, for {len(choices)} choices.",
                fix="Correct the label, or set preprocessor.label_form.",
                row=number, column="label", value=str(row.get("label")),
            )  # fmt: skip

    def _check_choices(self, choices: Sequence[Any], columns: Sequence[str], number: int) -> Iterator[Finding]:
        wanted = self.num_choices or "at least 2"
        if len(choices) < 2 or (self.num_choices and len(choices) != self.num_choices):
            yield Finding(
                code="choice-count", message=f"expected {wanted} choices, found {len(choices)}.",
                fix="Give every question the same number of choices, or drop the row.",
                row=number, column="choices", value=str(choices),
            )  # fmt: skip
        for column, choice in zip(columns, choices, strict=True):
            yield from check_text(choice, row=number, column=column, name="choice")
        if len({str(choice) for choice in choices}) < len(choices):
            yield Finding(
                code="choice-repeats", message="two choices of one question are equal, so no one of them is right.",
                fix="Remove one of them, or drop the row.", row=number, column="choices", value=str(choices),
            )  # fmt: skip

    def canonical(self, example: Row) -> Row:
        """Return the question, its choices as a list, and the position of the right one; None if it is not known."""
        choices = choices_of(example, self.choice_columns) or []
        label = example.get("label")
        position = None if label is None else self._position(example, choices)
        return {"question": example.get("question"), "choices": choices, "label": position}

    def _position(self, row: Row, choices: Sequence[Any]) -> int | None:
        return position_of(row.get("label"), choices, self.label_form, names_of(row))

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return the tokens of each choice after its question, and the position of the right choice.

        ``{"context": ["Fog."], "question": ["What came?"], "choices": [["Fog", "Rain"]], "label": [0]}`` gives
        ``{'input_ids': [[[101, 9666, 1012, 102, …], [101, 9666, 1012, 102, …]]], …, 'labels': [0]}``.

        Raises:
            BadOptions: A question and a choice alone are longer than ``max_length``.
        """
        rows = [dict(zip(examples, cells, strict=True)) for cells in zip(*examples.values(), strict=True)]
        found = [self.canonical(row) for row in rows]
        firsts: list[str] = []
        seconds: list[str] = []
        for row, known in zip(rows, found, strict=True):
            for choice in known["choices"]:
                firsts.append(row["context"] if self.context else row["question"])
                seconds.append(f"{row['question']} {choice}" if self.context else choice)

        def check_long(positions: Sequence[int]) -> None:
            self._require_room([seconds[position] for position in positions], tokenizer)

        encoded, lost = encode_truncated(
            tokenizer, firsts, seconds, max_length=self.max_length, truncation="only_first", check_long=check_long
        )
        counts = [len(known["choices"]) for known in found]
        features: dict[str, list[Any]] = {name: list(_grouped(values, counts)) for name, values in encoded.items()}
        features["tokens_lost"] = [sum(tokens) for tokens in _grouped(lost, counts)]
        if any(row.get("label") is not None for row in rows):
            features["labels"] = [self._right(known, row) for known, row in zip(found, rows, strict=True)]
        return features

    def _right(self, known: Row, row: Row) -> int:
        if known["label"] is None:
            raise BadData(
                f"{row.get('label')!r} names none of the choices {known['choices']}. "
                "Correct the label, or set preprocessor.label_form."
            )
        return int(known["label"])

    def _require_room(self, seconds: list[str], tokenizer: PreTrainedTokenizerBase) -> None:
        """Refuse a limit that leaves no token for the text that is truncated."""
        alone = tokenizer(seconds, add_special_tokens=False, verbose=False)["input_ids"]
        needed = max(len(ids) for ids in alone) + tokenizer.num_special_tokens_to_add(pair=True) + 1
        if needed > self.max_length:
            what = "a question and one of its choices take" if self.context else "a choice takes"
            raise BadOptions(
                f"preprocessor: {what} {needed} tokens with the special ones, and max_length is {self.max_length}. "
                f"Set preprocessor.max_length to {needed} or more, or shorten the text."
            )

    def counts(self, features: Batch) -> Mapping[str, int]:
        """Return how many questions were truncated, and how many tokens were lost, for each choice separately."""
        lost = features["tokens_lost"]
        return {"truncated": sum(tokens > 0 for tokens in lost), "tokens_lost": sum(lost)}

    def show(self, feature: Row, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return one line for each choice: what the model reads, with the number of the right one in ``⟦…⟧``."""
        lines = []
        for number, ids in enumerate(feature["input_ids"]):
            mark = f"⟦{number}⟧" if number == feature.get("labels") else f" {number} "
            lines.append(f"{mark} {tokenizer.decode(ids)}")
        return "\n".join(lines)

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> PadChoices:
        """Return a collator that pads every choice of a batch.

        Raises:
            Incompatible: The tokenizer has no padding token.
        """
        if tokenizer.pad_token_id is None:
            raise Incompatible(
                f"the tokenizer ({type(tokenizer).__name__}) has no padding token, so choices cannot be batched. "
                "Name another tokenizer under model.tokenizer."
            )
        pad = PadLeft if padding_side(model) == "left" else PadRight
        return PadChoices(pad(pad_token_id=tokenizer.pad_token_id, pad_token_type_id=tokenizer.pad_token_type_id))

    def loss(self) -> Callable[..., Any]:
        """Return the cross entropy over the choices, correct for accumulated batches too."""
        return cross_entropy


def _grouped(values: Sequence[Any], counts: Sequence[int]) -> Iterator[list[Any]]:
    """Yield the values of each question: as many as it has choices.

    >>> list(_grouped("abcde", [2, 3]))
    [['a', 'b'], ['c', 'd', 'e']]
    """
    start = 0
    for count in counts:
        yield list(values[start : start + count])
        start += count
