"""Experiment trackers: what `training.report_to` names gets the log of a run, and then its result."""

from finetune.tracking.runs import Trackers, tracking
from finetune.tracking.tracked import Tracked, tracked

__all__ = ["Tracked", "Trackers", "tracked", "tracking"]
