"""How good tags are: entity by entity, as conlleval counts, and word by word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from scipy.special import softmax

from finetune.errors import TrainingFailed
from finetune.interfaces import Decisions, Evaluator, Predictions, Preprocessor, Record, Row, Tallies
from finetune.kit import check_primary, check_temperature, decisions_of, require_key, safe_divide
from finetune_text import tags
from finetune_text.outputs import (
    first_output,
    label_names,
    require_records,
    require_shape,
)
from finetune_text.tags import Entity, Scheme
from finetune_text.words import NO_WORD, WORD_IDS, words_of

SCORES = ("f1", "precision", "recall", "f1_macro", "precision_macro", "recall_macro", "accuracy")
PER_TYPE = ("f1", "precision", "recall")
_REMEDY = "Override canonical() to return {'tokens': […], 'tags': […]}, or choose another evaluator."

_Span = tuple[str, int, int]
"""What must agree for an entity to be right: its type, first and last word."""


@dataclass(frozen=True, kw_only=True)
class TokenClassificationEvaluator(Evaluator):
    """Precision, recall and F1 of whole entities: an entity is right if its type, first and last word are right.

    Where tags follow no scheme, every word is scored as one entity, and `f1` is the accuracy.

    It works with every preprocessor whose features hold ``word_ids``, whose `model_options` hold
    ``id2label``, and whose `canonical` gives ``tokens`` (the words), ``tags`` (names, where the
    example has answers) and, if it knows it, ``tag_scheme``. Without that, the label names decide
    which scheme it is.

    Source: conlleval (Tjong Kim Sang and Buchholz 2000). `finetune_text.tags` says where seqeval
    differs.
    """

    primary: str = "f1"
    """The score that models are chosen by: `f1`, `f1_macro`, `accuracy`, `f1/<type>`, …"""
    temperature: float | None = None
    """What logits are divided by before they become probabilities. None: a run fits it on validation. 1 leaves the
    probabilities as they are."""

    def __post_init__(self) -> None:
        check_primary(self.primary, SCORES, PER_TYPE)
        check_temperature(self.temperature)

    def scales(self) -> dict[str, str]:
        """Return the scales of the scores."""
        return dict.fromkeys((*SCORES, *PER_TYPE), "0 to 1")

    def records(self, predictions: Predictions) -> list[Record]:
        """Return the entities of each example, with the words they begin and end with, and every word's tag.

        ``{'prediction': [{'entity': 'PER', 'text': 'Zoë Moreau', 'first_word': 0, 'last_word': 1,
        'score': 0.98}], 'tags': ['B-PER', 'I-PER', 'O'], 'reference': [{'entity': 'PER', 'text':
        'Zoë', …}], 'reference_tags': ['B-PER', 'O', 'O']}``; an entity's score is the mean
        probability of its words' tags.

        Where tags follow no scheme:
        ``{'prediction': ['PROPN', 'VERB'], 'scores': [0.9, 0.8], 'reference': ['PROPN', 'VERB']}``.

        A word for which the tokenizer has no token gets no prediction: its tag is None, and counts
        as wrong.

        Raises:
            BadOptions: The preprocessor does not give what this evaluator needs.
            TrainingFailed: The outputs are not finite, or do not have one row of logits for each
                token.
        """
        sentences = _checked_sentences(predictions)
        tagged = _tagged(predictions)
        guesses, scores = _tag_words(tagged, sentences, temperature=self.temperature or 1.0)
        return [_record(*row) for row in zip(sentences, guesses, scores, strict=True)]

    def decisions(self, predictions: Predictions) -> Decisions | None:
        """Return the logits of each word that has a token and a tag."""
        sentences, tagged = _checked_sentences(predictions), _tagged(predictions)
        ids = {name: position for position, name in enumerate(tagged.names)}
        places, answers = [], []
        for place, (owner, word) in enumerate(zip(tagged.owners, tagged.words, strict=True)):
            truth = sentences[owner].tags
            if truth is not None and truth[word] in ids:
                places.append(place)
                answers.append(ids[truth[word]])
        if not answers:
            return None
        return replace(decisions_of(tagged.logits[places], answers), rows=np.array(tagged.owners)[places])

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return precision, recall and F1 of all entities, of each type, and the mean over the types.

        A type counts if it is among the references or the predictions; a score with nothing to
        count is 0. ``accuracy`` is the share of words with the right tag.
        """
        require_records(records)
        right, predicted, true = _counts(records)
        kinds = sorted(predicted | true)
        scores = _scores(right.total(), predicted.total(), true.total())
        for name in PER_TYPE:
            scores[f"{name}_macro"] = 0.0
        per_type: dict[str, float] = {}
        for kind in kinds:
            for name, value in _scores(right[kind], predicted[kind], true[kind]).items():
                per_type[f"{name}/{kind}"] = value
                scores[f"{name}_macro"] += value
        for name in PER_TYPE:
            scores[f"{name}_macro"] /= max(len(kinds), 1)
        words_right = words = 0
        for record in records:
            words_right += _words_right(record)
            words += len(_tags(record, "reference"))
        return {**scores, "accuracy": words_right / max(words, 1), **per_type}

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return how many entities of each sentence are right, predicted and true, and how many words are right.

        Types are not counted separately. The unit of resampling is the sentence, or the document
        where rows are documents.
        """
        values = []
        for record in records:
            guess, truth = _spans(record, "prediction"), _spans(record, "reference")
            words = len(_tags(record, "reference"))
            values.append([len(guess & truth), len(guess), len(truth), _words_right(record), words])
        most = dict.fromkeys(("f1", "precision", "recall", "accuracy"), 1.0)
        return Tallies(values=np.array(values, dtype=np.float64), scores=_scores_of_sums, most=most)

    def baselines(self, predictions: Predictions, *, train: Predictions) -> dict[str, list[Record]]:
        """Return the records of a dictionary that gives each word its most frequent tag in train.

        Unknown words get the tag that is most frequent overall.

        Source: the unigram tagger that conlleval's shared tasks are measured against (Tjong Kim
        Sang and De Meulder 2003, section 3).
        """
        tags_of: dict[str, Counter[str]] = {}
        for sentence in _sentences(train):
            if sentence.tags is not None:
                for word, tag in zip(sentence.words, sentence.tags, strict=True):
                    tags_of.setdefault(word, Counter())[tag] += 1
        overall: Counter[str] = Counter()
        for counts in tags_of.values():
            overall.update(counts)
        usual = _most_frequent(overall)
        records = []
        for sentence in _sentences(predictions):
            guess = [_most_frequent(tags_of[word]) if word in tags_of else usual for word in sentence.words]
            records.append(_record(sentence, guess, [1.0] * len(guess)))
        return {"dictionary": records}

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return for each record how many true entities it misses plus how many wrong ones it predicts."""
        return [float(len(_spans(record, "prediction") ^ _spans(record, "reference"))) for record in records]

    def slices(self, records: Sequence[Record], examples: Sequence[Row]) -> dict[str, list[str]]:
        """Return how many entities each sentence has."""
        sizes = []
        for record in records:
            size = len(record["reference"])
            sizes.append(str(size) if size < 5 else "5 or more")
        return {"entities": sizes}

    def highlights(self, record: Record, example: Row) -> dict[str, list[tuple[int, int, str]]]:
        """Return which words of `tokens` the predicted and the right entities hold, with their types."""
        count = len(_tags(record, "prediction"))
        if "tags" not in record or not isinstance(example.get("tokens"), list) or len(example["tokens"]) != count:
            return {}  # tags without a scheme, or words under another name
        spans = []
        for side in ("prediction", "reference"):
            for entity in record.get(side, ()):
                spans.append((entity["first_word"], entity["last_word"] + 1, f"{side}:{entity['entity']}"))
        return {"tokens": spans}

    def details(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return how many entities of each type are true, predicted and right; and how many words there are."""
        right, predicted, true = _counts(records)
        types = {}
        for name in sorted(predicted | true):
            types[name] = {"support": true[name], "predicted": predicted[name], "correct": right[name]}
        words = without = 0
        for record in records:
            guess = _tags(record, "prediction")
            words += len(guess)
            without += guess.count(None)
        return {"types": types, "words": words, "words_without_prediction": without}


class _Sentence(NamedTuple):
    words: list[str]
    tags: Sequence[str] | None
    scheme: Scheme


class _Window(NamedTuple):
    owner: int
    word_ids: Any
    labelled: bool


def _sentences(predictions: Predictions) -> list[_Sentence]:
    """Return the examples as the preprocessor's `canonical` gives them."""
    preprocessor: Preprocessor = predictions.preprocessor
    scheme = tags.scheme_of(label_names(predictions))
    sentences = []
    for example in predictions.examples:
        row = preprocessor.canonical(example)
        words = require_key(row, "tokens", preprocessor, method="canonical()", remedy=_REMEDY)
        sentences.append(_Sentence(words_of(words), row.get("tags"), row.get("tag_scheme", scheme)))
    return sentences


def _windows(predictions: Predictions) -> list[_Window]:
    """Return what is read of the features."""
    remedy = "Keep a column with the word of each token, −1 for special tokens, or choose another evaluator."
    windows = []
    for feature in predictions.features:
        ids = require_key(feature, WORD_IDS, predictions.preprocessor, method="features()", remedy=remedy)
        windows.append(_Window(feature["example"], np.asarray(ids), feature.get("labels") is not None))
    return windows


class _Tagged(NamedTuple):
    """The words that have a token, with the logits of their tags."""

    names: Sequence[str]
    logits: Any
    """An array (words, tags)."""
    owners: list[int]
    """The example of each word."""
    words: list[int]
    """Its position there."""


def _checked_sentences(predictions: Predictions) -> list[_Sentence]:
    """Return the examples, after a check that those with labels have tags."""
    labelled = {window.owner for window in _windows(predictions) if window.labelled}
    sentences = []
    for index, sentence in enumerate(_sentences(predictions)):
        if sentence.tags is None and index in labelled:
            canonical = predictions.preprocessor.canonical(predictions.examples[index])
            require_key(canonical, "tags", predictions.preprocessor, method="canonical()", remedy=_REMEDY)
        sentences.append(sentence)
    return sentences


def _tagged(predictions: Predictions) -> _Tagged:
    """Return the logits of every word, by its first token."""
    windows, names = _windows(predictions), label_names(predictions)
    logits = np.asarray(first_output(predictions))
    # More tokens would be virtual ones before the others, and shift every tag.
    longest = max(len(window.word_ids) for window in windows)
    require_shape(logits, (len(windows), longest, len(names)))
    firsts, owners, words = [], [], []
    for number, window in enumerate(windows):
        ids = window.word_ids
        places = np.flatnonzero((ids != NO_WORD) & (np.diff(ids, prepend=NO_WORD) != 0))
        firsts.append(logits[number, places])
        owners += [window.owner] * len(places)
        words += ids[places].tolist()
    of_words = np.concatenate(firsts).astype(np.float64)
    if not np.isfinite(of_words).all():
        raise TrainingFailed(
            "the model's outputs are not finite for some words. The training has diverged: lower learning_rate."
        )
    return _Tagged(names, of_words, owners, words)


def _tag_words(
    tagged: _Tagged, sentences: Sequence[_Sentence], *, temperature: float
) -> tuple[list[list[str | None]], list[list[float]]]:
    """Return the most probable tag of every word, and its probability."""
    best = tagged.logits.argmax(axis=-1).tolist()
    probabilities = softmax(tagged.logits / temperature, axis=-1).max(axis=-1).tolist()
    guesses: list[list[str | None]] = [[None] * len(sentence.words) for sentence in sentences]
    scores = [[0.0] * len(sentence.words) for sentence in sentences]
    for owner, word, tag, probability in zip(tagged.owners, tagged.words, best, probabilities, strict=True):
        guesses[owner][word] = tagged.names[tag]
        scores[owner][word] = probability
    return guesses, scores


def _record(sentence: _Sentence, guess: Sequence[str | None], scores: Sequence[float]) -> Record:
    """Return the record of one sentence: by entity, or by word where its tags follow no scheme."""
    truth = sentence.tags
    if sentence.scheme == "none":
        by_word: Record = {"prediction": guess, "scores": scores}
        return by_word if truth is None else {**by_word, "reference": truth}
    prediction = []
    for entity in tags.entities(guess):
        score = float(np.mean(scores[entity.first_word : entity.last_word + 1]))
        prediction.append({**_entity(entity, sentence.words), "score": score})
    record: Record = {"prediction": prediction, "tags": guess}
    if truth is None:
        return record
    reference = [_entity(entity, sentence.words) for entity in tags.entities(truth)]
    return {**record, "reference": reference, "reference_tags": truth}


def _entity(entity: Entity, words: Sequence[str]) -> dict[str, Any]:
    first, last = entity.first_word, entity.last_word
    return {"entity": entity.type, "text": " ".join(words[first : last + 1]), "first_word": first, "last_word": last}


def _tags(record: Record, side: str) -> Sequence[str | None]:
    """Return the tags of one side of a record, ``prediction`` or ``reference``."""
    found: Sequence[str | None] = record[side]
    if "tags" in record:
        found = record["tags" if side == "prediction" else "reference_tags"]
    return found


def _spans(record: Record, side: str) -> set[_Span]:
    """Return the entities of one side of a record; where tags have no scheme, each word is one."""
    spans = set()
    if "tags" in record:
        for entity in record[side]:
            spans.add((entity["entity"], entity["first_word"], entity["last_word"]))
    else:
        for word, tag in enumerate(record[side]):
            if tag is not None:
                spans.add((tag, word, word))
    return spans


def _words_right(record: Record) -> int:
    right = 0
    for guess, truth in zip(_tags(record, "prediction"), _tags(record, "reference"), strict=True):
        right += guess == truth
    return right


def _most_frequent(counts: Counter[str]) -> str:
    return counts.most_common(1)[0][0]


def _counts(records: Sequence[Record]) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Return how many entities of each type are right, were predicted, and are true."""
    right: Counter[str] = Counter()
    predicted: Counter[str] = Counter()
    true: Counter[str] = Counter()
    for record in records:
        guess, truth = _spans(record, "prediction"), _spans(record, "reference")
        for counts, spans in ((right, guess & truth), (predicted, guess), (true, truth)):
            counts.update(kind for kind, _, _ in spans)
    return right, predicted, true


def _scores(right: int, predicted: int, true: int) -> dict[str, float]:
    return {
        "f1": 2 * right / (predicted + true) if predicted + true else 0.0,
        "precision": right / predicted if predicted else 0.0,
        "recall": right / true if true else 0.0,
    }


def _scores_of_sums(sums: Any) -> dict[str, Any]:
    """Return the scores of the sums that `TokenClassificationEvaluator.tallies` gives: (…, 5)."""
    right, predicted, true, words_right, words = np.moveaxis(np.asarray(sums), -1, 0)
    return {
        "f1": safe_divide(2 * right, predicted + true, otherwise=0.0),
        "precision": safe_divide(right, predicted, otherwise=0.0),
        "recall": safe_divide(right, true, otherwise=0.0),
        "accuracy": safe_divide(words_right, words, otherwise=0.0),
    }
