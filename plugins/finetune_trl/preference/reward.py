"""Reward models: a score for an answer, learned from pairs of which one is preferred."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune.interfaces import Batch, Columns, Finding, Row
from finetune_trl.chat import messages as chat
from finetune_trl.chat import templates
from finetune_trl.chat.rows import TOKENS_LOST, columns_of, has_answers, names_of, rows_of
from finetune_trl.chat.tokens import prompt_ids, whole_ids
from finetune_trl.padding import ensure_pad
from finetune_trl.preference.checks import check_form, check_forms_agree
from finetune_trl.preference.collate import CHOSEN_IDS, COMPLETION_IDS, REJECTED_IDS, PadWhole
from finetune_trl.preference.pairs import CHOSEN, COMPLETION, CONVERSATIONS, PROMPT, REJECTED, Pair, pair_of
from finetune_trl.preference.pairwise import PairwisePreprocessor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class RewardPreprocessor(PairwisePreprocessor):
    """A prompt with two answers, as text or as messages, of which ``chosen`` is better than ``rejected``.

    To predict, give a `completion` with its `prompt`: it gets a score, which means something beside other scores alone.
    """

    def needs(self) -> Columns:
        """Return the columns that are read."""
        return Columns(optional=(PROMPT, CONVERSATIONS, COMPLETION), answers=(CHOSEN, REJECTED), group=PROMPT)

    def check_asked(self, row: Row, position: int) -> Iterator[Finding]:
        """Yield what is wrong with an answer that is to be scored."""
        single = self._single(row)
        found = [
            *check_form(single.prompt, row=position, column=PROMPT, part="prompt", empty="prompt-missing"),
            *check_form(single.chosen, row=position, column=COMPLETION, part="completion", empty="answer-empty"),
        ]
        yield from found or check_forms_agree({PROMPT: single.prompt, COMPLETION: single.chosen}, row=position)

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return the ids of prompts with each of their answers.

        ``{"prompt": ["Who?"], "chosen": ["Inès."], "rejected": ["I."]}`` gives
        ``{'chosen_ids': [[1, 90, 4, 77, 8, 2]], 'rejected_ids': [[1, 90, 4, 40, 8, 2]], 'tokens_lost': [0]}``.
        """
        rows = rows_of(examples)
        paired = has_answers(rows)
        pairs = [pair_of(row, self.converter, conversational=bool(self.conversational)) if paired
                 else self._single(row) for row in rows]  # fmt: skip
        ensure_pad(tokenizer)
        if any(chat.are_messages(pair.prompt) for pair in pairs):
            templates.ensure(tokenizer, self.chat_template)
        names = (CHOSEN_IDS, REJECTED_IDS) if paired else (COMPLETION_IDS,)
        return columns_of([self._cut(pair, names, tokenizer) for pair in pairs])

    def _single(self, row: Row) -> Pair:
        """Return a prompt with its one answer, in the chosen one's place."""
        asked = {**row, CHOSEN: row.get(COMPLETION), REJECTED: None}
        return pair_of(asked, self.converter, conversational=bool(self.conversational))

    def _cut(self, pair: Pair, names: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        answers = (pair.chosen, pair.rejected)[: len(names)]
        # `check` lets no prompt through without an answer; alone, it has the ids of a prompt.
        wholes = [prompt_ids(pair.prompt, tokenizer) if answer is None else whole_ids(pair.prompt, answer, tokenizer)
                  for answer in answers]  # fmt: skip
        lost = sum(max(len(whole) - self.max_length, 0) for whole in wholes)
        cut = (whole[: self.max_length] for whole in wholes)
        return {**dict(zip(names, cut, strict=True)), TOKENS_LOST: lost}

    def lengths(self, features: Batch) -> Sequence[int]:
        """Return the tokens of each prompt with its longer answer."""
        if COMPLETION_IDS in names_of(features):
            return [len(ids) for ids in features[COMPLETION_IDS]]
        return [max(map(len, pair)) for pair in zip(features[CHOSEN_IDS], features[REJECTED_IDS], strict=True)]

    def counts(self, features: Batch) -> Mapping[str, int]:
        """Return how many rows were truncated, and how many pairs that left without a difference."""
        lost = features[TOKENS_LOST]
        counts = {"truncated": sum(count > 0 for count in lost), TOKENS_LOST: sum(lost)}
        if CHOSEN_IDS not in names_of(features):
            return counts
        pairs = zip(features[CHOSEN_IDS], features[REJECTED_IDS], strict=True)
        return {**counts, "identical_after_truncation": sum(chosen == rejected for chosen, rejected in pairs)}

    def show(self, feature: Row, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return both answers with their prompt, the better one first."""
        if feature.get(COMPLETION_IDS) is not None:
            return str(tokenizer.decode(feature[COMPLETION_IDS]))
        chosen, rejected = (tokenizer.decode(feature[name]) for name in (CHOSEN_IDS, REJECTED_IDS))
        return f"⟦{chosen}⟧ rather than ⟦{rejected}⟧"

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: Any = None) -> PadWhole:
        """Return what pads pairs, or single answers, on the right."""
        return PadWhole(pad_token_id=tokenizer.pad_token_id)

    def model_options(self) -> dict[str, Any]:
        """Return what makes the head give one number."""
        return {"num_labels": 1}
