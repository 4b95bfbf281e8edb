"""Callbacks of every run: the log, the progress, and early stops."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from transformers import Trainer, TrainerCallback

from finetune.errors import Interrupted, TrainingFailed
from finetune.progress import Reporter


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
    """Stops a run before it applies a gradient that is not finite.

    The trainer would continue, log a loss of 0.0 and save weights that are NaN.
    """

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Check every gradient."""
        if args.fp16:
            return  # the gradient scaler skips these steps by design
        gradients = [p.grad for p in kwargs["model"].parameters() if p.grad is not None]
        if gradients and not torch.stack([gradient.isfinite().all() for gradient in gradients]).all():
            raise TrainingFailed(
                f"step {state.global_step + 1}: a gradient is not a finite number, so the update was not made. Lower "
                "training.learning_rate, check the data of this step, or train in float32. Earlier checkpoints are "
                "valid."
            )


class WriteLog(TrainerCallback):
    """Appends every log entry to `log.jsonl`, and shows the progress of training."""

    def __init__(self, path: Path, reporter: Reporter) -> None:
        self.path = path
        self.reporter = reporter
        self.numbers: dict[str, float] = {}

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        """Write one line, and keep the numbers to show."""
        if logs is None or not state.is_world_process_zero:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": state.global_step, **logs}) + "\n")
        shown = {name: float(logs[name]) for name in ("loss", "grad_norm", "learning_rate") if name in logs}
        self.numbers = shown or self.numbers

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Show the step."""
        self.reporter.step(state.global_step, state.max_steps, **self.numbers)


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


class StopOnSignal(TrainerCallback):
    """On SIGTERM or SIGINT, saves a checkpoint after the current step and stops; a second signal stops at once."""

    signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Install the signal handlers, if this is the main thread."""
        try:
            self._before = {number: signal.signal(number, self._note) for number in self.signals}
        except ValueError:  # not the main thread: the caller handles signals
            self._before = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save and stop if a signal was received."""
        if self.received:
            control.should_save = True
            control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Restore the signal handlers, and raise an error if a signal was received.

        Raises:
            Interrupted: A signal was received.
        """
        self.restore()
        if self.received and state.global_step < state.max_steps:
            raise Interrupted(
                f"stopped by {self.received.name} at step {state.global_step} of {state.max_steps}; "
                f"checkpoint-{state.global_step} is saved. Continue with --resume.",
                signal=int(self.received),
            )
        if self.received:
            raise Interrupted(
                f"stopped by {self.received.name} after the last step, before the scores were computed. "
                "Continue with --resume.",
                signal=int(self.received),
            )

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
