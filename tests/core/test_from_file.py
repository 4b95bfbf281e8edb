"""From a file to a recipe and a run: what is printed, what is refused with what was meant, what the shell completes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import toy
from click.testing import CliRunner, Result

from finetune import recipe as recipes
from finetune.cli import COMMANDS, main, meant, quick
from finetune.plugins import discover


def finetune(*arguments: str, code: int = 0) -> Result:
    """Run a command in this process and check its exit code."""
    result = CliRunner().invoke(main, list(arguments))
    assert result.exit_code == code, (result.output, result.stderr, result.exception)
    return result


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with a tiny model, a file with semicolons, a recipe and what looks like a run."""
    folder = tmp_path_factory.mktemp("file")
    toy.base(folder / "base")
    rows = [f"{number};{row['text']};{row['label']}\n" for number, row in enumerate(toy.rows(60, seed=1))]
    (folder / "reviews.csv").write_text("id;Kommentar;Note\n" + "".join(rows))
    content = {"task": "text-classification", "model": "m", "dataset": "reviews.csv", "strategy": "full", "output": "o"}
    (folder / "recipe.yaml").write_text(recipes.dump(content))
    (folder / "run").mkdir()
    (folder / "run" / "recipe.yaml").write_text(recipes.dump(content))
    (folder / "run" / "result.json").write_text("{}")
    return folder


@pytest.fixture(autouse=True)
def inside(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work)


def test_init_prints_a_short_recipe_for_a_file_and_says_why() -> None:
    result = finetune("init", "--data", "reviews.csv", "--model", "base")
    content = recipes.load(result.stdout)
    assert content["task"] == "text-classification"
    assert content["model"] == "base"
    assert content["dataset"] == {
        "path": "reviews.csv",
        "options": {"delimiter": ";"},
        "columns": {"Kommentar": "text", "Note": "label"},
    }
    assert len(result.stdout.splitlines()) < 40
    assert "# 2 different values: land, sea." in result.stdout
    for part in ("60 rows", "Kommentar → text", "Not read: id", "semicolons separate", "part of train becomes it"):
        assert part in result.stderr


def test_init_of_a_task_takes_data_that_cannot_be_looked_at() -> None:
    result = finetune("init", "text-classification", "--data", "later.csv")
    assert recipes.load(result.stdout)["dataset"] == {"path": "later.csv"}
    assert "cannot be looked at" in result.stderr
    assert "does not exist" in finetune("init", "--data", "later.csv", code=2).stderr


def test_train_without_a_recipe_writes_one(work: Path) -> None:
    given = ["--data", "reviews.csv", "--task", "text-classification", "--text", "Kommentar", "--label=Note"]
    more = ["--model", "base", "--output", "quick", "training.max_steps=2", "--quiet"]
    result = finetune("train", *given, *more)
    assert "the run writes one: quick/recipe.yaml" in result.stderr
    written = recipes.load((work / "quick" / "recipe.yaml").read_text())
    assert written["dataset"]["columns"] == {"Kommentar": "text", "Note": "label"}
    assert written["training"]["max_steps"] == 2
    assert (
        json.loads(finetune("check", *given, "--model", "base", "--json").stdout)["data_report"]["train"]["kept"] == 54
    )
    finetune("check", "quick/recipe.yaml", "--samples", "0")


def test_only_on_a_terminal_a_person_is_asked_what_is_not_clear(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (work / "notes.txt").write_text("".join(f"{row['text']}\n" for row in toy.rows(40, seed=2)))
    silent = finetune("init", "--data", "notes.txt")
    assert recipes.load(silent.stdout)["task"] == "causal-language-modeling"
    assert "Also possible: masked-language-modeling" in silent.stderr
    assert "Which one" not in silent.output
    monkeypatch.setattr(quick, "can_ask", lambda: True)
    asked = CliRunner().invoke(main, ["init", "--data", "notes.txt"], input="2\n")
    assert recipes.load(asked.stdout)["task"] == "masked-language-modeling"
    assert "Which one" in asked.stderr
    (work / "two.csv").write_text("A;B;C\n" + "".join(
        f"{row['text']};{row['text']} again;{row['label']}\n" for row in toy.rows(40, seed=3)
    ))  # fmt: skip
    asked = CliRunner().invoke(main, ["init", "text-classification", "--data", "two.csv"], input="B\n")
    assert recipes.load(asked.stdout)["dataset"]["columns"] == {"B": "text", "C": "label"}


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("train reviews.csv", "finetune train --data reviews.csv. Or make a recipe: finetune init --data reviews.csv"),
        ("check reviews.csv", "finetune check --data reviews.csv"),
        ("plan reviews.csv", "finetune plan --data reviews.csv"),
        ("job reviews.csv --for slurm", "finetune init --data reviews.csv"),
        ("train missing.csv", "finetune train --data missing.csv"),
        ("train run", "Continue the run with --resume"),
        ("check run", "Its recipe: finetune check run/recipe.yaml"),
        ("train base", "is a folder, not a recipe"),
        ("init reviews.csv", "finetune init --data reviews.csv"),
        ("init recipe.yaml", "finetune check recipe.yaml"),
        ("init run", "Its recipe is run/recipe.yaml"),
        ("predict recipe.yaml reviews.csv", "Train first: finetune train recipe.yaml"),
        ("predict reviews.csv", "finetune predict RUN reviews.csv"),
        ("evaluate reviews.csv", "finetune evaluate RUN --data reviews.csv"),
        ("evaluate recipe.yaml", "Train first"),
        ("report run/result.json", "finetune report run."),
        ("report run/recipe.yaml", "finetune report run."),
        ("compare run recipe.yaml", "Train first"),
        ("clean reviews.csv", "is data, not a run"),
        ("push recipe.yaml me/it", "Train first"),
        ("card reviews.csv", "is data, not a run"),
        ("merge run/recipe.yaml", "Give its folder: finetune merge run"),
        ("train recipe.yaml --epochs 3", "training.num_train_epochs=3"),
        ("train recipe.yaml --lr=1e-4", "training.learning_rate=1e-4"),
        ("train recipe.yaml --warmup_ratio 0.1", "training.warmup_steps=0.1"),
        ("train recipe.yaml --weight-decay 0.1", "training.weight_decay=0.1"),
        ("train recipe.yaml --seed 3", "on the command line: seed=3"),
        ("train recipe.yaml --resum", "Did you mean '--resume'"),
        ("train recipe.yaml --model x", "write model=x"),
        ("train --model x", "--model needs --data FILE"),
        ("train recipe.yaml --data reviews.csv", "not both"),
        ("train --data reviews.csv --txet Kommentar", "Did you mean '--text'"),
        ("check --data reviews.csv --text Komentar", "Did you mean 'Kommentar'"),
        ("check --data reviews.csv --task txt-classification", "text-classification"),
        ("init --from nothing", "reviews-csv"),
        ("init --from reviews-csv --model x", "only --data and --output"),
    ],
)
def test_a_wrong_call_is_answered_with_what_was_meant(call: str, says: str) -> None:
    assert says in " ".join(finetune(*call.split(), code=2).stderr.split())


