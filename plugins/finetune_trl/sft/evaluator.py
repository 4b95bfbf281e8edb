"""What a model wrote, and how likely the right answers were."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from finetune.errors import BadData, BadOptions
from finetune.interfaces import IGNORE_INDEX, Evaluator, Predictions, Record, Row, Tallies
from finetune.kit import ratios
from finetune_trl.chat import messages as chat
from finetune_trl.sft.labels import Pair
from finetune_trl.sft.preprocessor import SFTPreprocessor

MOST = 700.0
"""Mean negative log-likelihood beyond which the perplexity is no number any more."""


@dataclass(frozen=True, kw_only=True)
class SFTEvaluator(Evaluator):
    """Perplexity of the trained tokens, and answers written out beside the right ones.

    `perplexity` and `token_accuracy` are taken with the right answer so far before the model's eyes, and summed by
    token, so that no batch weighs more than another. `exact_match` is the share of written answers equal to the right
    one but for outer space, `stopped` the share that ended by themselves and not at `max_new_tokens`.
    """

    primary: Literal["perplexity", "token_accuracy", "exact_match"] = "perplexity"
    """The score that stands for the others: `perplexity` (lower is better), `token_accuracy` or `exact_match`."""
    writes: bool = True
    """Whether to have answers written where the right ones are known; false is quicker, and gives perplexity alone."""

    def __post_init__(self) -> None:
        if self.primary == "exact_match" and not self.writes:
            raise ValueError("primary is exact_match, which needs writes: true")

    @property
    def greater_is_better(self) -> bool:
        """Whether a greater primary score is a better one."""
        return self.primary != "perplexity"

    def records(self, predictions: Predictions) -> list[Record]:
        """Return for each example what was written and, where it has an answer, that, `nll`, `tokens` and `hits`."""
        ids, numbers = predictions.outputs
        preprocessor = predictions.preprocessor
        pairs = [
            preprocessor.pair(row) if isinstance(preprocessor, SFTPreprocessor) else None
            for row in predictions.examples
        ]
        kept = [row[row != IGNORE_INDEX].tolist() for row in np.asarray(ids)]
        texts = predictions.tokenizer.batch_decode(kept, skip_special_tokens=True)
        return [
            self._record(pair, text.strip(), row)
            for pair, text, row in zip(pairs, texts, np.asarray(numbers).tolist(), strict=True)
        ]

    def _record(self, pair: Pair | None, text: str, numbers: Sequence[float]) -> Record:
        answer = pair.completion if pair else None
        asked = pair is not None and not pair.continues and (self.writes or answer is None)
        record: Record = {"prediction": text if asked else None}
        if asked:
            record["stopped"] = bool(numbers[3])
        if answer is not None:
            nll, tokens, hits, _ = numbers
            record |= {"reference": chat.text_of(answer), "nll": nll, "tokens": int(tokens), "hits": int(hits)}
        return record

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return `perplexity`, `token_accuracy` and, where answers were written, `exact_match` and `stopped`.

        Raises:
            BadData: No record has a trained token.
            BadOptions: The primary score needs answers, and the data are texts without prompts.
        """
        tokens = sum(record["tokens"] for record in records)
        if not tokens:
            raise BadData("no token of these rows is trained, so there is nothing to score. Raise max_length.")
        scores = {
            "perplexity": math.exp(min(sum(record["nll"] for record in records) / tokens, MOST)),
            "token_accuracy": sum(record["hits"] for record in records) / tokens,
        }
        written = [record for record in records if record["prediction"] is not None]
        if written:
            equal = [record["prediction"] == record["reference"].strip() for record in written]
            scores["exact_match"] = sum(equal) / len(written)
            scores["stopped"] = sum(record["stopped"] for record in written) / len(written)
        if self.primary not in scores:
            raise BadOptions(f"evaluator: primary is {self.primary!r}, and the data are texts: nothing is asked.")
        return scores

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return the mean surprise at a token of each right answer, in nats."""
        return [record["nll"] / max(record["tokens"], 1) for record in records]

    def slices(self, records: Sequence[Record], examples: Sequence[Row]) -> dict[str, list[str]]:
        """Tell apart what was written right and what was not, as far as anything was."""
        if any(record["prediction"] is None for record in records):
            return {}
        equal = [record["prediction"] == record["reference"].strip() for record in records]
        return {"written": ["as the right answer" if each else "otherwise" for each in equal]}

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return surprise, hits and trained tokens of each answer, and which were written right, or ended."""
        nll, hits, tokens = (np.array([record[name] for record in records]) for name in ("nll", "hits", "tokens"))
        written = np.array([record["prediction"] is not None for record in records], dtype=float)
        equal = [record["prediction"] == record["reference"].strip() for record in records]
        stopped = [record.get("stopped", False) for record in records]
        parts = {
            "perplexity": (nll, tokens),
            "token_accuracy": (hits, tokens),
            "exact_match": (equal * written, written),
            "stopped": (stopped * written, written),
        }
        most = dict.fromkeys(("token_accuracy", "exact_match", "stopped"), 1.0)
        return ratios(parts, most=most, through={"perplexity": lambda mean: np.exp(np.minimum(mean, MOST))})

    def baselines(self, predictions: Predictions, *, train: Predictions) -> dict[str, list[Record]]:
        """Return the most frequent training answer for every prompt, and the surprise of whoever knows frequencies."""
        preprocessor, records = predictions.preprocessor, self.records(predictions)
        if not isinstance(preprocessor, SFTPreprocessor):
            return {}
        known = [preprocessor.pair(row).completion for row in train.examples]
        usual = Counter(chat.text_of(answer).strip() for answer in known if answer is not None).most_common(1)
        shares = np.ones(len(train.tokenizer))
        for feature in train.features:
            np.add.at(shares, _trained(feature), 1)
        surprise = -np.log(shares / shares.sum())
        frequent = float(surprise.min())
        found = []
        for record, feature in zip(records, predictions.features, strict=True):
            labels = _trained(feature)
            found.append(
                {
                    **record,
                    "prediction": None if record["prediction"] is None else usual[0][0],
                    "nll": float(surprise[labels].sum()),
                    "hits": int((surprise[labels] == frequent).sum()),
                }
            )
        return {"most frequent": found}


def _trained(feature: Row) -> Any:
    """Return the ids that the loss sees."""
    labels = np.asarray(feature["labels"])
    return labels[labels != IGNORE_INDEX]
