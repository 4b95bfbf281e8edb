"""What happens while a model trains: the log, the bar, and when to stop."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from finetune.errors import Interrupted, TrainingFailed
from finetune.progress import Reporter
from finetune.training import upstream

upstream.import_bitsandbytes()  # the next import would import it too, with a warning

from transformers import Trainer, TrainerCallback  # noqa: E402


@contextmanager
def stopping_cleanly(built: Trainer) -> Iterator[None]:
    """Give signal handlers back, however training ends."""
    try:
        yield
    finally:
        for callback in built.callback_handler.callbacks:
            if isinstance(callback, StopOnSignal):
                callback.restore()


class StopOnNaN(TrainerCallback):
    """Stops a run before it applies a gradient that is not finite.

    The trainer itself goes on, logs a loss of 0.0 and saves weights that are not numbers.
    """

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look at every gradient."""
        if args.fp16:
            return  # its gradient scaler skips such steps by design
        gradients = [p.grad for p in kwargs["model"].parameters() if p.grad is not None]
        if gradients and not torch.stack([gradient.isfinite().all() for gradient in gradients]).all():
            raise TrainingFailed(
                f"step {state.global_step + 1}: a gradient is not a finite number, so the update was not made. "
                "Lower training.learning_rate, look at the data of that step, or train in float32. "
                "Checkpoints from before it are good."
            )


class WriteLog(TrainerCallback):
    """Appends every log entry to `log.jsonl`, and tells the reporter."""

    def __init__(self, path: Path, reporter: Reporter) -> None:
        self.path = path
        self.reporter = reporter
        self.numbers: dict[str, float] = {}

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any], **_: Any) -> None:
        """Write one line."""
        if not state.is_world_process_zero:
            return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": state.global_step, **logs}) + "\n")
        shown = ("loss", "grad_norm", "learning_rate")
        self.numbers = {name: float(logs[name]) for name in shown if name in logs} or self.numbers

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Move the bar."""
        self.reporter.step(state.global_step, state.max_steps, **self.numbers)


class ShowPredictionProgress(TrainerCallback):
    """Tells the reporter how far a prediction is."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.done = 0

    def on_prediction_step(self, args: Any, state: Any, control: Any, eval_dataloader: Any = None, **_: Any) -> None:
        """Move the bar."""
        if eval_dataloader is None or control.should_evaluate:
            return
        self.done += 1
        self.reporter.step(self.done, len(eval_dataloader))

    def on_predict(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin anew next time."""
        self.done = 0


class StopOnSignal(TrainerCallback):
    """Saves a checkpoint at the next step when SIGTERM or SIGINT arrives, then stops; a second signal stops at once."""

    signals: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGINT)

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Listen, where signals can be listened to."""
        try:
            self._before = {number: signal.signal(number, self._note) for number in self.signals}
        except ValueError:  # not the main thread: whoever runs us handles signals
            self._before = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Save and stop when asked to."""
        if self.received:
            control.should_save = True
            control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Stop listening, and say so if the end is early."""
        self.restore()
        if self.received and state.global_step < state.max_steps:
            raise Interrupted(
                f"stopped by {self.received.name} at step {state.global_step} of {state.max_steps}; "
                f"checkpoint-{state.global_step} is saved. Go on with --resume.",
                signal=int(self.received),
            )
        if self.received:
            raise Interrupted(
                f"stopped by {self.received.name} when the last step was made; nothing is scored yet. "
                "Go on with --resume.",
                signal=int(self.received),
            )

    def restore(self) -> None:
        """Give signals back to whoever had them."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            self.restore()
            raise Interrupted("stopped at once, without a checkpoint of this step.", signal=number)
        self.received = signal.Signals(number)
