"""What every preprocessor of pairs has, of which one answer is preferred."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

from finetune.errors import BadData
from finetune.interfaces import Columns, Finding, Preprocessor, Row
from finetune_trl.chat import templates
from finetune_trl.chat.rows import has_answers, has_messages
from finetune_trl.preference.checks import Joined, Preferred, check_pair
from finetune_trl.preference.pairs import CHOSEN, CONVERSATIONS, PROMPT, REJECTED, Converter, pair_of

MOST_IDENTICAL = 0.2
"""Share of pairs without a difference within ``max_length`` from which there is no use in training."""


@dataclass(frozen=True, kw_only=True)
class PairwisePreprocessor(Preprocessor):
    """A prompt with two answers, as text or as messages, of which ``chosen`` is better than ``rejected``."""

    max_length: int = 1024
    """Longest prompt with answer, in tokens; what is beyond is cut from the end and counted."""
    chat_template: str | None = None
    """How messages are written: `chatml`, `plain`, a `.jinja` file or a template; None for the tokenizer's own."""
    converter: Converter | None = None
    """`sharegpt` where messages are written `{from: human, value: …}`; the prompt may then be `conversations`."""
    conversational: bool | None = None
    """Whether the answers are turns of a chat. True makes turns of text, for a model that was trained on chats; None
    for what the data are."""

    def needs(self) -> Columns:
        """Return the columns that are read."""
        return Columns(optional=(PROMPT, CONVERSATIONS), answers=(CHOSEN, REJECTED), group=PROMPT)

    def fit(self, train: Sequence[Row]) -> Self:
        """Return a copy that knows whether the data are chats, and holds its chat template as text."""
        chats = has_messages(train, (PROMPT, CHOSEN)) if self.conversational is None else self.conversational
        return replace(self, chat_template=templates.load(self.chat_template), conversational=chats)

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with one split; where no row has two answers, rows are to be predicted."""
        paired = has_answers(examples)
        seen, joined = Preferred(), Joined()
        for position, row in enumerate(examples):
            if not paired:
                yield from self.check_asked(row, position)
                continue
            pair = pair_of(row, self.converter)
            found = list(check_pair(pair, row=position, conversational=bool(self.conversational)))
            yield from found
            if not found:
                seen.add(position, pair)
            if not found and not self.conversational and not pair.implicit:
                joined.add(position, pair.prompt, pair.chosen, pair.rejected)
        yield from seen.findings()
        yield from joined.findings()

    @abstractmethod
    def check_asked(self, row: Row, position: int) -> Iterator[Finding]:
        """Yield what is wrong with a row that is to be predicted."""

    def validate_counts(self, counts: Mapping[str, int], *, split: str) -> None:
        """Refuse training pairs of which a fifth or more do not differ within ``max_length``.

        Raises:
            BadData: With their number, and what to do.
        """
        same, pairs = counts.get("identical_after_truncation", 0), counts["features"]
        if split == "train" and same >= MOST_IDENTICAL * pairs:
            raise BadData(
                f"train: {same:,} of {pairs:,} pairs have the same chosen and rejected tokens once cut to max_length "
                f"({self.max_length}), so there is nothing to learn from them. Raise preprocessor.max_length, or leave "
                "them out."
            )
