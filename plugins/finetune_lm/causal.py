"""Documents → blocks for a causal language model, and the prompts that it continues when it predicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch

from finetune.interfaces import IGNORE_INDEX, Batch, Columns, DataForm, Finding, Preprocessor, Row
from finetune.kit import PadRight, TokenCrossEntropy, pad, pad_mask, within_context
from finetune_lm import texts
from finetune_lm.packing import Segment, split_into_blocks
from finetune_lm.special_tokens import DocumentTokens, document_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

PROMPT, PROMPT_MASK = "prompt_ids", "prompt_mask"
"""The tokens that a prediction continues, and their attention mask."""


@dataclass(frozen=True, kw_only=True)
class CausalLMPreprocessor(Preprocessor):
    """Predicts every token of a text from the tokens before it.

    Each document ends in EOS, and begins with BOS if the tokenizer adds one. Documents are
    concatenated and split into blocks. A block begins with the token before its first one, as
    context that the loss leaves out. So every token and every EOS is predicted exactly once, and
    none is lost.
    """

    max_length: int = 256
    """Longest block, in tokens."""
    packing: bool = True
    """Whether a block may hold several documents; otherwise each document begins a new block."""

    is_packed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.max_length < 3:  # context, BOS, and a token to predict
            raise ValueError("max_length must be at least 3")

    def needs(self) -> Columns:
        """Return the columns that are read."""
        return Columns(required=(texts.TEXT,))

    def forms(self) -> Sequence[DataForm]:
        """Return the form of the data: a text."""
        return (texts.form(weight=1.0),)

    def for_model(self, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> Self:
        """Return a copy with the length that a trained model takes."""
        return within_context(self, config)

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with the texts of one split."""
        yield from texts.check_texts(examples, max_length=self.max_length)

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return blocks of tokens with their labels.

        ``seq_lengths`` holds how many of a block's tokens belong to the document in which it
        begins, to the next one, and so on; they add up to its length. With GPT-2's tokenizer and
        ``max_length`` 5, ``{"text": ["a b c", "d"]}`` gives ``{'input_ids': [[EOS, a, b, c, EOS],
        [EOS, d, EOS]], 'labels': [[-100, a, b, c, EOS], [-100, d, EOS]], 'seq_lengths': [[5], [3]],
        'overflow_to_sample_mapping': [0, 1]}``.
        """
        special = document_tokens(tokenizer)
        begin = [] if special.bos is None else [special.bos]
        documents = []
        for text in texts.encode(examples[texts.TEXT], tokenizer):
            documents.append([*begin, *text.ids, special.eos])
        lengths = [len(ids) for ids in documents]
        features: dict[str, list[Any]] = {
            "input_ids": [],
            "labels": [],
            "seq_lengths": [],
            "overflow_to_sample_mapping": [],
        }
        # one token of each block is context
        for block in split_into_blocks(lengths, block_size=self.max_length - 1, packing=self.packing):
            for name, value in _block_feature(block, documents, special).items():
                features[name].append(value)
            features["overflow_to_sample_mapping"].append(block[0].document)
        return features

    def for_inference(self) -> CausalPromptPreprocessor:
        """Return a preprocessor that keeps texts apart and makes each a prompt to continue."""
        return CausalPromptPreprocessor(blocks=replace(self, packing=False))

    def counts(self, features: Batch) -> Mapping[str, int]:
        """Return how many tokens are predicted: all tokens of all texts, and their ends."""
        predicted = 0
        for labels in features["labels"]:
            predicted += sum(label != IGNORE_INDEX for label in labels)
        return {"tokens_predicted": predicted}

    def show(self, feature: Row, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return a block with ``⟦…⟧`` around the tokens that are predicted."""
        is_label = [label != IGNORE_INDEX for label in feature["labels"]]
        return texts.mark_labels(feature["input_ids"], is_label, tokenizer)

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> PadRight:
        """Return a collator that pads on the right, whatever side the tokenizer pads for generation."""
        return PadRight(pad_token_id=tokenizer.pad_token_id or 0)

    def loss(self) -> TokenCrossEntropy:
        """Return cross entropy of the next token: the sum over the tokens of a step, divided by their number."""
        return TokenCrossEntropy(shift=True)


def _block_feature(
    block: Sequence[Segment], documents: Sequence[list[int]], special: DocumentTokens
) -> dict[str, list[int]]:
    """Return one block: its context, its tokens, and which of them are labels."""
    first = block[0]
    context: list[int] = []
    if first.first_token:
        context = [documents[first.document][first.first_token - 1]]
    elif special.bos is None:  # before a document stands the end of another one, or nothing
        context = [special.eos]
    ids = list(context)
    labels = [IGNORE_INDEX] * len(context)
    for segment in block:
        tokens = documents[segment.document][segment.first_token : segment.end_token]
        ids += tokens
        begins_with_bos = segment.first_token == 0 and special.bos is not None
        labels += [IGNORE_INDEX, *tokens[1:]] if begins_with_bos else tokens
    seq_lengths = [segment.size for segment in block]
    seq_lengths[0] += len(context)
    return {"input_ids": ids, "labels": labels, "seq_lengths": seq_lengths}


@dataclass(frozen=True, kw_only=True)
class CausalPromptPreprocessor(Preprocessor):
    """Makes the blocks of each text by itself, and a prompt of each text that the model continues."""

    blocks: CausalLMPreprocessor
    """The preprocessor that the model was trained with, here without packing."""

    def needs(self) -> Columns:
        """Return the columns that are read."""
        return self.blocks.needs()

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with the texts of one split."""
        yield from self.blocks.check(examples)

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return blocks with their labels and, with the last block of a text, the end of the text as a prompt.

        The prompt looks as texts did in training: at most ``max_length`` tokens, with what stands
        before a text, and without the token that ends one. All other blocks have an empty prompt.
        """
        features = dict(self.blocks.features(examples, tokenizer))
        documents = features["overflow_to_sample_mapping"]
        last = len(documents) - 1
        prompts: list[list[int]] = []
        text: list[int] = []
        for number, ids in enumerate(features["input_ids"]):
            begins = number == 0 or documents[number - 1] != documents[number]
            ends = number == last or documents[number + 1] != documents[number]
            # a later block begins with the token before its first one, as context
            text = list(ids) if begins else [*text, *ids[1:]]
            prompts.append(text[:-1][-self.blocks.max_length :] if ends else [])
        return {**features, PROMPT: prompts}

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> PadBlocksAndPrompts:
        """Return a collator that pads blocks on the right and prompts on the left."""
        return PadBlocksAndPrompts(pad_blocks=self.blocks.collator(tokenizer, model))

    def loss(self) -> TokenCrossEntropy:
        """Return the loss of the blocks."""
        return self.blocks.loss()


@dataclass(frozen=True, kw_only=True)
class PadBlocksAndPrompts:
    """A collator that pads blocks on the right, and prompts, which may be empty, on the left."""

    pad_blocks: PadRight

    def __call__(self, features: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Return the batch of the blocks, with ``prompt_ids`` and ``prompt_mask``."""
        prompts, blocks = [], []
        for feature in features:
            prompts.append(feature[PROMPT])
            blocks.append({name: value for name, value in feature.items() if name != PROMPT})
        return {
            **self.pad_blocks(blocks),
            PROMPT: pad(prompts, self.pad_blocks.pad_token_id, side="left"),
            PROMPT_MASK: pad_mask(prompts, side="left"),
        }
