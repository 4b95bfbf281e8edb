"""Answers that are labelled desirable or not, for Kahneman-Tversky optimization (KTO)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from finetune.errors import BadData
from finetune.interfaces import LEARNED, Batch, Columns, DataForm, Finding, Row, Values
from finetune.kit import DuplicateCounter
from finetune_trl.chat import templates
from finetune_trl.chat.columns import check_unread
from finetune_trl.chat.messages import MissingSpaceCounter, are_messages, check_text_or_messages, check_tools
from finetune_trl.chat.rows import (
    COMPLETION,
    CONVERSATIONS,
    PROMPT,
    PROMPT_CUT,
    TOKENS_LOST,
    TOOLS,
    PromptCompletion,
    columns_of,
    has_messages,
    names_of,
    rows_of,
)
from finetune_trl.chat.tokens import encode_prompt, encode_prompts, encode_with_answer, ensure_pad_token, split_answers
from finetune_trl.preference.answers import AnswersPreprocessor
from finetune_trl.preference.checks import SPACE_FIX, check_single
from finetune_trl.preference.collate import COMPLETION_IDS, LABEL, PROMPT_IDS, PadKTO
from finetune_trl.preference.pairs import PreferencePair, read_single
from finetune_trl.row_limits import WHOLE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_WORDS = {"true": True, "false": False}


@dataclass(frozen=True, kw_only=True)
class KTOPreprocessor(AnswersPreprocessor):
    """A prompt with one answer, as text or as messages, and whether it is desirable: `label` is true or false."""

    kinds: tuple[bool, ...] | None = field(default=None, metadata=LEARNED)
    """Labels that the training data hold; always learned."""

    def needs(self) -> Columns:
        """Return the columns that are read."""
        tools = () if self.conversational is False else (TOOLS,)
        optional = (PROMPT, CONVERSATIONS, COMPLETION, LABEL, *tools)
        return Columns(optional=optional, answers=(COMPLETION, LABEL), group=PROMPT)

    def strata(self, example: Row) -> Collection[str]:
        """Return whether the answer is desirable."""
        label = parse_label(example.get(LABEL))
        return () if label is None else (str(label),)

    def forms(self) -> Sequence[DataForm]:
        """Return the form of the data: a prompt with an answer, and whether it is good."""
        prompt = Values(what="the question: a text, or messages", names=("question", "query", "instruction", "input"))
        answer = Values(what="the answer: a text, or messages", names=("response", "answer", "output"))
        label = Values(what="whether the answer is good: true or false", kind="boolean", names=("thumbs_up", "good"))
        return (DataForm(columns={PROMPT: prompt, COMPLETION: answer, LABEL: label}),)

    def fit(self, train: Sequence[Row]) -> Self:
        """Return a copy that knows the labels and whether the data are chats, and holds its template as text."""
        chats = has_messages(train, (PROMPT, COMPLETION)) if self.conversational is None else self.conversational
        kinds: set[bool] = set()
        for row in train:
            label = parse_label(row.get(LABEL))
            if label is not None:
                kinds.add(label)
        template = templates.load_template(self.chat_template)
        return replace(self, chat_template=template, conversational=chats, kinds=tuple(sorted(kinds)))

    # --- checks -------------------------------------------------------------------------------------------------------

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with one split; if no row has a label, the prompts are to be answered."""
        yield from check_unread(examples, self.needs())
        has_labels = any(row.get(LABEL) is not None for row in examples)
        if self.kinds and not has_labels:
            for position, row in enumerate(examples):
                prompt = self._read(row, conversational=False).prompt
                yield from check_text_or_messages(prompt, row=position, column=PROMPT, part="prompt", name="prompt")
            return
        kinds: set[bool] = set()
        repeated, missing_spaces = DuplicateCounter(), MissingSpaceCounter()
        for position, row in enumerate(examples):
            single = self._read(row, conversational=False)
            yield from check_single(single, row=position)
            yield from _check_label(row.get(LABEL), position)
            if self.conversational:
                yield from check_tools(row.get(TOOLS), row=position)
            if not self.conversational:
                missing_spaces.add(position, single.prompt, single.completion)
            label = parse_label(row.get(LABEL))
            if label is not None:
                kinds.add(label)
                repeated.add(position, (single.prompt, single.completion), label)
        message = "rows repeat an earlier answer with the same label."
        yield from repeated.repeat_warning(message, column=COMPLETION)
        message = "rows repeat an earlier answer with the other label."
        fix = "Decide which label is right: the two rows cancel each other."
        yield from repeated.conflict_warning(message, column=LABEL, fix=fix)
        yield from missing_spaces.findings(column=PROMPT, fix=SPACE_FIX)
        yield from self._check_kinds(kinds, len(examples))

    def _check_kinds(self, kinds: set[bool], rows: int) -> Iterator[Finding]:
        if len(kinds) != 1 or rows < 2:
            return
        (kind,) = kinds
        train_has_both = self.kinds not in (None, (kind,))
        yield Finding(
            code="one-kind-of-label",
            message=f"every label is {str(kind).lower()}.",
            fix="Give desirable and undesirable answers: from one kind, the model learns to raise or to lower the "
            "probability of all answers.",
            level="warning" if train_has_both else "error",
            column=LABEL,
        )

    # --- features -----------------------------------------------------------------------------------------------------

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return the ids of prompts and, if there are any, of their answers with the labels.

        ``{"prompt": ["Who?"], "completion": ["Inès."], "label": ["true"]}`` gives
        ``{'prompt_ids': [[1, 90, 4]], 'completion_ids': [[77, 8, 2]], 'label': [True], …}``.

        Raises:
            BadData: A label is neither true nor false.
        """
        rows = rows_of(examples)
        singles = [self._read(row, conversational=bool(self.conversational)) for row in rows]
        prompts = [single.prompt for single in singles]
        labels = [row.get(LABEL) for row in rows]
        ensure_pad_token(tokenizer)
        if any(map(are_messages, prompts)):
            templates.set_template(tokenizer, self.chat_template)
        if labels.count(None) == len(labels):
            return {PROMPT_IDS: encode_prompts(prompts, tokenizer, list(map(self.template_inputs, singles)))}
        features = []
        for single, label in zip(singles, labels, strict=True):
            features.append(self._encode(single, label, tokenizer))
        return columns_of(features)

    def reader(self, rows: Sequence[Row]) -> Callable[[Row], PreferencePair | PromptCompletion]:
        """Return the function that reads prompts, with their answers if they have any."""
        return partial(self._read, conversational=bool(self.conversational))

    def _read(self, row: Row, *, conversational: bool) -> PromptCompletion:
        return read_single(row, self.converter, conversational=conversational)

    def _encode(self, single: PromptCompletion, label: Any, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        kind = parse_label(label)
        if kind is None:
            raise BadData(f"the label {label!r} is neither true nor false; see `finetune check`.")
        inputs = self.template_inputs(single)
        whole = encode_with_answer(single.prompt, single.completion, tokenizer, inputs)
        prompt, (answer,), cut = split_answers(encode_prompt(single.prompt, tokenizer, inputs), [whole])
        return {
            PROMPT_IDS: prompt[: self.max_length],
            COMPLETION_IDS: answer[: max(self.max_length - len(prompt), 0)],
            LABEL: kind,
            TOKENS_LOST: max(len(whole) - self.max_length, 0),
            WHOLE: len(whole),
            PROMPT_CUT: cut,
        }

    def lengths(self, features: Batch) -> Sequence[int]:
        """Return the tokens of each prompt with its answer."""
        lengths = list(map(len, features[PROMPT_IDS]))
        if COMPLETION_IDS in names_of(features):
            for number, answer in enumerate(features[COMPLETION_IDS]):
                lengths[number] += len(answer)
        return lengths

    def counts(self, features: Batch) -> Mapping[str, int]:
        """Return how many rows were truncated, and of how many nothing of the answer is left."""
        if COMPLETION_IDS not in names_of(features):
            return {}
        lost = list(features[TOKENS_LOST])
        return {
            "truncated": len(lost) - lost.count(0),
            TOKENS_LOST: sum(lost),
            "answers_lost": list(map(len, features[COMPLETION_IDS])).count(0),
            "prompt_not_prefix": sum(features[PROMPT_CUT]),
        }

    def show(self, feature: Row, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return the prompt with its answer, and whether that is desirable."""
        prompt = str(tokenizer.decode(feature[PROMPT_IDS]))
        if feature.get(COMPLETION_IDS) is None:
            return prompt
        answer = tokenizer.decode(feature[COMPLETION_IDS])
        return f"{prompt}⟦{answer}⟧ → {'desirable' if feature[LABEL] else 'undesirable'}"

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: Any = None) -> PadKTO:
        """Return what pads answers, or prompts alone."""
        return PadKTO(pad_token_id=tokenizer.pad_token_id, max_length=self.max_length)


def parse_label(value: Any) -> bool | None:
    """Return a label as true or false; None for any other value.

    >>> parse_label(True), parse_label("False"), parse_label("yes"), parse_label(1)
    (True, False, None, None)
    """
    if isinstance(value, str):
        return _WORDS.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def _check_label(label: Any, row: int) -> Iterator[Finding]:
    if label is None:
        yield Finding(
            code="label-missing",
            message="the row has no label.",
            fix="Label the row, or drop it.",
            row=row,
            column=LABEL,
        )
    elif parse_label(label) is None:
        yield Finding(
            code="label-not-boolean",
            message=f"expected true or false, found {label!r}.",
            fix="Write true for a desirable answer, and false for an undesirable one.",
            level="error",
            row=row,
            column=LABEL,
            value=str(label),
        )
