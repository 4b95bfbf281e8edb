"""What a learner has done, in one file of the current folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from finetune.errors import BadOptions
from finetune.kit import to_json, write_atomically
from finetune_learn.course import Lesson

FILE = "finetune-learn.json"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Which exercises are solved, and the best result of each quiz."""

    exercises: Mapping[str, str] = field(default_factory=dict)
    """Name of an exercise → when it was solved, in UTC."""
    quizzes: Mapping[str, int] = field(default_factory=dict)
    """Number of a lesson → how many questions were right, at best."""

    @classmethod
    def read(cls, folder: Path) -> Progress:
        """Return the progress in a folder; none without the file.

        Raises:
            BadOptions: The file is damaged.
        """
        file = folder / FILE
        if not file.is_file():
            return cls()
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            exercises, quizzes = dict(content["exercises"]), {str(k): int(v) for k, v in content["quizzes"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadOptions(f"{str(file)!r} is damaged. Delete it to begin again, or restore it.") from error
        return cls(exercises=exercises, quizzes=quizzes)

    def has_begun(self, lesson: Lesson) -> bool:
        """Return whether a part of a lesson is done, and another is not."""
        parts = [lesson.number in self.quizzes, *(exercise.name in self.exercises for exercise in lesson.exercises)]
        return any(parts) and not all(parts)

    def write(self, folder: Path) -> None:
        """Write the file."""
        content: dict[str, Any] = {"version": VERSION, "exercises": self.exercises, "quizzes": self.quizzes}
        write_atomically(folder / FILE, to_json(content, indent=2) + "\n")

    def solved(self, exercise: str) -> Progress:
        """Return the progress with another solved exercise; an earlier time stays."""
        when = self.exercises.get(exercise) or datetime.now(UTC).isoformat(timespec="seconds")
        return replace(self, exercises={**self.exercises, exercise: when})

    def answered(self, lesson: str, right: int) -> Progress:
        """Return the progress with the result of a quiz, if it is the best so far."""
        return replace(self, quizzes={**self.quizzes, lesson: max(right, self.quizzes.get(lesson, 0))})
