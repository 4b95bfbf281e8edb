"""How well a causal language model predicts text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from finetune.interfaces import IGNORE_INDEX, Evaluator, Predictions, Record, Tallies
from finetune.kit import ratios
from finetune_lm.attribution import judged, perplexities, perplexity, require_score, scored
from finetune_lm.prompts import PROMPT
from finetune_lm.texts import TEXT
from finetune_lm.unigrams import Unigrams

SCORES = ("perplexity", "bits_per_byte")


@dataclass(frozen=True, kw_only=True)
class CausalLMEvaluator(Evaluator):
    """Perplexity and bits per byte, of all tokens together: no mean of batches, blocks or documents.

    Every token of every text counts once, and so does the end of each document. A document is read after those before
    it in its block, and a block without the ones before it.
    """

    primary: str = "perplexity"
    """The score to choose by: `perplexity` or `bits_per_byte`, which compares models of different tokenizers."""

    def __post_init__(self) -> None:
        require_score(self.primary, SCORES)

    @property
    def greater_is_better(self) -> bool:
        """Never: both count surprise."""
        return False

    def records(self, predictions: Predictions) -> list[Record]:
        """Return the perplexity of each document and, where the model was to go on with it, what it wrote.

        ``{'prediction': 23.4, 'reference': 1.0, 'nll': 315.2, 'tokens': 100, 'bytes': 420}``: the reference is the
        perplexity of whoever knows the text by heart; ``nll`` is in nats. Of a text to go on with,
        ``{'prediction': ' of the pier.', 'stopped': True, 'perplexity': 23.4, 'nll': 315.2, 'tokens': 100,
        'bytes': 420}``: ``stopped`` says whether the model ended the text, or `max_new_tokens` did.
        """
        parts = predictions.outputs
        nll_of, *written = parts if isinstance(parts, tuple | list) else (parts,)
        nll = np.zeros(len(predictions.examples))
        tokens = np.zeros(len(predictions.examples), dtype=np.int64)
        for part in judged(predictions, nll_of):
            np.add.at(nll, part.documents, part.nll)
            np.add.at(tokens, part.documents, 1)
        told = dict(continuations(predictions, *written)) if written else {}
        found = []
        for number, (example, total, count) in enumerate(
            zip(predictions.examples, nll.tolist(), tokens.tolist(), strict=True)
        ):
            known = perplexity(total, count)
            first = {**told[number], "perplexity": known} if told else {"prediction": known, "reference": 1.0}
            found.append({**first, "nll": total, "tokens": count, "bytes": len(example[TEXT].encode("utf-8"))})
        return found

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return perplexity, bits per byte of the texts' UTF-8, and how many tokens were predicted."""
        totals = _totals(records)
        return {
            "perplexity": perplexity(totals["nll"], totals["tokens"]),
            "bits_per_byte": totals["nll"] / math.log(2) / totals["bytes"],
            "tokens": totals["tokens"],
        }

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return the mean surprise at a token of each document, in nats."""
        return [record["nll"] / record["tokens"] if record.get("tokens") else 0.0 for record in records]

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return surprise, tokens and bytes of each document."""
        nll, tokens, size = (np.array([record[name] for record in records]) for name in ("nll", "tokens", "bytes"))
        parts = {"perplexity": (nll, tokens), "bits_per_byte": (nll / math.log(2), size)}
        return ratios(parts, through={"perplexity": perplexities})

    def baselines(self, predictions: Predictions, *, train: Predictions) -> dict[str, list[Record]]:
        """Return the surprise of whoever knows only how frequent each token is in the training texts."""
        known = Unigrams.of(train)
        return {"unigram": self.records(replace(predictions, outputs=known.instead(predictions, predictions.outputs)))}

    def details(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return what the scores are made of."""
        return _totals(records)


def continuations(predictions: Predictions, ids: Any, ended: Any) -> Iterator[tuple[int, Record]]:
    """Yield each example with what was written after it, so that text and prediction together are the whole."""
    for feature, row, stopped in zip(predictions.features, np.asarray(ids), np.asarray(ended).tolist(), strict=True):
        prompt = list(feature[PROMPT])
        if prompt:
            begin, whole = (
                str(predictions.tokenizer.decode(part, skip_special_tokens=True))
                for part in (prompt, [*prompt, *row[row != IGNORE_INDEX].tolist()])
            )
            yield feature["example"], {"prediction": whole.removeprefix(begin), "stopped": bool(stopped)}


def _totals(records: Sequence[Record]) -> dict[str, Any]:
    found = scored(records)
    return {
        "nll": math.fsum(record["nll"] for record in found),
        "tokens": sum(record["tokens"] for record in found),
        "bytes": sum(record["bytes"] for record in found),
    }
