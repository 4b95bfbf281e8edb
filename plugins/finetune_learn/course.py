"""The lessons with their quizzes and exercises, one YAML file each in the folder `course`."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from finetune.errors import UnknownName, did_you_mean


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question with one right option."""

    text: str
    options: tuple[str, ...]
    right: int
    """Position of the right option, from 0."""
    why: str
    """Why it is right."""


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """Python code to complete, and the check that says whether it is right."""

    name: str
    """The number of the lesson and a letter: ``03b``."""
    title: str
    task: str
    """What to do, in Markdown."""
    starter: str
    """Code that holds ``TODO``, and does not pass the check."""
    solution: str
    check: str
    """Code that gets the names of the answer as `answer`, and raises `AssertionError` with a hint."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A tutorial with what belongs to it."""

    name: str
    """That of the tutorial: ``03_extractive_qa``."""
    title: str
    questions: tuple[Question, ...]
    exercises: tuple[Exercise, ...]

    @property
    def number(self) -> str:
        """The two digits that the name begins with."""
        return self.name[:2]


@cache
def lessons() -> tuple[Lesson, ...]:
    """Return all lessons in order."""
    folder = files("finetune_learn").joinpath("course")
    names = sorted(each.name for each in folder.iterdir() if each.name.endswith(".yaml"))
    return tuple(
        _lesson(name.removesuffix(".yaml"), yaml.safe_load(folder.joinpath(name).read_text(encoding="utf-8")))
        for name in names
    )


def _lesson(name: str, content: Mapping[str, Any]) -> Lesson:
    questions = tuple(_question(each, seed=f"{name} {place}") for place, each in enumerate(content["questions"]))
    exercises = tuple(
        Exercise(name=f"{name[:2]}{letter}", **each) for letter, each in zip("abcd", content["exercises"], strict=False)
    )
    return Lesson(name=name, title=content["title"], questions=questions, exercises=exercises)


def _question(content: Mapping[str, Any], *, seed: str) -> Question:
    """Return a question with its options in an order that is always the same, and says nothing about the right one."""
    options = list(content["options"])
    right = options[content["right"] - 1]
    random.Random(seed).shuffle(options)
    return Question(text=content["ask"], options=tuple(options), right=options.index(right), why=content["why"])


def find_lesson(number: str) -> Lesson:
    """Return a lesson by its number: ``3``, ``03`` or ``03_extractive_qa``.

    Raises:
        UnknownName: There is none.
    """
    for lesson in lessons():
        if number in (lesson.number, lesson.number.lstrip("0"), lesson.name):
            return lesson
    known = ", ".join(lesson.number for lesson in lessons())
    raise UnknownName(f"there is no lesson {number!r}. The lessons are {known}.")


def find_exercise(name: str) -> Exercise:
    """Return an exercise by its name: ``03b``.

    Raises:
        UnknownName: There is none.
    """
    every = {exercise.name: exercise for lesson in lessons() for exercise in lesson.exercises}
    found = every.get(name.lower()) or every.get(f"0{name.lower()}")
    if found is None:
        raise UnknownName(
            f"there is no exercise {name!r}.{did_you_mean(name, every)} `finetune learn` lists all of them."
        )
    return found
