"""The trainer of Kahneman-Tversky optimization, and what is scored of its models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from trl import KTOConfig, KTOTrainer

from finetune.errors import BadOptions
from finetune.interfaces import Evaluator, Job, Predictions, Record, Tallies
from finetune.kit import model_columns, ratios
from finetune_trl.patched import built_by_trl, train_features
from finetune_trl.preference.collate import COMPLETION_IDS, LABEL, PROMPT_IDS, PadKTO
from finetune_trl.preference.evaluator import wilson
from finetune_trl.reference import ReferenceTrainer, prepared, reference_of
from finetune_trl.refused_options import KTO, refuse_options
from finetune_trl.writing import texts, written


class PatchedKTOTrainer(ReferenceTrainer, KTOTrainer):
    """TRL's trainer, which predicts log-probabilities of answers rather than tables of logits."""

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[Any, Any, Any]:
        """Return the loss where it is asked for; log-probabilities (B, 2), model and reference; and rewards (B,).

        Of prompts without answers, return what the model writes.
        """
        inputs = self._prepare_inputs(inputs)
        if "completion_mask" not in inputs:
            return None, written(self, model, inputs), None
        with torch.no_grad(), self.compute_loss_context_manager():
            scored = prediction_loss_only or self.compute_metrics is not None
            loss = self.compute_loss(model, inputs).detach() if scored else None
            if prediction_loss_only:
                return loss, None, None
            both = torch.stack(self.both_log_probs(model, inputs), dim=1).float()
        return loss, (both, self.beta * (both[:, 0] - both[:, 1])), inputs[LABEL]


def trainer(job: Job) -> PatchedKTOTrainer:
    """Build the trainer; the training rows are shuffled once, for TRL then takes them in order.

    Raises:
        BadOptions: The batches are too small, or drawn in another way than TRL's; or see `refuse_options`.
        Incompatible: The strategy and TRL's loss do not go together.
    """
    refuse_options(job, KTOConfig, KTO)
    refuse_batches(job)
    more = train_features(job, columns=(PROMPT_IDS, COMPLETION_IDS))
    if job.train is not None:
        # In the order of the file, a batch might hold one kind of label alone.
        rows = model_columns(job.train.shuffle(seed=job.seed), job)
        more = {"train_dataset": rows, "data_collator": with_spare(job, rows)}
    return built_by_trl(job, PatchedKTOTrainer, ref_model=reference_of(job), generation=prepared(job), **more)


def with_spare(job: Job, rows: Any) -> Any:
    """Return what pads a batch; where the last holds one row, its answer is held against the first row's.

    Raises:
        BadOptions: There is one row to train on, and TRL's estimate needs two.
    """
    collator = job.preprocessor.collator(job.tokenizer, job.model)
    if not isinstance(collator, PadKTO):
        return collator
    if len(rows) < 2:
        raise BadOptions("training: KTO needs two rows at least: it puts each answer after the prompt of another.")
    return replace(collator, spare=rows[0][COMPLETION_IDS])


def refuse_batches(job: Job) -> None:
    """Refuse batches from which TRL cannot estimate how far the model has moved.

    Raises:
        BadOptions: So they are.
    """
    if job.train is None or job.arguments.get("loss_type") == "apo_zero_unpaired":
        return
    if job.arguments.get("per_device_train_batch_size", KTOConfig.per_device_train_batch_size) < 2:
        raise BadOptions(
            "training: 'per_device_train_batch_size' must be 2 or more for KTO, whose estimate of the KL divergence "
            "puts each answer of a batch after the prompt of another. Raise it, or set loss_type: apo_zero_unpaired."
        )
    if job.arguments.get("train_sampling_strategy", "sequential") != "sequential":
        raise BadOptions(
            "training: leave 'train_sampling_strategy' out for KTO: TRL takes the rows in order, and they are shuffled "
            "once before."
        )


