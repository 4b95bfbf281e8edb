"""How good translations are: BLEU and chrF by `sacrebleu`, compared with the source itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from finetune.interfaces import Evaluator, Limit, Predictions, Record, Row, Tallies
from finetune.kit import ratios, require_upstream
from finetune_seq2seq.baselines import copy, from_sources, records_with
from finetune_seq2seq.outputs import (
    SHARED_SCALES,
    generated_examples,
    length_slices,
    references,
    shared_quotients,
    shared_scores,
    target_limits,
)
from finetune_seq2seq.scripts import CHINESE, OTHER, main_script

COPY = "copy"
BLEU_TOKENIZERS: Mapping[str, Literal["zh", "char"]] = {CHINESE: "zh", OTHER: "char"}
"""Script without spaces → sacrebleu's tokenizer. sacrebleu's own for Japanese and Korean need MeCab."""


@dataclass(frozen=True, kw_only=True)
class TranslationEvaluator(Evaluator):
    """Corpus BLEU and chrF (from 0 to 100), length, and perplexity of the references.

    The details hold sacrebleu's signatures, without which a BLEU cannot be compared.

    Source: Papineni et al. 2002; Popović 2015; Post 2018.
    """

    primary: Literal["bleu", "chrf", "loss"] = "bleu"
    """The score that models are chosen by."""
    tokenize: Literal["13a", "intl", "zh", "char", "none"] | None = None
    """How sacrebleu splits words for BLEU. None chooses by the script of the references: `zh` for
    Chinese, `char` for Japanese, Korean, Thai and other languages that are not scored by words
    between spaces, and `13a` for all others. Tokenizers that sacrebleu would download are left
    out."""
    lowercase: bool = False
    """Whether BLEU and chrF ignore case."""

    @property
    def greater_is_better(self) -> bool:
        """Whether a greater primary score is a better one."""
        return self.primary != "loss"

    def scales(self) -> dict[str, str]:
        """Return the scales of the scores."""
        return {"bleu": "0 to 100", "chrf": "0 to 100", **SHARED_SCALES}

    def records(self, predictions: Predictions) -> list[Record]:
        """Return the translation of each source and, if there is a reference, the source as the baseline.

        ``{'prediction': 'Nebel.', 'tokens': 2, 'at_limit': False, 'reference': 'Nebel.', 'loss':
        0.1, 'target_tokens': 3, 'copy': 'Fog.'}``
        """
        return records_with(predictions, COPY, copy)

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return BLEU and chrF of all translations together, and the means of the other scores."""
        shared = shared_scores(records)
        return {**self._corpus_scores(records, "prediction"), **shared}

    def limits(self, predictions: Predictions, *, generation: Mapping[str, Any]) -> list[Limit]:
        """Return how many tokens can be written, with the tokens of each target."""
        return target_limits(predictions, generation)

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return 100 minus chrF for each text."""
        chrf = self._metrics(records)["chrf"]
        losses = []
        for record, several in zip(records, references(records), strict=True):
            losses.append(100.0 - float(chrf.sentence_score(record["prediction"], several).score))
        return losses

    def slices(self, records: Sequence[Record], examples: Sequence[Row]) -> dict[str, list[str]]:
        """Return by length, and by whether the text was cut."""
        return length_slices(records)

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return the n-grams that BLEU and chrF count in each translation, and the sums of the other scores."""
        texts = [record["prediction"] for record in records]
        streams = _streams(records)
        metrics = self._metrics(records)
        counts = {name: corpus_counts(metric, texts, streams) for name, metric in metrics.items()}
        quotients, functions = shared_quotients(records)
        shared = ratios(quotients, through=functions)

        def scores(sums: Any) -> dict[str, Any]:
            rest = np.asarray(sums)
            found: dict[str, Any] = {}
            for name, metric in metrics.items():
                width = counts[name].shape[1]
                found[name] = corpus_scores(metric, rest[..., :width])
                rest = rest[..., width:]
            return {**shared.scores(rest), **found}

        values = np.concatenate([*counts.values(), shared.values], axis=1)
        return Tallies(values=values, scores=scores)

    def baselines(self, predictions: Predictions, *, train: Predictions) -> dict[str, list[Record]]:
        """Return the sources as their own translations."""
        return {"copy": from_sources(generated_examples(predictions), copy)}

    def details(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return sacrebleu's signatures, and the scores of the sources as their own translations."""
        metrics = self._metrics(records)
        copied = self._corpus_scores(records, COPY, metrics)
        return {"signature": signatures_of(metrics), "baseline": {"copy": copied}}

    def signatures(self, records: Sequence[Record]) -> dict[str, str]:
        """Return sacrebleu's signature of each score."""
        metrics = self._metrics(records)
        self._corpus_scores(records, "prediction", metrics)
        return signatures_of(metrics)

    def _corpus_scores(
        self, records: Sequence[Record], field: str, metrics: dict[str, Any] | None = None
    ) -> dict[str, float]:
        """Return BLEU and chrF of one field of the records."""
        texts = [record[field] for record in records]
        streams = _streams(records)
        scores = {}
        for name, metric in (metrics or self._metrics(records)).items():
            scores[name] = float(metric.corpus_score(texts, streams).score)
        return scores

    def _metrics(self, records: Sequence[Record]) -> dict[str, Any]:
        tokenize = self.tokenize
        if tokenize is None:
            tokenize = BLEU_TOKENIZERS.get(main_script(references(records)), "13a")
        return {
            "bleu": BLEU(lowercase=self.lowercase, tokenize=tokenize),
            "chrf": CHRF(lowercase=self.lowercase),
        }


def _streams(records: Sequence[Record]) -> Any:
    """Return the references as sacrebleu takes them: one list for the first of each row, one for the second, …

    A row with fewer references has None there.
    """
    several = references(records)
    streams = []
    for number in range(max(map(len, several))):
        streams.append([row[number] if number < len(row) else None for row in several])
    return streams


def signatures_of(metrics: Mapping[str, Any]) -> dict[str, str]:
    """Return the signatures of sacrebleu's metrics, which must have scored a corpus: ``{"chrf": "nrefs:1|…"}``."""
    return {name: str(metric.get_signature()) for name, metric in metrics.items()}


def corpus_counts(metric: Any, texts: Sequence[str], streams: Any) -> Any:
    """Return what a metric of sacrebleu counts in each text, (N, K): its own bootstrap sums the same counts.

    Source: sacrebleu 2.6, ``Metric._extract_corpus_statistics``; there is no public name for it.
    """
    count = require_upstream(f"sacrebleu.metrics.{type(metric).__name__}", "_extract_corpus_statistics", of=metric)
    return np.array(count(texts, streams), dtype=np.float64)


def corpus_scores(metric: Any, sums: Any) -> Any:
    """Return a metric's scores of sums of counts, (…, K) → (…)."""
    rows = np.asarray(sums).reshape(-1, np.shape(sums)[-1]).round().astype(int)
    score = require_upstream(f"sacrebleu.metrics.{type(metric).__name__}", "_compute_score_from_stats", of=metric)
    scores = [score(row).score for row in rows.tolist()]
    return np.array(scores).reshape(np.shape(sums)[:-1])
