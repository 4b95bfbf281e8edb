"""`Job` → `transformers.Trainer`: one path for every task."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.data import SequentialSampler
from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainingArguments

from finetune.errors import BadOptions
from finetune.interfaces import Job, Predictions, Strategy
from finetune.training.arguments import build_arguments

T = TypeVar("T", bound=Trainer)


def trainer(job: Job) -> Trainer:
    """Build the trainer of a task whose model returns logits."""
    return build_trainer(job, PatchedTrainer)


def build_trainer(job: Job, cls: Callable[..., T], **more: Any) -> T:
    """Build a trainer of any class from a job.

    Args:
        job: What to train.
        cls: `PatchedTrainer`, or a subclass of it and of another trainer of transformers or TRL.
        **more: Further arguments of the class, and those that shall be others than the job's.
    """
    args, loss = build_arguments(job), job.preprocessor.loss()
    if loss is not None and args.label_smoothing_factor:
        raise BadOptions(
            "training: 'label_smoothing_factor' would be ignored without a word, because "
            f"{type(job.preprocessor).__name__} brings a loss of its own. See whether it has an option for it: "
            "`finetune show` and the task's name."
        )
    groups = None
    if job.train is not None:  # a strategy knows the groups of a model that it prepared, not of one that was loaded
        rates = {"learning_rate": args.learning_rate, "weight_decay": args.weight_decay}
        groups = job.strategy.parameter_groups(job.model, **rates)
    given: dict[str, Any] = {
        "model": job.model,
        "args": args,
        "train_dataset": model_columns(job.train, job),
        "eval_dataset": model_columns(job.validation, job),
        "processing_class": job.tokenizer,
        "data_collator": job.preprocessor.collator(job.tokenizer, job.model) or DataCollatorWithPadding(job.tokenizer),
        "compute_loss_func": loss,
        "compute_metrics": compute_metrics(job),
        "optimizer_cls_and_kwargs": optimizer_with_groups(args, job.model, groups),
        "callbacks": list(job.callbacks),
    }
    # TRL's trainers do not know every argument of transformers' own
    built = cls(**{**{name: value for name, value in given.items() if value is not None}, **more})
    built.remove_callback(PrinterCallback)  # it prints to standard output
    if isinstance(built, PatchedTrainer):
        built.strategy = job.strategy
    return built


UNREAD = (
    "past_key_values", "hidden_states", "attentions", "cross_attentions", "encoder_last_hidden_state",
    "encoder_hidden_states", "encoder_attentions", "decoder_hidden_states", "decoder_attentions",
)  # fmt: skip
"""Outputs of models that no evaluator reads, and that would fill the memory: T5 gives the encoder's states always."""


class PatchedTrainer(Trainer):
    """transformers' trainer, without four things that transformers 5.23 does and does not say.

    - Evaluation draws random numbers (a loader of batches draws one when it starts, whether or not it shuffles): a run
      evaluated more often ends with other weights, and so does one killed between a checkpoint and the evaluation after
      it. Here evaluation leaves no trace in training.
    - With ``train_sampling_strategy: group_by_length``, what is evaluated is shuffled too, and predictions come back in
      that order: scored against the examples, they would be noise. Here evaluation keeps the order.
    - With ``gradient_accumulation_steps: n``, the loss of a model that takes ``num_items_in_batch`` and ignores it
      (BERT's classifiers, T5, BART) is n times what it should be, and so is its gradient. Here it is tried on one batch
      whether the model's loss heeds that number.
    - Predictions hold whatever a model returns beside its logits. Here they hold nothing that no evaluator reads.

    And a strategy may add to checkpoints what `save_pretrained` leaves out, and read it back.

    Put it before another trainer's class to mend that one.
    """

    model_accepts_loss_kwargs: bool
    strategy: Strategy | None = None
    """Asked to add to checkpoints, and to read them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        accumulates = self.args.gradient_accumulation_steps > 1 and self.compute_loss_func is None
        if accumulates and self.model_accepts_loss_kwargs:
            self.model_accepts_loss_kwargs = self._loss_heeds_items()

    def _loss_heeds_items(self) -> bool:
        """Return whether the model's loss depends on the number of items that it is told."""
        training = self.model.training
        with preserve_rng_state(), torch.no_grad():
            example_batch = self._prepare_inputs(next(iter(self.get_train_dataloader())))
            self.model.eval()
            one, two = (self.model(**example_batch, num_items_in_batch=torch.tensor(items)).loss for items in (1, 2))
            self.model.train(training)
        return not torch.equal(one, two)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.strategy is not None and self.args.should_save:
            directory = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
            self.strategy.write_checkpoint(self.model, directory)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        read = self.strategy is not None and self.strategy.read_checkpoint(self.model, Path(resume_from_checkpoint))
        if not read:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        best = Path(str(self.state.best_model_checkpoint))
        if self.strategy is None or not self.strategy.read_checkpoint(self.model, best):
            super()._load_best_model()

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate, and put every random number generator back as it was."""
        with preserve_rng_state():
            scores: dict[str, float] = super().evaluate(*args, **kwargs)
        return scores

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Predict everything, and do not keep `UNREAD`."""
        if kwargs.get("ignore_keys") is None:
            known = getattr(self.model.config, "keys_to_ignore_at_inference", None) or ()
            kwargs["ignore_keys"] = [*known, *UNREAD]
        return super().evaluation_loop(*args, **kwargs)

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        if self.args.train_sampling_strategy == "group_by_length" and self.args.world_size <= 1:
            return SequentialSampler(eval_dataset)
        return super()._get_eval_sampler(eval_dataset)


