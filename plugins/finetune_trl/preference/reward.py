"""Pairs of answers, of which one is preferred, for reward models: a score for an answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from finetune.interfaces import Batch, Columns, Finding, Row
from finetune_trl.chat import templates
from finetune_trl.chat.columns import MARGIN
from finetune_trl.chat.messages import are_messages
from finetune_trl.chat.rows import (
    COMPLETION,
    CONVERSATIONS,
    PROMPT,
    TOKENS_LOST,
    TOOLS,
    PromptCompletion,
    columns_of,
    names_of,
    rows_of,
)
from finetune_trl.chat.tokens import encode_prompt, encode_with_answer, ensure_pad_token
from finetune_trl.preference.checks import check_margins, check_single, has_answers, has_margins, parse_margin
from finetune_trl.preference.collate import CHOSEN_IDS, COMPLETION_IDS, REJECTED_IDS, PadWhole
from finetune_trl.preference.pairs import CHOSEN, REJECTED, PreferencePair, read_single
from finetune_trl.preference.pairwise import PairwisePreprocessor
from finetune_trl.row_limits import WHOLE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class RewardPreprocessor(PairwisePreprocessor):
    """A prompt with two answers, as text or as messages, of which ``chosen`` is better than ``rejected``.

    A column `margin` says how much better: the loss asks for a difference of scores of at least that size. To predict,
    give a `completion` with its `prompt`. Its score has a meaning only in comparison with other scores.
    """

    weight: ClassVar[float] = 0.9

    def needs(self) -> Columns:
        """Return the columns that are read."""
        tools = () if self.conversational is False else (TOOLS,)
        return Columns(
            optional=(PROMPT, CONVERSATIONS, COMPLETION, CHOSEN, REJECTED, *tools),
            answers=(CHOSEN, REJECTED),
            optional_answers=(MARGIN,),
            group=PROMPT,
        )

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with one split; see `PairwisePreprocessor.check`."""
        yield from super().check(examples)
        if has_margins(examples):
            yield from check_margins(examples)

    def check_unanswered(self, row: Row, position: int) -> Iterator[Finding]:
        """Yield what is wrong with an answer that is to be scored."""
        yield from check_single(self._read_single(row), row=position)

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return the ids of prompts with each of their answers.

        ``{"prompt": ["Who?"], "chosen": ["Inès."], "rejected": ["I."]}`` gives
        ``{'chosen_ids': [[1, 90, 4, 77, 8, 2]], 'rejected_ids': [[1, 90, 4, 40, 8, 2]], 'tokens_lost': [0]}``.
        """
        rows = rows_of(examples)
        items = list(map(self.reader(rows), rows))
        ensure_pad_token(tokenizer)
        if any(are_messages(item.prompt) for item in items):
            templates.set_template(tokenizer, self.chat_template)
        features = columns_of([self._encode(item, tokenizer) for item in items])
        if has_margins(rows):
            features[MARGIN] = [parse_margin(row.get(MARGIN)) for row in rows]
        return features

    def reader(self, rows: Sequence[Row]) -> Callable[[Row], PreferencePair | PromptCompletion]:
        """Return the function that reads pairs, or single answers if no row has two."""
        return self.read if has_answers(rows) else self._read_single

    def _read_single(self, row: Row) -> PromptCompletion:
        return read_single(row, self.converter, conversational=bool(self.conversational))

    def _encode(self, item: PreferencePair | PromptCompletion, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        if isinstance(item, PreferencePair):
            answers = {CHOSEN_IDS: item.chosen, REJECTED_IDS: item.rejected}
        else:
            answers = {COMPLETION_IDS: item.completion}
        feature: dict[str, Any] = {TOKENS_LOST: 0, WHOLE: 0}
        inputs = self.template_inputs(item)
        for name, answer in answers.items():
            if answer is None:  # a reward function may give an empty answer; `check` reports one in data
                ids = encode_prompt(item.prompt, tokenizer, inputs)
            else:
                ids = encode_with_answer(item.prompt, answer, tokenizer, inputs)
            feature[name] = ids[: self.max_length]
            feature[WHOLE] = max(feature[WHOLE], len(ids))
            feature[TOKENS_LOST] += max(len(ids) - self.max_length, 0)
        return feature

    def lengths(self, features: Batch) -> Sequence[int]:
        """Return the tokens of each prompt with its longer answer."""
        if COMPLETION_IDS in names_of(features):
            return list(map(len, features[COMPLETION_IDS]))
        pairs = zip(features[CHOSEN_IDS], features[REJECTED_IDS], strict=True)
        return [max(len(chosen), len(rejected)) for chosen, rejected in pairs]

    def counts(self, features: Batch) -> Mapping[str, int]:
        """Return how many rows were truncated, and how many of the pairs have no difference left."""
        if CHOSEN_IDS in names_of(features):
            return self.count_pairs(features)
        lost = list(features[TOKENS_LOST])
        return {"truncated": len(lost) - lost.count(0), TOKENS_LOST: sum(lost)}

    def show(self, feature: Row, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return both answers with their prompt, the better one first."""
        if feature.get(COMPLETION_IDS) is not None:
            return str(tokenizer.decode(feature[COMPLETION_IDS]))
        chosen, rejected = tokenizer.decode(feature[CHOSEN_IDS]), tokenizer.decode(feature[REJECTED_IDS])
        return f"⟦{chosen}⟧ rather than ⟦{rejected}⟧"

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: Any = None) -> PadWhole:
        """Return what pads pairs, or single answers, on the right."""
        return PadWhole(pad_token_id=tokenizer.pad_token_id)

    def model_options(self) -> dict[str, Any]:
        """Return what makes the head give one number."""
        return {"num_labels": 1}
