"""How good tags are: entity by entity, as conlleval and seqeval count, and word by word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax

from finetune.errors import BadOptions, TrainingFailed
from finetune.interfaces import Evaluator, Predictions, Record, Row, Tallies
from finetune.kit import safe_divide
from finetune_text import tags
from finetune_text.outputs import label_names, require_records, require_score
from finetune_text.tags import Entity
from finetune_text.token_classification import TokenClassificationPreprocessor
from finetune_text.words import NO_WORD, TOKENS, WORD_IDS, words_of

SCORES = ("f1", "precision", "recall", "f1_macro", "precision_macro", "recall_macro", "accuracy")
PER_TYPE = ("f1", "precision", "recall")
_MATCHED = ("entity", "first_word", "last_word")


@dataclass(frozen=True, kw_only=True)
class TokenClassificationEvaluator(Evaluator):
    """Precision, recall and F1 of whole entities: right are those with the right type, first and last word.

    Where tags follow no scheme, every word is an entity of its own, and `f1` is the accuracy.

    Source: conlleval (Tjong Kim Sang and Buchholz 2000); seqeval's default mode.
    """

    primary: str = "f1"
    """The score to choose by: `f1`, `f1_macro`, `accuracy`, `f1/<type>`, …"""

    def __post_init__(self) -> None:
        require_score(self.primary, SCORES, PER_TYPE)

    def records(self, predictions: Predictions) -> list[Record]:
        """Return the entities of each example, with the words they begin and end with, and every word's tag.

        ``{'prediction': [{'entity': 'PER', 'text': 'Zoë Moreau', 'first_word': 0, 'last_word': 1, 'score': 0.98}],
        'tags': ['B-PER', 'I-PER', 'O'], 'reference': [{'entity': 'PER', 'text': 'Zoë', …}],
        'reference_tags': ['B-PER', 'O', 'O']}``; an entity's score is the mean probability of its words' tags.

        Where tags follow no scheme:
        ``{'prediction': ['PROPN', 'VERB'], 'scores': [0.9, 0.8], 'reference': ['PROPN', 'VERB']}``.

        A word that the tokenizer has no token for is predicted nothing: its tag is None, and wrong.
        """
        preprocessor = predictions.preprocessor
        if not isinstance(preprocessor, TokenClassificationPreprocessor):
            raise BadOptions(f"evaluator: tags need the features of TokenClassification, not {type(preprocessor)}.")
        rows = [words_of(example[TOKENS]) for example in predictions.examples]
        guesses, scores = _tagged(predictions, rows)
        references = map(preprocessor.tag_names, predictions.examples)
        make = _by_word if preprocessor.tag_scheme == "none" else _by_entity
        return [make(*each) for each in zip(rows, guesses, scores, references, strict=True)]

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return precision, recall and F1 of all entities, of each type, and the mean over the types.

        A type counts that is in the references or the predictions; what has none to count is 0. ``accuracy`` is the
        share of words with the right tag.
        """
        require_records(records)
        right, guessed, true = _counts(records)
        per_type = {name: _scores(right[name], guessed[name], true[name]) for name in sorted(guessed | true)}
        scores = _scores(right.total(), guessed.total(), true.total())
        for name in PER_TYPE:
            values = [found[name] for found in per_type.values()]
            scores[f"{name}_macro"] = sum(values) / len(values) if values else 0.0
        scores["accuracy"] = _accuracy(records)
        return scores | {f"{name}/{kind}": found[name] for kind, found in per_type.items() for name in PER_TYPE}

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return entities right, predicted and true, words right and all, of each sentence; types are not told apart.

        What is drawn anew is the sentence, or the document where rows are documents.
        """
        values = []
        for record in records:
            guess, truth = set(_spans(record, "prediction")), set(_spans(record, "reference"))
            words = list(zip(_tags(record, "prediction"), _tags(record, "reference"), strict=True))
            values.append([len(guess & truth), len(guess), len(truth), sum(a == b for a, b in words), len(words)])
        most = dict.fromkeys(("f1", "precision", "recall", "accuracy"), 1.0)
        return Tallies(values=np.array(values, dtype=np.float64), scores=_of_sums, most=most)

    def baselines(self, predictions: Predictions, *, train: Predictions) -> dict[str, list[Record]]:
        """Return what a dictionary would tag: each word as most often in training, unknown words as most words are.

        Source: the unigram tagger that conlleval's shared tasks are measured against (Tjong Kim Sang and De Meulder
        2003, section 3).
        """
        preprocessor = predictions.preprocessor
        if not isinstance(preprocessor, TokenClassificationPreprocessor):
            return {}
        seen: dict[str, Counter[str]] = {}
        for example in train.examples:
            for word, tag in zip(words_of(example[TOKENS]), preprocessor.tag_names(example) or (), strict=True):
                seen.setdefault(word, Counter())[tag] += 1
        usual = sum(seen.values(), Counter()).most_common(1)[0][0]
        known = {word: tags.most_common(1)[0][0] for word, tags in seen.items()}
        make = _by_word if preprocessor.tag_scheme == "none" else _by_entity
        records = []
        for example in predictions.examples:
            row = words_of(example[TOKENS])
            guess = [known.get(word, usual) for word in row]
            records.append(make(row, guess, [1.0] * len(row), preprocessor.tag_names(example)))
        return {"dictionary": records}

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return how many entities of each record are missed or made up."""
        return [float(len(set(_spans(record, "prediction")) ^ set(_spans(record, "reference")))) for record in records]

    def slices(self, records: Sequence[Record], examples: Sequence[Row]) -> dict[str, list[str]]:
        """Tell apart how many entities there are to find."""
        return {"entities": [str(min(len(record["reference"]), 5)).replace("5", "5 or more") for record in records]}

    def details(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return how many entities of each type there are, were found, and were found rightly; and the words."""
        right, guessed, true = _counts(records)
        every = [tag for record in records for tag in _tags(record, "prediction")]
        return {
            "types": {
                name: {"support": true[name], "predicted": guessed[name], "correct": right[name]}
                for name in sorted(guessed | true)
            },
            "words": len(every),
            "words_without_prediction": every.count(None),
        }


def _tagged(predictions: Predictions, rows: Sequence[Sequence[str]]) -> tuple[list[list[Any]], list[list[float]]]:
    """Return the most probable tag of every word, by its first token, and how probable it is."""
    names = label_names(predictions)
    owners, windows = [], []
    for feature in predictions.features:
        owners.append(feature["example"])
        windows.append(np.asarray(feature[WORD_IDS]))
    firsts = [np.flatnonzero((ids != NO_WORD) & (np.diff(ids, prepend=NO_WORD) != 0)) for ids in windows]
    at = np.repeat(np.arange(len(windows)), [len(first) for first in firsts])
    logits = _logits(predictions, longest=max(map(len, windows)), width=len(names))  # (features, tokens, tags)
    spoken = logits[at, np.concatenate(firsts)].astype(np.float64)  # (words, tags)
    if not np.isfinite(spoken).all():
        raise TrainingFailed(
            "the model's outputs are not finite for some words. The training has diverged: lower learning_rate."
        )
    best, probabilities = spoken.argmax(axis=-1).tolist(), softmax(spoken, axis=-1).max(axis=-1).tolist()
    words = np.concatenate([ids[first] for ids, first in zip(windows, firsts, strict=True)]).tolist()
    guesses: list[list[Any]] = [[None] * len(row) for row in rows]
    scores = [[0.0] * len(row) for row in rows]
    for window, word, tag, probability in zip(at.tolist(), words, best, probabilities, strict=True):
        guesses[owners[window]][word] = names[tag]
        scores[owners[window]][word] = probability
    return guesses, scores


def _logits(predictions: Predictions, *, longest: int, width: int) -> Any:
    """Return the logits as an array (features, tokens of the longest, tags)."""
    outputs = predictions.outputs
    # Some heads give hidden states or the like beside the logits, which come first.
    logits = np.asarray(outputs[0] if isinstance(outputs, tuple | list) else outputs)
    wanted = (len(predictions.features), longest, width)
    if logits.shape != wanted:  # more tokens would be virtual ones, before the others: every tag would be shifted
        raise TrainingFailed(f"the model's outputs have the shape {logits.shape}; {wanted} was wanted.")
    return logits


def _by_entity(
    row: Sequence[str], guess: Sequence[str | None], scores: Sequence[float], truth: Sequence[str] | None
) -> Record:
    def shown(entity: Entity) -> dict[str, Any]:
        first, last = entity.first_word, entity.last_word
        return {"entity": entity.type, "text": " ".join(row[first : last + 1]), "first_word": first, "last_word": last}

    found = tags.entities(guess)
    mean = [float(np.mean(scores[entity.first_word : entity.last_word + 1])) for entity in found]
    prediction = [{**shown(entity), "score": score} for entity, score in zip(found, mean, strict=True)]
    record: Record = {"prediction": prediction, "tags": guess}
    if truth is None:
        return record
    return {**record, "reference": [shown(entity) for entity in tags.entities(truth)], "reference_tags": truth}


def _by_word(
    row: Sequence[str], guess: Sequence[str | None], scores: Sequence[float], truth: Sequence[str] | None
) -> Record:
    record: Record = {"prediction": guess, "scores": scores}
    return record if truth is None else {**record, "reference": truth}


def _tags(record: Record, side: str) -> Sequence[str | None]:
    """Return the tags of one side of a record, ``prediction`` or ``reference``."""
    found: Sequence[str | None] = record[side]
    if "tags" in record:
        found = record["tags" if side == "prediction" else "reference_tags"]
    return found


def _spans(record: Record, side: str) -> Iterator[tuple[Any, ...]]:
    """Yield what must be the same for an entity to be right; where tags have no scheme, a word is one."""
    if "tags" in record:
        yield from (tuple(entity[key] for key in _MATCHED) for entity in record[side])
    else:
        yield from ((tag, word, word) for word, tag in enumerate(record[side]) if tag is not None)


def _counts(records: Sequence[Record]) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """Return how many entities of each type are right, were predicted, and are true."""
    right: Counter[str] = Counter()
    guessed: Counter[str] = Counter()
    true: Counter[str] = Counter()
    for record in records:
        guess, truth = set(_spans(record, "prediction")), set(_spans(record, "reference"))
        for counts, found in ((right, guess & truth), (guessed, guess), (true, truth)):
            counts.update(kind for kind, _, _ in found)
    return right, guessed, true


def _scores(right: int, guessed: int, true: int) -> dict[str, float]:
    precision, recall = (right / total if total else 0.0 for total in (guessed, true))
    return {"f1": 2 * right / (guessed + true) if guessed + true else 0.0, "precision": precision, "recall": recall}


def _of_sums(sums: Any) -> dict[str, Any]:
    right, guessed, true, words_right, words = np.moveaxis(np.asarray(sums), -1, 0)
    return {
        "f1": safe_divide(2 * right, guessed + true, otherwise=0.0),
        "precision": safe_divide(right, guessed, otherwise=0.0),
        "recall": safe_divide(right, true, otherwise=0.0),
        "accuracy": safe_divide(words_right, words, otherwise=0.0),
    }


def _accuracy(records: Sequence[Record]) -> float:
    pairs: Mapping[bool, int] = Counter(
        guess == truth
        for record in records
        for guess, truth in zip(_tags(record, "prediction"), _tags(record, "reference"), strict=True)
    )
    return pairs.get(True, 0) / max(sum(pairs.values()), 1)
