"""What a model wrote, and how likely the right answers were."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from finetune.errors import BadData, BadOptions
from finetune.interfaces import IGNORE_INDEX, Evaluator, Predictions, Record
from finetune_trl import chat
from finetune_trl.sft import Sft
from finetune_trl.sft_labels import Pair

MOST = 700.0
"""Mean negative log-likelihood beyond which the perplexity is no number any more."""


@dataclass(frozen=True, kw_only=True)
class SftEvaluator(Evaluator):
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
        pairs = [preprocessor.pair(row) if isinstance(preprocessor, Sft) else None for row in predictions.examples]
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
