"""Documents → blocks for a masked language model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from finetune.errors import BadOptions
from finetune.interfaces import IGNORE_INDEX, Batch, Columns, Finding, Preprocessor, Row
from finetune.kit import TokenCrossEntropy
from finetune_lm import texts
from finetune_lm.collate import MaskAndPad, PadRight
from finetune_lm.frame import Frame, frame, separator
from finetune_lm.masking import Replacement
from finetune_lm.packing import Piece, cut
from finetune_lm.texts import NO_WORD, Encoded

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class MaskedLMPreprocessor(Preprocessor):
    """Predicts masked tokens of a text from the others.

    Each document ends in the tokenizer's separator. Documents lie end to end and are cut into blocks, which get what
    the tokenizer puts round a text (``[CLS] … [SEP]``). The masks are drawn anew every epoch.
    """

    max_length: int = 256
    """Longest block, in tokens, special ones included."""
    packing: bool = True
    """Whether a block may hold several documents; without, each begins a block of its own."""
    mlm_probability: float = 0.15
    """Share of a block's tokens that are masked; at least one is."""
    mask_replace_prob: float = 0.8
    """Share of the masked tokens in whose place the mask token stands."""
    random_replace_prob: float = 0.1
    """Share of the masked tokens in whose place a random one stands; the rest stay as they are."""
    whole_word_mask: bool = False
    """Whether to mask all tokens of a word or none; needs a fast tokenizer."""

    is_packed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.max_length < 3:
            raise ValueError("max_length must be at least 3")
        if not 0 < self.mlm_probability < 1:
            raise ValueError("mlm_probability must be more than 0 (nothing to learn) and less than 1 (nothing to see)")
        if min(self.mask_replace_prob, self.random_replace_prob) < 0:
            raise ValueError("mask_replace_prob and random_replace_prob cannot be negative")
        if self.mask_replace_prob + self.random_replace_prob > 1:
            raise ValueError("mask_replace_prob and random_replace_prob cannot be more than 1 together")

    def needs(self) -> Columns:
        """Return the columns that are read."""
        return Columns(required=(texts.TEXT,))

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with the texts of one split."""
        yield from texts.check_texts(examples, max_length=self.max_length)

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return blocks of tokens, as they are before any is masked.

        ``pieces`` says how many of a block's tokens belong to the document in which it begins, to the next, and so
        on; they add up to its length. With BERT's tokenizer and ``max_length`` 6, ``{"text": ["a b c", "d e"]}`` gives
        ``{'input_ids': [[CLS, a, b, c, SEP], [CLS, d, e, SEP]], 'pieces': [[5], [4]],
        'overflow_to_sample_mapping': [0, 1]}``: the separator that ends a block is also the last of its frame.
        """
        around, end = frame(tokenizer), separator(tokenizer)
        room = self.max_length - len(around.before) - len(around.after)
        if room < 1:
            raise BadOptions(
                f"preprocessor: max_length {self.max_length} leaves no room for text beside "
                f"{self.max_length - room} special tokens."
            )
        encoded = texts.encode(
            examples[texts.TEXT], tokenizer, words=self.whole_word_mask, mask_token=tokenizer.mask_token
        )
        documents = [Encoded([*text.ids, end], [*text.words, NO_WORD]) for text in encoded]
        blocks = cut([len(document.ids) for document in documents], room=room, packing=self.packing)
        made: dict[str, list[Any]] = {"input_ids": [], "pieces": [], "overflow_to_sample_mapping": []}
        if self.whole_word_mask:
            made["words"] = []
        for block in blocks:
            made["overflow_to_sample_mapping"].append(block[0].document)
            feature = _feature(block, documents, around, end)
            for name in made.keys() & feature.keys():
                made[name].append(feature[name])
        return made

    def for_inference(self) -> Self:
        """Return one that does not pack: a gap is filled from its own text."""
        return replace(self, packing=False)

    def show(self, feature: Row, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return a block with ``⟦…⟧`` round what one mask would hide."""
        seen = self._masks(tokenizer).masked(feature)["labels"] != IGNORE_INDEX
        return texts.shown(feature["input_ids"], seen.tolist(), tokenizer)

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> MaskAndPad:
        """Return what masks and pads."""
        return self._masks(tokenizer)

    def _masks(self, tokenizer: PreTrainedTokenizerBase) -> MaskAndPad:
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
        """Return cross entropy of the masked tokens: the sum over a step's, by their number."""
        return TokenCrossEntropy(shift=False)


def _feature(block: list[Piece], documents: Sequence[Encoded], around: Frame, end: int) -> dict[str, list[int]]:
    """Return one block: its tokens in their frame, and which word each belongs to, numbered through the block."""
    ids, words = list(around.before), [NO_WORD] * len(around.before)
    for document, first, stop in block:
        tokens, of = documents[document]
        ids += tokens[first:stop]
        later = max(words, default=NO_WORD) + 1
        words += [NO_WORD if word == NO_WORD else word + later for word in of[first:stop]]
    after = around.after
    if ids[-1] == end and block[-1].end_token == len(documents[block[-1].document].ids):
        after = after[1:] if after[:1] == (end,) else after
    pieces = [piece.end_token - piece.first_token for piece in block]
    pieces[0] += len(around.before)
    pieces[-1] += len(after)
    return {"input_ids": [*ids, *after], "pieces": pieces, "words": [*words, *[NO_WORD] * len(after)]}
