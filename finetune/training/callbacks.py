"""Callbacks of every run: the log, the progress, and early stops."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from torch.nn.utils import get_total_norm
from transformers import Trainer, TrainerCallback

from finetune import failures, processes
from finetune.checkpoint_folders import name_of
from finetune.errors import Diverged, Interrupted, Paused
from finetune.interfaces import Job, Record
from finetune.progress import Reporter
from finetune.result import to_json, write_atomically
from finetune.training.sharding import local


@contextmanager
def stopping_cleanly(built: Trainer) -> Iterator[None]:
    """Restore the signal handlers after a `with` block, also after an error."""
    try:
        yield
    finally:
        for callback in built.callback_handler.callbacks:
            if isinstance(callback, StopOnSignal):
                callback.restore()


class StopOnNaN(TrainerCallback):
    """Stops a run at the first loss, gradient or weight that is not a finite number, before it is saved.

    The trainer would continue, log a loss of 0.0 and save weights that are NaN. With ``fp16``, the gradient scaler
    skips steps whose gradients are not finite, by design; such a run stops after `PATIENCE` steps in a row. With
    ``bf16`` there is no scaler.
    """

    PATIENCE = 50

    def __init__(self, tokenizer: Any = None) -> None:
        self.tokenizer = tokenizer
        self.inputs: Any = None
        """The last batch."""
        self.fp16 = False
        """Whether a gradient scaler is at work."""
        self.skipped = 0
        """With ``fp16``: batches in a row whose loss is not finite."""
        self.skipped_steps = 0
        """With ``fp16``: steps in a row that the gradient scaler skipped."""
        self.norm: float | None = None
        """The norm of all gradients of the next update, as the trainer computed it to clip them; None if a callback can
        have changed them since."""

    def take_norm(self, norm: Any, callbacks: Sequence[TrainerCallback]) -> None:
        """Take the norm of the gradients that the trainer has just clipped: if it is finite, each of them is.

        Args:
            norm: The norm before clipping, a number or a tensor with one.
            callbacks: Those of the trainer, in order. One that comes before this one can change gradients.
        """
        neutral = TrainerCallback.on_pre_optimizer_step
        before = callbacks[: callbacks.index(self)]
        may_change = any(type(each).on_pre_optimizer_step is not neutral for each in before)
        self.norm = None if may_change else float(norm)

    def check_loss(self, loss: torch.Tensor, inputs: Any, step: int) -> None:
        """Check the loss of a batch, after its gradients are computed.

        Raises:
            Diverged: It is not a finite number.
        """
        self.inputs = inputs
        if loss.isfinite().all():
            self.skipped = 0
            return
        self.skipped += 1
        if self.fp16 and self.skipped < self.PATIENCE:
            return
        raise self._diverged(step, "the loss")

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note whether a gradient scaler is at work."""
        self.fp16 = bool(args.fp16)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check every gradient.

        The norm of all gradients is not finite if one of them is not. Finite gradients can have such a norm too, so it
        only saves the look at each of them.

        Raises:
            Diverged: One is not a finite number.
        """
        norm, self.norm = self.norm, None
        known = norm is not None and math.isfinite(norm)
        if known or all_finite([p.grad for p in kwargs["model"].parameters() if p.grad is not None]):
            self.skipped_steps = 0
            return
        self.skipped_steps += 1
        if args.fp16 and self.skipped_steps < self.PATIENCE:
            return  # the gradient scaler skips these steps by design, and lowers its scale
        raise self._diverged(state.global_step + 1, "a gradient")

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, Any] | None = None, **_: Any
    ) -> None:
        """Check the validation loss if it chooses the best checkpoint.

        Other scores can be undefined without a fault, such as a correlation with constant predictions. A checkpoint
        with such a score is never the best one.

        Raises:
            Diverged: The loss is not a finite number.
        """
        chosen_by_loss = args.load_best_model_at_end and str(args.metric_for_best_model).removeprefix("eval_") == "loss"
        loss = (metrics or {}).get("eval_loss")
        if chosen_by_loss and isinstance(loss, float) and not math.isfinite(loss):
            raise Diverged(
                f"step {state.global_step}: eval_loss is {loss}, so it cannot choose the best checkpoint. Lower "
                "training.learning_rate, check the rows of validation, or train in float32. Earlier checkpoints are "
                "valid."
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check the trained weights before they are saved."""
        if control.should_save or state.global_step >= state.max_steps:
            self._check_weights(kwargs["model"], state)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check the trained weights before they are saved."""
        if control.should_save:
            self._check_weights(kwargs["model"], state)

    def _check_weights(self, model: Any, state: Any) -> None:
        if not all_finite([p for p in model.parameters() if p.requires_grad]):
            raise self._diverged(state.global_step, "a weight", "after the update")

    def _diverged(self, step: int, what: str, when: str = "") -> Diverged:
        done = f" {when}, so it was not saved" if when else ", so the update was not made"
        remedy = "Lower training.learning_rate, check these rows, or train in float32."
        rows = describe_batch(self.inputs, self.tokenizer)
        return Diverged(
            f"step {step}: {what} is not a finite number{done}. {rows}{remedy} Earlier checkpoints are valid."
        )


def all_finite(tensors: Sequence[torch.Tensor]) -> bool:
    """Return whether every number of floating-point tensors is finite, in all processes if they hold parts of them.

    Their norm is computed first, which reads each tensor once: on one thread it takes 4 ms for 23 million numbers,
    where `isfinite` takes 88.
    """
    own = [local(tensor.detach()) for tensor in tensors if tensor.is_floating_point()]
    finite = bool(get_total_norm(own).isfinite())
    if not finite:  # the norm of large finite numbers can be infinite
        finite = _true_for_all(tensor.isfinite().all() for tensor in own)
    if any(isinstance(tensor, DTensor) for tensor in tensors):  # each process has checked its own part
        finite = not processes.any_of(int(not finite))
    return finite


def _true_for_all(checks: Iterable[torch.Tensor]) -> bool:
    """Return whether each of some tensors with one truth value, on any devices, is true."""
    found = list(checks)
    return not found or bool(torch.stack([check.to(found[0].device) for check in found]).all())


def describe_batch(inputs: Any, tokenizer: Any, *, rows: int = 3, characters: int = 60) -> str:
    """Return a sentence that shows how the first rows of a batch begin; an empty text if they cannot be read.

    Args:
        inputs: What the collator made: name → tensor, or a list of rows with text.
        tokenizer: Decodes token ids; None if there is none.
        rows: How many rows to show.
        characters: How much of each row to show.
    """
    texts: list[str] = []
    size = 0
    if isinstance(inputs, Mapping) and tokenizer is not None:
        ids = next((value for name, value in inputs.items() if name.endswith("input_ids")), None)
        if isinstance(ids, torch.Tensor) and ids.dim() >= 2:
            size = len(ids)
            for row in ids[:rows]:
                texts.append(tokenizer.decode(row.reshape(-1)[:400].tolist(), skip_special_tokens=True).strip())
    elif isinstance(inputs, Sequence):
        size = len(inputs)
        for row in inputs[:rows]:
            texts.append(str(next(iter(row.values()), "")) if isinstance(row, Mapping) else str(row))
    if not texts:
        return ""
    shown = ", ".join(repr(text[:characters]) for text in texts)
    return f"The batch has {size} rows; they begin: {shown}{', ...' if size > len(texts) else ''}. "


def describe_longest(inputs: Any, tokenizer: Any, *, characters: int = 60) -> str:
    """Return a sentence with the number of rows of a batch, and with the length and the beginning of the longest row.

    Args:
        inputs: What the collator made: name → tensor, or a list of rows with text.
        tokenizer: Decodes token ids; None if there is none.
        characters: How much of the row to show.
    """
    if not isinstance(inputs, Mapping):
        return describe_batch(inputs, tokenizer, rows=1, characters=characters)
    name = None
    for key, value in inputs.items():
        if key.endswith("input_ids") and isinstance(value, torch.Tensor) and value.dim() >= 2:
            name = key
            break
    if name is None:
        return ""
    ids = inputs[name].reshape(-1, inputs[name].shape[-1])  # a row of multiple choice holds several texts
    mask = inputs.get(name.replace("input_ids", "attention_mask"))
    used = torch.ones_like(ids) if mask is None or mask.numel() != ids.numel() else mask.reshape(ids.shape)
    lengths = used.sum(dim=-1)
    longest = int(lengths.argmax())
    begins = ""
    if tokenizer is not None:
        tokens = ids[longest][used[longest].bool()][:400].tolist()
        begins = f" and begins: {tokenizer.decode(tokens, skip_special_tokens=True).strip()[:characters]!r}"
    return f"The batch has {len(inputs[name])} rows; the longest has {int(lengths[longest]):,} tokens{begins}. "


class WriteLog(TrainerCallback):
    """Appends every log entry to `log.jsonl`, and shows the progress of training.

    A run that is resumed makes some steps again. Its log begins with the entries up to its checkpoint, so that no step
    is there twice.
    """

    def __init__(self, path: Path, reporter: Reporter) -> None:
        self.path = path
        self.reporter = reporter
        self.numbers: dict[str, float] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Remove what a run that is resumed wrote after its checkpoint."""
        if state.global_step and state.is_world_process_zero:
            write_atomically(self.path, "".join(_line_of(entry) for entry in state.log_history))

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        """Write one line, and keep the numbers to show."""
        if logs is None or not state.is_world_process_zero:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(_line_of({**logs, "step": state.global_step}))
        shown = {name: float(logs[name]) for name in ("loss", "grad_norm", "learning_rate") if name in logs}
        self.numbers = shown or self.numbers

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Show the step."""
        self.reporter.step(state.global_step, state.max_steps, **self.numbers)


def _line_of(entry: Mapping[str, Any]) -> str:
    """Return a line of `log.jsonl`: the step first."""
    return to_json({"step": entry["step"], **entry}) + "\n"


class CheckRoom(TrainerCallback):
    """Checks after the first checkpoint of a process that the disk has room for what the run will still write.

    Now the size of a checkpoint is measured, whatever the optimizer and the strategy keep.
    """

    def __init__(self, model: int) -> None:
        self.model = model
        """Bytes of the weights that are saved at the end."""
        self.checked = False

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Check the room.

        Raises:
            NoRoom: There is too little.
        """
        if self.checked or not state.is_world_process_zero or state.global_step >= state.max_steps:
            return
        self.checked = True
        output = Path(args.output_dir)
        size = 0
        for path in (output / name_of(state.global_step)).rglob("*"):
            size += path.stat().st_size if path.is_file() else 0
        failures.require_room(output, model=self.model, checkpoint=size, checkpoints=self._further(args, state))

    def _further(self, args: Any, state: Any) -> int:
        """Return how many more checkpoints will be on the disk at the same time: the oldest is removed after a save."""
        left = 1
        if args.save_strategy == "steps":
            left = (state.max_steps - state.global_step) // max(int(state.save_steps), 1)
        elif args.save_strategy == "epoch":
            left = math.ceil(args.num_train_epochs - (state.epoch or 0))
        return min(max(left, 1), args.save_total_limit or left)


