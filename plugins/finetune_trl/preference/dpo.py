"""Pairs of answers, of which one is preferred, for direct preference optimization (DPO)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune.interfaces import Batch, Finding, Row
from finetune_trl.chat import templates
from finetune_trl.chat.converters import read_prompt
from finetune_trl.chat.messages import are_messages, check_text_or_messages
from finetune_trl.chat.rows import PROMPT, PROMPT_CUT, TOKENS_LOST, PromptCompletion, columns_of, names_of, rows_of
from finetune_trl.chat.tokens import encode_prompt, encode_prompts, encode_with_answer, ensure_pad_token, split_answers
from finetune_trl.preference.checks import has_answers
from finetune_trl.preference.collate import CHOSEN_IDS, PROMPT_IDS, REJECTED_IDS, PadPairs
from finetune_trl.preference.pairs import PreferencePair
from finetune_trl.preference.pairwise import PairwisePreprocessor
from finetune_trl.row_limits import WHOLE

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class DPOPreprocessor(PairwisePreprocessor):
    """A prompt with two answers, as text or as messages, of which ``chosen`` is better than ``rejected``.

    Without a ``prompt``, the common beginning of both answers is the prompt, up to the last whole word, or up to the
    mark of the assistant's turn (``Assistant:``). Text is joined as it is, without a space between prompt and answer,
    and ends with the end-of-sequence token, unless ``conversational`` makes turns of it.
    """

    def check_unanswered(self, row: Row, position: int) -> Iterator[Finding]:
        """Yield what is wrong with a prompt that is to be answered."""
        prompt = read_prompt(row, self.converter)
        yield from check_text_or_messages(prompt, row=position, column=PROMPT, part="prompt", name="prompt")

    def reader(self, rows: Sequence[Row]) -> Callable[[Row], PreferencePair | PromptCompletion]:
        """Return the function that reads pairs, or prompts alone if no row has answers."""
        return self.read if has_answers(rows) else self._read_prompt

    def _read_prompt(self, row: Row) -> PromptCompletion:
        pair = self.read(row)
        return PromptCompletion(prompt=pair.prompt, tools=pair.tools)

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return the ids of prompts and, if there are any, of both answers.

        ``{"prompt": ["Who?"], "chosen": ["Inès."], "rejected": ["I."]}`` gives
        ``{'prompt_ids': [[1, 90, 4]], 'chosen_ids': [[77, 8, 2]], 'rejected_ids': [[40, 8, 2]], …}``.
        """
        rows = rows_of(examples)
        pairs = list(map(self.read, rows))
        prompts = [pair.prompt for pair in pairs]
        ensure_pad_token(tokenizer)
        if any(map(are_messages, prompts)):
            templates.set_template(tokenizer, self.chat_template)
        if not has_answers(rows):
            return {PROMPT_IDS: encode_prompts(prompts, tokenizer, list(map(self.template_inputs, pairs)))}
        return columns_of([self._encode(pair, tokenizer) for pair in pairs])

    def _encode(self, pair: PreferencePair, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        wholes, lost = [], 0
        inputs = self.template_inputs(pair)
        for answer in (pair.chosen, pair.rejected):
            ids = encode_with_answer(pair.prompt, answer, tokenizer, inputs)
            wholes.append(ids)
            lost += max(len(ids) - self.max_length, 0)
        prompt, (chosen, rejected), cut = split_answers(encode_prompt(pair.prompt, tokenizer, inputs), wholes)
        room = max(self.max_length - len(prompt), 0)
        return {
            PROMPT_IDS: prompt[: self.max_length],
            CHOSEN_IDS: chosen[:room],
            REJECTED_IDS: rejected[:room],
            TOKENS_LOST: lost,
            WHOLE: max(map(len, wholes)),
            PROMPT_CUT: cut,
        }

    def lengths(self, features: Batch) -> Sequence[int]:
        """Return the tokens of each prompt with its longer answer."""
        lengths = list(map(len, features[PROMPT_IDS]))
        if CHOSEN_IDS in names_of(features):
            answers = zip(features[CHOSEN_IDS], features[REJECTED_IDS], strict=True)
            for number, (chosen, rejected) in enumerate(answers):
                lengths[number] += max(len(chosen), len(rejected))
        return lengths

    def counts(self, features: Batch) -> Mapping[str, int]:
        """Return how many pairs were truncated, and how much of their difference is left.

        ``identical_after_truncation`` counts pairs from which nothing can be learned any more;
        ``prompt_not_prefix`` prompts whose last tokens change with the answer that follows.
        """
        if CHOSEN_IDS not in names_of(features):
            return {}
        return {**self.count_pairs(features), "prompt_not_prefix": sum(features[PROMPT_CUT])}

    def show(self, feature: Row, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return the prompt with both answers, the better one first."""
        prompt = str(tokenizer.decode(feature[PROMPT_IDS]))
        if feature.get(CHOSEN_IDS) is None:
            return prompt
        chosen, rejected = tokenizer.decode(feature[CHOSEN_IDS]), tokenizer.decode(feature[REJECTED_IDS])
        return f"{prompt}⟦{chosen}⟧ rather than ⟦{rejected}⟧"

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: Any = None) -> PadPairs:
        """Return what pads pairs, or prompts alone."""
        return PadPairs(pad_token_id=tokenizer.pad_token_id)
