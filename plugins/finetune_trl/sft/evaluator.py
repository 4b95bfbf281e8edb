"""Scores of supervised fine-tuning: how likely the right answers are, and the answers that the model writes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from finetune.errors import BadData, BadOptions
from finetune.interfaces import IGNORE_INDEX, Evaluator, Limit, Predictions, Preprocessor, Record, Row, Tallies
from finetune.kit import ratios, require_key
from finetune_trl.chat.messages import are_messages, text_of
from finetune_trl.generation import decode_answers
from finetune_trl.row_limits import WHOLE, answer_limits, row_limits

MAX_NLL = 700.0
"""Greatest mean negative log-likelihood whose perplexity is a finite number."""


@dataclass(frozen=True, kw_only=True)
class SFTEvaluator(Evaluator):
    """Perplexity of the trained tokens, and generated answers compared with the right ones.

    - `perplexity` and `token_accuracy` are computed with the right answer as context up to each token, and summed by
      token, so that no batch weighs more than another.
    - `exact_match` is the share of generated answers that equal the right one, apart from outer space.
    - `stopped` is the share of generated answers that ended before `max_new_tokens`.

    The preprocessor's `canonical` must give ``prompt`` (None where nothing is asked) and ``completion`` (None where it
    is not known), texts or messages.
    """

    primary: Literal["perplexity", "token_accuracy", "exact_match"] = "perplexity"
    """The score that models are chosen by: `perplexity` (lower is better), `token_accuracy` or `exact_match`."""
    generate: bool = True
    """Whether to generate answers where the right ones are known. False is faster, and gives `perplexity` and
    `token_accuracy` alone."""

    def __post_init__(self) -> None:
        if self.primary == "exact_match" and not self.generate:
            raise ValueError("primary is exact_match, which needs generate: true")

    @property
    def greater_is_better(self) -> bool:
        """Whether a greater primary score is a better one."""
        return self.primary != "perplexity"

    def trainer_options(self) -> Mapping[str, Any]:
        """Return ``generate``: whether the trainer generates answers where the right ones are known."""
        return {"generate": self.generate}

    def limits(self, predictions: Predictions, *, generation: Mapping[str, Any]) -> list[Limit]:
        """Return `max_length` with the tokens of each row, and the limit of generated answers with those of answers."""
        limits = row_limits(predictions)
        features: Any = predictions.features
        if limits and self.generate and "prompt_ids" in features.column_names:
            lengths = []
            for prompt, whole in zip(features["prompt_ids"], features[WHOLE], strict=True):
                if prompt:  # a text without a prompt is not answered
                    lengths.append(max(whole - len(prompt), 0))
            limits += answer_limits(lengths, generation)
        return limits

    def scales(self) -> dict[str, str]:
        """Return the scales of the scores."""
        shares = dict.fromkeys(("token_accuracy", "exact_match", "stopped"), "0 to 1")
        return {"perplexity": "1 or more", **shares}

    def records(self, predictions: Predictions) -> list[Record]:
        """Return for each example its generated answer and, if the right one is known, `nll`, `tokens` and `hits`.

        Raises:
            BadOptions: The preprocessor does not give prompt and completion.
        """
        ids, numbers = predictions.outputs
        answers = decode_answers(ids, predictions.tokenizer)
        records = []
        rows = zip(predictions.examples, predictions.features, answers, np.asarray(numbers).tolist(), strict=True)
        for example, feature, answer, row in rows:
            prompt, completion = prompt_and_completion(predictions.preprocessor, example)
            nll, tokens, hits, stopped = row
            is_generated = prompt is not None and (self.generate or completion is None)
            record: Record = {"prediction": answer if is_generated else None}
            if is_generated:
                record["stopped"] = bool(stopped)
            if completion is not None:
                calls = are_messages(completion) and any(message.get("tool_calls") for message in completion)
                reference = _as_written(feature, predictions.tokenizer) if calls else text_of(completion)
                record |= {"reference": reference, "nll": nll, "tokens": int(tokens), "hits": int(hits)}
            records.append(record)
        return records

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return `perplexity`, `token_accuracy` and, if answers were generated, `exact_match` and `stopped`.

        Raises:
            BadData: No record has a trained token.
            BadOptions: The primary score needs answers, and the data are texts without prompts.
        """
        tallies = self.tallies(records)
        sums = tallies.values.sum(axis=0)
        if not sum(record["tokens"] for record in records):
            raise BadData("no token of these rows is trained, so there is nothing to score. Raise max_length.")
        answered = any(record["prediction"] is not None for record in records)
        scores = {}
        for name, score in tallies.scores(sums).items():
            if answered or name not in ("exact_match", "stopped"):
                scores[name] = float(score)
        if self.primary not in scores:
            raise BadOptions(
                f"evaluator: primary is {self.primary!r}, and the data are texts without prompts, so no answer is "
                "generated. Set primary to perplexity or token_accuracy."
            )
        return scores

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return the mean negative log-likelihood of a token of each right answer, in nats."""
        return [record["nll"] / max(record["tokens"], 1) for record in records]

    def slices(self, records: Sequence[Record], examples: Sequence[Row]) -> dict[str, list[str]]:
        """Separate exact answers from other answers, if answers were generated for all records."""
        values = []
        for record in records:
            if record["prediction"] is None:
                return {}
            values.append("exactly" if _is_exact(record) else "otherwise")
        return {"answered": values}

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return log-likelihood, hits and trained tokens of each answer, and whether it was exact, or ended."""
        table = np.zeros((len(records), 6))
        for row, record in zip(table, records, strict=True):
            row[:3] = record["nll"], record["hits"], record["tokens"]
            if record["prediction"] is not None:
                row[3:] = _is_exact(record), record["stopped"], 1
        nll, hits, tokens, exact, stopped, generated = table.T
        return ratios(
            {
                "perplexity": (nll, tokens),
                "token_accuracy": (hits, tokens),
                "exact_match": (exact, generated),
                "stopped": (stopped, generated),
            },
            most={"token_accuracy": 1.0, "exact_match": 1.0, "stopped": 1.0},
            through={"perplexity": _perplexity},
        )

    def baselines(self, predictions: Predictions, *, train: Predictions) -> dict[str, list[Record]]:
        """Return the most frequent training answer for every prompt, and the likelihood by token frequencies."""
        answers: Counter[str] = Counter()
        for example in train.examples:
            _, completion = prompt_and_completion(predictions.preprocessor, example)
            if completion is not None:
                answers[text_of(completion).strip()] += 1
        most_frequent = next((text for text, _ in answers.most_common(1)), "")
        frequencies = np.ones(len(train.tokenizer))
        for feature in train.features:
            np.add.at(frequencies, _trained_ids(feature), 1)
        nll = -np.log(frequencies / frequencies.sum())
        least = nll.min()
        records = []
        for record, feature in zip(self.records(predictions), predictions.features, strict=True):
            ids = _trained_ids(feature)
            if record["prediction"] is not None:
                record["prediction"] = most_frequent
            record |= {"nll": float(nll[ids].sum()), "hits": int((nll[ids] == least).sum())}
            records.append(record)
        return {"most frequent": records}


def prompt_and_completion(preprocessor: Preprocessor, example: Row) -> tuple[Any, Any]:
    """Return what an example asks, and its right answer, as the preprocessor gives them.

    Raises:
        BadOptions: It does not.
    """
    row = preprocessor.canonical(example)
    remedy = "Return {'prompt': …, 'completion': …}, with None for a value that an example does not have."
    prompt, completion = (
        require_key(row, key, preprocessor, method="canonical()", remedy=remedy) for key in ("prompt", "completion")
    )
    return prompt, completion


def _as_written(feature: Row, tokenizer: Any) -> str:
    """Return the text of an answer as the chat template writes it, which alone a generated call of a tool can equal."""
    ids = feature["input_ids"][len(feature["prompt_ids"]) :]
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()


def _perplexity(mean: Any) -> Any:
    return np.exp(np.minimum(mean, MAX_NLL))


def _is_exact(record: Record) -> bool:
    return bool(record["prediction"] == record["reference"].strip())


def _trained_ids(feature: Row) -> Any:
    """Return the ids that the loss sees."""
    labels = np.asarray(feature["labels"])
    return labels[labels != IGNORE_INDEX]
