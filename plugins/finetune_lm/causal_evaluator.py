"""How well a causal language model predicts text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from finetune.interfaces import IGNORE_INDEX, Evaluator, Predictions, Record, Tallies
from finetune.kit import check_primary, ratios, require_key
from finetune_lm.causal import PROMPT
from finetune_lm.texts import TEXT
from finetune_lm.token_losses import loss_per_token, perplexities, perplexity, token_losses, with_tokens
from finetune_lm.unigrams import Unigrams

SCORES = ("perplexity", "bits_per_byte")
_REMEDY = "Override canonical() to return {'text': …}, or choose another evaluator."


@dataclass(frozen=True, kw_only=True)
class CausalLMEvaluator(Evaluator):
    """Perplexity and bits per byte of all tokens together, not the mean over batches, blocks or documents.

    Every token of every text counts once, and so does the end of each document. The context of a
    document is the documents before it in its block; the context of a block does not include
    earlier blocks.
    """

    primary: str = "perplexity"
    """The score that models are chosen by: `perplexity`, or `bits_per_byte`, which compares models
    with different tokenizers."""

    def __post_init__(self) -> None:
        check_primary(self.primary, SCORES)

    @property
    def greater_is_better(self) -> bool:
        """Always false: both scores are averages of the NLL."""
        return False

    def scales(self) -> dict[str, str]:
        """Return the scales of the scores."""
        return {"perplexity": "1 or more", "bits_per_byte": "bits", "tokens": "tokens"}

    def records(self, predictions: Predictions) -> list[Record]:
        """Return the perplexity of each document and, if the model continued it, the text that the model wrote.

        ``{'prediction': 23.4, 'reference': 1.0, 'nll': 315.2, 'tokens': 100, 'bytes': 420}``: the
        reference is the perplexity of a model that knows the text by heart; ``nll`` is in nats. If
        the model continued the text, ``{'prediction': ' of the pier.', 'stopped': True,
        'perplexity': 23.4, 'nll': 315.2, 'tokens': 100, 'bytes': 420}``: ``stopped`` is false if
        `max_new_tokens` ended the text.

        Raises:
            BadOptions: The preprocessor does not give what this evaluator needs.
            TrainingFailed: A likelihood is not a finite number.
        """
        outputs, preprocessor = predictions.outputs, predictions.preprocessor
        nll_of_tokens, *generated = outputs if isinstance(outputs, tuple | list) else (outputs,)
        nll = np.zeros(len(predictions.examples))
        tokens = np.zeros(len(predictions.examples), dtype=np.int64)
        for block in token_losses(predictions, nll_of_tokens):
            np.add.at(nll, block.documents, block.nll)
            np.add.at(tokens, block.documents, 1)
        continued = dict(continuations(predictions, *generated)) if generated else {}
        records = []
        for number, example in enumerate(predictions.examples):
            total, count = float(nll[number]), int(tokens[number])
            record: Record
            if generated:
                record = {**continued[number], "perplexity": perplexity(total, count)}
            else:
                record = {"prediction": perplexity(total, count), "reference": 1.0}
            row = preprocessor.canonical(example)
            text = require_key(row, TEXT, preprocessor, method="canonical()", remedy=_REMEDY)
            records.append({**record, "nll": total, "tokens": count, "bytes": len(text.encode("utf-8"))})
        return records

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return perplexity, bits per byte of the texts in UTF-8, and how many tokens were predicted."""
        totals = _totals(records)
        return {
            "perplexity": perplexity(totals["nll"], totals["tokens"]),
            "bits_per_byte": totals["nll"] / math.log(2) / totals["bytes"],
            "tokens": totals["tokens"],
        }

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return the mean NLL per token of each document, in nats."""
        return [loss_per_token(record) for record in records]

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return NLL, tokens and bytes of each document."""
        columns = {}
        for name in ("nll", "tokens", "bytes"):
            columns[name] = np.array([record[name] for record in records])
        quotients = {
            "perplexity": (columns["nll"], columns["tokens"]),
            "bits_per_byte": (columns["nll"] / math.log(2), columns["bytes"]),
        }
        return ratios(quotients, through={"perplexity": perplexities})

    def baselines(self, predictions: Predictions, *, train: Predictions) -> dict[str, list[Record]]:
        """Return the records of a model that knows only how frequent each token is in the training texts."""
        nll = Unigrams.of(train).nll(predictions, predictions.outputs)
        return {"unigram": self.records(replace(predictions, outputs=nll))}

    def details(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return the sums that the scores are computed from."""
        return _totals(records)


def continuations(predictions: Predictions, ids: Any, ended: Any) -> Iterator[tuple[int, Record]]:
    """Yield the index of each example with the text that the model wrote after it.

    The prediction is what follows the prompt in the decoded whole, so that text and prediction fit
    together.
    """
    decode = predictions.tokenizer.decode
    for feature, row, stopped in zip(predictions.features, np.asarray(ids), np.asarray(ended).tolist(), strict=True):
        prompt = list(feature[PROMPT])
        if not prompt:  # not the last block of its text
            continue
        written = row[row != IGNORE_INDEX].tolist()
        begin = str(decode(prompt, skip_special_tokens=True))
        whole = str(decode([*prompt, *written], skip_special_tokens=True))
        yield feature["example"], {"prediction": whole.removeprefix(begin), "stopped": bool(stopped)}


def _totals(records: Sequence[Record]) -> dict[str, Any]:
    scorable = with_tokens(records)
    return {
        "nll": math.fsum(record["nll"] for record in scorable),
        "tokens": sum(record["tokens"] for record in scorable),
        "bytes": sum(record["bytes"] for record in scorable),
    }
