"""`Job` → `transformers.Trainer`: one path for every task."""

from __future__ import annotations

import inspect
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch.utils.data import SequentialSampler

from finetune import failures, processes
from finetune.checkpoint_folders import name_of
from finetune.errors import BadCheckpoint, BadOptions, FinetuneError, Incompatible
from finetune.interfaces import Evaluator, Job, Predictions, Record, Strategy
from finetune.models import base_model_of
from finetune.result import json_problem
from finetune.training import checkpoints, checks, distillation, sharding, upstream
from finetune.training.arguments import build_arguments
from finetune.training.callbacks import RecordsCallback, StopOnNaN, StopOnSignal, describe_longest
from finetune.training.checks import evaluation_mode
from finetune.training.collate import padded_by_tokenizer
from finetune.training.distillation import Distillation
from finetune.training.evaluating import Kept, MeanLoss, Order
from finetune.training.resume import CatchUp, ResumePoint, places_of_states, stored_states
from finetune.training.streaming import StreamLoader
from finetune.user_code import calling, first_line

upstream.import_bitsandbytes()  # the next import would import it too, with a warning

from transformers import EvalPrediction, PrinterCallback, Trainer, TrainingArguments  # noqa: E402
from transformers.trainer_callback import ExportableState  # noqa: E402

T = TypeVar("T", bound=Trainer)


def trainer(job: Job) -> Trainer:
    """Build the trainer of a task whose model returns logits."""
    return build_trainer(job, PatchedTrainer)


def build_trainer(job: Job, cls: Callable[..., T], **more: Any) -> T:
    """Build a trainer of any class from a job.

    A model whose outputs for a text depend on the other texts of a batch is evaluated with one text at a time.

    Args:
        job: What to train.
        cls: `PatchedTrainer`, or a subclass of it and of another trainer of transformers or TRL.
        **more: Further arguments of the class, and replacements for those that the job gives.

    Raises:
        BadOptions: An option of training would be ignored, or contradicts another.
        Incompatible: The model cannot read a plain text.
        UpstreamChanged: transformers or TRL lacks a method that finetune overrides or calls.
    """
    args, loss = build_arguments(job), job.preprocessor.loss()
    if loss is not None and args.label_smoothing_factor:
        raise BadOptions(
            f"training: 'label_smoothing_factor' has no effect, because {type(job.preprocessor).__name__} has its own "
            "loss. Leave it out. `finetune show TASK` lists the options of that loss."
        )
    if checks.depends_on_batch(job.model, job.tokenizer):
        args.per_device_eval_batch_size = 1
    groups = None
    if job.train is not None:  # a strategy knows the groups of a model that it prepared, not of one that was loaded
        rates = {"learning_rate": args.learning_rate, "weight_decay": args.weight_decay}
        groups = job.strategy.parameter_groups(job.model, **rates)
    collator = job.data_collator or job.preprocessor.collator(job.tokenizer, job.model)
    optional: dict[str, Any] = {
        "train_dataset": model_columns(job.train, job),
        "eval_dataset": model_columns(_shortest_first(job.validation, job), job),
        "compute_loss_func": loss,
        "compute_metrics": compute_metrics(job),
        "optimizer_cls_and_kwargs": optimizer_with_groups(args, job.model, groups),
    }
    arguments: dict[str, Any] = {
        "model": job.model,
        "args": args,
        "processing_class": job.tokenizer,
        "data_collator": collator or padded_by_tokenizer(job.tokenizer, job.model),
        "callbacks": list(job.callbacks),
    }
    for name, value in optional.items():
        if value is not None:  # TRL's trainers do not take each argument of transformers' trainer
            arguments[name] = value
    built = cls(**{**arguments, **more})
    if job.data_collator is not None and built.data_collator is not job.data_collator:
        raise BadOptions(
            f"data_collator: {type(built).__name__} makes its batches itself. Leave it out; options of the "
            "preprocessor say what the features are."
        )
    built.remove_callback(PrinterCallback)  # it prints to standard output
    if isinstance(built, PatchedTrainer):
        built.strategy, built.generates = job.strategy, job.task.generates
        built.shifts_labels = job.task.model_class == "AutoModelForCausalLM"
        built.stream = job.stream
        built.distillation = job.distillation
    return built


