"""How good any texts are: written as wanted, or nearly."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from finetune.interfaces import Evaluator, Predictions, Record, Row, Tallies
from finetune.kit import ratios
from finetune_seq2seq.findings import first
from finetune_seq2seq.outputs import pairs, references, shared_scores, written_slices
from finetune_seq2seq.preprocessor import PREFIX
from finetune_seq2seq.summarization_evaluator import SummarizationEvaluator
from finetune_seq2seq.translation_evaluator import TranslationEvaluator


@dataclass(frozen=True, kw_only=True)
class TextToTextEvaluator(Evaluator):
    """Exact match (from 0 to 1), ROUGE-L and chrF (from 0 to 1, and to 100), length, and perplexity of the targets.

    Exact match is for labels and short answers, chrF and ROUGE-L are for longer texts. Of several targets the best
    counts. ROUGE-L takes words of any script as they are, without a stemmer. Of a mixture, each data set has scores of
    its own: ``exact_match@name``.
    """

    primary: Literal["exact_match", "rougeL", "chrf", "loss"] = "exact_match"
    """Which score stands for the others, and is chosen by."""

    @property
    def greater_is_better(self) -> bool:
        """Whether a greater primary score is a better one."""
        return self.primary != "loss"

    def records(self, predictions: Predictions) -> list[Record]:
        """Return what was written for each source.

        ``{'prediction': 'weather', 'tokens': 1, 'at_limit': False, 'reference': 'weather', 'loss': 0.1,
        'target_tokens': 2}``
        """
        return [each.record for each in pairs(predictions)]

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return the share of texts that equal a target, ROUGE-L, chrF, and the means of the rest."""
        shared = shared_scores(records)
        rouge, chrf = (judge.scores(records)[name] for judge, name in _JUDGES)
        return {"exact_match": sum(_equal(records)) / len(records), "rougeL": rouge, "chrf": chrf, **shared}

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return what each text lacks of a perfect chrF."""
        return list(_CHRF.losses(records))

    def slices(self, records: Sequence[Record], examples: Sequence[Row]) -> dict[str, list[str]]:
        """Tell apart what was to be done, how long a text was written, and whether it was cut."""
        named = [str(row.get(PREFIX) or "").strip() for row in examples]
        return {**({"prefix": named} if any(named) else {}), **written_slices(records)}

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return which texts are right, and what the other scores are made of."""
        equal = ratios({"exact_match": (_equal(records), np.ones(len(records)))}, most={"exact_match": 1.0})
        return joined([equal, *(judge.tallies(records) for judge, _ in _JUDGES)], leave_out=_OTHERS)

    def baselines(self, predictions: Predictions, *, train: Predictions) -> dict[str, list[Record]]:
        """Return the most frequent training target of each prefix."""
        counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for row in train.examples:
            counts[str(row.get(PREFIX))][str(first(_target(train, row)))] += 1
        usual = {prefix: found.most_common(1)[0][0] for prefix, found in counts.items()}
        every = sum(counts.values(), Counter[str]()).most_common(1)[0][0]
        texts = [usual.get(str(row.get(PREFIX)), every) for row in predictions.examples]
        return {
            "most frequent": [
                {
                    "prediction": text,
                    "tokens": len(text.split()),
                    "at_limit": False,
                    "reference": each.record["reference"],
                }
                for text, each in zip(texts, pairs(predictions), strict=True)
            ]
        }


_ROUGE, _CHRF = SummarizationEvaluator(words="unicode", use_stemmer=False), TranslationEvaluator()
_JUDGES: tuple[tuple[Any, str], ...] = ((_ROUGE, "rougeL"), (_CHRF, "chrf"))
_OTHERS = frozenset({"rouge1", "rouge2", "rougeLsum", "bleu"})


def _target(predictions: Predictions, row: Row) -> Any:
    preprocessor: Any = predictions.preprocessor
    return preprocessor.pair(row)[1]


def _equal(records: Sequence[Record]) -> list[bool]:
    return [
        record["prediction"].strip() in {text.strip() for text in several}
        for record, several in zip(records, references(records), strict=True)
    ]


def joined(parts: Sequence[Tallies], *, leave_out: frozenset[str]) -> Tallies:
    """Return the tallies of several judges of the same records as those of one."""
    ends = np.cumsum([np.shape(part.values)[1] for part in parts]).tolist()

    def scores(sums: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for part, end in zip(parts, ends, strict=True):
            found |= part.scores(np.asarray(sums)[..., end - np.shape(part.values)[1] : end])
        return {name: score for name, score in found.items() if name not in leave_out}

    most = {name: limit for part in parts for name, limit in part.most.items() if name not in leave_out}
    return Tallies(values=np.concatenate([part.values for part in parts], axis=1), scores=scores, most=most)
