"""Examples → features → records, with a trainer that is built once."""

from __future__ import annotations

import shutil
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

from finetune.training import upstream

upstream.import_bitsandbytes()  # the next import would import it too, with a warning

from datasets import Dataset
from transformers import Trainer, set_seed

from finetune.data import features
from finetune.data.feature_cache import FeatureCache
from finetune.data.features import Features
from finetune.evaluation.answering import Answer
from finetune.interfaces import Job, Record
from finetune.plugins import resolve
from finetune.progress import Reporter
from finetune.training import trainer as training


class Inference:
    """Makes the records of checked examples with the trainer of the task.

    Args:
        job: The model and what belongs to it. Its output folder is deleted with this object.
        answer: Makes the answer of the record of a row whose right answer is not known; None for the record.
    """

    def __init__(self, job: Job, answer: Answer | None = None) -> None:
        self.job = job
        self._answer = answer
        self._trainer: Trainer | None = None
        weakref.finalize(self, shutil.rmtree, job.output, ignore_errors=True)

    @property
    def trainer(self) -> Trainer:
        """The trainer, which is built when it is first used."""
        if self._trainer is None:
            self._trainer = resolve(self.job.task.trainer)(self.job)
        assert self._trainer is not None
        return self._trainer

    def features(
        self,
        examples: Dataset,
        *,
        answers: bool,
        reporter: Reporter | None = None,
        cache: FeatureCache | None = None,
        fingerprint: str = "",
    ) -> Features:
        """Return the features of checked examples; see `finetune.data.features.make`."""
        return features.make(
            examples,
            preprocessor=self.job.preprocessor,
            tokenizer=self.job.tokenizer,
            task=self.job.task,
            split="test",
            answers=answers,
            reporter=reporter,
            cache=cache,
            fingerprint=fingerprint,
        )

    def batches(self, made: Features, *, size: int) -> Iterator[dict[str, Any]]:
        """Yield features as the model gets them: padded, in their order, without answers.

        Args:
            made: The examples with their features.
            size: Features in a batch; the last one can have fewer.
        """
        columns: Any = training.model_columns(made.features, self.job)
        for first in range(0, len(columns), size):
            rows = list(columns.select(range(first, min(first + size, len(columns)))))
            collated = self.trainer.data_collator(rows)
            yield {name: value for name, value in collated.items() if name not in self.job.task.labels}

    def answer(self, batch: Mapping[str, Any]) -> Any:
        """Return what the model answers for a batch, as `records` computes it before it makes records.

        Args:
            batch: One of `batches`.
        """
        trainer: Any = self.trainer
        _, outputs, _ = trainer.prediction_step(trainer.model, dict(batch), False, ignore_keys=[*training.UNREAD])
        return outputs

    def records(self, made: Features, *, number: int = 0) -> list[Record]:
        """Return the record of each example.

        Args:
            made: The examples with their features.
            number: It is added to the seed: sampled text must not depend on which blocks were predicted before.
        """
        built: Any = self.trainer
        set_seed(self.job.seed + number)
        loaders = built.accelerator._dataloaders
        kept = len(loaders)
        try:
            predictions = training.predict(built, examples=made.examples, features=made.features, job=self.job)
        finally:
            del loaders[kept:]  # accelerate 1.15 keeps each loader, and with it the rows, as long as it lives
        return training.records_of(self.job.evaluator, predictions)

    def answers(self, made: Features, *, number: int = 0) -> list[Record]:
        """Return the answer to each example, which is its record unless predictions can be withheld; see `records`."""
        records = self.records(made, number=number)
        return records if self._answer is None else [self._answer(record) for record in records]
