"""Begin the trackers of a run, and send them its result."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from finetune import processes
from finetune.errors import BadOptions
from finetune.interfaces import Job
from finetune.plugins import resolve
from finetune.result import TRACKERS, Result, to_json, write_atomically
from finetune.tracking.tracked import tracked
from finetune.user_code import described

BACKENDS: Mapping[str, str] = {
    "tensorboard": "finetune.tracking.backends:TensorBoard",
    "mlflow": "finetune.tracking.backends:MLflow",
    "trackio": "finetune.tracking.backends:Trackio",
    "wandb": "finetune.tracking.backends:Wandb",
}
"""Values of `report_to` whose trackers get the result, too → the class of the tracker. The others that transformers
knows get the log alone."""


@dataclass(frozen=True, kw_only=True)
class Trackers:
    """The trackers of a run."""

    job: Job
    """The job, with the callbacks of the trackers."""
    begun: Mapping[str, Any]
    """Name → the tracker."""
    note: Callable[[str], None]
    """Shows a sentence to the user."""

    def finish(self, result: Result, directory: Path) -> None:
        """Send a result. It is safe on the disk, so an error of a tracker becomes a note.

        Args:
            result: The result of the run.
            directory: The run folder.
        """
        content = tracked(result, directory) if self.begun else None
        for name, tracker in self.begun.items():
            try:
                tracker.finish(content)
            except Exception as error:  # noqa: BLE001, a tracker can raise any error, such as those of its network
                self.note(f"the result was not sent to {name}: {described(error)}")


@contextmanager
def tracking(job: Job, *, step: int | None, note: Callable[[str], None]) -> Iterator[Trackers]:
    """Begin the trackers that the options of a run name, in its main process; end them if the run fails.

    A run that continues goes on in the runs of the trackers that it began: the run folder says which.

    Args:
        job: What the trainer would get.
        step: The step of the checkpoint from which the run continues; None if it begins.
        note: Shows a sentence to the user.

    Raises:
        BadOptions: A tracker cannot begin a run.
    """
    names = _names(job.arguments.get("report_to"))
    others = [name for name in names if name not in BACKENDS]
    ours = [name for name in names if name in BACKENDS] if processes.is_main() else []
    file = job.output / TRACKERS
    known: dict[str, Any] = {}
    if step is not None and file.is_file():
        known = json.loads(file.read_text(encoding="utf-8"))
    title = job.arguments.get("run_name") or known.get("name") or _title(job.output)
    begun: dict[str, Any] = {}
    try:
        for name in ours:
            tracker = resolve(BACKENDS[name])(job=job, name=title, known=known.get(name, {}), step=step, note=note)
            try:
                tracker.begin()
            except Exception as error:
                raise BadOptions(f"training: 'report_to': {name} cannot begin a run: {described(error)}.") from error
            begun[name] = tracker
        callbacks = [callback for tracker in begun.values() for callback in tracker.callbacks()]
        if ours:
            places = {name: tracker.place() for name, tracker in begun.items()}
            write_atomically(file, to_json({"name": title, **places}, indent=1) + "\n")
        arguments = {**job.arguments, "report_to": others or "none", **({"run_name": title} if names else {})}
        yield Trackers(
            job=replace(job, arguments=arguments, callbacks=[*job.callbacks, *callbacks]), begun=begun, note=note
        )
    except BaseException:
        for name, tracker in begun.items():
            try:
                tracker.fail()
            except Exception as error:  # noqa: BLE001, as in `Trackers.finish`; the error of the run counts
                note(f"{name} was not informed that the run failed: {described(error)}")
        raise


def _names(report_to: str | Sequence[str] | None) -> list[str]:
    """Return the names of ``report_to``; those of all installed trackers for ``all``."""
    names = [report_to] if isinstance(report_to, str) else list(report_to or ())
    if "all" in names:
        from transformers.integrations import get_available_reporting_integrations

        find_installed: Callable[[], list[str]] = get_available_reporting_integrations  # upstream has no types there
        names = find_installed()
    return [name for name in names if name != "none"]


def _title(output: Path) -> str:
    """Return a name for a run that no earlier run has."""
    return f"{output.absolute().name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
