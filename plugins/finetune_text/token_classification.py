"""Token classification: one tag for every word, such as the entities of CoNLL-2003."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

from transformers import DataCollatorForTokenClassification

from finetune.errors import BadData
from finetune.interfaces import IGNORE_INDEX, Batch, Columns, Finding, Preprocessor, Row
from finetune_text import labels as names
from finetune_text import tags, texts, token_checks, words
from finetune_text.losses import TagCrossEntropy
from finetune_text.tags import Scheme
from finetune_text.token_checks import TAGS
from finetune_text.words import NO_WORD, OWNER, TOKENS, WORD_IDS

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class TokenClassificationPreprocessor(Preprocessor):
    """One tag for every word.

    The column `tokens` holds a list of words; to predict, it may hold text, which is parted at white space. Tags are
    names, or positions in a list of names (`datasets.ClassLabel`, or the option `labels`). The first token of a word
    speaks for the word. A sentence longer than `max_length` becomes several features, cut between words.
    """

    max_length: int = 256
    """Longest feature, in tokens, special ones included; longer sentences are cut between words."""
    labels: tuple[str, ...] | None = None
    """Names of the tags in order of their ids; learned from train when not given."""
    label_ids: bool | None = None
    """Whether the tag column holds positions in `labels` (0, 1, …) rather than names; learned when not given."""
    scheme: Scheme | None = None
    """How tags mark entities of several words: `BIO`, `BILOU` (or BIOES), or `none`; as they look when not given."""
    label_all: bool = False
    """Whether a word's further tokens are learned too, as inside (`I-`) its entity, or its first token alone. Labels
    that this needs and train lacks are added."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all tags."""
    tag_counts: Mapping[str, int] | None = None
    """Words of each tag in train; always learned."""

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError("label_smoothing must be at least 0 and less than 1")

    @property
    def tag_scheme(self) -> Scheme:
        """The scheme as told, or as the tags look."""
        return self.scheme or tags.scheme_of(self.labels or ())

    def needs(self) -> Columns:
        """Return the columns that are read."""
        return Columns(required=(TOKENS,), answers=(TAGS,))

    def fit(self, train: Sequence[Row]) -> Self:
        """Return a copy that knows the tags, how the data write them, and how many words have each."""
        class_label = names.class_label_names(train, TAGS)
        found = Counter(text for row in train for text in _spelt(row.get(TAGS)))
        labels = self.labels or class_label or names.ordered(found)
        ids = self.label_ids
        if ids is None:
            ids = class_label is not None or (self.labels is not None and names.are_ids(found, labels))
        scheme = self.scheme or tags.scheme_of(labels)
        if self.label_all:
            labels = tuple(dict.fromkeys([*labels, *(tags.inside(name, scheme) for name in labels)]))
        counts = {labels[position]: found[text] for text, position in names.positions(labels, ids=ids).items()}
        return replace(self, labels=labels, label_ids=ids, tag_counts=counts)

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with one split.

        What concerns the tags as a whole is said of the training split, which is known by its counts; rows without any
        tags are rows to predict.
        """
        if self.labels is None or self.tag_counts is None:
            yield from self.fit(examples).check(examples)
            return
        known, tagged, twins = self._known(), texts.present(examples, TAGS), texts.Twins()
        found: Counter[str] = Counter()
        scheme = self.tag_scheme
        if tagged:
            yield from token_checks.check_order(examples, self.labels)
        for number, row in enumerate(examples):
            given, value = row.get(TOKENS), row.get(TAGS)
            found.update(_spelt(value))
            wrong = list(token_checks.check_words(given, number, tagged=tagged))
            yield from wrong
            if not tagged or not token_checks.listed(given):
                continue
            problem = token_checks.check_tags(
                value, number, words=len(given), known=known, labels=self.labels, scheme=scheme
            )
            if problem is not None:
                yield problem
            elif not any(finding.level != "warning" for finding in wrong):
                twins.add(number, {texts.TEXT: "\0".join(given)}, hash(tuple(_spelt(value))))
        for finding in twins.findings():
            yield replace(finding, column=TOKENS)
        counts = {self.labels[position]: found[text] for text, position in known.items()}
        if tagged and counts == self.tag_counts:
            told = self.scheme is not None
            yield from token_checks.check_train(self.labels, counts, scheme=scheme, told=told, spare=self.label_all)

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return token ids and, where examples have tags, a label for each token that the loss sees.

        ``{"tokens": [["Zoë", "sails"]], "ner_tags": [["B-PER", "O"]]}`` gives, with `zo` and `##e` for the first word,
        ``{'input_ids': [[101, 1062, 2063, 3000, 102]], 'word_ids': [[-1, 0, 0, 1, -1]], …,
        'labels': [[-100, 0, -100, 1, -100]]}``.
        """
        rows = [words.words_of(value) for value in examples[TOKENS]]
        encoded = words.encode(rows, tokenizer, max_length=self.max_length)
        given = examples.get(TAGS, ())
        if all(value is None for value in given):
            return encoded
        ids = [self._ids(value, row) for value, row in zip(given, rows, strict=True)]
        rest = self._rest()
        owned = zip(encoded[WORD_IDS], encoded[OWNER], strict=True)
        return {**encoded, "labels": [_labels(word_ids, ids[owner], rest) for word_ids, owner in owned]}

    def _ids(self, value: Any, row: Sequence[str]) -> list[int]:
        known = self._known()
        found = [known.get(token_checks.spelt(tag) or "") for tag in value or ()]
        ids = [position for position in found if position is not None]
        if len(ids) != len(row):
            raise BadData(
                f"{value!r} are not one tag for each of {len(row)} words, of the tags {', '.join(known)}. "
                "Fit the preprocessor on train, and see what `check` says."
            )
        return ids

    def _rest(self) -> dict[int, int]:
        """Return the label of a word's further tokens, by that of its first."""
        labels = self.labels or ()
        if not self.label_all:
            return dict.fromkeys(range(len(labels)), IGNORE_INDEX)
        return {k: labels.index(tags.inside(name, self.tag_scheme)) for k, name in enumerate(labels)}

    def _known(self) -> dict[str, int]:
        return names.positions(self.labels or (), ids=bool(self.label_ids))

    def tag_names(self, example: Row) -> list[str] | None:
        """Return the true tags of an example by name, or None where it has none."""
        value = example.get(TAGS)
        if value is None:
            return None
        return [(self.labels or ())[position] for position in self._ids(value, words.words_of(example[TOKENS]))]

    def counts(self, features: Batch) -> Mapping[str, int]:
        """Return how many words there are, and how many have no token, stand in further windows or were truncated."""
        return words.counts(features)

    def show(self, feature: Row, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return the tokens, those that the loss sees with their tags: ``[CLS] ⟦zo B-PER⟧ ##e ⟦sails O⟧ [SEP]``."""
        tokens = tokenizer.convert_ids_to_tokens(feature["input_ids"])
        ids = feature.get("labels") or [IGNORE_INDEX] * len(tokens)
        shown = (
            token if position == IGNORE_INDEX else f"⟦{token} {(self.labels or ())[position]}⟧"
            for token, position in zip(tokens, ids, strict=True)
        )
        return " ".join(shown)

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Any:
        """Return what pads tokens and labels, on the right whatever side the tokenizer would pad.

        Else logits would be shifted by an amount that the trainer forgets when it joins batches of different widths.
        """
        right = copy.copy(tokenizer)
        right.padding_side = "right"
        return DataCollatorForTokenClassification(right, label_pad_token_id=IGNORE_INDEX)

    def loss(self) -> TagCrossEntropy:
        """Return the cross entropy of every labelled token: the mean over those of the step."""
        return TagCrossEntropy(label_smoothing=self.label_smoothing)

    def model_options(self) -> dict[str, Any]:
        """Return the names of the tags as the model's configuration holds them."""
        labels = self.labels or ()
        return {
            "num_labels": len(labels),
            "id2label": dict(enumerate(labels)),
            "label2id": {name: position for position, name in enumerate(labels)},
        }


def _labels(word_ids: Sequence[int], ids: Sequence[int], rest: Mapping[int, int]) -> list[int]:
    """Return the label of every token: of a word's first one the word's, of its further ones what ``rest`` says.

    >>> _labels([-1, 0, 0, 1, -1], [3, 2], {2: -100, 3: 4})
    [-100, 3, 4, 2, -100]
    """
    return [
        IGNORE_INDEX if word == NO_WORD else ids[word] if word != before else rest[ids[word]]
        for before, word in pairwise([NO_WORD, *word_ids])
    ]


def _spelt(value: Any) -> Iterator[str]:
    """Yield the tags of a row as text, whatever else is wrong with it."""
    if token_checks.listed(value):
        yield from (text for tag in value if (text := token_checks.spelt(tag)) is not None)
