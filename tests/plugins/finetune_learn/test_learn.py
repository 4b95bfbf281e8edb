"""The course: every starter fails its check, every solution passes; progress is kept; a run is graded by its folder."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import toy
from click.testing import CliRunner

import finetune
from finetune.cli import main
from finetune.result import Result
from finetune_learn.checking import check
from finetune_learn.course import Exercise, find_exercise, lessons
from finetune_learn.grading import Criterion, grade
from finetune_learn.progress import FILE, Progress

TUTORIALS = Path(__file__).parents[3] / "docs/tutorials"
EXERCISES = [exercise for lesson in lessons() for exercise in lesson.exercises]


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
def test_a_starter_fails_and_a_solution_passes(exercise: Exercise) -> None:
    assert "TODO" in exercise.starter and "TODO" not in exercise.solution
    started = check(exercise, exercise.starter, name="starter.py")
    assert not started.is_right and "TODO" in started.hint
    assert check(exercise, exercise.solution, name="solution.py").hint == ""


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.name)
def test_a_wrong_answer_gets_a_hint(exercise: Exercise) -> None:
    function = re.search(r"^def (\w+)\(", exercise.starter, re.MULTILINE)
    assert function is not None
    wrong = check(exercise, f"def {function[1]}(*_, **__):\n    return None\n", name="wrong.py")
    assert not wrong.is_right and wrong.hint


def test_an_error_of_the_answer_is_named_with_its_line() -> None:
    exercise = find_exercise("1a")
    outcome = check(exercise, "def trained(layers):\n    return 1 / 0\n", name="mine.py")
    assert outcome.hint == "mine.py:2: ZeroDivisionError: division by zero."
    assert "mine.py:1: SyntaxError" in check(exercise, "def trained(:\n", name="mine.py").hint


def test_lessons_are_the_tutorials() -> None:
    scripts = {path.stem for path in TUTORIALS.glob("[0-9][0-9]_*.py")}
    assert {lesson.name for lesson in lessons()} == scripts
    for lesson in lessons():
        text = (TUTORIALS / f"{lesson.name}.py").read_text(encoding="utf-8")
        assert f"# {lesson.title}\n" in text
        for question in lesson.questions:
            assert len(set(question.options)) == 4


def test_the_position_of_the_right_option_says_nothing() -> None:
    places = [question.right for lesson in lessons() for question in lesson.questions]
    assert all(places.count(place) > len(places) / 8 for place in range(4))


def test_a_learner_goes_through_a_lesson(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = CliRunner()
    assert "Next: read lesson 01" in run.invoke(main, ["learn"]).output
    right = "".join(f"{question.right + 1}\n" for question in lessons()[0].questions)
    assert "4 of 4 right" in run.invoke(main, ["learn", "quiz", "1"], input=right).output
    wrong = "".join(f"{(question.right + 1) % 4 + 1}\n" for question in lessons()[0].questions)
    assert "Read lesson 01 again" in run.invoke(main, ["learn", "quiz", "01"], input=wrong).output
    assert json.loads(Path(FILE).read_text())["quizzes"] == {"01": 4}  # the best result stays
    assert "Wrote exercise_01a.py" in run.invoke(main, ["learn", "start", "01a"]).output
    not_yet = run.invoke(main, ["learn", "check", "exercise_01a.py"])
    assert (not_yet.exit_code, "TODO" in not_yet.output) == (1, True)
    again = run.invoke(main, ["learn", "start", "01a"], standalone_mode=False)
    assert "exists" in f"{again.output}{again.exception}"
    Path("exercise_01a.py").write_text(run.invoke(main, ["learn", "solution", "01a"]).output)
    assert "Right" in run.invoke(main, ["learn", "check", "exercise_01a.py"]).output
    shown = run.invoke(main, ["learn"]).output
    assert "01a* 01b" in shown and "1 of 2" in shown and "4 of 4" in shown and "start 01b" in shown


def test_the_lesson_that_was_begun_comes_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Progress().answered("05", 3).write(tmp_path)
    assert "Next: finetune learn start 05a" in CliRunner().invoke(main, ["learn"]).output
    Progress().answered("05", 3).solved("05a").solved("05b").write(tmp_path)
    assert "Next: read lesson 01, docs/tutorials/01_transfer_learning.md" in CliRunner().invoke(main, ["learn"]).output


def test_a_damaged_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(FILE).write_text('{"exercises": 3}')
    done = CliRunner().invoke(main, ["learn"])
    assert "is damaged" in f"{done.output}{done.exception}"


def test_listing_loads_no_heavy_library() -> None:
    code = (
        "import sys\nfrom finetune.cli import main\nmain(['learn'], standalone_mode=False)\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    rows = toy.rows(120)
    finetune.train(
        task="text-classification",
        model=toy.base(folder / "base"),
        dataset={"train": rows[:64], "validation": rows[64:88], "test": rows[88:]},
        strategy="full",
        training={"max_steps": 30, "per_device_train_batch_size": 8, "learning_rate": 1e-2, "save_strategy": "no"},
        preprocessor={"max_length": 16},
        output=folder / "run",
    )
    return folder / "run"


def by_name(found: list[Criterion]) -> dict[str, Criterion]:
    return {criterion.name: criterion for criterion in found}


def test_a_run_is_graded_by_what_its_folder_says(project: Path) -> None:
    result = Result.load(project)
    found = by_name(grade(result, project))
    assert found["held-out rows"].points == 2
    assert found["an interval"].points == 1
    assert found["card: licence, language, base model"].points < 3
    assert found["recipe"].points == 1
    assert (found["forgetting"].points, found["forgetting"].of) == forgetting_by_hand(result)
    assert found["better than a baseline"].points == expected_for_baselines(result)
    assert by_name(grade(result, project.parent))["recipe"].points == 0


def forgetting_by_hand(result: Result) -> tuple[int, int]:
    """Return the points for forgetting, and how many there are: none for a base that cannot be measured."""
    return (0, 0) if "not_measured" in result.forgetting else (1, 1)


def expected_for_baselines(result: Result) -> int:
    """Return the points by the intervals in result.json, read by hand."""
    beaten = [
        difference[result.primary]["low"] > 0
        for other, difference in result.differences["test"].items()
        if other == "base_model" or other in result.baselines["test"]
    ]
    return 4 if all(beaten) else 2 if any(beaten) else 0


def test_faults_cost_points(project: Path) -> None:
    result = Result.load(project)
    whole = by_name(grade(result, project))
    on_test = by_name(grade(replace(result, selection_split="test"), project))
    assert (whole["test split not used to select"].points, on_test["test split not used to select"].points) == (2, 0)
    copies = {**result.leakage["test"], "exact": 20}
    leaked = by_name(grade(replace(result, leakage={**result.leakage, "test": copies}), project))
    assert leaked["leakage"].points == 0 and "remove them" in leaked["leakage"].why
    worse = {other: {result.primary: {"value": -0.1, "low": -0.2, "high": 0.1}} for other in result.differences["test"]}
    beaten = by_name(grade(replace(result, differences={"test": worse}), project))
    assert beaten["better than a baseline"].points == 0
    not_asked = replace(result, forgetting={"not_measured": "none"}, recipe={**result.recipe, "general_text": "none"})
    asked_nothing = by_name(grade(not_asked, project))["forgetting"]
    assert (asked_nothing.points, asked_nothing.of) == (0, 1)
    no_head = replace(result, forgetting={"not_measured": "the base has no head"})
    assert by_name(grade(no_head, project))["forgetting"].of == 0
    held = replace(result, scores={"train": result.scores["train"]} if "train" in result.scores else {}, intervals={})
    assert by_name(grade(held, project))["an interval"].points == 0


def test_the_command_says_whether_a_project_is_passed(project: Path) -> None:
    run = CliRunner()
    shown = json.loads(run.invoke(main, ["learn", "grade", str(project), "--json"]).output)
    assert shown["of"] == sum(criterion["of"] for criterion in shown["criteria"])
    facts = ["license=mit", "language=en", "base_model=user/base", "intended_use=Sorting notices."]
    assert run.invoke(main, ["card", str(project), *facts]).exit_code == 0
    after = json.loads(run.invoke(main, ["learn", "grade", str(project), "--json"]).output)
    lines = {criterion["name"]: criterion["points"] for criterion in after["criteria"]}
    assert (lines["card: licence, language, base model"], lines["card: intended use"]) == (3, 1)
    assert after["points"] > shown["points"]
    assert run.invoke(main, ["learn", "grade", str(project)]).exit_code == (0 if after["passed"] else 1)