@pytest.mark.parametrize("key", sorted(set(meant.HABITS.values())))
def test_each_key_for_an_option_of_another_tool_exists(key: str) -> None:
    from dataclasses import fields

    from transformers import TrainingArguments

    section, _, option = key.partition(".")
    assert section in {field.name for field in fields(recipes.Recipe)}
    if section == "training":
        assert option in {field.name for field in fields(TrainingArguments)}


def test_a_path_can_begin_with_the_home_folder(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(work))
    overrides = ["dataset=~/reviews.csv", "model=~/base", "dataset.columns={Kommentar: text, Note: label}"]
    finetune("check", "~/recipe.yaml", *overrides, "--samples", "0")


def test_each_name_of_the_list_is_shown_and_completed() -> None:
    rows = json.loads(finetune("list", "--json").stdout)
    context = main.make_context("finetune", ["show", "lora"])
    show = main.get_command(context, "show")
    assert show is not None
    with show.make_context("show", ["x"], parent=context) as inner:
        completed = {item.value for item in show.params[0].shell_complete(inner, "")}
    for row in rows:
        if row["kind"] != "broken":
            entries = json.loads(finetune("show", row["name"], "--json").stdout)
            assert f"{row['kind']} {row['name']}" in [entry["title"] for entry in entries]
            assert row["name"] in completed
    assert set(COMMANDS) <= completed


def test_show_says_what_columns_each_task_needs_and_what_they_hold() -> None:
    from finetune.plugins import resolve

    for name, task in discover().catalogues["tasks"].available.items():
        shown = finetune("show", name).stdout
        for form in resolve(task.preprocessor)().forms():
            for column, values in {**form.columns, **form.optional}.items():
                assert column in shown and values.what in shown
        assert "Example row" in shown and "Recipe for your data" in shown
        assert "always learned" not in shown


COMPLETE = """
import sys
from finetune.cli import main
try:
    main(prog_name="finetune")
finally:
    print(sorted({"torch", "transformers", "datasets", "pandas"} & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("shell", "line", "wanted"),
    [
        ("bash", "finetune tra", "train"),
        ("bash", "finetune init text-c", "text-classification"),
        ("bash", "finetune init --strategy lo", "lora"),
        ("bash", "finetune init --from reviews", "reviews-csv"),
        ("bash", "finetune train --task ques", "question-answering"),
        ("bash", "finetune show harb", ""),
        ("zsh", "finetune init text-c", "text-classification"),
        ("fish", "finetune show conl", "conll"),
    ],
)
def test_the_shell_completes_names_without_heavy_libraries(shell: str, line: str, wanted: str) -> None:
    words = line.split()
    environment = {**os.environ, "_FINETUNE_COMPLETE": f"{shell}_complete", "COMP_WORDS": line}
    environment["COMP_CWORD"] = words[-1] if shell == "fish" else str(len(words) - 1)
    done = subprocess.run(
        [sys.executable, "-c", COMPLETE], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.stderr.strip().splitlines()[-1] == "[]"
    assert wanted in done.stdout
    assert wanted or not done.stdout.strip()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(shell: str) -> None:
    environment = {**os.environ, "_FINETUNE_COMPLETE": f"{shell}_source"}
    done = subprocess.run(
        [sys.executable, "-c", COMPLETE], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert "_FINETUNE_COMPLETE" in done.stdout
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=True)
