"""Where a run stands between its steps: what a resumed run needs that the trainer's checkpoints do not hold."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

ORDER = "order.pth"
"""File of a checkpoint with the random states that the order of its epoch depends on."""


class ResumePoint(TrainerCallback, ExportableState):
    """Keeps with each checkpoint which epoch has ended, whether training has, how the rows are shuffled, and what the
    next log entry needs of the steps before.

    Some samplers draw the order of an epoch when it begins, from the random numbers of the process or from a generator
    of their own. To draw the same order on resume, they need the state of that moment.
    """

    def __init__(self) -> None:
        self.epoch_end: int | None = None
        """The step after which an epoch ended last; None in checkpoints of older versions."""
        self.stopped = False
        """Whether a callback has ended the training before its last step; a signal does not count."""
        self.log_window: dict[str, Any] | None = None
        """What is not yet logged: the sum of the ``losses``, of all that were logged (``total``), the step that was
        ``logged`` last, and ``grad_norm`` and ``learning_rate`` of the last step; None in checkpoints of older
        versions."""
        self.checkpoint: Path | None = None
        """Where the run resumes."""
        self.inside_epoch = False
        """Whether some of the steps of the epoch are made already."""
        self.sampler: Any = None
        """What shuffles the rows."""
        self._begin: dict[str, torch.Tensor] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Count epochs from here on."""
        if not state.global_step:
            self.epoch_end = 0

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note the step."""
        self.epoch_end = state.global_step

    def state(self) -> dict[str, Any]:
        """Return what the trainer writes into a checkpoint."""
        kept = ("epoch_end", "stopped", "log_window")
        return {"args": {}, "attributes": {name: getattr(self, name) for name in kept}}

    def begin_epoch(self) -> None:
        """Note the random states from which the order of an epoch is drawn."""
        self._begin = self._states()
        self.checkpoint = None  # the run is where it was

    def save_order(self, directory: Path) -> None:
        """Write the random states into a checkpoint: those at the beginning of the epoch, and those of now."""
        torch.save({"begin": self._begin, "now": self._states()}, directory / ORDER)

    def restore_order(self) -> None:
        """Restore the random states, so that the sampler draws the order of the epoch again, or that of the next."""
        path = self.checkpoint / ORDER if self.checkpoint else None
        if path is None or not path.is_file():  # of an older version
            return
        saved = torch.load(path, weights_only=True)["begin" if self.inside_epoch else "now"]
        if self.inside_epoch and "process" in saved:
            torch.set_rng_state(saved["process"])  # the trainer restores the state of now when it has skipped the rows
        if (generator := self._generator()) is not None and "sampler" in saved:
            generator.set_state(saved["sampler"])

    def _states(self) -> dict[str, torch.Tensor]:
        states = {"process": torch.get_rng_state()}
        if (generator := self._generator()) is not None:
            states["sampler"] = generator.get_state()
        return states

    def _generator(self) -> torch.Generator | None:
        return getattr(self.sampler, "generator", None)


class CatchUp(TrainerCallback):
    """Lets a trainer catch up with its checkpoint before the first step; see `PatchedTrainer.catch_up`."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Catch up."""
        self.trainer.catch_up()
        return self.trainer.control


def places_of_states(callbacks: Iterable[Any]) -> dict[str, Any]:
    """Return the places where the trainer puts the states of callbacks: a list where several have one name.

    The trainer makes them once, of the callbacks that it has when it starts; on resume, those of the checkpoint.
    """
    places: dict[str, Any] = {}
    for callback in callbacks:
        name = type(callback).__name__
        if isinstance(callback, ExportableState):
            places[name] = [] if name in places else {}
    return places


def stored_states(state: Any) -> dict[str, list[dict[str, Any]]]:
    """Return the states of callbacks that a checkpoint holds: name of the class → one state for each callback."""
    stored = {}
    for name, states in state.stateful_callbacks.items():
        stored[name] = list(states) if isinstance(states, list) else [states]
    return stored
