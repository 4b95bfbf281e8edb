"""The trackers that get the log of a run and its result: TensorBoard, MLflow, Trackio, and Weights & Biases."""

from __future__ import annotations

import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.integrations import MLflowCallback, TensorBoardCallback, TrackioCallback, WandbCallback

from finetune.interfaces import Job
from finetune.tracking.tracked import Tracked
from finetune.training.upstream import environment

FOLDER = "tensorboard"
"""Folder inside the run folder that TensorBoard reads."""


def library(name: str) -> Any:
    """Import the library of a tracker, which need not be installed."""
    return import_module(name)


class Tracker(ABC):
    """One run of an experiment tracker.

    Args:
        job: What the trainer gets.
        name: Name of the run.
        known: Where an earlier start of the run logged, as `place` returned it; empty if there is none.
        step: The step of the checkpoint from which the run continues; None if it begins.
        note: Shows a sentence to the user.
    """

    def __init__(
        self, *, job: Job, name: str, known: Mapping[str, str], step: int | None, note: Callable[[str], None]
    ) -> None:
        self.job, self.name, self.known, self.step, self.note = job, name, known, step, note

    @abstractmethod
    def begin(self) -> None:
        """Begin a run of the tracker, or go on in the earlier one."""

    @abstractmethod
    def place(self) -> Mapping[str, str]:
        """Return what identifies the run of the tracker."""

    @abstractmethod
    def callbacks(self) -> list[TrainerCallback]:
        """Return the callbacks that log while the trainer trains."""

    @abstractmethod
    def finish(self, content: Tracked) -> None:
        """Send the result, and end the run of the tracker."""

    def fail(self) -> None:  # noqa: B027, most have nothing to close
        """End the run of the tracker after an error."""


class TensorBoard(Tracker):
    """Event files in ``tensorboard/`` of the run folder, or where ``TENSORBOARD_LOGGING_DIR`` says."""

    def begin(self) -> None:
        """Open the event files. What an earlier start logged after the checkpoint is hidden."""
        from torch.utils.tensorboard import SummaryWriter

        given = os.environ.get("TENSORBOARD_LOGGING_DIR")
        self.folder = str(Path(given).expanduser() if given else self.job.output / FOLDER)
        self._open: Callable[..., Any] = SummaryWriter
        purge = None if self.step is None else self.step + 1
        self.writer = self._open(log_dir=self.folder, purge_step=purge)

    def place(self) -> Mapping[str, str]:
        """Return the folder."""
        return {"folder": self.folder}

    def callbacks(self) -> list[TrainerCallback]:
        """Return the callback of transformers."""
        make: Callable[..., Any] = TensorBoardCallback  # upstream leaves it without types
        callback = make(tb_writer=self.writer)
        callback.logging_dir = self.folder
        return [callback]

    def finish(self, content: Tracked) -> None:
        """Add scores and texts; TensorBoard takes no files, so a text says where they are."""
        writer = self._open(log_dir=self.folder)  # the callback has closed the other
        for name, value in content.numbers.items():
            writer.add_scalar(name, value, content.step)
        for name, text in content.texts.items():
            writer.add_text(name, text.replace("\n", "\n\n"), content.step)
        writer.add_text("files", "\n\n".join(str(path.absolute()) for path in content.files), content.step)
        writer.close()

    def fail(self) -> None:
        """Close the files."""
        self.writer.close()


class _MLflowCallback(MLflowCallback):
    """The callback of transformers, in the run that is active already.

    On resume it logs no parameters, because MLflow refuses to change one.
    """

    def __init__(self, *, resumes: bool) -> None:
        start: Callable[[], None] = super().__init__  # upstream leaves it without types
        start()
        self.resumes = resumes

    def setup(self, *args: Any, **kwargs: Any) -> None:
        most = "0" if self.resumes else os.environ.get("MLFLOW_MAX_LOG_PARAMS", "")
        with environment("MLFLOW_RUN_ID", ""), environment("MLFLOW_MAX_LOG_PARAMS", most):
            super().setup(*args, **kwargs)  # type: ignore[no-untyped-call]