class ShowPredictionProgress(TrainerCallback):
    """Shows the progress of a prediction."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.done = 0

    def on_prediction_step(self, args: Any, state: Any, control: Any, eval_dataloader: Any = None, **_: Any) -> None:
        """Show the batch."""
        if eval_dataloader is None or control.should_evaluate:
            return
        self.done += 1
        self.reporter.step(self.done, len(eval_dataloader))

    def on_predict(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        """Start again from 0 for the next prediction."""
        self.done = 0


class RecordsCallback(TrainerCallback):
    """A callback that also sees the records of validation, in each evaluation before its scores."""

    def on_records(self, job: Job, records: Sequence[Record]) -> None:
        """Receive one record for each of ``job.validation_examples``."""


class PauseAfter(TrainerCallback):
    """Pauses a run at the first evaluation at which a share of its steps is made, after a checkpoint.

    The run is one with all its steps: its learning rates are those of a run that is never paused, so that it can
    continue as if it had never stopped. See `raise_if_paused`.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self.saving = False
        """Whether the evaluation was made, and a checkpoint is being saved."""
        self.paused = False
        """Whether the checkpoint is saved."""

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save if the share is reached, unless the run ends here anyway."""
        ends = control.should_training_stop or state.global_step >= state.max_steps
        if not ends and state.global_step >= self.share * state.max_steps:
            self.saving = control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop after the save: the checkpoint does not say that training has ended, so that it continues."""
        if self.saving:
            self.paused = control.should_training_stop = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave the evaluation and the save at the end of an epoch to the run that continues."""
        if self.paused:
            control.should_evaluate = control.should_save = False


def raise_if_paused(built: Trainer) -> None:
    """Check after training that no callback paused the run.

    Raises:
        Paused: One did.
    """
    for callback in built.callback_handler.callbacks:
        if isinstance(callback, PauseAfter) and callback.paused:
            step = built.state.global_step
            raise Paused(f"paused at step {step} of {built.state.max_steps}; {name_of(step)} is saved.")


class StopOnSignal(TrainerCallback):
    """On SIGTERM, SIGINT or SIGHUP, saves a checkpoint after the current step and stops; a second one stops at once.

    SIGHUP comes when the terminal of a run closes, such as an ssh session that breaks.
    """

    signals = failures.SIGNALS

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.saving = False
        """Whether all processes know of the signal, and save a checkpoint."""
        self.stopping = False
        """Whether the checkpoint is saved."""
        self._before: dict[signal.Signals, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Install the signal handlers, if this is the main thread.

        A SIGHUP that is ignored stays so: ``nohup`` ignores it, so that the run outlives its terminal.
        """
        numbers = list(self.signals)
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
            numbers.remove(signal.SIGHUP)
        try:
            self._before = {number: signal.signal(number, self._note) for number in numbers}
        except ValueError:  # not the main thread: the caller handles signals
            self._before = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save if a process of the run received a signal."""
        if self._agree():  # a signal that came after the processes agreed is for the next step
            self.saving = True
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop after the save: the checkpoint does not say that training has ended, so that it continues."""
        if self.saving:
            self.stopping = control.should_training_stop = True

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Leave the evaluation and the save at the end of an epoch to the run that continues."""
        if self.stopping:
            control.should_evaluate = control.should_save = False

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Restore the signal handlers, and raise an error if a signal was received.

        Raises:
            Interrupted: A signal was received.
        """
        self.restore()
        self._agree()
        again = f"Continue with: {failures.resume_command(Path(args.output_dir))}"
        if self.received and state.global_step < state.max_steps:
            raise Interrupted(
                f"stopped by {self.received.name} at step {state.global_step} of {state.max_steps}; "
                f"{name_of(state.global_step)} is saved. {again}",
                signal=int(self.received),
            )
        if self.received:
            raise Interrupted(
                f"stopped by {self.received.name} after the last step, before the scores were computed. {again}",
                signal=int(self.received),
            )

    def _agree(self) -> bool:
        """Take the signal that any process of the run received; return whether there is one, in each process alike."""
        received = processes.any_of(int(self.received or 0))
        if received:
            self.received = signal.Signals(received)
        return bool(received)

    def restore(self) -> None:
        """Restore the earlier signal handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            self.restore()
            raise Interrupted("stopped at once, without a checkpoint of this step.", signal=number)
        self.received = signal.Signals(number)
