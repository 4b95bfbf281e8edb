"""How good translations are: BLEU and chrF by `sacrebleu`, beside the source itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from finetune.interfaces import Evaluator, Predictions, Record
from finetune_seq2seq.baselines import copy
from finetune_seq2seq.outputs import pairs, references, shared_scores

COPY = "copy"


@dataclass(frozen=True, kw_only=True)
class Translations(Evaluator):
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

    def details(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return sacrebleu's signatures, and what the sources would have scored as their own translations."""
        copied, signature = self._sacrebleu([record[COPY] for record in records], records)
        return {"signature": signature, "baseline": {"copy": copied}}

    def _sacrebleu(self, texts: list[str], records: Sequence[Record]) -> tuple[dict[str, float], dict[str, str]]:
        several = references(records)
        most = max(map(len, several))
        # one list for each reference that any row has; None where a row has fewer
        streams: Any = [[each[k] if k < len(each) else None for each in several] for k in range(most)]
        metrics = {
            "bleu": BLEU(lowercase=self.lowercase, tokenize=self.tokenize),
            "chrf": CHRF(lowercase=self.lowercase),
        }
        found = {name: float(metric.corpus_score(texts, streams).score) for name, metric in metrics.items()}
        return found, {name: str(metric.get_signature()) for name, metric in metrics.items()}