class MLflow(Tracker):
    """A run of MLflow, in the store that ``MLFLOW_TRACKING_URI`` names."""

    def begin(self) -> None:
        """Begin a run, or go on in the earlier one; a run that is active already is used, and left open."""
        self._library = mlflow = library("mlflow")
        self.is_own = mlflow.active_run() is None
        if not self.is_own:
            return
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME")
        if experiment:
            mlflow.set_experiment(experiment)
        earlier = self.known.get("run_id")
        if earlier:
            try:
                mlflow.start_run(run_id=earlier)
                return
            except mlflow.exceptions.MlflowException:
                self.note(f"MLflow has no run {earlier} any more, so the log goes on in a new one")
        mlflow.start_run(run_name=self.name)

    def place(self) -> Mapping[str, str]:
        """Return the id of the run."""
        return {"run_id": self._library.active_run().info.run_id}

    def callbacks(self) -> list[TrainerCallback]:
        """Return the callback of transformers."""
        return [_MLflowCallback(resumes=bool(self.known))]

    def finish(self, content: Tracked) -> None:
        """Log scores, texts and files."""
        numbers = {re.sub(r"[^\w\-. :/]", "_", name): value for name, value in content.numbers.items()}
        self._library.log_metrics(numbers, step=content.step)
        for name, text in content.texts.items():
            if name.startswith("fingerprint/"):
                self._library.set_tag(name, text)
            else:
                self._library.log_text(text, f"{name}.txt")
        for path in content.files:
            self._library.log_artifact(str(path))
        if self.is_own:
            self._library.end_run()

    def fail(self) -> None:
        """End the run as failed; it can still go on."""
        if self.is_own:
            self._library.end_run("FAILED")


class _TrackioCallback(TrackioCallback):
    """The callback of transformers, which leaves standard output to the command.

    It does not log the loss of each prediction, because the result says of which split and model a score is.
    """

    def setup(self, *args: Any, **kwargs: Any) -> None:
        with redirect_stdout(sys.stderr):
            super().setup(*args, **kwargs)  # type: ignore[no-untyped-call]

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        with redirect_stdout(sys.stderr):
            super().on_train_end(*args, **kwargs)

    def on_predict(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""


class Trackio(Tracker):
    """A run of Trackio, on this machine or in the Space that ``trackio_space_id`` names."""

    def begin(self) -> None:
        """Do nothing: the callback begins the run, or goes on in the one of the same name."""
        self._library = library("trackio")
        self.project = self.job.arguments.get("project") or "huggingface"

    def place(self) -> Mapping[str, str]:
        """Return the project and the name of the run."""
        return {"project": self.project, "run": self.name}

    def callbacks(self) -> list[TrainerCallback]:
        """Return the callback of transformers."""
        make: Callable[[], TrackioCallback] = _TrackioCallback
        return [make()]

    def finish(self, content: Tracked) -> None:
        """Log scores, texts and files."""
        with redirect_stdout(sys.stderr):
            self._library.init(
                project=self.project,
                name=self.name,
                resume="allow",
                space_id=self.job.arguments.get("trackio_space_id"),
                bucket_id=self.job.arguments.get("trackio_bucket_id"),
                embed=False,
            )
            texts = {name: self._library.Markdown(text.replace("\n", "\n\n")) for name, text in content.texts.items()}
            self._library.log({**content.numbers, **texts, "train/global_step": content.step})
            for path in content.files:
                self._library.log_artifact(str(path), name=f"{self.name}-{path.name}", type="report")
            self._library.finish()

    def fail(self) -> None:
        """End the run of this process, if it has begun."""
        with redirect_stdout(sys.stderr), suppress(RuntimeError):  # it says that no run has begun
            self._library.finish()


class _WandbCallback(WandbCallback):
    """The callback of transformers, which does not log the loss of each prediction; see `_TrackioCallback`."""

    def on_predict(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""


class Wandb(Tracker):
    """A run of Weights & Biases, in the project that ``WANDB_PROJECT`` names."""

    def begin(self) -> None:
        """Begin a run, or go on in the earlier one; a run that is active already is used, and left open."""
        self._library = library("wandb")
        self.is_own = self._library.run is None
        if self.is_own:
            project = os.environ.get("WANDB_PROJECT", "huggingface")
            self._library.init(project=project, name=self.name, id=self.known.get("id"), resume="allow")

    def place(self) -> Mapping[str, str]:
        """Return the id of the run."""
        return {"id": self._library.run.id}

    def callbacks(self) -> list[TrainerCallback]:
        """Return the callback of transformers."""
        make: Callable[[], WandbCallback] = _WandbCallback
        return [make()]

    def finish(self, content: Tracked) -> None:
        """Log scores, texts and files."""
        run = self._library.run
        run.summary.update({**content.numbers, **content.texts})
        artifact = self._library.Artifact(f"report-{run.id}", type="report")
        for path in content.files:
            artifact.add_file(str(path))
        run.log_artifact(artifact)
        if self.is_own:
            self._library.finish()

    def fail(self) -> None:
        """End the run as failed; it can still go on."""
        if self.is_own:
            self._library.finish(exit_code=1)
