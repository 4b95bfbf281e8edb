"""What is no recipe, what is no run, and errors in code of the user are named in one to three lines."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import toy
from click.testing import CliRunner

from finetune import recipe as recipes
from finetune.cli import main

MODULES = {
    "raises_at_import": "import json\njson.loads('')\n",
    "user_preprocessor": """
        from toy import SeaOrLand

        class Needs(SeaOrLand):
            def needs(self):
                raise KeyError("sought")

        class Fit(SeaOrLand):
            def fit(self, train):
                return {}["sought"]

        class Check(SeaOrLand):
            def check(self, examples):
                yield from examples["sought"]

        class Features(SeaOrLand):
            def features(self, examples, tokenizer):
                return {"input_ids": examples["sought"]}

        class Options(SeaOrLand):
            def model_options(self):
                raise ValueError("sought")

        class Show(SeaOrLand):
            def show(self, feature, tokenizer):
                return feature["sought"]

        class Loss(SeaOrLand):
            def loss(self):
                def sought(outputs, labels, num_items_in_batch=None):
                    raise ValueError("sought")
                return sought
    """,
    "user_evaluator": """
        from toy import Accuracy

        class Records(Accuracy):
            def records(self, predictions):
                return predictions.sought

        class Scores(Accuracy):
            def scores(self, records):
                return {"accuracy": records[0]["sought"]}
    """,
    "user_strategy": """
        from finetune.interfaces import Strategy

        class Prepare(Strategy):
            def prepare(self, model, task, *, newly_initialized):
                return model.sought

        class Nothing(Strategy):
            def prepare(self, model, task, *, newly_initialized):
                return model

        class Abstract(Strategy):
            pass

        class Callbacks(Nothing):
            def callbacks(self):
                raise ImportError("sought")
    """,
    "user_metric": "def score(records):\n    return {'gain': records[0]['sought']}\n\n\nnot_a_function = 5\n",
    "user_data": "def load():\n    return open('sought')\n",
}
"""Code of a user that raises an error; what is wrong is called `sought`."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Make a folder with a finished run, recipes, modules, and files that are not what their names say."""
    folder = tmp_path_factory.mktemp("wrong")
    toy.base(folder / "base")
    content = toy.recipe(folder / "base", folder / "run", training={"max_steps": 1})
    for split, rows in content["dataset"].items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(lines)
    content |= {"dataset": str(folder), "score_base_model": False, "general_text": "none"}
    (folder / "recipe.yaml").write_text(recipes.dump(content))
    done = CliRunner().invoke(main, ["train", str(folder / "recipe.yaml"), "--quiet"])
    assert done.exit_code == 0, (done.stderr, done.exception)

    for name, result in {
        "torn": '{"recipe": {',
        "list": "[1, 2]",
        "text": '"result"',
        "empty": "",
        "no_fields": '{"format": 3}',
        "no_format": "{}",
        "binary": "\x00\x01",
    }.items():
        (folder / f"run_{name}").mkdir()
        (folder / f"run_{name}" / "result.json").write_text(result)
    (folder / "run_folder" / "result.json").mkdir(parents=True)
    (folder / "nothing").mkdir()
    (folder / "file").write_text("text")
    (folder / "latin.yaml").write_bytes(b"task: caf\xe9\n")
    (folder / "list.yaml").write_text("- task: x\n")
    (folder / "word.yaml").write_text("task\n")
    (folder / "empty.yaml").write_text("")
    (folder / "torn.yaml").write_text("task: [a,\nmodel: x\n")
    (folder / "twice.yaml").write_text("task: a\ntask: b\n")
    (folder / "numbers.yaml").write_text("1: a\n")
    (folder / "lock.jsonl").write_text('{"text": "ship", "label": "sea"}\n')
    for name, code in MODULES.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(code))
    before = list(sys.path)
    yield folder
    sys.path[:] = before


RECIPE_FILES = [
    ("{p}/none.yaml", "none.yaml"),
    ("{p}", "wrong"),
    ("", "''"),
    ("{p}/file/recipe.yaml", "recipe.yaml"),
    ("{p}/latin.yaml", "latin.yaml"),
    ("{p}/list.yaml", "list.yaml"),
    ("{p}/word.yaml", "word.yaml"),
    ("{p}/empty.yaml", "empty.yaml"),
    ("{p}/torn.yaml", "torn.yaml"),
    ("{p}/twice.yaml", "twice.yaml"),
    ("{p}/numbers.yaml", "numbers.yaml"),
    ("{p}/base/model.safetensors", "model.safetensors"),
]
"""What stands where a recipe is expected, and what the message names."""

