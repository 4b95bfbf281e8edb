"""What users get wrong is one sentence with the place and the remedy, and no traceback."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest
import toy

import finetune
from finetune.cli.output import findings
from finetune.errors import BadOptions, BadRecipe, BrokenPlugin, MissingLibrary, UnknownName
from finetune.evaluation.scoring import all_scores, details_of
from finetune.interfaces import Finding
from finetune.plugins import add_recipe_folder, resolve
from finetune.recipe.options import build
from finetune.training import arguments
from finetune.training.arguments import REPORTERS, check_reporters, upstream_refusals
from finetune.user_code import calling, described, place_of


@pytest.mark.parametrize("name", sorted(REPORTERS))
def test_a_tool_that_is_not_installed_is_named_with_the_command(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.integrations.get_available_reporting_integrations", list)
    with pytest.raises(MissingLibrary, match=f"'report_to' is '{name}', .* pip install {REPORTERS[name]}; or"):
        check_reporters(["none", name])


def test_an_unknown_tool_is_named_with_the_nearest() -> None:
    check_reporters("none")
    check_reporters(None)
    with pytest.raises(BadOptions, match=r"'report_to' is 'tensorbord'.* Did you mean 'tensorboard'"):
        check_reporters("tensorbord")


def test_every_tool_of_transformers_has_its_package() -> None:
    from transformers.integrations import INTEGRATION_TO_CALLBACK

    assert set(INTEGRATION_TO_CALLBACK) <= set(REPORTERS)


def fail(module: str, error: Exception) -> None:
    """Raise an error in code of a module of that name."""
    names = {"__name__": module, "error": error}
    exec("def refuse():\n    raise error", names)
    names["refuse"]()  # type: ignore[operator]


def test_what_a_trainer_refuses_before_the_first_step_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arguments, "place_of", lambda _: "")  # the functions of this file are no code of the user
    trainer = SimpleNamespace(state=SimpleNamespace(global_step=0))
    message = r"^training: the trainer refuses an option: Unknown loss type\. Use one of a$"
    with pytest.raises(BadOptions, match=message), upstream_refusals(trainer):
        fail("trl.trainer.dpo_trainer", ValueError("Unknown loss type.\n  Use one of a"))
    with pytest.raises(MissingLibrary, match="training: pip install liger-kernel"), upstream_refusals(trainer):
        fail("transformers.utils.import_utils", ImportError("pip install liger-kernel"))
    for module in ("transformers.models.bart.modeling_bart", "finetune.training.collate", "torch.nn.functional"):
        with pytest.raises(ValueError, match=r"^a wrong shape$"), upstream_refusals(trainer):
            fail(module, ValueError("a wrong shape"))
    trainer.state.global_step = 1
    with pytest.raises(ValueError, match=r"^at a later step$"), upstream_refusals(trainer):
        fail("trl.trainer.dpo_trainer", ValueError("at a later step"))


def test_an_error_in_code_of_the_user_is_named_with_file_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_code.py").write_text("import json\n\n\ndef read(text):\n    return json.loads(text)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    my_code = import_module("my_code")

    message = r"^metrics: 'a:b' raised JSONDecodeError: .* \(my_code.py, line 5\)\.$"
    with pytest.raises(BadOptions, match=message), calling("metrics: 'a:b'"):
        my_code.read("{")
    (tmp_path / "broken.py").write_text("x = (\n")
    with pytest.raises(SyntaxError) as caught:
        import_module("broken")
    assert described(caught.value).endswith("(broken.py, line 1)")
    assert place_of(ValueError("never raised")) == ""


# --- Python next to a recipe ------------------------------------------------------------------------------------------


@pytest.fixture
def path_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.usefixtures("path_as_it_was")
def test_modules_next_to_a_recipe_are_found_and_shadow_nothing(tmp_path: Path) -> None:
    (tmp_path / "beside_one.py").write_text("def load():\n    return 7\n")
    (tmp_path / "click.py").write_text("raise SystemExit('taken for the library')\n")
    with pytest.raises(UnknownName, match=r"there is no module 'beside_one'.* in the folder of the recipe"):
        resolve("beside_one:load")
    add_recipe_folder(tmp_path / "recipe.yaml")
    add_recipe_folder(tmp_path / "recipe.yaml")
    assert sys.path[-1] == str(tmp_path.resolve()) and sys.path.count(str(tmp_path.resolve())) == 1
    assert resolve("beside_one:load")() == 7
    assert "site-packages" in str(import_module("click").__file__)


@pytest.mark.usefixtures("path_as_it_was")
@pytest.mark.parametrize("package", [False, True])
def test_a_module_of_another_recipe_is_never_taken_for_the_one_of_this(package: bool, tmp_path: Path) -> None:
    files = []
    for value, name in enumerate(("first", "second")):
        file = tmp_path / name / ("beside_two/__init__.py" if package else "beside_two.py")
        file.parent.mkdir(parents=True)
        file.write_text(f"VALUE = {value}\n")
        files.append(str(file))
    add_recipe_folder(tmp_path / "first" / "recipe.yaml")
    assert resolve("beside_two:VALUE") == 0
    add_recipe_folder(tmp_path / "second" / "recipe.yaml")
    with pytest.raises(BrokenPlugin) as refused:
        resolve("beside_two:VALUE")
    assert f"already imported {files[0]}, " in str(refused.value) and f"To use {files[1]}, start" in str(refused.value)
    add_recipe_folder(tmp_path / "first" / "recipe.yaml")
    assert resolve("beside_two:VALUE") == 0
    installed = tmp_path / "first" / ".venv" / "beside_three.py"  # below a folder that was named, and not in it
    installed.parent.mkdir()
    installed.write_text("VALUE = 3\n")
    (tmp_path / "second" / "beside_three.py").write_text("VALUE = 4\n")
    sys.path.insert(0, str(installed.parent))
    add_recipe_folder(tmp_path / "second" / "recipe.yaml")
    assert resolve("beside_three:VALUE") == 3
    add_recipe_folder(tmp_path / "first" / "recipe.yaml")
    with pytest.raises(UnknownName, match=rf"^'beside_two:VALU': {files[0]} has no 'VALU'\. Did you mean 'VALUE'\?"):
        resolve("beside_two:VALU")


@pytest.mark.usefixtures("path_as_it_was")
@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = (\n", r"cannot be imported: SyntaxError: .* \(.*, line 1\)"),
        ("import json\n1 / 0\n", r"cannot be imported: ZeroDivisionError: division by zero \(.*, line 2\)"),
        ("from json import none\n", r"cannot be imported: ImportError: cannot import name .* \(.*, line 1\)"),
        ("import no_such_library\n", "needs the module 'no_such_library', which is not installed"),
    ],
)
def test_a_module_that_cannot_be_imported_is_named_with_its_line(code: str, message: str, tmp_path: Path) -> None:
    name = f"beside_{abs(hash(code))}"
    (tmp_path / f"{name}.py").write_text(code)
    add_recipe_folder(tmp_path / "recipe.yaml")
    with pytest.raises(BrokenPlugin, match=message):
        resolve(f"{name}:load")


# --- metrics ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (0.5, "returned a value of the type float. It must return a mapping"),
        (None, "returned a value of the type NoneType"),
        ({"gain": "high"}, "returned 'gain': 'high'. It must return a mapping of names to numbers"),
        ({"gain": None}, "returned 'gain': None"),
        ({"gain": [1.0]}, r"returned 'gain': \[1.0\]"),
        (KeyError("gold"), r"^metrics: 'my:metric' raised KeyError: 'gold' \(.*test_user_errors.py, line \d+\)"),
    ],
)
def test_a_metric_that_raises_or_returns_no_scores_is_refused(returned: object, message: str) -> None:
    def metric(_: object) -> object:
        if isinstance(returned, Exception):
            raise returned
        return returned

    evaluator = SimpleNamespace(scores=lambda _: {"accuracy": 1.0})
    plan = SimpleNamespace(metrics={"my:metric": metric})
    with pytest.raises(BadOptions, match=message):
        all_scores(evaluator, plan, [], examples=None)  # type: ignore[arg-type]


# --- what an evaluator returns, and a task in Python ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"prediction": {1, 2}}, r"Mine.records\(\) gives a record, number 1, .*: 'prediction' is of the type set"),
        ({"prediction": [0.5, {"x": b"a"}]}, r"'prediction\[1\].x' is of the type bytes"),
        ({"prediction": {("a", "b"): 1}}, "a key of 'prediction' is of the type tuple"),
    ],
)
def test_a_record_that_json_cannot_hold_is_named(record: dict[str, object], message: str) -> None:
    from finetune.training.trainer import records_of

    class Mine:
        def records(self, _: object) -> list[dict[str, object]]:
            return [{"prediction": "a"}, record]

        def details(self, _: object) -> dict[str, object]:
            return record

    predictions = SimpleNamespace(examples=[1, 2])
    with pytest.raises(BadOptions, match=f"^evaluator: .*{message}"):
        records_of(Mine(), predictions)  # type: ignore[arg-type]
    with pytest.raises(BadOptions, match=r"^evaluator: Mine.details\(\) gives what JSON cannot hold: "):
        details_of(Mine(), [])  # type: ignore[arg-type]


def test_a_task_that_is_given_itself_is_refused_with_what_to_write() -> None:
    with pytest.raises(BadRecipe, match=r"task: this Task is in no module, .* 'my_module:TASK'"):
        finetune.train(task=replace(toy.TASK, summary="A task that only this call has."))


def test_the_value_of_a_finding_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    shown = Finding(code="a", message="the label is unknown.", value="sae", fix="Correct it.", file="x.csv", line=3)
    named = Finding(code="a", message="'sae' is unknown.", value="sae")
    findings([shown, named], {"a": 2})
    assert capsys.readouterr().err.splitlines()[2:] == [
        "  x.csv:3: the label is unknown (found: sae).", "      Correct it.", "  'sae' is unknown."
    ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Options with a list."""

    labels: tuple[str, ...] | None = None


def test_an_option_that_is_a_list_is_asked_for_in_the_words_of_yaml() -> None:
    with pytest.raises(BadOptions, match=r"labels: Input should be a list, not 'classes\.txt'"):
        build(Labelled, {"labels": "classes.txt"}, where="preprocessor")
