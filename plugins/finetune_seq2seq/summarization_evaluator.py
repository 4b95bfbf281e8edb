"""How good summaries are: ROUGE by `rouge_score`, compared with the first three sentences."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]

from finetune.errors import BadOptions
from finetune.interfaces import Evaluator, Limit, Predictions, Record, Row, Tallies
from finetune.kit import ratios
from finetune_seq2seq.baselines import from_sources, lead_3, records_with
from finetune_seq2seq.outputs import (
    SHARED_SCALES,
    generated_examples,
    length_slices,
    references,
    shared_quotients,
    shared_scores,
    target_limits,
)
from finetune_seq2seq.scripts import words_of
from finetune_seq2seq.sentences import sentences

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
LEAD = "lead_3"
_ASCII, _ALPHANUMERIC = re.compile(r"[A-Za-z0-9]"), re.compile(r"[^\W_]")
MAX_OTHER = 0.01
"""Greatest share of letters beyond a-z in references whose words `rouge_score` finds; in English it is much smaller, in
French, German and Spanish greater."""


@dataclass(frozen=True, kw_only=True)
class SummarizationEvaluator(Evaluator):
    """ROUGE-1, -2, -L and -Lsum (F1, from 0 to 1), length, and perplexity of the references.

    If there are several references, the best one counts for each score, as in `rouge_score`.
    ``rougeLsum`` compares sentence by sentence; own rules find the sentences, without a download.

    Source: Lin 2004.
    """

    primary: Literal["rouge1", "rouge2", "rougeL", "rougeLsum", "loss"] = "rougeL"
    """The score that models are chosen by."""
    use_stemmer: bool | None = None
    """Whether `sails` and `sailing` count as the same word: Porter's rules, which are for English.
    None: with the words `ascii`, but not with `unicode`."""
    words: Literal["ascii", "unicode"] | None = None
    """Which characters make words: `ascii` as in `rouge_score`, which knows only a-z and 0-9;
    `unicode` for other languages, where each character of a script without spaces is a word. None:
    `ascii` if 99% of the letters of the references are a-z, as in English, and else `unicode`."""

    def __post_init__(self) -> None:
        if self.words == "unicode" and self.use_stemmer:
            raise ValueError(
                "words: unicode does not go with use_stemmer, whose rules are for English. Set use_stemmer: false"
            )

    @property
    def greater_is_better(self) -> bool:
        """Whether a greater primary score is a better one."""
        return self.primary != "loss"

    def scales(self) -> dict[str, str]:
        """Return the scales of the scores."""
        return {**dict.fromkeys(ROUGE, "0 to 1"), **SHARED_SCALES}

    def records(self, predictions: Predictions) -> list[Record]:
        """Return the summary of each document and, if there is a reference, the baseline lead-3.

        ``{'prediction': 'Fog holds the ferry.', 'tokens': 6, 'at_limit': False, 'reference': 'The
        ferry is late.', 'loss': 9.7, 'target_tokens': 6, 'lead_3': 'Is it late? It is. Fog.'}``
        """
        return records_with(predictions, LEAD, lead_3)

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return the means over all summaries.

        Raises:
            BadOptions: No reference has a word that ROUGE would count.
        """
        shared = shared_scores(records)
        return {**self._mean_rouge(records, "prediction"), **shared}

    def limits(self, predictions: Predictions, *, generation: Mapping[str, Any]) -> list[Limit]:
        """Return how many tokens can be written, with the tokens of each target."""
        return target_limits(predictions, generation)

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return one minus ROUGE-L for each text."""
        return [1.0 - rouge["rougeL"] for rouge in self._rouge(records, "prediction")]

    def slices(self, records: Sequence[Record], examples: Sequence[Row]) -> dict[str, list[str]]:
        """Return by length, and by whether the text was cut."""
        return length_slices(records)

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return ROUGE of each summary, and the sums of the other scores."""
        ones = [1] * len(records)
        rouge = self._rouge(records, "prediction")
        quotients, functions = shared_quotients(records)
        for name in ROUGE:
            quotients[name] = ([each[name] for each in rouge], ones)
        return ratios(quotients, most=dict.fromkeys(ROUGE, 1.0), through=functions)

    def baselines(self, predictions: Predictions, *, train: Predictions) -> dict[str, list[Record]]:
        """Return the first three sentences, or turns, of each document."""
        return {"lead-3": from_sources(generated_examples(predictions), lead_3)}

    def details(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return a signature of each score, and the scores of the first three sentences, or turns."""
        return {"signature": self.signatures(records), "baseline": {"lead-3": self._mean_rouge(records, LEAD)}}

    def signatures(self, records: Sequence[Record]) -> dict[str, str]:
        """Return how each score was computed, in the form of sacrebleu's signatures."""
        targets = references(records)
        words, numbers = self._words(targets), sorted({len(several) for several in targets})
        count = str(numbers[0]) if len(numbers) == 1 else "var"
        stems = "yes" if self._stems(words) else "no"
        signature = f"nrefs:{count}|words:{words}|stem:{stems}|version:{version('rouge_score')}"
        return dict.fromkeys(ROUGE, signature)

    def _mean_rouge(self, records: Sequence[Record], field: str) -> dict[str, float]:
        rouge = self._rouge(records, field)
        means = {}
        for name in ROUGE:
            means[name] = sum(each[name] for each in rouge) / len(rouge)
        return means

    def _rouge(self, records: Sequence[Record], field: str) -> list[dict[str, float]]:
        """Return ROUGE of one field of each record."""
        targets = references(records)
        words = self._words(targets)
        tokenizer = UnicodeWords() if words == "unicode" else None
        scorer = RougeScorer(list(ROUGE), use_stemmer=self._stems(words), tokenizer=tokenizer)
        rouge = []
        for record, several in zip(records, targets, strict=True):
            scores = scorer.score_multi(list(map(lines, several)), lines(record[field]))
            rouge.append({name: float(scores[name].fmeasure) for name in ROUGE})
        return rouge

    def _words(self, targets: Sequence[Sequence[str]]) -> str:
        """Return which characters make words.

        Raises:
            BadOptions: The words are to be `ascii`, and no reference has any.
        """
        ascii_letters = other_letters = 0
        for several in targets:
            for text in several:
                found = len(_ASCII.findall(text))
                ascii_letters += found
                other_letters += len(_ALPHANUMERIC.findall(text)) - found
        if self.words is None:
            return "ascii" if other_letters <= MAX_OTHER * (ascii_letters + other_letters) else "unicode"
        if self.words == "ascii" and not ascii_letters:
            raise BadOptions(
                "evaluator: ROUGE's own words consist of a-z and 0-9, and no reference contains any, so every score "
                "would be 0. Leave evaluator.words out, or set it to unicode."
            )
        return self.words

    def _stems(self, words: str) -> bool:
        return words == "ascii" if self.use_stemmer is None else self.use_stemmer and words == "ascii"


class UnicodeWords:
    """Words of any script, in lower case, for `rouge_score`."""

    def tokenize(self, text: str) -> list[str]:
        """Return the words of a text."""
        return words_of(text)


def lines(text: str) -> str:
    """Return a text with one sentence on each line, as ROUGE-Lsum reads it; ROUGE-1, -2 and -L do not change."""
    return "\n".join(sentences(text))
