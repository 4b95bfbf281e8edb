"""The call of a campaign behaves as the command in a shell does."""

from __future__ import annotations

import functools
import os
import signal
from pathlib import Path

import command
import pytest
from machine_faults import fail


def test_a_call_returns_what_a_shell_shows(tmp_path: Path) -> None:
    ended = command.call(["list"], folder=tmp_path)
    assert ended.exit_code == 0 and "text-classification" in ended.output and not ended.is_traceback
    ended = command.call(["train", "absent.yaml"], folder=tmp_path)
    assert ended.exit_code == 2 and "absent.yaml" in ended.output and not ended.is_traceback


def test_what_is_not_explained_is_a_traceback(tmp_path: Path) -> None:
    ended = command.call(["list"], folder=tmp_path, before=fail)
    assert ended.exit_code == 1 and ended.is_traceback


def test_a_killed_call_shows_the_signal_and_a_late_one_is_killed(tmp_path: Path) -> None:
    running = command.start(["list"], folder=tmp_path, before=functools.partial(os.kill, 0, 0))
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait().exit_code == -signal.SIGKILL
    with pytest.raises(TimeoutError, match="still running"):
        command.call(["list"], folder=tmp_path, before=signal.pause, seconds=2)