@contextmanager
def preserve_rng_state() -> Iterator[None]:
    """Put the generators of Python, numpy and torch back as they were, on every device."""
    own, numpys = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(own)
        np.random.set_state(numpys)


def model_columns(features: Any, job: Job) -> Any:
    """Return features with the columns that the model takes, no others."""
    if features is None:
        return None
    return features.select_columns([name for name in features.column_names if name in job.task.features])


def example_batch(built: Trainer, features: Any, job: Job, *, size: int) -> dict[str, Any]:
    """Return the first features as a batch for the model's ``forward``, without labels if they are not needed."""
    few = model_columns(features.select(range(min(size, len(features)))), job)
    with preserve_rng_state():
        made = built.data_collator(list(few))
    if not isinstance(made, Mapping):  # trainers that generate have a collator that leaves rows alone
        made = job.tokenizer.pad({"input_ids": few["input_ids"][:]}, return_tensors="pt")
    model = job.model.get_base_model() if hasattr(job.model, "get_base_model") else job.model
    takes = set(inspect.signature(type(model).forward).parameters)
    if not model.config.is_encoder_decoder:  # its decoder inputs are made from the labels
        takes -= job.task.labels
    # The trainer switches a decoder's cache off for training alone, so one model would return it and the other not.
    more = {"use_cache": False} if "use_cache" in takes else {}
    return {**{name: tensor.to(job.model.device) for name, tensor in made.items() if name in takes}, **more}


def optimizer_with_groups(args: TrainingArguments, model: Any, groups: list[dict[str, Any]] | None) -> Any:
    """Return what makes the trainer's optimizer hold a strategy's parameter groups, or None."""
    if groups is None:
        return None
    optimizer, options = Trainer.get_optimizer_cls_and_kwargs(args, model)
    return optimizer, {**options, "params": groups}


def compute_metrics(job: Job) -> Any:
    """Return a function that scores the validation features while training, or None without them."""
    examples, features = job.validation_examples, job.validation
    if examples is None or features is None:
        return None

    def scores(predicted: Any) -> dict[str, float]:
        predictions = Predictions(
            examples=examples,
            features=features,
            outputs=predicted.predictions,
            tokenizer=job.tokenizer,
            preprocessor=job.preprocessor,
        )
        return job.evaluator.scores(job.evaluator.records(predictions))

    return scores


def predict(built: Trainer, *, examples: Any, features: Any, job: Job) -> Predictions:
    """Predict features, shortest first, so that batches hold little padding; the order given is kept."""
    order = np.argsort(job.preprocessor.lengths(features), kind="stable")
    metrics, built.compute_metrics = built.compute_metrics, None  # it knows the validation examples alone
    try:
        predicted = built.predict(model_columns(features.select(order), job))
    finally:
        built.compute_metrics = metrics
    back = np.argsort(order, kind="stable")
    outputs = predicted.predictions
    outputs = tuple(part[back] for part in outputs) if isinstance(outputs, tuple) else outputs[back]
    return Predictions(
        examples=examples,
        features=features,
        outputs=outputs,
        tokenizer=job.tokenizer,
        preprocessor=job.preprocessor,
    )
