"""`finetune learn`."""

from __future__ import annotations

from pathlib import Path

import click

from finetune.errors import BadOptions, OutputExists
from finetune.kit import cli_output, cli_parameters
from finetune_learn.course import Lesson, Question, find_exercise, find_lesson, lessons
from finetune_learn.progress import FILE, Progress


@click.group("learn", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List the lessons of the course and what you have done; exercises, quizzes, and a rubric for a run.

    The lessons are the tutorials of the documentation. What you have done is kept in finetune-learn.json in the current
    folder.
    """
    if ctx.invoked_subcommand is not None:
        return
    progress = Progress.read(Path())
    rows = []
    for lesson in lessons():
        done = sum(exercise.name in progress.exercises for exercise in lesson.exercises)
        right = progress.quizzes.get(lesson.number)
        quiz = f"{right if right is not None else '-'} of {len(lesson.questions)}"
        names = " ".join(
            f"{exercise.name}{'*' if exercise.name in progress.exercises else ''}" for exercise in lesson.exercises
        )
        rows.append([lesson.number, lesson.title, names, f"{done} of {len(lesson.exercises)}", quiz])
    cli_output.table(["", "lesson", "exercises", "solved", "quiz"], rows)
    click.echo()
    click.echo(_next(progress))


def _next(progress: Progress) -> str:
    """Return what to do next: a lesson that was begun comes before one that was not."""
    for lesson in sorted(lessons(), key=progress.has_begun, reverse=True):
        if lesson.number not in progress.quizzes:
            page = f"docs/tutorials/{lesson.name}.md"
            return f"Next: read lesson {lesson.number}, {page}, then finetune learn quiz {lesson.number}"
        for exercise in lesson.exercises:
            if exercise.name not in progress.exercises:
                return f"Next: finetune learn start {exercise.name}"
    return "All done. The final project: train on your own data, then finetune learn grade RUN"


@command.command("start")
@click.argument("exercise")
@click.option(
    "--output", type=click.Path(dir_okay=False), callback=cli_parameters.not_empty, help="Default: EXERCISE.py."
)
def start(exercise: str, output: str | None) -> None:
    """Write the starter of an EXERCISE, such as 03b, into a file, and print its task."""
    found = find_exercise(exercise)
    file = Path(output or f"exercise_{found.name}.py")
    if file.exists():
        raise OutputExists(f"{str(file)!r} exists. Go on with it, or name another file with --output.")
    if not file.parent.is_dir():
        raise BadOptions(f"--output: the folder {str(file.parent)!r} does not exist. Make it first.")
    file.write_text(found.starter, encoding="utf-8")
    click.secho(f"{found.name}: {found.title}\n", bold=True)
    cli_output.say(found.task.strip())
    click.echo(f"\nWrote {file}. Complete it, then: finetune learn check {file}")


@command.command("check")
@click.argument("file", type=click.Path())
@click.option("--exercise", help="Its name, if the file is not called exercise_NAME.py.")
def check(file: str, exercise: str | None) -> None:
    """Run your answer in FILE, and say whether it is right; exits with 1 if it is not."""
    found = find_exercise(exercise or Path(file).stem.removeprefix("exercise_"))
    if not Path(file).is_file():
        raise BadOptions(f"{file!r} is not there. Write the starter with: finetune learn start {found.name}")
    from finetune_learn import checking

    code = Path(file).read_text(encoding="utf-8")
    outcome = checking.check(found, code, name=file)
    if not outcome.is_right:
        click.echo(f"Not yet. {outcome.hint}")
        raise SystemExit(1)
    Progress.read(Path()).solved(found.name).write(Path())
    click.echo(f"Right: {found.title}. Noted in {FILE}.")
    click.echo(_next(Progress.read(Path())))


@command.command("solution")
@click.argument("exercise")
def solution(exercise: str) -> None:
    """Print a solution of an EXERCISE."""
    click.echo(find_exercise(exercise).solution, nl=False)


@command.command("quiz")
@click.argument("lesson")
def quiz(lesson: str) -> None:
    """Ask the questions of a LESSON, such as 03, one by one, and explain each answer."""
    found = find_lesson(lesson)
    right = sum(_ask(number, each) for number, each in enumerate(found.questions, start=1))
    Progress.read(Path()).answered(found.number, right).write(Path())
    click.secho(f"\n{right} of {len(found.questions)} right. Noted in {FILE}.", bold=True)
    click.echo(_after_quiz(found, right))


def _ask(number: int, question: Question) -> bool:
    """Ask a question, explain the answer, and return whether it was right."""
    click.echo()
    cli_output.say(f"{number}. {question.text}")
    for place, option in enumerate(question.options, start=1):
        cli_output.say(f"   {place}  {option}")
    choices = click.Choice([str(place + 1) for place in range(len(question.options))])
    given = int(click.prompt("Your answer", type=choices, show_choices=False)) - 1
    is_right = given == question.right
    click.secho("Right." if is_right else f"No: {question.right + 1}.", fg="green" if is_right else "red", nl=False)
    cli_output.say(f" {question.why}")
    return is_right


def _after_quiz(lesson: Lesson, right: int) -> str:
    if right < 0.7 * len(lesson.questions):
        return f"Read lesson {lesson.number} again, and come back."
    return _next(Progress.read(Path()))


@command.command("grade")
@click.argument("run", type=cli_parameters.RunPath(file_okay=False))
@cli_parameters.trust_code
@cli_parameters.as_json("Print the rubric as JSON.")
def grade(run: str, as_json: bool) -> None:
    """Grade the RUN of your final project: baseline, interval, leakage, overfitting, card; exits with 1 below 80%."""
    from dataclasses import asdict

    with cli_output.loading(quiet=as_json):
        from finetune.kit import Result
        from finetune_learn import grading

    found = grading.grade(Result.load(run), Path(run))
    points, of = sum(each.points for each in found), sum(each.of for each in found)
    is_passed = points >= grading.PASSED * of
    if as_json:
        cli_output.as_json(
            {"points": points, "of": of, "passed": is_passed, "criteria": [asdict(each) for each in found]}
        )
    else:
        cli_output.table(
            ["", "points", "why"], [[each.name, f"{each.points} of {each.of}", each.why] for each in found]
        )
        share = f"{points} of {of} points ({points / of:.0%}; {grading.PASSED:.0%} passes)"
        click.secho(f"\n{share}: {'passed' if is_passed else 'not yet'}.", bold=True)
    if not is_passed:
        raise SystemExit(1)
