"""Pairs of answers, of which one is preferred: what direct preference optimization learns from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune.interfaces import Batch, Finding, Row
from finetune_trl.chat import messages as chat
from finetune_trl.chat import templates
from finetune_trl.chat.rows import PROMPT_CUT, TOKENS_LOST, columns_of, has_answers, names_of, rows_of
from finetune_trl.chat.tokens import answers_after, asked_ids, prompt_ids, whole_ids
from finetune_trl.padding import ensure_pad
from finetune_trl.preference.checks import check_form
from finetune_trl.preference.collate import CHOSEN_IDS, PROMPT_IDS, REJECTED_IDS, PadPairs
from finetune_trl.preference.pairs import PROMPT, Pair, pair_of
from finetune_trl.preference.pairwise import PairwisePreprocessor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class DPOPreprocessor(PairwisePreprocessor):
    """A prompt with two answers, as text or as messages, of which ``chosen`` is better than ``rejected``.

    Where there is no ``prompt``, it is what both answers begin with. Text is joined as it stands, without a space
    between prompt and answer, and ends with the end-of-sequence token; unless ``conversational`` makes turns of it.
    """

    def check_asked(self, row: Row, position: int) -> Iterator[Finding]:
        """Yield what is wrong with a prompt that is to be answered."""
        prompt = pair_of(row, self.converter).prompt
        yield from check_form(prompt, row=position, column=PROMPT, part="prompt", empty="prompt-missing")

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

    def counts(self, features: Batch) -> Mapping[str, int]:
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
