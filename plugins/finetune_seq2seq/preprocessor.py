"""Pairs of texts, one to read and one to write: their tokens, and what was cut off them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune.errors import BadData
from finetune.interfaces import Batch, Finding, Preprocessor, Row
from finetune.kit import TokenCrossEntropy
from finetune_seq2seq import languages
from finetune_seq2seq.collator import Seq2SeqCollator
from finetune_seq2seq.encoding import encode, is_bare
from finetune_seq2seq.findings import Tally, check_source, check_target, first

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PREFIX = "prefix"
SOURCE_LOST, TARGET_LOST = "source_tokens_lost", "target_tokens_lost"
"""Helper columns of the features: tokens that were cut off."""


@dataclass(frozen=True, kw_only=True)
class Seq2SeqPreprocessor(Preprocessor):
    """A text to read and a text to write; what summaries and translations batch_share.

    What is too long is cut, and counted. A cut target ends with the end token all the same, as upstream's do, because
    mBART takes its decoder's first token from there: a model that sees many of them learns to stop too early, so look
    at `targets_truncated` in the data report. A column ``prefix``, where there is one, takes the place of the option.
    """

    max_source_length: int = 1024
    """Longest source, in tokens, prefix and special ones included; what is beyond is cut and counted."""
    max_target_length: int = 128
    """Longest target, in tokens, special ones included; what is beyond is cut and counted. Also how many tokens are
    written at most, unless `generation.max_new_tokens` says otherwise."""
    prefix: str = ""
    """What stands before every source: `"summarize: "` or `"translate English to German: "` for the first T5 and its
    fine-tunes, which do much worse without it; nothing for T5 1.1, mT5, BART and others. It is not
    checked, because data are checked without the model."""
    label_smoothing: float = 0.0
    """Share of each token's target that is spread over the whole vocabulary, while training."""

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError("label_smoothing must be at least 0 and less than 1")

    @abstractmethod
    def pair(self, row: Row) -> tuple[Any, Any]:
        """Return source and target as a row has them, each None where it has none, whatever is wrong with the row."""

    @abstractmethod
    def places(self, row: Row) -> tuple[str, str]:
        """Return where source and target stand: ``("document", "summary")``."""

    @abstractmethod
    def languages(self) -> Mapping[str, str | None]:
        """Return the language codes of source and target, in this order, by the options that hold them."""

    def broken(self, row: Row, number: int) -> Finding | None:
        """Return what is wrong with a row as a whole, so that there is no use in looking at its texts."""
        return None

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with one split; rows without any target are rows to predict."""
        labelled = any(self.pair(row)[1] is not None for row in examples)
        tally = Tally()
        for number, row in enumerate(examples):
            problem = self.broken(row, number)
            if problem is not None:
                yield problem
                continue
            (source, target), (source_place, target_place) = self.pair(row), self.places(row)
            yield from check_source(source, number, source_place)
            if labelled:
                yield from check_target(target, number, target_place)
            tally.add(number, source, target)
        yield from tally.findings()

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return token ids of the sources and, where examples have targets, labels.

        ``{"document": ["Fog, all day."], "summary": ["Fog."]}`` gives ``{'input_ids': [[12, 5, 9, 2]],
        'attention_mask': [[1, 1, 1, 1]], 'source_tokens_lost': [0], 'labels': [[12, 2]], 'target_tokens_lost': [0]}``.

        Raises:
            BadOptions: A length leaves no room for text; a language is missing or unknown.
            BadData: The tokenizer finds nothing to write in a target.
            Incompatible: The tokenizer cannot pad, or does not end its targets.
        """
        languages.use(tokenizer, self.languages())
        rows = [dict(zip(examples, values, strict=True)) for values in zip(*examples.values(), strict=True)]
        pairs = [self.pair(row) for row in rows]
        sources = [f"{self._prefix(row)}{source}" for row, (source, _) in zip(rows, pairs, strict=True)]
        read, lost = encode(sources, tokenizer, max_length=self.max_source_length, option="max_source_length")
        made: dict[str, Sequence[Any]] = {
            "input_ids": read,
            "attention_mask": [[1] * len(ids) for ids in read],
            SOURCE_LOST: lost,
        }
        targets = [first(target) for _, target in pairs]
        if all(target is None for target in targets):
            return made
        labels, lost = encode(
            targets, tokenizer, max_length=self.max_target_length, option="max_target_length", target=True
        )
        _refuse_bare(targets, labels, tokenizer)
        return {**made, "labels": labels, TARGET_LOST: lost}

    def _prefix(self, row: Row) -> str:
        own = row.get(PREFIX)
        return self.prefix if own is None else str(own)

    def counts(self, features: Batch) -> Mapping[str, int]:
        """Return how many sources and targets were truncated, how many tokens were lost, and how many are learned."""
        lost = features[SOURCE_LOST]
        counts = {"sources_truncated": sum(count > 0 for count in lost), SOURCE_LOST: sum(lost)}
        if "labels" not in features:
            return counts
        lost = features[TARGET_LOST]
        return {
            **counts,
            "target_tokens": sum(map(len, features["labels"])),
            "targets_truncated": sum(count > 0 for count in lost),
            TARGET_LOST: sum(lost),
        }

    def show(self, feature: Row, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return the source as the model reads it, and the target that the loss sees."""
        source: str = tokenizer.decode(feature["input_ids"])
        labels = feature.get("labels")
        return source if labels is None else f"{source} → ⟦{tokenizer.decode(labels)}⟧"

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Seq2SeqCollator:
        """Return what pads sources and labels, and shifts the labels into decoder inputs as the model wants them."""
        return Seq2SeqCollator(tokenizer, model)

    def loss(self) -> TokenCrossEntropy:
        """Return cross entropy, the mean over all target tokens of a step."""
        return TokenCrossEntropy(label_smoothing=self.label_smoothing)


def _refuse_bare(targets: Sequence[Any], labels: Sequence[list[int]], tokenizer: Any) -> None:
    bare = [str(target) for target, ids in zip(targets, labels, strict=True) if is_bare(ids, tokenizer)]
    if bare:
        raise BadData(
            f"the tokenizer ({type(tokenizer).__name__}) finds nothing to write in {len(bare):,} targets, such as "
            f"{bare[0][:80]!r}: nothing would be learned from them but to stop. Is it the right tokenizer for the "
            "language?"
        )