CODE = [
    *(f"preprocessor={{name: user_preprocessor:{name}}}" for name in ("Needs", "Fit", "Check", "Features")),
]
"""Overrides that name code which raises an error before a model is loaded."""

TRAINED_CODE = [
    *(f"preprocessor={{name: user_preprocessor:{name}}}" for name in ("Options", "Loss")),
    *(f"evaluator={{name: user_evaluator:{name}}}" for name in ("Records", "Scores")),
    *(f"strategy={{name: user_strategy:{name}}}" for name in ("Prepare", "Callbacks")),
    "metrics=[user_metric:score]",
]
"""Overrides that name code which raises an error later."""

BROKEN_RUNS = ["torn", "list", "text", "empty", "no_fields", "no_format", "binary", "folder"]
RUNS = [
    ("{p}/none", "none"),
    ("{p}/nothing", "nothing"),
    ("{p}/file", "file"),
    ("", "has no result.json"),
    *((f"{{p}}/run_{kind}", f"run_{kind}") for kind in BROKEN_RUNS),
]
"""What stands where a run folder is expected, and what the message names."""

OF_RUNS = {
    "evaluate": ["evaluate", "RUN"],
    "predict": ["predict", "RUN", "--text", "ship"],
    "report": ["report", "RUN"],
    "compare": ["compare", "{p}/run", "RUN"],
    "card": ["card", "RUN"],
    "card field": ["card", "RUN", "license=mit"],
    "push": ["push", "RUN", "me/model"],
    "push --check": ["push", "RUN", "me/model", "--check"],
    "merge": ["merge", "RUN", "--output", "{p}/merged"],
}


def refused(arguments: list[str], named: str) -> str:
    """Run a command in this process, and check its answer."""
    done = CliRunner().invoke(main, arguments, input="")
    assert done.exception is None or isinstance(done.exception, SystemExit), (arguments, repr(done.exception))
    assert done.exit_code in {1, 2}, (arguments, done.exit_code, done.output)
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    starts = [
        number for number, line in enumerate(lines) if line.lower().startswith(("error: ", "usage: ", "not ready"))
    ]
    assert starts, done.stderr
    message = "\n".join(lines[starts[0] :])
    if " in the data." not in message:  # each finding has lines of its own
        assert message.count("\n") < 3, message
    assert named in message, (arguments, named, message)
    return message


@pytest.mark.parametrize("command", OF_RUNS)
@pytest.mark.parametrize(("run", "named"), RUNS, ids=[run for run, _ in RUNS])
def test_what_is_no_finished_run_is_named(command: str, run: str, named: str, place: Path) -> None:
    words = [run if word == "RUN" else word for word in OF_RUNS[command]]
    refused([word.replace("{p}", str(place)) for word in words], named)


@pytest.mark.parametrize("command", ["check", "train"])
@pytest.mark.parametrize(("recipe", "named"), RECIPE_FILES, ids=[recipe for recipe, _ in RECIPE_FILES])
def test_what_is_no_recipe_is_named(command: str, recipe: str, named: str, place: Path) -> None:
    refused([command, recipe.replace("{p}", str(place))], named)


@pytest.mark.parametrize("override", CODE)
def test_an_error_in_code_of_the_user_is_one_line_with_its_place_in_check(override: str, place: Path) -> None:
    message = refused(["check", str(place / "recipe.yaml"), override], "sought")
    assert ".py, line " in message and "\n" not in message


@pytest.mark.parametrize("override", TRAINED_CODE)
def test_an_error_in_code_of_the_user_is_one_line_with_its_place_in_train(
    override: str, place: Path, tmp_path: Path
) -> None:
    message = refused(["train", str(place / "recipe.yaml"), override, f"output={tmp_path}/run", "--quiet"], "sought")
    assert ".py, line " in message and "\n" not in message


def test_the_traceback_is_shown_if_python_is_in_development_mode(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune.cli.sys", SimpleNamespace(flags=SimpleNamespace(dev_mode=True)))
    with pytest.raises(KeyError, match="sought"):
        CliRunner().invoke(main, ["check", str(place / "recipe.yaml"), CODE[0]], catch_exceptions=False)


def test_an_error_without_code_of_the_user_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune.plugins.discover", partial(json.loads, "{"))
    with pytest.raises(json.JSONDecodeError):
        CliRunner().invoke(main, ["list"], catch_exceptions=False)
