"""How good translations are: BLEU and chrF by `sacrebleu`, beside the source itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from finetune.interfaces import Evaluator, Predictions, Record, Row, Tallies
from finetune.kit import ratios
from finetune_seq2seq.baselines import as_written, copy
from finetune_seq2seq.outputs import pairs, references, shared_scores, shared_sums, written_slices

COPY = "copy"


@dataclass(frozen=True, kw_only=True)
class TranslationEvaluator(Evaluator):
    """Corpus BLEU and chrF (from 0 to 100), length, and perplexity of the references.

    The details hold sacrebleu's signatures, without which a BLEU cannot be compared.

    Source: Papineni et al. 2002; Popović 2015; Post 2018.
    """

    primary: Literal["bleu", "chrf", "loss"] = "bleu"
    """Which score stands for the others, and is chosen by."""
    tokenize: Literal["13a", "intl", "zh", "char", "none"] = "13a"
    """How sacrebleu finds words for BLEU: `13a` for most languages, `zh` for Chinese, `char` for Japanese and others
    without spaces. Those that it would have to download are left out."""
    lowercase: bool = False
    """Whether BLEU and chrF are blind to case."""

    @property
    def greater_is_better(self) -> bool:
        """Whether a greater primary score is a better one."""
        return self.primary != "loss"

    def records(self, predictions: Predictions) -> list[Record]:
        """Return the translation of each source and, where there is a reference, the source itself.

        ``{'prediction': 'Nebel.', 'tokens': 2, 'at_limit': False, 'reference': 'Nebel.', 'loss': 0.1,
        'target_tokens': 3, 'copy': 'Fog.'}``
        """
        return [
            {**each.record, **({} if each.target is None else {COPY: copy(str(each.source))})}
            for each in pairs(predictions)
        ]

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return BLEU and chrF of all translations together, and the means of the rest."""
        shared = shared_scores(records)
        found, _ = self._sacrebleu([record["prediction"] for record in records], records)
        return {**found, **shared}

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return what each text lacks of a perfect chrF."""
        metric = self._metrics()["chrf"]
        return [
            100.0 - float(metric.sentence_score(record["prediction"], several).score)
            for record, several in zip(records, references(records), strict=True)
        ]

    def slices(self, records: Sequence[Record], examples: Sequence[Row]) -> dict[str, list[str]]:
        """Tell apart how long a text was written, and whether it was cut."""
        return written_slices(records)

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return the n-grams that BLEU and chrF count in each translation, and what `shared_scores` are made of."""
        texts, streams = [record["prediction"] for record in records], self._streams(records)
        parts, through = shared_sums(records)
        rest = ratios(parts, through=through)
        counted = [(name, metric, corpus_counts(metric, texts, streams)) for name, metric in self._metrics().items()]
        ends = np.cumsum([counts.shape[1] for _, _, counts in counted]).tolist()

        def scores(sums: Any) -> dict[str, Any]:
            sums = np.asarray(sums)
            found = rest.scores(sums[..., ends[-1] :])
            for (name, metric, counts), end in zip(counted, ends, strict=True):
                found[name] = corpus_scores(metric, sums[..., end - counts.shape[1] : end])
            return found

        values = np.concatenate([*(counts for _, _, counts in counted), rest.values], axis=1)
        return Tallies(values=values, scores=scores)

    def baselines(self, predictions: Predictions, *, train: Predictions) -> dict[str, list[Record]]:
        """Return the sources as their own translations."""
        return {"copy": as_written(pairs(predictions), copy)}

    def details(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return sacrebleu's signatures, and what the sources would have scored as their own translations."""
        copied, signature = self._sacrebleu([record[COPY] for record in records], records)
        return {"signature": signature, "baseline": {"copy": copied}}

    def _sacrebleu(self, texts: list[str], records: Sequence[Record]) -> tuple[dict[str, float], dict[str, str]]:
        streams, metrics = self._streams(records), self._metrics()
        found = {name: float(metric.corpus_score(texts, streams).score) for name, metric in metrics.items()}
        return found, {name: str(metric.get_signature()) for name, metric in metrics.items()}

    def _metrics(self) -> dict[str, Any]:
        return {
            "bleu": BLEU(lowercase=self.lowercase, tokenize=self.tokenize),
            "chrf": CHRF(lowercase=self.lowercase),
        }

    def _streams(self, records: Sequence[Record]) -> Any:
        """Return one list for each reference that any row has; None where a row has fewer."""
        several = references(records)
        return [[each[k] if k < len(each) else None for each in several] for k in range(max(map(len, several)))]


def corpus_counts(metric: Any, texts: Sequence[str], streams: Any) -> Any:
    """Return what a metric of sacrebleu counts in each text (N, K): its own bootstrap adds up the same.

    Source: sacrebleu 2.6, ``Metric._extract_corpus_statistics``; there is no public name for it.
    """
    return np.array(metric._extract_corpus_statistics(texts, streams), dtype=np.float64)


def corpus_scores(metric: Any, sums: Any) -> Any:
    """Return a metric's score of sums of counts (…, K)."""
    flat = np.asarray(sums).reshape(-1, np.shape(sums)[-1])
    found = [metric._compute_score_from_stats(row).score for row in flat.round().astype(int).tolist()]
    return np.array(found).reshape(np.shape(sums)[:-1])
