"""How good summaries are: ROUGE by `rouge_score`, beside the first three sentences."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]

from finetune.errors import BadOptions
from finetune.interfaces import Evaluator, Predictions, Record, Row, Tallies
from finetune.kit import ratios
from finetune_seq2seq.baselines import as_written, lead_3
from finetune_seq2seq.outputs import pairs, references, shared_scores, shared_sums, written_slices
from finetune_seq2seq.sentences import sentences

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
LEAD = "lead_3"
_ASCII, _WORD = re.compile(r"[a-z0-9]", re.IGNORECASE | re.ASCII), re.compile(r"\w+")


@dataclass(frozen=True, kw_only=True)
class SummarizationEvaluator(Evaluator):
    """ROUGE-1, -2, -L and -Lsum (F1, from 0 to 1), length, and perplexity of the references.

    Of several references the best counts, score by score, as in `rouge_score`. ``rougeLsum`` matches sentence by
    sentence; sentences are found by rules of our own, without a download.

    Source: Lin 2004.
    """

    primary: Literal["rouge1", "rouge2", "rougeL", "rougeLsum", "loss"] = "rougeL"
    """Which score stands for the others, and is chosen by."""
    use_stemmer: bool = True
    """Whether `sails` and `sailing` count as the same word: Porter's rules, which are for English."""
    words: Literal["ascii", "unicode"] = "ascii"
    """What a word is made of: `ascii` as in `rouge_score`, for which nothing but a-z and 0-9 exists; `unicode` for
    other languages, to be used without `use_stemmer`."""

    def __post_init__(self) -> None:
        if self.words == "unicode" and self.use_stemmer:
            raise ValueError("words: unicode takes no use_stemmer, whose rules are for English; set use_stemmer: false")

    @property
    def greater_is_better(self) -> bool:
        """Whether a greater primary score is a better one."""
        return self.primary != "loss"

    def records(self, predictions: Predictions) -> list[Record]:
        """Return the summary of each document and, where there is a reference, what lead-3 would be.

        ``{'prediction': 'Fog holds the ferry.', 'tokens': 6, 'at_limit': False, 'reference': 'The ferry is late.',
        'loss': 9.7, 'target_tokens': 6, 'lead_3': 'Is it late? It is. Fog.'}``
        """
        return [
            {**each.record, **({} if each.target is None else {LEAD: lead_3(str(each.source))})}
            for each in pairs(predictions)
        ]

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return the means over all summaries.

        Raises:
            BadOptions: No reference has a word that ROUGE would count.
        """
        shared = shared_scores(records)
        return {**self._rouge([record["prediction"] for record in records], records), **shared}

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return what each text lacks of a perfect ROUGE-L."""
        return [1.0 - each["rougeL"] for each in self._each([record["prediction"] for record in records], records)]

    def slices(self, records: Sequence[Record], examples: Sequence[Row]) -> dict[str, list[str]]:
        """Tell apart how long a text was written, and whether it was cut."""
        return written_slices(records)

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return ROUGE of each summary, and what `shared_scores` are made of."""
        ones = [1] * len(records)
        found = self._each([record["prediction"] for record in records], records)
        rouge = {name: ([each[name] for each in found], ones) for name in ROUGE}
        parts, through = shared_sums(records)
        return ratios({**rouge, **parts}, most=dict.fromkeys(ROUGE, 1.0), through=through)

    def baselines(self, predictions: Predictions, *, train: Predictions) -> dict[str, list[Record]]:
        """Return the first three sentences, or turns, of each document."""
        return {"lead-3": as_written(pairs(predictions), lead_3)}

    def details(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return what the first three sentences, or turns, would have scored."""
        return {"baseline": {"lead-3": self._rouge([record[LEAD] for record in records], records)}}

    def _rouge(self, texts: Sequence[str], records: Sequence[Record]) -> dict[str, float]:
        found = self._each(texts, records)
        return {name: sum(each[name] for each in found) / len(found) for name in ROUGE}

    def _each(self, texts: Sequence[str], records: Sequence[Record]) -> list[dict[str, float]]:
        targets = references(records)
        if self.words == "ascii" and not any(_ASCII.search(text) for several in targets for text in several):
            raise BadOptions(
                "evaluator: ROUGE's own words are made of a-z and 0-9, which no reference has, so every score would be "
                "0. Set evaluator.words: unicode and evaluator.use_stemmer: false."
            )
        tokenizer = UnicodeWords() if self.words == "unicode" else None
        scorer = RougeScorer(list(ROUGE), use_stemmer=self.use_stemmer, tokenizer=tokenizer)
        found = [
            scorer.score_multi([lines(target) for target in several], lines(text))
            for several, text in zip(targets, texts, strict=True)
        ]
        return [{name: float(each[name].fmeasure) for name in ROUGE} for each in found]


class UnicodeWords:
    """Words of any script, in lower case, for `rouge_score`."""

    def tokenize(self, text: str) -> list[str]:
        """Return the words of a text."""
        return _WORD.findall(text.lower())


def lines(text: str) -> str:
    """Return a text with a sentence a line, as ROUGE-Lsum takes it; ROUGE-1, -2 and -L see no difference."""
    return "\n".join(sentences(text))
