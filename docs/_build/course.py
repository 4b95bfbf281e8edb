"""Write docs/tutorials/course.md: the quizzes and the exercises of all lessons.

Run it after a change in plugins/finetune_learn/course: python docs/_build/course.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from finetune_learn.course import Exercise, Lesson, Question, lessons

PAGE = Path(__file__).parents[1] / "tutorials" / "course.md"
HEAD = """# Exercises and quizzes

Each lesson has a quiz and two exercises, and the course ends with a project of your own. In a terminal, answers are
checked, and what you have done is noted:

```bash
finetune learn                       # lessons, and what you have done
finetune learn quiz 03               # four questions, each answer explained
finetune learn start 03a             # writes exercise_03a.py with a TODO
finetune learn check exercise_03a.py # says what is wrong, with a hint
finetune learn solution 03a
```

The exercises need Python; five of them need numpy. They take ten minutes each, and nothing is downloaded.

## The final project

Train a model on your own data: choose a task and a strategy, train, evaluate, complete the card, and push it to a
[Hub on your machine](15_share.md). Then:

```bash
finetune learn grade runs/mine
```

It reads the run folder, and gives points for held-out rows, a test split that selected nothing, an interval, being
better than each baseline by more than chance, little leakage, no overfitting, measured forgetting, and a card with
licence, language, base model and intended use. 80 % is passed. Each line says how to get the points that are missing.
"""


def page() -> str:
    """Return the page."""
    return HEAD + "".join(part for lesson in lessons() for part in _lesson(lesson))


def _lesson(lesson: Lesson) -> Iterator[str]:
    yield f"\n## {lesson.number} [{lesson.title}]({lesson.name}.md) {{ #lesson-{lesson.number} }}\n"
    for number, question in enumerate(lesson.questions, start=1):
        yield _question(number, question)
    for exercise in lesson.exercises:
        yield _exercise(exercise)


def _question(number: int, question: Question) -> str:
    options = "".join(f"{place}. {option}\n" for place, option in enumerate(question.options, start=1))
    answer = f"    **{question.right + 1}.** {question.why}\n"
    return f'\n**Question {number}.** {question.text}\n\n{options}\n??? success "Answer"\n\n{answer}'


def _exercise(exercise: Exercise) -> str:
    code = "".join(f"    {line}".rstrip() + "\n" for line in exercise.solution.splitlines())
    task = "".join(f"{line}\n" for line in exercise.task.strip().splitlines())
    return (
        f"\n**Exercise {exercise.name}: {exercise.title}.** {task}\n"
        f'??? success "A solution of {exercise.name}"\n\n    ```text\n{code}    ```\n'
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
