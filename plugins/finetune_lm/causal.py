"""Documents → blocks for a causal language model, in which every token is predicted exactly once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from finetune.interfaces import IGNORE_INDEX, Batch, Columns, Finding, Preprocessor, Row
from finetune.kit import TokenCrossEntropy
from finetune_lm import texts
from finetune_lm.collate import PadRight
from finetune_lm.frame import Ends, ends
from finetune_lm.packing import Piece, cut
from finetune_lm.prompts import CausalPromptPreprocessor

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class CausalLMPreprocessor(Preprocessor):
    """Predicts every token of a text from those before it.

    Each document ends in EOS, and begins with BOS where the tokenizer puts one. Documents lie end to end and are cut
    into blocks. A block begins with the token before its first one, as context that the loss leaves out, so that every
    token and every EOS is predicted exactly once, and none is lost.
    """

    max_length: int = 256
    """Longest block, in tokens."""
    packing: bool = True
    """Whether a block may hold several documents; without, each begins a block of its own."""

    is_packed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.max_length < 3:  # context, BOS, and a token to predict
            raise ValueError("max_length must be at least 3")

    def needs(self) -> Columns:
        """Return the columns that are read."""
        return Columns(required=(texts.TEXT,))

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with the texts of one split."""
        yield from texts.check_texts(examples, max_length=self.max_length)

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return blocks of tokens with their labels.

        ``pieces`` says how many of a block's tokens belong to the document in which it begins, to the next, and so
        on; they add up to its length. With GPT-2's tokenizer and ``max_length`` 5, ``{"text": ["a b c", "d"]}`` gives
        ``{'input_ids': [[EOS, a, b, c, EOS], [EOS, d, EOS]], 'labels': [[-100, a, b, c, EOS], [-100, d, EOS]],
        'pieces': [[5], [3]], 'overflow_to_sample_mapping': [0, 1]}``.
        """
        ends_ = ends(tokenizer)
        begin = [] if ends_.begin is None else [ends_.begin]
        encoded = texts.encode(examples[texts.TEXT], tokenizer)
        documents = [[*begin, *text.ids, ends_.end] for text in encoded]
        blocks = cut([len(ids) for ids in documents], room=self.max_length - 1, packing=self.packing)
        made: dict[str, list[Any]] = {"input_ids": [], "labels": [], "pieces": [], "overflow_to_sample_mapping": []}
        for block in blocks:
            for name, value in _feature(block, documents, ends_).items():
                made[name].append(value)
            made["overflow_to_sample_mapping"].append(block[0].document)
        return made

    def for_inference(self) -> CausalPromptPreprocessor:
        """Return what makes each text a prompt to go on with, beside its own blocks."""
        return CausalPromptPreprocessor(blocks=replace(self, packing=False))

    def counts(self, features: Batch) -> Mapping[str, int]:
        """Return how many tokens are predicted: every one of every text, and the ends."""
        return {"tokens_predicted": sum(label != IGNORE_INDEX for labels in features["labels"] for label in labels)}

    def show(self, feature: Row, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return a block with ``⟦…⟧`` round what is predicted."""
        seen = [label != IGNORE_INDEX for label in feature["labels"]]
        return texts.shown(feature["input_ids"], seen, tokenizer)

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> PadRight:
        """Return what pads on the right, whatever side the tokenizer would pad for generation."""
        return PadRight(pad_token_id=tokenizer.pad_token_id or 0)

    def loss(self) -> TokenCrossEntropy:
        """Return cross entropy of the next token: the sum over a step's tokens, by their number."""
        return TokenCrossEntropy(shift=True)


def _feature(block: list[Piece], documents: Sequence[list[int]], ends_: Ends) -> dict[str, Any]:
    """Return one block: its context, its tokens, and which of them are labels."""
    document, first_token, _ = block[0]
    context: list[int] = []
    if first_token:
        context = [documents[document][first_token - 1]]
    elif ends_.begin is None:  # what stands before a document is the end of another, or nothing
        context = [ends_.end]
    ids, labels = list(context), [IGNORE_INDEX] * len(context)
    for piece in block:
        tokens = documents[piece.document][piece.first_token : piece.end_token]
        ids += tokens
        begins = piece.first_token == 0 and ends_.begin is not None
        labels += [IGNORE_INDEX, *tokens[1:]] if begins else tokens
    pieces = [piece.end_token - piece.first_token for piece in block]
    pieces[0] += len(context)
    return {"input_ids": ids, "labels": labels, "pieces": pieces}