@dataclass(frozen=True, kw_only=True)
class KTOEvaluator(Evaluator):
    """Scores answers by the implicit rewards of Kahneman-Tversky optimization: beta · log p(model) / p(reference).

    - ``accuracy``: share of answers whose reward has the sign that their label wants; a reward of 0 counts half, so
      that the base model has 0.5. ``accuracy_low`` and ``accuracy_high`` bound its 95 % interval (Wilson's).
    - ``auc``: how often a desirable answer has a greater reward than an undesirable one, wherever both fall.
    - ``margin``: mean reward of desirable answers − mean reward of undesirable ones; then both means.
    - ``kl``: mean, by token of all answers, of log p(model) − log p(reference); see `PreferenceEvaluator`.

    What compares the two kinds is left out where there is only one. A prompt without an answer is answered.
    """

    primary: Literal["accuracy", "auc", "margin"] = "accuracy"
    """The score that stands for the others: `accuracy`, `auc` or `margin`."""

    def records(self, predictions: Predictions) -> list[Record]:
        """Return a record for each answer: whether its reward is above 0, and the reward."""
        if COMPLETION_IDS not in predictions.features[0]:
            return [{"prediction": text} for text in texts(predictions)]
        log_probs, rewards = (np.asarray(part, float) for part in predictions.outputs)
        return [
            {
                "prediction": None if reward == 0 else reward > 0,
                "reference": bool(feature[LABEL]),
                "reward": reward,
                "log_ratio": ours - reference,
                "tokens": len(feature[COMPLETION_IDS]),
            }
            for feature, reward, (ours, reference) in zip(
                predictions.features, rewards.tolist(), log_probs.tolist(), strict=True
            )
        ]

    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return accuracy with its interval, what compares the two kinds, and the distance from the reference."""
        accuracy = float(np.mean(_rights(records)))
        low, high = wilson(accuracy, len(records))
        tokens = max(sum(record["tokens"] for record in records), 1)
        kl = sum(record["log_ratio"] for record in records) / tokens
        return {"accuracy": accuracy, "accuracy_low": low, "accuracy_high": high, **_compared(records), "kl": kl}

    def losses(self, records: Sequence[Record]) -> list[float]:
        """Return how far each reward lies on the wrong side."""
        return [max(-record["reward"] if record["reference"] else record["reward"], 0.0) for record in records]

    def tallies(self, records: Sequence[Record]) -> Tallies:
        """Return whether each answer is on its side, and rewards of either kind; ``auc`` is no sum."""
        good = np.array([record["reference"] for record in records], dtype=float)
        reward, ratio, tokens = (
            np.array([record[name] for record in records], dtype=float) for name in ("reward", "log_ratio", "tokens")
        )
        parts = ratios(
            {
                "accuracy": (_rights(records), np.ones(len(records))),
                "desirable_reward": (reward * good, good),
                "undesirable_reward": (reward * (1 - good), 1 - good),
                "kl": (ratio, tokens),
            },
            most={"accuracy": 1.0},
        )

        def scores(sums: Any) -> dict[str, Any]:
            found = parts.scores(sums)
            return {**found, "margin": found["desirable_reward"] - found["undesirable_reward"]}

        return replace(parts, scores=scores)


def _rights(records: Sequence[Record]) -> list[float]:
    return [0.5 if r["prediction"] is None else float(r["prediction"] == r["reference"]) for r in records]


def _compared(records: Sequence[Record]) -> dict[str, float]:
    """Return what compares desirable with undesirable answers, if there are both."""
    rewards = np.array([record["reward"] for record in records])
    labels = np.array([record["reference"] for record in records])
    if labels.all() or not labels.any():
        return {}
    good, bad = float(rewards[labels].mean()), float(rewards[~labels].mean())
    auc = float(roc_auc_score(labels, rewards))
    return {"auc": auc, "margin": good - bad, "desirable_reward": good, "undesirable_reward": bad}
