"""Texts to go on with → features: each text by itself, and the tokens after which to write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from finetune.interfaces import Batch, Columns, Finding, Preprocessor, Row
from finetune_lm.collate import PadRight
from finetune_lm.texts import TEXT

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from finetune_lm.causal import CausalLMPreprocessor

PROMPT, MASK = "prompt_ids", "prompt_mask"


@dataclass(frozen=True, kw_only=True)
class CausalPromptPreprocessor(Preprocessor):
    """The blocks of each text alone, and what the model is to go on with."""

    blocks: CausalLMPreprocessor
    """What the model was trained on, here without packing."""

    def needs(self) -> Columns:
        """Return the columns that are read."""
        return Columns(required=(TEXT,))

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with the texts of one split."""
        yield from self.blocks.check(examples)

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return blocks with their labels and, with the last one of a text, the end of the text as a prompt.

        The prompt is as the model met texts in training: at most ``max_length`` tokens, with what stands before a text,
        and without the token that ends one.
        """
        made = dict(self.blocks.features(examples, tokenizer))
        owners = made["overflow_to_sample_mapping"]
        prompts: list[list[int]] = []
        before: list[int] = []
        for number, ids in enumerate(made["input_ids"]):
            begins, ends = (
                number == 0 or owners[number - 1] != owners[number],
                owners[number + 1 :][:1] != [owners[number]],
            )
            # a later block begins with the token before its first one, as context
            before = list(ids) if begins else [*before, *ids[1:]]
            prompts.append(before[:-1][-self.blocks.max_length :] if ends else [])
        return {**made, PROMPT: prompts}

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> PadBoth:
        """Return what pads blocks on the right, and prompts on the left."""
        blocks = self.blocks.collator(tokenizer, model)
        return PadBoth(blocks=blocks)

    def loss(self) -> Any:
        """Return the loss of the blocks."""
        return self.blocks.loss()


@dataclass(frozen=True, kw_only=True)
class PadBoth:
    """Pads blocks on the right, and prompts, of which some rows have none, on the left."""

    blocks: PadRight

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the batch: that of the blocks, and ``prompt_ids`` with ``prompt_mask``."""
        width = max(len(feature[PROMPT]) for feature in features)
        ids = torch.full((len(features), width), self.blocks.pad_token_id)
        mask = torch.zeros_like(ids)
        for row, feature in enumerate(features):
            start = width - len(feature[PROMPT])
            ids[row, start:] = torch.tensor(feature[PROMPT], dtype=torch.long)
            mask[row, start:] = 1
        return {**self.blocks(features), PROMPT: ids, MASK: mask}
