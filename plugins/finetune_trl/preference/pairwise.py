"""The common part of the preprocessors of pairs, of which one answer is preferred."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

from finetune.interfaces import Batch, Columns, DataForm, Finding, Row, Values
from finetune_trl.chat import templates
from finetune_trl.chat.columns import check_unread
from finetune_trl.chat.messages import MissingSpaceCounter, check_tools
from finetune_trl.chat.rows import CONVERSATIONS, PROMPT, TOKENS_LOST, TOOLS, has_messages
from finetune_trl.preference.answers import AnswersPreprocessor
from finetune_trl.preference.checks import SPACE_FIX, RepeatedPairs, check_pair, has_answers
from finetune_trl.preference.collate import CHOSEN_IDS, REJECTED_IDS
from finetune_trl.preference.pairs import CHOSEN, REJECTED, PreferencePair, read_pair


@dataclass(frozen=True, kw_only=True)
class PairwisePreprocessor(AnswersPreprocessor):
    """A prompt with two answers, as text or as messages, of which ``chosen`` is better than ``rejected``."""

    weight: ClassVar[float] = 1.0
    """How likely the task is for pairs of answers."""

    def needs(self) -> Columns:
        """Return the columns that are read."""
        tools = () if self.conversational is False else (TOOLS,)
        return Columns(
            optional=(PROMPT, CONVERSATIONS, CHOSEN, REJECTED, *tools), answers=(CHOSEN, REJECTED), group=PROMPT
        )

    def forms(self) -> Sequence[DataForm]:
        """Return the forms of the data: a prompt with two answers, or two whole texts or chats."""
        prompt = Values(what="the question: a text, or messages", names=("question", "query", "instruction", "input"))
        columns = {
            CHOSEN: Values(
                what="the better answer: a text, or messages", names=("preferred", "accepted", "response_chosen")
            ),
            REJECTED: Values(what="the worse answer: a text, or messages", names=("dispreferred", "response_rejected")),
        }
        turns = {
            CONVERSATIONS: Values(what='the chat so far: [{"from": "human", "value": "…"}, …]', kind="turns"),
            CHOSEN: Values(what='the better answer: {"from": "gpt", "value": "…"}', kind="turns"),
            REJECTED: Values(what='the worse answer: {"from": "gpt", "value": "…"}', kind="turns"),
        }
        return (
            DataForm(columns={PROMPT: prompt, **columns}, weight=self.weight),
            DataForm(columns=columns, options={"conversational": None}, weight=self.weight * 0.97),
            DataForm(columns=turns, options={"converter": "sharegpt"}, weight=self.weight),
        )

    def fit(self, train: Sequence[Row]) -> Self:
        """Return a copy that knows whether the data are chats, and holds its chat template as text."""
        chats = has_messages(train, (CHOSEN, PROMPT)) if self.conversational is None else self.conversational
        return replace(self, chat_template=templates.load_template(self.chat_template), conversational=chats)

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with one split; if no row has two answers, the rows are to be predicted."""
        yield from check_unread(examples, self.needs())
        if not has_answers(examples):
            for position, row in enumerate(examples):
                yield from self.check_unanswered(row, position)
            return
        repeated, missing_spaces = RepeatedPairs(), MissingSpaceCounter()
        for position, row in enumerate(examples):
            pair = read_pair(row, self.converter)
            findings = list(check_pair(pair, row=position, conversational=bool(self.conversational)))
            if self.conversational:
                findings += check_tools(row.get(TOOLS), row=position)
            yield from findings
            if findings:
                continue
            repeated.add(position, pair)
            if not self.conversational and not pair.implicit:
                missing_spaces.add(position, pair.prompt, pair.chosen, pair.rejected)
        yield from repeated.findings()
        yield from missing_spaces.findings(column=PROMPT, fix=SPACE_FIX)

    @abstractmethod
    def check_unanswered(self, row: Row, position: int) -> Iterator[Finding]:
        """Yield what is wrong with a row that is to be predicted."""

    def read(self, row: Row) -> PreferencePair:
        """Return the pair of a row, as turns of a chat if the data are chats."""
        return read_pair(row, self.converter, conversational=bool(self.conversational))

    def count_pairs(self, features: Batch) -> dict[str, int]:
        """Return how many pairs were truncated, and how many of them have no difference left."""
        lost = list(features[TOKENS_LOST])
        identical = 0
        for chosen, rejected in zip(features[CHOSEN_IDS], features[REJECTED_IDS], strict=True):
            identical += chosen == rejected
        return {
            "truncated": len(lost) - lost.count(0),
            TOKENS_LOST: sum(lost),
            "identical_after_truncation": identical,
        }