UNREAD = (
    *upstream.CACHE_OUTPUTS, "mlm_loss", "mep_loss", "hidden_states", "attentions", "cross_attentions",
    "encoder_last_hidden_state", "encoder_hidden_states", "encoder_attentions",
    "decoder_hidden_states", "decoder_attentions",
)  # fmt: skip
"""Outputs of models that no evaluator reads and that would fill the memory. T5 always returns the encoder's states."""


@contextmanager
def _naming_checkpoint(checkpoint: str | None) -> Iterator[None]:
    """Turn an error of a library that reads a checkpoint into one sentence.

    Raises:
        BadCheckpoint: A file holds something else than a run writes there. Nothing in it was executed.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError | FinetuneError) or failures.is_out_of_memory(error):
            raise
        why = "an object that is no number" if isinstance(error, UnpicklingError) else first_line(error)
        raise BadCheckpoint(
            f"{checkpoint} cannot be read: {why}. The files are not those that a run of "
            "this recipe writes. Delete the checkpoint to continue from the one before."
        ) from error


class PatchedTrainer(Trainer):
    """transformers' trainer, with faults of transformers 5.23 corrected that it does not report.

    - Random numbers. Evaluation draws random numbers, because a loader draws one when it starts, even if it does not
      shuffle. A run that is evaluated more often therefore ends with other weights, and so does a run that is killed
      between a checkpoint and the evaluation after it. Here, evaluation does not change the random state of training.
    - Order. With ``train_sampling_strategy: group_by_length``, evaluation is shuffled too, and predictions come back in
      the shuffled order, so their scores against the examples would be noise. Here, evaluation keeps the order.
    - Scale of the loss. With ``gradient_accumulation_steps: n``, if a model takes ``num_items_in_batch`` and ignores it
      (BERT's classifiers, T5, BART), its loss and its gradient are n times too large. Here, one batch shows whether the
      model's loss depends on that number.
    - Several processes. A model that is evaluated before it is trained, such as for the scores of the base model, is
      marked as prepared, so training would not wrap it: each process would train a model of its own, on its own rows.
      Here, training wraps it.
    - Memory. Predictions keep everything that a model returns. Here, they keep nothing that no evaluator reads.
    - Resume. A run that is resumed would make a step after its last one, forget how long the scores have not improved,
      go on after an early stop, take the best checkpoint from the folder where the run was before it was moved, skip an
      evaluation at the end of an epoch that was interrupted, draw a new order with ``group_by_length``, and use the
      ``save_steps`` of its checkpoint. Here, it continues as if it had never stopped.

    A strategy may also add to checkpoints what `save_pretrained` leaves out, and read it back.

    Put this class before another trainer's class to correct that one.

    Raises:
        UpstreamChanged: A base lacks a method that finetune overrides or calls; see `finetune.training.upstream`.
    """

    model: Any  # upstream's type allows None, which holds for `model_init` alone
    model_accepts_loss_kwargs: bool
    strategy: Strategy | None = None
    """Adds to checkpoints, and reads them."""
    stream: Any = None
    """The features of train, if they are made while it is read."""
    _stream_loader: StreamLoader | None = None
    generates = False
    """Whether it writes texts when it predicts."""
    seeds_evaluation: ClassVar[bool] = False
    """Whether texts that it writes depend on the seed of the run alone, so that an evaluation can be repeated."""
    shifts_labels = False
    """Whether a label belongs to the position after its own."""
    divided = False
    """Whether the weights are divided among the processes."""
    copied: Any = None
    """If so, a copy of the model without its weights."""
    distillation: Distillation | None = None
    """The teacher to learn from, besides the labels."""
    learns_from_logits: ClassVar[bool] = True
    """Whether the loss is one of the model's logits and the labels, so that a teacher's logits can be compared."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        upstream.require_bases(type(self))
        self.resume_point = ResumePoint()
        self.kept = Kept()
        super().__init__(*args, **kwargs)
        upstream.require_attributes(self)
        if self.args.label_names is None and "labels" in self.label_names:
            self.label_names = ["labels"]  # Luke also takes the labels of entities, which no task gives
        accumulates = self.args.gradient_accumulation_steps > 1 and self.compute_loss_func is None
        if accumulates and self.model_accepts_loss_kwargs:
            self.model_accepts_loss_kwargs = self._loss_depends_on_items()
        self.add_callback(self.resume_point)
        self.add_callback(CatchUp(self))

    def _loss_depends_on_items(self) -> bool:
        """Return whether the model's loss depends on `num_items_in_batch`."""
        losses = []
        with preserve_rng_state(), evaluation_mode(self.model), torch.no_grad():
            given: Any = self._prepare_inputs(next(iter(self.get_train_dataloader())))
            batch = {name: tensor.to(self.model.device) for name, tensor in given.items()}
            for items in (1, 2):
                outputs = self.model(**batch, num_items_in_batch=torch.tensor(items))
                losses.append(outputs.loss)
        return not torch.equal(*losses)

    def create_accelerator_and_postprocess(self) -> None:
        """Make the accelerator; it divides the weights on CPUs as on GPUs."""
        # accelerate would set the variable for the next run of the process, too
        with upstream.environment("ACCELERATE_USE_FSDP", "true" if self.args.fsdp else "false"):
            super().create_accelerator_and_postprocess()
        sharding.enable_on_cpu(self)

    def divide(self) -> None:
        """Divide the weights among the processes, if the run asks for it."""
        if self.is_fsdp_enabled:
            self.copied = sharding.without_weights(self.model)
            sharding.divide(self)
            self.divided = True

    def _prepare_for_training(self, *args: Any, **kwargs: Any) -> Any:
        if self.args.world_size > 1 and not self.divided:
            vars(self.model).pop("_is_accelerate_prepared", None)  # see the docstring of the class
        with sharding.divided_before(self.accelerator) if self.divided else nullcontext():
            return super()._prepare_for_training(*args, **kwargs)  # type: ignore[no-untyped-call]

    def get_train_dataloader(self) -> Any:
        """Return the batches to train on; those of a stream have no end."""
        if self.stream is None:
            return super().get_train_dataloader()
        kept = self._remove_unused_columns(self.train_dataset, description="training")
        self._stream_loader = StreamLoader(
            self.stream,
            size=self.args.train_batch_size,
            names=kept.column_names,
            collate=self.data_collator,
            begin_epoch=self.begin_stream_epoch,
        )
        return self._stream_loader

    def begin_stream_epoch(self, epoch: int) -> None:
        """Do what depends on how often the rows of a stream were read; the trainer itself counts one epoch."""

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        self.resume_point.sampler = super()._get_train_sampler(*args, **kwargs)
        return self.resume_point.sampler

    def _init_training_state(self, max_steps: int, *args: Any, **kwargs: Any) -> tuple[int, int]:
        started: tuple[int, int] = super()._init_training_state(max_steps, *args, **kwargs)
        checkpoint = kwargs.get("resume_from_checkpoint") or args[2]
        if checkpoint is not None:
            self.resume_point.checkpoint, self.resume_point.inside_epoch = Path(checkpoint), started[1] > 0
            state: Any = self.state
            state.compute_steps(self.args, max_steps)  # those of the recipe, not those of the checkpoint
            best = checkpoints.best_of(Path(checkpoint))
            self.state.best_model_checkpoint = str(best) if best is not None and best.is_dir() else None
        return started

    def _load_callback_state(self) -> None:
        """Restore each callback in place; transformers does so only on request, and then replaces it by a copy."""
        stored = stored_states(self.state)
        for callback in self.callback_handler.callbacks:
            states = stored.get(type(callback).__name__)
            if isinstance(callback, ExportableState) and states:
                for attribute, value in states.pop(0)["attributes"].items():
                    setattr(callback, attribute, value)

    def catch_up(self) -> None:
        """Do what a resumed run still had to do at the step of its checkpoint: end the epoch, or stop.

        A checkpoint of the last step of an epoch is written before the evaluation at the end of the epoch, and a run
        can be killed in between.
        """
        point, step = self.resume_point, self.state.global_step
        if point.checkpoint is None:
            return
        self._restore_log_window()
        stops = point.stopped or step >= self.state.max_steps
        if point.epoch_end is not None and point.epoch_end != step and (stops or not point.inside_epoch):
            point.restore_order()
            self._load_rng_state(str(point.checkpoint))
            self.control = self.callback_handler.on_epoch_end(self.args, self.state, self.control)
            window = point.log_window or {"grad_norm": None, "learning_rate": None}
            self._maybe_log_save_evaluate(
                self._tr_loss, window["grad_norm"], self.model, None, self.state.epoch, None, time.time(),
                learning_rate=window["learning_rate"],
            )  # fmt: skip
            stops = stops or self.control.should_training_stop
        self.control.should_training_stop = stops

    def _restore_log_window(self) -> None:
        """Restore the losses that were not yet logged, so that the next entry is that of a run without a stop."""
        window = self.resume_point.log_window
        if window is None:  # a checkpoint of an older version
            return
        self._tr_loss += window["losses"]
        self._total_loss_scalar = window["total"]
        self._globalstep_last_logged = window["logged"]

    def _maybe_log_save_evaluate(self, tr_loss: Any, grad_norm: Any, *args: Any, **kwargs: Any) -> None:
        """Log, evaluate and save; a checkpoint keeps what the next log entry needs."""
        self.resume_point.log_window = {
            "grad_norm": None if grad_norm is None else float(grad_norm),
            "learning_rate": kwargs.get("learning_rate"),
        }
        super()._maybe_log_save_evaluate(tr_loss, grad_norm, *args, **kwargs)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        """Log numbers; the mean loss at the end is that of all steps, also those before the run was resumed."""
        if "train_loss" in logs and self.resume_point.log_window is not None:
            logs["train_loss"] = self._total_loss_scalar / max(self.state.global_step, 1)
        super().log(logs, *args, **kwargs)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Train an epoch, unless the run is resumed after its last step: transformers would make one step more."""
        if self.control.should_training_stop:
            return
        point = self.resume_point
        if point.checkpoint is not None:
            if not point.inside_epoch:
                self._load_rng_state(str(point.checkpoint))
            point.restore_order()
        if self._stream_loader is not None and point.checkpoint is not None and point.inside_epoch:
            self._stream_loader.restore(point.checkpoint)
        point.begin_epoch()
        if self._stream_loader is None:
            super()._run_epoch(*args, **kwargs)  # type: ignore[no-untyped-call]
            return
        with upstream.replaced("transformers.trainer", "skip_first_batches", lambda loader, _: loader):
            super()._run_epoch(*args, **kwargs)  # type: ignore[no-untyped-call]

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Compute the gradients of a batch, and check its loss."""
        inputs = args[1] if len(args) > 1 else kwargs["inputs"]
        with self._naming_batch(inputs, "per_device_train_batch_size"):
            loss = super().training_step(*args, **kwargs)
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, StopOnNaN):
                callback.check_loss(loss, inputs, self.state.global_step + 1)
        return loss

    def _get_grad_norm(self, *args: Any, **kwargs: Any) -> Any:
        norm = super()._get_grad_norm(*args, **kwargs)  # type: ignore[no-untyped-call]
        callbacks = self.callback_handler.callbacks
        for callback in callbacks:
            if isinstance(callback, StopOnNaN):
                callback.take_norm(norm, callbacks)
        return norm

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None, **more: Any
    ) -> Any:
        """Return the loss of a batch; while the model trains, mixed with the distance to the teacher if it has one."""
        if self.distillation is None or not model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch, **more)
        batch = dict(inputs)  # upstream removes the labels
        own, outputs = super().compute_loss(model, inputs, True, num_items_in_batch, **more)
        with self.accelerator.autocast():
            loss = self.distillation.loss(
                own,
                outputs,
                batch,
                student=self.model,
                items=num_items_in_batch,
                scale=self._loss_scale(num_items_in_batch),
            )
        return (loss, outputs) if return_outputs else loss

    def _loss_scale(self, items: Any) -> int:
        """Return by what upstream multiplies a loss that is divided by the items of all processes."""
        divides = self.model_accepts_loss_kwargs or self.compute_loss_func is not None
        if items is None or not divides or not self.args.average_tokens_across_devices:
            return 1
        return int(self.accelerator.num_processes) if self.args.n_gpu <= 1 else self.args.n_gpu

    def _evaluate(self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False) -> dict[str, float]:
        if skip_scheduler and self.resume_point.checkpoint is not None:
            return {}  # ``eval_on_start``, and the run has started before
        scores: dict[str, float] = super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler)
        return scores

    def _determine_best_metric(self, *args: Any, **kwargs: Any) -> bool:
        """Return whether to save with ``save_strategy: best``: also if the run stops on a signal."""
        is_best: bool = super()._determine_best_metric(*args, **kwargs)
        if is_best:
            self.kept.chosen()
        stops = [each for each in self.callback_handler.callbacks if isinstance(each, StopOnSignal) and each.saving]
        return is_best or bool(stops)

    def prediction_step(self, *args: Any, **kwargs: Any) -> Any:
        """Predict a batch."""
        inputs = args[1] if len(args) > 1 else kwargs["inputs"]
        with self._naming_batch(inputs, "per_device_eval_batch_size"):
            return super().prediction_step(*args, **kwargs)

    @contextmanager
    def _naming_batch(self, inputs: Any, option: str) -> Iterator[None]:
        """Add the longest row of a batch to an error that says that memory could not be had."""
        try:
            yield
        except Exception as error:
            if failures.is_out_of_memory(error):
                text = describe_longest(inputs, self.processing_class)
                failures.add_batch(error, text, option=option, size=getattr(self.args, option))
            raise

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        is_last = self.state.global_step >= self.state.max_steps
        self.resume_point.stopped = self.control.should_training_stop and not is_last
        state: Any = self.state
        losses = self._tr_loss
        if self.args.world_size > 1:
            losses = self.accelerator.gather(losses.reshape(1)).mean()
        self.resume_point.log_window = {
            **(self.resume_point.log_window or {}),
            "losses": losses.item(),
            "total": self._total_loss_scalar,
            "logged": self._globalstep_last_logged,
        }
        state.stateful_callbacks = places_of_states([*self.callback_handler.callbacks, self.control])
        directory = Path(self._get_output_dir(trial=trial)) / name_of(self.state.global_step)
        if self.args.should_save:
            checkpoints.begin(directory)
        with upstream.replaced("transformers.trainer", "rotate_checkpoints", lambda **_: None):  # see `WriteManifest`
            super()._save_checkpoint(model, trial)
        if self._stream_loader is not None:
            self._stream_loader.save(directory)
        if self.args.should_save:
            self.resume_point.save_order(directory)
        if self.strategy is not None and self.args.should_save:
            self.strategy.write_checkpoint(self.model, directory)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with _naming_checkpoint(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_scaler(self, checkpoint: str | None) -> None:
        with _naming_checkpoint(checkpoint):
            super()._load_scaler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with _naming_checkpoint(checkpoint):
            super()._load_rng_state(checkpoint)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        directory = Path(resume_from_checkpoint)
        if self.strategy is None or not self.strategy.read_checkpoint(self.model, directory):
            with _naming_checkpoint(resume_from_checkpoint):
                super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_best_model(self) -> None:
        settle(self)  # or else it would change the weights of the checkpoint later
        best = Path(str(self.state.best_model_checkpoint))
        if self.strategy is None or not self.strategy.read_checkpoint(self.model, best):
            with _naming_checkpoint(str(best)):
                super()._load_best_model()

    def load_weights(self, checkpoint: Path) -> None:
        """Give the model the weights of a checkpoint of this run."""
        kept, self.state.best_model_checkpoint = self.state.best_model_checkpoint, str(checkpoint)
        try:
            self._load_best_model()
        finally:
            self.state.best_model_checkpoint = kept

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate, and restore the state of each random number generator."""
        with preserve_rng_state():
            scores: dict[str, float] = super().evaluate(*args, **kwargs)
        return scores

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> Any:
        """Predict everything, and keep no output of `UNREAD`; the loss is the mean of all labels."""
        if kwargs.get("ignore_keys") is None:
            known = getattr(self.model.config, "keys_to_ignore_at_inference", None) or ()
            kwargs["ignore_keys"] = [*known, *UNREAD]
        with ExitStack() as until_the_end:
            if self.divided:
                until_the_end.callback(sharding.divide_again, self.model)
            if self.divided and self.generates:
                reshard = self.accelerator.state.fsdp_plugin.reshard_after_forward
                until_the_end.enter_context(sharding.whole_weights(self.model, reshard=reshard))
            mean = MeanLoss(shifted=self.shifts_labels)
            until_the_end.enter_context(mean.watching(self))
            output: Any = super().evaluation_loop(*args, **kwargs)
        name = f"{kwargs.get('metric_key_prefix', 'eval')}_loss"
        if name in output.metrics and mean.losses:
            output.metrics[name] = mean.value(self.accelerator)
        if self.is_in_train and self._is_repeatable():
            self.kept.put(output, model=self.model)
        return output

    def _is_repeatable(self) -> bool:
        """Return whether an evaluation after the training gives what one at the same step gave."""
        cast = self.args.bf16_full_eval or self.args.fp16_full_eval  # only after the training
        alone = self.args.world_size == 1 and not self.divided
        return (self.seeds_evaluation or not self.generates) and not cast and alone

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        if self.args.train_sampling_strategy == "group_by_length" and self.args.world_size <= 1:
            return SequentialSampler(eval_dataset)
        return super()._get_eval_sampler(eval_dataset)


@contextmanager
def preserve_rng_state() -> Iterator[None]:
    """Restore the random state of Python, numpy and torch, on each device, after a `with` block."""
    state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)


def _shortest_first(features: Any, job: Job) -> Any:
    """Return features in the order in which they are predicted; None for None."""
    return None if features is None else features.select(Order.of(features, job.preprocessor).places)


def model_columns(features: Any, job: Job) -> Any:
    """Return features with only the columns that the model takes; None for None."""
    if features is None:
        return None
    return features.select_columns([name for name in features.column_names if name in job.task.features])


def example_batch(built: Trainer, features: Any, job: Job, *, size: int) -> dict[str, Any]:
    """Return the first features as a batch for the model's ``forward``, without labels if it does not need them."""
    first = model_columns(features.select(range(min(size, len(features)))), job)
    with preserve_rng_state():
        collated: Any = built.data_collator(list(first))
    if not isinstance(collated, Mapping):  # the collator of a trainer that generates leaves rows as they are
        collated = job.tokenizer.pad({"input_ids": first["input_ids"][:]}, return_tensors="pt")
    model = base_model_of(job.model)
    accepted = set(inspect.signature(type(model).forward).parameters)
    if not model.config.is_encoder_decoder:  # an encoder-decoder makes its decoder inputs of the labels
        accepted -= job.task.labels
    batch: dict[str, Any] = {}
    for name, tensor in collated.items():
        if name in accepted:
            batch[name] = tensor.to(job.model.device)
    if "use_cache" in accepted:
        # The trainer switches off the cache of the model that it trains, and a reloaded model would return one.
        batch["use_cache"] = False
    return batch


def divide(built: Trainer) -> None:
    """Divide the weights of a trainer's model among the processes, if the run asks for it.

    Raises:
        Incompatible: The trainer, or accelerate, cannot divide them.
    """
    if isinstance(built, PatchedTrainer):
        built.divide()
    elif built.args.fsdp:
        raise Incompatible(
            f"task: {type(built).__name__} is no PatchedTrainer, so it cannot divide weights (training.fsdp). Leave "
            "fsdp out."
        )


def whole(built: Trainer, job: Job) -> Job:
    """Return a job with the whole trained model on the main process, if the weights are divided among the processes.

    Each process has to call it.
    """
    if not isinstance(built, PatchedTrainer) or not built.divided:
        return job
    weights = sharding.gather(built.model)
    if not processes.is_main():
        return job
    return replace(job, model=sharding.filled(built.copied, weights).train(built.model.training))


def try_forward(built: Trainer, parts: Mapping[str, Any], job: Job) -> None:
    """Run a model on features as in training, so that one that cannot read them fails before the first step.

    Args:
        built: The trainer.
        parts: Split → its features. The first features of train are tried, and the shortest of each split.
        job: What to train.

    Raises:
        BadOptions: The model knows fewer types of tokens than the tokenizer gives.
        Incompatible: The model fails, as Reformer does on a text that has not the one length that it can train on, and
            Funnel on a text that is too short for its pooling.
    """
    was_training = job.model.training
    job.model.train()
    try:
        with preserve_rng_state(), torch.no_grad():
            checks.can_read(job.model, example_batch(built, parts["train"], job, size=2))
            for split, features in parts.items():
                _can_read_shortest(built, features, job, split=split)
    finally:
        job.model.train(was_training)


def try_teacher(built: Trainer, job: Job) -> None:
    """Compute the loss of two rows with the teacher, so that one that does not fit fails before the first step.

    Raises:
        BadOptions: An option of the teacher has no effect.
        Incompatible: The loss of the task is none of logits and labels; the outputs of teacher and student differ in
            shape; or the weights are divided among the processes.
    """
    if job.distillation is None:
        return
    if not isinstance(built, PatchedTrainer) or not built.learns_from_logits:
        raise Incompatible(
            f"teacher: the loss of {type(built).__name__} is none of logits and labels, which a teacher could be "
            "compared with. Leave out the teacher."
        )
    if built.is_fsdp_enabled:
        raise Incompatible("teacher: it cannot be used with weights that are divided (training.fsdp). Leave out one.")
    features: Any = job.train
    rows = model_columns(features.select(range(min(2, len(features)))), job)
    was_training = job.model.training
    job.model.train()
    try:
        with preserve_rng_state(), torch.no_grad():
            batch: Any = built._prepare_inputs(built.data_collator(list(rows)))
            distillation.check(job.distillation, batch, student=job.model)
            built.compute_loss(job.model, batch)
    finally:
        job.model.train(was_training)


def _can_read_shortest(built: Trainer, features: Any, job: Job, *, split: str) -> None:
    """Run a model on the shortest features, alone.

    Raises:
        Incompatible: The model fails.
    """
    lengths = job.preprocessor.lengths(features)
    shortest = int(np.argmin(lengths))
    batch = example_batch(built, features.select([shortest]), job, size=1)
    checks.can_read(job.model, batch, what=f"the shortest text of {split}, of {int(lengths[shortest])} tokens")


def settle(trainer: Any) -> None:
    """Give a trained model the weights that count, if its optimizer trains others.

    A schedule-free optimizer makes its steps with one set of weights, and evaluates with their mean. The trainer
    changes to the mean when it evaluates, and back with the next step. A run without validation would save the one, and
    score the other.

    Source: Defazio et al. 2024, "The Road Less Scheduled", section 2.
    """
    change = getattr(trainer.optimizer, "eval", None)
    if callable(change):
        change()


def optimizer_with_groups(args: TrainingArguments, model: Any, groups: list[dict[str, Any]] | None) -> Any:
    """Return the trainer's `optimizer_cls_and_kwargs` for a strategy's parameter groups; None without groups."""
    if groups is None:
        return None
    optimizer, options = Trainer.get_optimizer_cls_and_kwargs(args, model)
    return optimizer, {**options, "params": groups}


def compute_metrics(job: Job) -> Any:
    """Return a function that scores the validation features during training; None without such features."""
    examples, features = job.validation_examples, job.validation
    if examples is None or features is None:
        return None
    order = Order.of(features, job.preprocessor)

    def all_scores(predicted: Any) -> dict[str, float]:
        outputs = order.undo(predicted.predictions)
        predictions = Predictions(
            examples=examples,
            features=features,
            outputs=outputs,
            tokenizer=job.tokenizer,
            preprocessor=job.preprocessor,
        )
        records = records_of(job.evaluator, predictions)
        for callback in job.callbacks:
            if isinstance(callback, RecordsCallback):
                callback.on_records(job, records)
        scores = job.evaluator.scores(records)
        label_ids = None if job.compute_metrics is None else order.undo(predicted.label_ids)
        return with_scores_of_user(scores, outputs, label_ids, job)

    return all_scores


def with_scores_of_user(scores: dict[str, float], outputs: Any, label_ids: Any, job: Job) -> dict[str, float]:
    """Return scores with those of the user's `compute_metrics`, if there is one.

    Args:
        scores: Those of the evaluator.
        outputs: What the model returned for the features of a split.
        label_ids: The labels of these features.
        job: Holds the function.

    Raises:
        BadOptions: It returns something else than new names with numbers.
    """
    if job.compute_metrics is None:
        return scores
    with calling("compute_metrics"):
        found = job.compute_metrics(EvalPrediction(predictions=outputs, label_ids=label_ids))
    if not isinstance(found, Mapping) or any(isinstance(n, str) or not hasattr(n, "__float__") for n in found.values()):
        raise BadOptions("compute_metrics: it must return a mapping of names to numbers.")
    more = {str(name).removeprefix("eval_"): float(value) for name, value in found.items()}
    taken = sorted(set(more) & set(scores))
    if taken:
        raise BadOptions(
            f"compute_metrics: it returns {', '.join(map(repr, taken))}, which {type(job.evaluator).__name__} computes "
            "already. Give the score another name."
        )
    return {**scores, **more}


def records_of(evaluator: Evaluator, predictions: Predictions) -> list[Record]:
    """Return the evaluator's record of each example.

    Raises:
        BadOptions: It gives more or fewer records than there are examples, or a record that JSON cannot hold.
    """
    records, examples = evaluator.records(predictions), len(predictions.examples)
    if len(records) != examples:
        raise BadOptions(
            f"evaluator: {type(evaluator).__name__}.records() gives {len(records):,} records for {examples:,} "
            "examples. Return one record for each example, in their order."
        )
    for number, record in enumerate(records):
        if problem := json_problem(record):
            raise BadOptions(
                f"evaluator: {type(evaluator).__name__}.records() gives a record, number {number}, that JSON cannot "
                f"hold: {problem}. Return text, numbers, lists and mappings of text."
            )
    return records


def predict(built: Trainer, *, examples: Any, features: Any, job: Job) -> Predictions:
    """Predict features, shortest first, so that batches hold little padding; outputs keep the order of the features.

    Validation is not predicted again if the trainer has just evaluated it with the weights that the model has.
    """
    order = Order.of(features, job.preprocessor)
    evaluated = None
    if features is job.validation and isinstance(built, PatchedTrainer):
        evaluated = built.kept.take(model=built.model)
    if evaluated is None:
        outputs, labels = _predicted(built, features, order, job)
    else:
        outputs, labels = evaluated.outputs, evaluated.label_ids
    label_ids = labels if job.compute_metrics is not None else None
    return Predictions(
        examples=examples,
        features=features,
        outputs=order.undo(outputs),
        tokenizer=job.tokenizer,
        preprocessor=job.preprocessor,
        label_ids=None if label_ids is None else order.undo(label_ids),
    )


def _predicted(built: Trainer, features: Any, order: Order, job: Job) -> tuple[Any, Any]:
    """Return the outputs and the labels of features, in the order in which they are predicted."""
    metrics, built.compute_metrics = built.compute_metrics, None  # they belong to the validation examples
    try:
        predicted = built.predict(model_columns(features.select(order.places), job))
    except checks.READING_ERRORS:
        _can_read_shortest(built, features, job, split="the data")  # says so if that is the reason
        raise
    finally:
        built.compute_metrics = metrics
    return predicted.predictions, predicted.label_ids
