"""Documents → blocks for a masked language model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from finetune.errors import BadOptions
from finetune.interfaces import IGNORE_INDEX, Batch, Columns, DataForm, Finding, Preprocessor, Row
from finetune.kit import PadRight, TokenCrossEntropy, within_context
from finetune_lm import texts
from finetune_lm.collate import MaskAndPad
from finetune_lm.masking import Replacement
from finetune_lm.packing import Segment, split_into_blocks
from finetune_lm.special_tokens import SpecialTokens, document_separator, special_tokens
from finetune_lm.texts import NO_WORD, Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class MaskedLMPreprocessor(Preprocessor):
    """Predicts masked tokens of a text from the other tokens.

    Each document ends in the tokenizer's separator. Documents are concatenated and split into
    blocks. Each block gets the special tokens that the tokenizer puts around a text (``[CLS] …
    [SEP]``). Each epoch draws new masks.
    """

    max_length: int = 256
    """Longest block, in tokens, special tokens included."""
    packing: bool = True
    """Whether a block may hold several documents; otherwise each document begins a new block."""
    mlm_probability: float = 0.15
    """Share of a block's tokens that are masked; at least one token is."""
    mask_replace_prob: float = 0.8
    """Share of the masked tokens that the mask token replaces."""
    random_replace_prob: float = 0.1
    """Share of the masked tokens that a random token replaces; the rest stay as they are."""
    whole_word_mask: bool = False
    """Whether to mask all tokens of a word or none; needs a fast tokenizer."""

    is_packed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.max_length < 3:
            raise ValueError("max_length must be at least 3")
        if not 0 < self.mlm_probability < 1:
            raise ValueError(
                "mlm_probability must be more than 0 (some tokens are masked) and less than 1 (some are not)"
            )
        if min(self.mask_replace_prob, self.random_replace_prob) < 0:
            raise ValueError("mask_replace_prob and random_replace_prob cannot be negative")
        if self.mask_replace_prob + self.random_replace_prob > 1:
            raise ValueError("mask_replace_prob and random_replace_prob cannot be more than 1 together")

    def needs(self) -> Columns:
        """Return the columns that are read."""
        return Columns(required=(texts.TEXT,))

    def forms(self) -> Sequence[DataForm]:
        """Return the form of the data: a text."""
        return (texts.form(weight=0.97),)

    def for_model(self, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> Self:
        """Return a copy with the length that a trained model takes."""
        return within_context(self, config)

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with the texts of one split."""
        yield from texts.check_texts(examples, max_length=self.max_length)

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return blocks of tokens, before any token is masked.

        ``seq_lengths`` holds how many of a block's tokens belong to the document in which it
        begins, to the next one, and so on; they add up to its length. With BERT's tokenizer and
        ``max_length`` 6, ``{"text": ["a b c", "d e"]}`` gives ``{'input_ids': [[CLS, a, b, c, SEP],
        [CLS, d, e, SEP]], 'seq_lengths': [[5], [4]], 'overflow_to_sample_mapping': [0, 1]}``: the
        separator that ends a block is also its last special token. With ``whole_word_mask``,
        ``word_ids`` numbers the word of each token, through the whole block.
        """
        around = special_tokens(tokenizer)
        separator = document_separator(tokenizer)
        block_size = self.max_length - len(around.before) - len(around.after)
        if block_size < 1:
            raise BadOptions(
                f"preprocessor: max_length {self.max_length} leaves no room for text: the tokenizer adds "
                f"{self.max_length - block_size} special tokens. Set it to {self.max_length - block_size + 1} or more."
            )
        encoded = texts.encode(
            examples[texts.TEXT], tokenizer, words=self.whole_word_mask, mask_token=tokenizer.mask_token
        )
        documents = [Encoded([*text.ids, separator], [*text.word_ids, NO_WORD]) for text in encoded]
        lengths = [len(document.ids) for document in documents]
        names = ["input_ids", "seq_lengths", *(["word_ids"] if self.whole_word_mask else [])]
        features: dict[str, list[Any]] = {name: [] for name in names}
        features["overflow_to_sample_mapping"] = []
        for block in split_into_blocks(lengths, block_size=block_size, packing=self.packing):
            feature = _block_feature(block, documents, around, separator)
            for name in names:
                features[name].append(feature[name])
            features["overflow_to_sample_mapping"].append(block[0].document)
        return features

    def for_inference(self) -> Self:
        """Return a copy that does not pack: a gap is filled from its own text alone."""
        return replace(self, packing=False)

    def show(self, feature: Row, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return a block with ``⟦…⟧`` around the tokens that one mask hides."""
        is_label = self._collator(tokenizer).masked(feature)["labels"] != IGNORE_INDEX
        return texts.mark_labels(feature["input_ids"], is_label.tolist(), tokenizer)

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> MaskAndPad:
        """Return a collator that masks and pads."""
        return self._collator(tokenizer)

    def _collator(self, tokenizer: PreTrainedTokenizerBase) -> MaskAndPad:
        special = np.array(tokenizer.all_special_ids)
        return MaskAndPad(
            pad=PadRight(pad_token_id=tokenizer.pad_token_id or 0),
            probability=self.mlm_probability,
            replacement=Replacement(
                mask_replace_prob=self.mask_replace_prob,
                random_replace_prob=self.random_replace_prob,
                mask_token_id=tokenizer.mask_token_id,
                ordinary=np.setdiff1d(np.arange(len(tokenizer)), special),
            ),
            special=special,
        )

    def loss(self) -> TokenCrossEntropy:
        """Return cross entropy of the masked tokens: the sum over the tokens of a step, divided by their number."""
        return TokenCrossEntropy(shift=False)


def _block_feature(
    block: Sequence[Segment], documents: Sequence[Encoded], around: SpecialTokens, separator: int
) -> dict[str, list[int]]:
    """Return one block: its tokens between special tokens, and the word of each, numbered through the block."""
    ids = list(around.before)
    word_ids = [NO_WORD] * len(around.before)
    for document, first, end in block:
        ids += documents[document].ids[first:end]
        texts.append_words(word_ids, documents[document].word_ids[first:end])
    after = around.after
    ends_document = block[-1].end_token == len(documents[block[-1].document].ids)
    if ends_document and after[:1] == (separator,):
        after = after[1:]  # the document's own separator takes its place
    seq_lengths = [segment.size for segment in block]
    seq_lengths[0] += len(around.before)
    seq_lengths[-1] += len(after)
    return {
        "input_ids": [*ids, *after],
        "seq_lengths": seq_lengths,
        "word_ids": [*word_ids, *[NO_WORD] * len(after)],
    }
