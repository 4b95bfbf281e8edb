"""Pairs of answers, of which one is preferred: what direct preference optimization learns from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from finetune.interfaces import Batch, Finding, Preprocessor, Row
from finetune_trl import chat, templates
from finetune_trl.collate import CHOSEN_IDS, PROMPT_IDS, REJECTED_IDS, PadPairs
from finetune_trl.padding import ensure_pad
from finetune_trl.pair_checks import Joined, Preferred, check_form, check_pair
from finetune_trl.pairs import CHOSEN, CONVERSATIONS, PROMPT, REJECTED, Converter, Pair, pair_of
from finetune_trl.tokens import answers_after, asked_ids, prompt_ids, whole_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENS_LOST, PROMPT_CUT = "tokens_lost", "prompt_cut"
"""Helper columns of the features: tokens that `max_length` cut off; whether the prompt's end went to the answers."""


@dataclass(frozen=True, kw_only=True)
class Preferences(Preprocessor):
    """A prompt with two answers, as text or as messages, of which ``chosen`` is better than ``rejected``.

    Where there is no ``prompt``, it is what both answers begin with. Text is joined as it stands, without a space
    between prompt and answer, and ends with the end-of-sequence token; unless ``conversational`` makes turns of it.
    """

    max_length: int = 1024
    """Longest prompt with answer, in tokens; what is beyond is cut from the end and counted."""
    chat_template: str | None = None
    """How messages are written: `chatml`, `plain`, a `.jinja` file or a template; None for the tokenizer's own."""
    converter: Converter | None = None
    """`sharegpt` where messages are written `{from: human, value: …}`; the prompt may then be `conversations`."""
    conversational: bool | None = None
    """Whether the answers are turns of a chat. True makes turns of text, for a model that was trained on chats; None
    for what the data are."""

    optional: ClassVar[tuple[str, ...]] = (PROMPT, CONVERSATIONS)
    answers: ClassVar[tuple[str, ...]] = (CHOSEN, REJECTED)
    group: ClassVar[str | None] = PROMPT

    def fit(self, train: Sequence[Row]) -> Self:
        """Return a copy that knows whether the data are chats, and holds its chat template as text."""
        return replace(
            self,
            chat_template=templates.load(self.chat_template),
            conversational=has_messages(train, (PROMPT, CHOSEN))
            if self.conversational is None
            else self.conversational,
        )

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with one split; where no row has an answer, the prompts are to be answered."""
        answered = has_answers(examples)
        seen, joined = Preferred(), Joined()
        for position, row in enumerate(examples):
            pair = pair_of(row, self.converter)
            if not answered:
                yield from check_form(pair.prompt, row=position, column=PROMPT, part="prompt", empty="prompt-missing")
                continue
            found = list(check_pair(pair, row=position, conversational=bool(self.conversational)))
            yield from found
            if not found:
                seen.add(position, pair)
            if not found and not self.conversational and not pair.implicit:
                joined.add(position, pair.prompt, pair.chosen, pair.rejected)
        yield from seen.findings()
        yield from joined.findings()

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return the ids of prompts and, where there are any, of both answers.

        ``{"prompt": ["Who?"], "chosen": ["Inès."], "rejected": ["I."]}`` gives
        ``{'prompt_ids': [[1, 90, 4]], 'chosen_ids': [[77, 8, 2]], 'rejected_ids': [[40, 8, 2]], …}``.
        """
        rows = rows_of(examples)
        pairs = [pair_of(row, self.converter, conversational=bool(self.conversational)) for row in rows]
        ensure_pad(tokenizer)
        if any(chat.are_messages(pair.prompt) for pair in pairs):
            templates.ensure(tokenizer, self.chat_template)
        if not has_answers(rows):
            return {PROMPT_IDS: asked_ids([pair.prompt for pair in pairs], tokenizer)}
        return columns_of([self._pair(pair, tokenizer) for pair in pairs])

    def _pair(self, pair: Pair, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        wholes = [whole_ids(pair.prompt, answer, tokenizer) for answer in (pair.chosen, pair.rejected)]
        prompt, (chosen, rejected), cut = answers_after(prompt_ids(pair.prompt, tokenizer), wholes)
        room = max(self.max_length - len(prompt), 0)
        return {
            PROMPT_IDS: prompt[: self.max_length],
            CHOSEN_IDS: chosen[:room],
            REJECTED_IDS: rejected[:room],
            TOKENS_LOST: sum(max(len(whole) - self.max_length, 0) for whole in wholes),
            PROMPT_CUT: cut,
        }

    def lengths(self, features: Batch) -> Sequence[int]:
        """Return the tokens of each prompt with its longer answer."""
        prompts = [len(ids) for ids in features[PROMPT_IDS]]
        if CHOSEN_IDS not in names_of(features):
            return prompts
        answers = zip(features[CHOSEN_IDS], features[REJECTED_IDS], strict=True)
        return [prompt + max(map(len, pair)) for prompt, pair in zip(prompts, answers, strict=True)]

    def ledger(self, features: Batch) -> Mapping[str, int]:
        """Return how many pairs were truncated, and what that left of their difference.

        ``identical_after_truncation`` counts pairs from which nothing can be learned any more;
        ``prompt_not_prefix`` prompts whose last tokens change with the answer that follows.
        """
        if CHOSEN_IDS not in names_of(features):
            return {}
        lost = features[TOKENS_LOST]
        pairs = zip(features[CHOSEN_IDS], features[REJECTED_IDS], strict=True)
        return {
            "truncated": sum(count > 0 for count in lost),
            TOKENS_LOST: sum(lost),
            "identical_after_truncation": sum(chosen == rejected for chosen, rejected in pairs),
            "prompt_not_prefix": sum(features[PROMPT_CUT]),
        }

    def show(self, feature: Row, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return the prompt with both answers, the better one first."""
        prompt = str(tokenizer.decode(feature[PROMPT_IDS]))
        if feature.get(CHOSEN_IDS) is None:
            return prompt
        chosen, rejected = (tokenizer.decode(feature[name]) for name in (CHOSEN_IDS, REJECTED_IDS))
        return f"{prompt}⟦{chosen}⟧ rather than ⟦{rejected}⟧"

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: Any = None) -> PadPairs:
        """Return what pads pairs, or prompts alone."""
        return PadPairs(pad_token_id=tokenizer.pad_token_id)


def has_messages(rows: Sequence[Row], columns: Sequence[str]) -> bool:
    """Say whether the first row that fills one of the columns fills it with messages rather than text."""
    values = (row.get(name) for row in rows for name in columns)
    return not isinstance(next((value for value in values if value is not None), ""), str)


def has_answers(rows: Sequence[Row]) -> bool:
    """Say whether any row has an answer."""
    return any(row.get(name) is not None for row in rows for name in (CHOSEN, REJECTED))


def rows_of(examples: Batch) -> list[dict[str, Any]]:
    """Return a batch row by row."""
    names = list(examples)
    return [dict(zip(names, values, strict=True)) for values in zip(*examples.values(), strict=True)]


def columns_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return rows column by column."""
    return {name: [row[name] for row in rows] for name in rows[0]}


def names_of(features: Any) -> Sequence[str]:
    """Return the columns of a batch, or of a data set."""
    return getattr(features, "column_names", None) or list(features)
