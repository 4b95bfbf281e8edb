"""Sources and targets → their tokens, and how much of them was truncated."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from finetune.errors import BadData
from finetune.interfaces import Batch, Finding, Preprocessor, Row, Values
from finetune.kit import TokenCrossEntropy, within_context
from finetune_seq2seq import languages
from finetune_seq2seq.collator import Seq2SeqCollator
from finetune_seq2seq.encoding import encode, special_ids
from finetune_seq2seq.findings import PairWarnings, check_source, check_target, first_target

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

SOURCE, TARGET, PREFIX = "source", "target", "prefix"
"""The keys of `Seq2SeqPreprocessor.canonical`, and the column that replaces the option."""
PREFIX_VALUES = Values(what="what the model reads before the text: `summarize: `")
SOURCE_LOST, TARGET_LOST = "source_tokens_lost", "target_tokens_lost"
"""Helper columns of the features: how many tokens were truncated."""


@dataclass(frozen=True, kw_only=True)
class Seq2SeqPreprocessor(Preprocessor):
    """A text to read and a text to write: what summarization, translation and text-to-text have in common.

    What is too long is truncated and counted. A truncated target ends with the end token all the
    same, as upstream's do, because mBART takes its decoder's first token from there. A model that
    sees many of them learns to stop too early, so look at `targets_truncated` in the data report. A
    column ``prefix`` takes the place of the option.
    """

    max_source_length: int = 1024
    """Longest source, in tokens, prefix and special tokens included; longer ones are truncated and
    counted."""
    max_target_length: int = 128
    """Longest target, in tokens, special tokens included; longer ones are truncated and counted.
    Also how many tokens are generated at most, unless `generation.max_new_tokens` sets another
    limit."""
    prefix: str = ""
    """Text before every source: `"summarize: "` or `"translate English to German: "` for the first
    T5 and its fine-tunes, which do much worse without it; nothing for T5 1.1, mT5, BART and others.
    It is not checked, because data are checked without the model."""
    label_smoothing: float = 0.0
    """Share of each token's target that is spread over the whole vocabulary in training."""

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError("label_smoothing must be at least 0 and less than 1")

    def for_model(self, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> Self:
        """Return a copy with the lengths that a trained model takes."""
        return within_context(self, config)

    @abstractmethod
    def canonical(self, example: Row) -> Row:
        """Return ``source`` and ``target`` as a row has them, each None if it has none, even if the row is bad."""

    @abstractmethod
    def places(self, row: Row) -> tuple[str, str]:
        """Return where source and target stand: ``("document", "summary")``."""

    @abstractmethod
    def languages(self) -> Mapping[str, str | None]:
        """Return the language codes of source and target, in this order, by the options that hold them."""

    def check_row(self, row: Row, number: int) -> Finding | None:
        """Return what is wrong with a row as a whole; its texts are checked only if nothing is."""
        return None

    def trainer_options(self) -> Mapping[str, Any]:
        """Return the longest source and target, which limit what is generated."""
        return {"max_source_length": self.max_source_length, "max_target_length": self.max_target_length}

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with one split; if no row has a target, all are rows to predict."""
        labelled = any(self.canonical(row)[TARGET] is not None for row in examples)
        warnings = PairWarnings()
        for number, row in enumerate(examples):
            problem = self.check_row(row, number)
            if problem is not None:
                yield problem
                continue
            texts = self.canonical(row)
            source_place, target_place = self.places(row)
            yield from check_source(texts[SOURCE], number, source_place)
            if labelled:
                yield from check_target(texts[TARGET], number, target_place)
            warnings.add(number, texts[SOURCE], texts[TARGET], (source_place, target_place))
        yield from warnings.findings()

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return token ids of the sources and, if examples have targets, labels.

        ``{"document": ["Fog, all day."], "summary": ["Fog."]}`` gives ``{'input_ids': [[12, 5, 9,
        2]], 'attention_mask': [[1, 1, 1, 1]], 'source_tokens_lost': [0], 'labels': [[12, 2]],
        'target_tokens_lost': [0]}``.

        Raises:
            BadOptions: A length leaves no room for text; a language is missing or unknown.
            BadData: The tokenizer finds no token of text in a target.
            Incompatible: The tokenizer cannot pad, or does not end its targets.
        """
        languages.set_languages(tokenizer, self.languages())
        sources, targets = [], []
        for values in zip(*examples.values(), strict=True):
            row = dict(zip(examples, values, strict=True))
            texts = self.canonical(row)
            sources.append(f"{self._prefix(row)}{texts[SOURCE]}")
            targets.append(first_target(texts[TARGET]))
        ids, lost = encode(sources, tokenizer, max_length=self.max_source_length, option="max_source_length")
        features: dict[str, Sequence[Any]] = {
            "input_ids": ids,
            "attention_mask": [[1] * len(row) for row in ids],
            SOURCE_LOST: lost,
        }
        if all(target is None for target in targets):
            return features
        labels, lost = encode(
            targets, tokenizer, max_length=self.max_target_length, option="max_target_length", target=True
        )
        _require_text(targets, labels, tokenizer)
        return {**features, "labels": labels, TARGET_LOST: lost}

    def _prefix(self, row: Row) -> str:
        own = row.get(PREFIX)
        return self.prefix if own is None else str(own)

    def counts(self, features: Batch) -> Mapping[str, int]:
        """Return how many sources and targets were truncated, how many tokens were lost, and how many are learned."""
        lost = features[SOURCE_LOST]
        counts = {"sources_truncated": _positive(lost), SOURCE_LOST: sum(lost)}
        if "labels" not in features:
            return counts
        lost = features[TARGET_LOST]
        return {
            **counts,
            "target_tokens": sum(map(len, features["labels"])),
            "targets_truncated": _positive(lost),
            TARGET_LOST: sum(lost),
        }

    def show(self, feature: Row, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return the source as the model reads it, and the target that the loss sees."""
        source = str(tokenizer.decode(feature["input_ids"]))
        labels = feature.get("labels")
        return source if labels is None else f"{source} → ⟦{tokenizer.decode(labels)}⟧"

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Seq2SeqCollator:
        """Return a collator that pads sources and labels, and makes decoder inputs as the model does."""
        return Seq2SeqCollator(tokenizer, model)

    def loss(self) -> TokenCrossEntropy:
        """Return cross entropy, the mean over all target tokens of a step."""
        return TokenCrossEntropy(label_smoothing=self.label_smoothing)


def _positive(counts: Sequence[int]) -> int:
    return sum(count > 0 for count in counts)


def _require_text(targets: Sequence[Any], labels: Sequence[list[int]], tokenizer: Any) -> None:
    """Check that the labels of each target hold more than special tokens."""
    special = set(special_ids(tokenizer, target=True))
    empty = []
    for target, ids in zip(targets, labels, strict=True):
        if set(ids) <= special:
            empty.append(target)
    if empty:
        raise BadData(
            f"the tokenizer ({type(tokenizer).__name__}) finds no token of text in {len(empty):,} targets, such as "
            f"{str(empty[0])[:80]!r}: the model would only learn to stop. Check that the tokenizer fits the language."
        )
