"""How good generated texts of any task are: equal to a target, or similar to it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from finetune.interfaces import Evaluator, Limit, Predictions, Record, Row, Tallies
from finetune.kit import ratios
from finetune_seq2seq.baselines import baseline_records
from finetune_seq2seq.findings import first_target
from finetune_seq2seq.outputs import (
    SHARED_SCALES,
    generated_examples,
    length_slices,
    references,
    shared_scores,
    source_and_target,
    target_limits,
)
from finetune_seq2seq.preprocessor import PREFIX
from finetune_seq2seq.summarization_evaluator import SummarizationEvaluator
from finetune_seq2seq.translation_evaluator import TranslationEvaluator


@dataclass(frozen=True, kw_only=True)
class TextToTextEvaluator(Evaluator):
    """Exact match (from 0 to 1), ROUGE-L and chrF (from 0 to 1, and to 100), length, and perplexity of the targets.

    Exact match is for labels and short answers, chrF and ROUGE-L are for longer texts. If there are
    several targets, the best one counts. ROUGE-L reads words of any script, without a stemmer. In a
    mixture, each data set has its own scores too: ``exact_match@name``.
    """

    primary: Literal["exact_match", "rougeL", "chrf", "loss"] = "exact_match"
    """The score that models are chosen by."""

    @property
    def greater_is_better(self) -> bool:
        """Whether a greater primary score is a better one."""
        return self.primary != "loss"

    def scales(self) -> dict[str, str]:
        """Return the scales of the scores."""
        return {"exact_match": "0 to 1", "rougeL": "0 to 1", "chrf": "0 to 100", **SHARED_SCALES}

    def records(self, predictions: Predictions) -> list[Record]:
        """Return the text that was generated for each source.

        ``{'prediction': 'weather', 'tokens': 1, 'at_limit': False, 'reference': 'weather', 'loss':
        0.1, 'target_tokens': 2}``
        """
        return [example.record for example in generated_examples(predictions)]

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return the share of texts that equal a target, ROUGE-L, chrF, and the means of the other scores."""
        shared = shared_scores(records)
        return {
            "exact_match": sum(_is_equal(records)) / len(records),
            "rougeL": _ROUGE.scores(records)["rougeL"],
            "chrf": _CHRF.scores(records)["chrf"],
            **shared,
        }

    def details(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return a signature of each score of texts."""
        found = {**_ROUGE.signatures(records), **_CHRF.signatures(records)}
        signatures = {"exact_match": "case:mixed|space:outer ignored"}
        for name, signature in found.items():
            if name not in _LEFT_OUT:
                signatures[name] = signature
        return {"signature": signatures}

    def limits(self, predictions: Predictions, *, generation: Mapping[str, Any]) -> list[Limit]:
        """Return how many tokens can be written, with the tokens of each target."""
        return target_limits(predictions, generation)

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return 100 minus chrF for each text."""
        return _CHRF.losses(records)

    def slices(self, records: Sequence[Record], examples: Sequence[Row]) -> dict[str, list[str]]:
        """Return by prefix, by length, and by whether the text was cut."""
        prefixes = [str(row.get(PREFIX) or "").strip() for row in examples]
        by_length = length_slices(records)
        return {"prefix": prefixes, **by_length} if any(prefixes) else by_length

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return which texts equal a target, and the sums of the other scores."""
        equal = ratios({"exact_match": (_is_equal(records), np.ones(len(records)))}, most={"exact_match": 1.0})
        return join_tallies([equal, _ROUGE.tallies(records), _CHRF.tallies(records)], leave_out=_LEFT_OUT)

    def baselines(self, predictions: Predictions, *, train: Predictions) -> dict[str, list[Record]]:
        """Return the most frequent training target of each prefix."""
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for row in train.examples:
            _, target = source_and_target(train.preprocessor, row, labelled=True)
            counts[str(row.get(PREFIX))][str(first_target(target))] += 1
        overall = _most_frequent(sum(counts.values(), Counter[str]()))
        of_prefix = {prefix: _most_frequent(targets) for prefix, targets in counts.items()}
        texts = [of_prefix.get(str(row.get(PREFIX)), overall) for row in predictions.examples]
        return {"most frequent": baseline_records(generated_examples(predictions), texts)}


_ROUGE, _CHRF = SummarizationEvaluator(words="unicode", use_stemmer=False), TranslationEvaluator()
_LEFT_OUT = frozenset({"rouge1", "rouge2", "rougeLsum", "bleu"})
"""Scores of those two evaluators that are not scores of text-to-text."""


def _most_frequent(targets: Counter[str]) -> str:
    return targets.most_common(1)[0][0]


def _is_equal(records: Sequence[Record]) -> list[bool]:
    equal = []
    for record, several in zip(records, references(records), strict=True):
        equal.append(record["prediction"].strip() in map(str.strip, several))
    return equal


def join_tallies(parts: Sequence[Tallies], *, leave_out: frozenset[str]) -> Tallies:
    """Return the tallies of several evaluators of the same records as one, without some of the scores."""
    widths = [np.shape(part.values)[1] for part in parts]

    def scores(sums: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        start = 0
        for part, width in zip(parts, widths, strict=True):
            found |= part.scores(np.asarray(sums)[..., start : start + width])
            start += width
        return {name: score for name, score in found.items() if name not in leave_out}

    most: dict[str, float] = {}
    for part in parts:
        most |= part.most
    for name in leave_out & most.keys():
        del most[name]
    return Tallies(values=np.concatenate([part.values for part in parts], axis=1), scores=scores, most=most)
