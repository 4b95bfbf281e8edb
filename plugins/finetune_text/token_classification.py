"""Token classification: one tag for every word, such as the entities of CoNLL-2003."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from finetune.errors import BadData
from finetune.interfaces import IGNORE_INDEX, LEARNED, Batch, Columns, DataForm, Finding, Preprocessor, Row, Values
from finetune.kit import DuplicateCounter, PadRight
from finetune_text import labels, tags, texts, token_checks, words
from finetune_text.losses import TagCrossEntropy
from finetune_text.tags import DataScheme, Scheme
from finetune_text.token_checks import TAGS, is_list, tag_texts
from finetune_text.words import NO_WORD, OWNER, SPACE_AFTER, TOKENS, WORD_IDS

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class TokenClassificationPreprocessor(Preprocessor):
    """One tag for every word.

    The column `tokens` holds a list of words; for prediction it may hold text, which is split into
    words and punctuation marks. The column `space_after`, if there is one, says for each word
    whether a space follows it. Tags are names, or positions in a list of names (`datasets.ClassLabel`, or the
    option `labels`). The prediction for a word is that of its first token. A sentence longer than
    `max_length` becomes several features, cut between words.
    """

    max_length: int = 256
    """Longest feature in tokens, special tokens included; longer sentences are cut between words."""
    labels: tuple[str, ...] | None = None
    """Names of the tags in order of their ids; learned from train when not given."""
    label_ids: bool | None = None
    """Whether the tag column holds positions in `labels` (0, 1, …) rather than names; learned when not given."""
    scheme: Scheme | None = None
    """How the model marks entities of several words: `BIO`, `BILOU` (or BIOES), or `none`; as the
    data do when not given. Tags in another scheme are converted."""
    data_scheme: DataScheme | None = None
    """How the data mark them: `IOB1`, `BIO`, `BILOU` or `none`; learned from train when not given.
    IOB1 becomes BIO, unless `scheme` says otherwise."""
    label_all: bool = False
    """Whether the loss also counts the further tokens of a word, as inside (`I-`) its entity, or
    only its first token. Labels that this needs and train lacks are added."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all tags."""
    tag_counts: Mapping[str, int] | None = field(default=None, metadata=LEARNED)
    """Words of each tag in train; always learned."""

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise ValueError("label_smoothing must be at least 0 and less than 1")

    @property
    def tag_scheme(self) -> Scheme:
        """The scheme that the recipe names, or the one that the tags follow."""
        return self.scheme or tags.scheme_of(self.labels or ())

    @property
    def _converts(self) -> bool:
        """Whether the tags of the data are written in another scheme than those of the model."""
        if self.label_ids or self.data_scheme in {None, "none"} or self.scheme in {None, "none"}:
            return False
        return self.data_scheme != self.scheme

    def _texts(self, value: Any) -> tuple[str, ...]:
        """Return the tags of a cell as text, in the scheme of the model."""
        found = tag_texts(value)
        return tuple(tags.convert(found, self.tag_scheme)) if self._converts else found

    def needs(self) -> Columns:
        """Return the columns that are read."""
        return Columns(required=(TOKENS,), optional=(SPACE_AFTER,), answers=(TAGS,))

    def forms(self) -> Sequence[DataForm]:
        """Return the form of the data: words with a tag for each."""
        return (
            DataForm(
                columns={
                    TOKENS: Values(
                        what="the words: a list, or a text with spaces", kind="words", names=("words", "text")
                    ),
                    TAGS: Values(
                        what="a tag for each word: a list of names or whole numbers",
                        kind="tags",
                        names=("tags", "labels", "ner", "pos_tags", "pos", "upos", "chunk_tags", "entities"),
                    ),
                },
                optional={SPACE_AFTER: Values(what="whether a space follows each word: a list")},
            ),
        )

    def canonical(self, example: Row) -> Row:
        """Return the words of an example, the names of its tags where it has any, and the tag scheme.

        ``{"tokens": ["Zoë", "sails"], "tags": ["B-PER", "O"], "tag_scheme": "BIO"}``
        """
        row: dict[str, Any] = {"tokens": words.words_of(example[TOKENS]), "tag_scheme": self.tag_scheme}
        value = example.get(TAGS)
        if value is not None:
            ids = self._tag_ids(value, row["tokens"])
            row["tags"] = [(self.labels or ())[position] for position in ids]
        return row

    def strata(self, example: Row) -> Collection[str]:
        """Return the tags of an example, as it writes them and as BIO writes them."""
        found = tag_texts(example.get(TAGS))
        return sorted({*found, *tags.convert(found, "BIO")})

    def fit(self, train: Sequence[Row]) -> Self:
        """Return a copy that knows the tags, how the data write them, and how many words have each."""
        occurrences: Counter[str] = Counter()
        for row in train:
            occurrences.update(tag_texts(row.get(TAGS)))
        class_label = labels.class_label_names(train, TAGS)
        names, ids = labels.learn(occurrences, given=self.labels, class_label=class_label, ids=self.label_ids)
        read = replace(self, label_ids=ids, data_scheme=self.data_scheme or self._learn_data_scheme(train, occurrences))
        if read.data_scheme == "IOB1":
            read = replace(read, scheme=self.scheme or "BIO")
        if read._converts:
            occurrences = Counter()
            for row in train:
                occurrences.update(read._texts(row.get(TAGS)))
            names, _ = labels.learn(occurrences, given=self.labels, class_label=None, ids=ids)
        if self.label_all:
            scheme = read.scheme or tags.scheme_of(names)
            inside = [tags.inside(name, scheme) for name in names]
            names = tuple(dict.fromkeys([*names, *inside]))
        fitted = replace(read, labels=names)
        return replace(fitted, tag_counts=fitted._counts_by_name(occurrences))

    @staticmethod
    def _learn_data_scheme(train: Sequence[Row], written: Iterable[str]) -> DataScheme:
        """Return the scheme of the training data; those that hold numbers are `none`."""
        scheme = tags.scheme_of(written)
        if scheme == "BIO" and tags.is_iob1(tag_texts(row.get(TAGS)) for row in train):
            return "IOB1"
        return scheme

    def for_model(self, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> Self:
        """Return a copy with the tags of a trained model, and with the length that it takes."""
        longest = texts.longest_input(config, tokenizer, default=self.max_length)
        return replace(self, labels=self.labels or labels.of_model(config), max_length=longest)

    def learn_form(self, examples: Sequence[Row]) -> Self:
        """Return a copy that knows whether the rows hold names of tags, or their ids, and in which scheme."""
        model = replace(self, scheme=self.scheme or tags.scheme_of(self.labels or ()))
        return replace(model.fit(examples), labels=self.labels, tag_counts=None)

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with one split.

        Findings about the tags as a whole belong to the training split, which is recognised by its
        counts. Rows without any tags are rows to predict.
        """
        if self.labels is None:
            yield from self.fit(examples).check(examples)
            return
        tagged = texts.has_values(examples, TAGS)
        if tagged:
            yield from token_checks.check_order(examples, self.labels)
        occurrences: Counter[str] = Counter()
        duplicates = DuplicateCounter()
        known = self._ids()
        for number, row in enumerate(examples):
            occurrences.update(self._texts(row.get(TAGS)))
            is_sound = yield from self._check_row(row, number, known, tagged=tagged)
            if tagged and is_sound:
                duplicates.add(number, row[TOKENS], hash(self._texts(row[TAGS])))
        yield from duplicates.repeat_warning("rows repeat an earlier text with the same label.", column=TOKENS)
        yield from duplicates.conflict_warning("rows repeat an earlier text with another label.", column=TOKENS)
        counts = self._counts_by_name(occurrences)
        if tagged and counts == self.tag_counts:
            given = self.scheme is not None
            if self.label_ids and self.data_scheme not in {None, "none"}:
                yield token_checks.not_converted(str(self.data_scheme))
            if self._converts:
                yield token_checks.converted(str(self.data_scheme), self.tag_scheme)
            yield from token_checks.check_train(
                self.labels, counts, scheme=self.tag_scheme, scheme_given=given, unused_allowed=self.label_all
            )

    def _check_row(
        self, row: Row, number: int, known: Mapping[str, int], *, tagged: bool
    ) -> Generator[Finding, None, bool]:
        """Yield what is wrong with one row; return whether it can be trained on."""
        is_sound = True
        for finding in token_checks.check_words(row.get(TOKENS), number, tagged=tagged):
            is_sound = is_sound and finding.level == "warning"
            yield finding
        if not tagged or not is_list(row.get(TOKENS)):
            return is_sound
        value, scheme = row.get(TAGS), self.tag_scheme
        if self._converts and is_list(value) and len(tag_texts(value)) == len(value):
            broken = token_checks.check_written(tag_texts(value), number, self.data_scheme or "none")
            if broken is not None:
                yield broken
                return False
            value = self._texts(value)
        problem = token_checks.check_tags(
            value, number, words=len(row[TOKENS]), known=known, labels=self.labels or (), scheme=scheme
        )
        if problem is not None:
            yield problem
        return is_sound and problem is None

    def _counts_by_name(self, occurrences: Mapping[str, int]) -> dict[str, int]:
        names = self.labels or ()
        return {names[position]: occurrences.get(text, 0) for text, position in self._ids().items()}

    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return token ids and, where examples have tags, a label for each token that the loss counts.

        ``{"tokens": [["Zoë", "sails"]], "ner_tags": [["B-PER", "O"]]}`` gives, with `zo` and `##e`
        for the first word, ``{'input_ids': [[101, 1062, 2063, 3000, 102]], 'word_ids': [[-1, 0, 0,
        1, -1]], …, 'labels': [[-100, 0, -100, 1, -100]]}``.

        Raises:
            BadData: A row has no tokens, or not one known tag for every word.
            BadOptions: The model cannot take `max_length` tokens, or `max_length` leaves no room
                for text.
            Incompatible: The tokenizer cannot pad, or does not say which word a token belongs to.
        """
        rows = [words.words_of(value) for value in examples[TOKENS]]
        given_spaces = examples.get(SPACE_AFTER) or [None] * len(rows)
        spaces = [words.spaces_of(*row) for row in zip(examples[TOKENS], given_spaces, strict=True)]
        encoded = words.encode(rows, tokenizer, max_length=self.max_length, spaces=spaces)
        given = labels.given_labels(examples, TAGS)
        if given is None:
            return encoded
        ids = [self._tag_ids(value, row) for value, row in zip(given, rows, strict=True)]
        further = self._labels_of_further_tokens()
        token_labels = []
        for word_ids, owner in zip(encoded[WORD_IDS], encoded[OWNER], strict=True):
            token_labels.append(_token_labels(word_ids, ids[owner], further))
        return {**encoded, "labels": token_labels}

    def _tag_ids(self, value: Any, row: Sequence[str]) -> list[int]:
        """Return the id of every tag of an example."""
        known = self._ids()
        texts_of_tags = self._texts(value)
        if not len(texts_of_tags) == len(value or ()) == len(row) or not known.keys() >= set(texts_of_tags):
            raise BadData(
                f"{value!r} are not one tag for each of {len(row)} words, of the tags {', '.join(known)}. "
                "Fit the preprocessor on train, and see what `check` says."
            )
        return [known[text] for text in texts_of_tags]

    def _labels_of_further_tokens(self) -> dict[int, int]:
        """Return the label of a word's further tokens, by that of its first."""
        names = self.labels or ()
        further = dict.fromkeys(range(len(names)), IGNORE_INDEX)
        if self.label_all:
            for position, name in enumerate(names):
                further[position] = names.index(tags.inside(name, self.tag_scheme))
        return further

    def _ids(self) -> dict[str, int]:
        return labels.ids_of(self.labels or (), ids=bool(self.label_ids))

    def counts(self, features: Batch) -> Mapping[str, int]:
        """Return how many words there are, and how many have no token, are in further windows or were truncated."""
        return words.counts(features)

    def show(self, feature: Row, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return the tokens, with the tags of those in the loss: ``[CLS] ⟦zo B-PER⟧ ##e ⟦sails O⟧ [SEP]``."""
        tokens = tokenizer.convert_ids_to_tokens(feature["input_ids"])
        ids = feature.get("labels") or [IGNORE_INDEX] * len(tokens)
        shown = []
        for token, position in zip(tokens, ids, strict=True):
            shown.append(token if position == IGNORE_INDEX else f"⟦{token} {(self.labels or ())[position]}⟧")
        return " ".join(shown)

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> PadRight:
        """Return the collator that pads tokens and labels on the right; see `finetune.kit.PadRight`."""
        return PadRight(pad_token_id=tokenizer.pad_token_id or 0, pad_token_type_id=tokenizer.pad_token_type_id)

    def loss(self) -> TagCrossEntropy:
        """Return the cross entropy of every labelled token: the mean over those of the step."""
        return TagCrossEntropy(label_smoothing=self.label_smoothing)

    def model_options(self) -> dict[str, Any]:
        """Return the names of the tags as the model's configuration holds them."""
        return labels.model_options(self.labels or ())


def _token_labels(word_ids: Sequence[int], ids: Sequence[int], further: Mapping[int, int]) -> list[int]:
    """Return the label of every token.

    >>> _token_labels([-1, 0, 0, 1, -1], [3, 2], {2: -100, 3: 4})
    [-100, 3, 4, 2, -100]

    Args:
        word_ids: The word of every token.
        ids: The label of every word, which its first token has.
        further: What the further tokens of a word have, by the label of the word.
    """
    token_labels = []
    before = NO_WORD
    for word in word_ids:
        if word == NO_WORD:
            token_labels.append(IGNORE_INDEX)
        else:
            token_labels.append(further[ids[word]] if word == before else ids[word])
        before = word
    return token_labels
