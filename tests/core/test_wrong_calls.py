"""Every command answers a wrong call in one to three lines that name what is wrong, and without a traceback."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
import toy
from click.testing import CliRunner

from finetune import recipe as recipes
from finetune.cli import main
from finetune.recipe import Model, Recipe, Source

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
    (folder / "settings.yaml").write_text("base_model: a/b\ndatasets: [{path: x.jsonl, type: alpaca}]\n")
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

OVERRIDES = [
    ("", "''"),
    ("seed", "seed"),
    ("=3", "=3"),
    ("sead=3", "seed"),
    ("seed=x", "seed"),
    ("seed=[1]", "seed"),
    ("seed.x=1", "seed"),
    ("seed={", "seed"),
    ("seeds=3", "seeds"),
    ("seeds=[0]", "[0]"),
    ("seeds=[0, 0]", "[0, 0]"),
    ("seeds=[0, x]", "seeds"),
    ("task=", "task"),
    ("task=3", "task"),
    ("task=''", "''"),
    ("task=text-clasification", "text-classification"),
    ("task=toy:TAKS", "TASK"),
    ("task=toy:", "toy"),
    ("task=:TASK", ":TASK"),
    ("task=.toy:TASK", ".toy:TASK"),
    ("task=no_such_module:TASK", "no_such_module"),
    ("task=raises_at_import:TASK", "raises_at_import.py, line 2"),
    ("task=toy:SeaOrLand", "toy:SeaOrLand"),
    ("task.name=x", "task"),
    ("model=", "model"),
    ("model=[]", "model"),
    ("model=''", "model"),
    ("model=3", "model"),
    ("model={p}/none", "none"),
    ("model={p}/file", "file"),
    ("model={p}/nothing", "nothing"),
    ("model=smaple:decoder", "sample"),
    ("model=package:no_such_package/model", "no_such_package"),
    ("model.path=[1]", "path"),
    ("model.paht=x", "path"),
    ("model.options=3", "options"),
    ("model.tokenizer={p}/none", "none"),
    ("model.sha256=abc", "abc"),
    ("model.revision=[1]", "revision"),
    ("dataset=", "dataset"),
    ("dataset=''", "dataset"),
    ("dataset=3", "dataset"),
    ("dataset=[a]", "dataset"),
    ("dataset={p}/none.csv", "none.csv"),
    ("dataset={p}/nothing", "nothing"),
    ("dataset={p}/file", "file"),
    ("dataset={p}/base", "base"),
    ("dataset=user_data:load", "user_data.py, line 2"),
    ("dataset=user_data:laod", "load"),
    ("dataset=sample:no-such-sample", "no-such-sample"),
    ("dataset.path={{train: {p}/none.jsonl}}", "none.jsonl"),
    ("dataset.path={{}}", "path"),
    ("dataset.format=cvs", "csv"),
    ("dataset.encoding=utf-9", "utf-9"),
    ("dataset.name=x", "name"),
    ("dataset.revision=x", "revision"),
    ("dataset.constants={{label: sea}}", "label"),
    ("dataset.constants=[a]", "constants"),
    ("dataset.mixture={{a: {p}/train.jsonl}}", "mixture"),
    ("dataset.temperature=0", "temperature"),
    ("dataset.temperature=2", "temperature"),
    ("dataset.splits={{test: dev}}", "dev"),
    ("dataset.columns={{txet: text}}", "txet"),
    ("dataset.columns=[text]", "columns"),
    ("dataset.limit={{train: x}}", "limit"),
    ("dataset.limit={{train: -1}}", "limit"),
    ("dataset.validation_size=3", "validation_size"),
    ("dataset.split_by=label", "split_by"),
    ("dataset.seed=x", "seed"),
    ("dataset.streaming=sometimes", "streaming"),
    ("dataset.shuffle_buffer=0", "shuffle_buffer"),
    ("dataset.on_bad=ignore", "on_bad"),
    ("dataset.options={{no_such_option: 1}}", "no_such_option"),
    ("strategy=", "strategy"),
    ("strategy=lroa", "lora"),
    ("strategy=''", "strategy"),
    ("strategy=[lora]", "strategy"),
    ("strategy=3", "strategy"),
    ("strategy={{name: lora, rank: 8}}", "rank"),
    ("strategy={{name: lora, r: x}}", "r"),
    ("strategy={{name: 3}}", "strategy"),
    ("strategy=toy:SeaOrLand", "toy:SeaOrLand"),
    ("strategy=user_strategy:Abstract", "prepare"),
    ("strategy.name=raises_at_import:S", "raises_at_import.py, line 2"),
    ("preprocessor={{labls: [a]}}", "labels"),
    ("preprocessor=3", "preprocessor"),
    ("preprocessor=user_preprocessor:Fot", "Fit"),
    ("evaluator={{no_such_option: 1}}", "no_such_option"),
    ("evaluator=toy:SeaOrLand", "toy:SeaOrLand"),
    ("metrics=3", "metrics"),
    ("metrics=[3]", "metrics"),
    ("metrics=['']", "''"),
    ("metrics=[user_metric:not_a_function]", "not_a_function"),
    ("metrics=[user_metric:scroe]", "score"),
    ("metrics=[no-such-metric]", "no-such-metric"),
    ("training=3", "training"),
    ("training.learning_rat=1", "learning_rate"),
    ("training.learning_rate=fast", "learning_rate"),
    ("training.num_train_epochs=[1]", "num_train_epochs"),
    ("training.eval_strategy=somtimes", "eval_strategy"),
    ("training.lr_scheduler_type=linaer", "lr_scheduler_type"),
    ("training.optim=adamw_torhc", "adamw_torch"),
    ("training.optim=galore_adamw", "galore-torch"),
    ("training.train_sampling_strategy=by_length", "group_by_length"),
    ("training.save_strategy=epohc", "epoch"),
    ("training.logging_strategy=epohc", "epoch"),
    ("training.log_level=wraning", "warning"),
    ("training.report_to=tensorbord", "tensorboard"),
    ("training.use_liger_kernel=true", "liger-kernel"),
    ("generation.num_beams=4", "generation"),
    ("general_text={p}/none.txt", "none.txt"),
    ("general_text=3", "general_text"),
    ("slices=text", "slices"),
    ("slices=[no_such_column]", "no_such_column"),
    ("score_base_model=3", "score_base_model"),
    ("card=3", "card"),
    ("search=3", "search"),
    ("search={seed: [1, 2]}", "seed"),
    ("python=3", "python"),
    ("python={callbacks: [Watch]}", "callbacks: Watch"),
    ("training.early_stopping_patience=0", "early_stopping_patience"),
    ("training.average=mean", "average"),
    ("model.layers=0", "layers"),
    ("model.layers=[2, 1]", "layers"),
    ("teacher=3", "teacher"),
    ("teacher={p}/none", "none"),
    ("teacher={{path: x, alpha: 2}}", "alpha"),
    ("teacher={{path: x, temprature: 2}}", "temperature"),
    ("output=", "output"),
    ("output=3", "output"),
]
"""Overrides that `check` and `train` refuse, and what the message names."""

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

MODEL_OPTIONS = [
    ("model.options={no_such_option: 3}", "no_such_option"),
    ("model.options={attn_implementation: flahs}", "flahs"),
    ("model.options={dtype: int3}", "int3"),
]
"""Options that `train` refuses when it loads the model."""

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
    "export": ["export", "RUN", "{p}/exported", "--format", "safetensors"],
}

CALLS = [
    ("trian", "train"),
    ("--no-such-option", "no-such-option"),
    ("init", "--data FILE"),
    ("init|", "''"),
    ("init|text-clasification", "text-classification"),
    ("init|text-classification|--strategy|lroa", "lora"),
    ("init|text-classification|--strategy|", "--strategy"),
    ("init|text-classification|--data|", "--data"),
    ("init|text-classification|--output|", "--output"),
    ("init|text-classification|--model|", "--model"),
    ("import|{p}/settings.yaml|--from|nothing", "nothing"),
    ("import|{p}/settings.yaml|--from|axolotl|--task|nothing", "nothing"),
    ("init|--from|nothing", "reviews-csv"),
    ("init|--data|{p}/none.csv", "none.csv"),
    *((f"{name}|--data|{{p}}/none.csv", "none.csv") for name in ("check", "plan", "train")),
    *((f"{name}|--data|{{p}}/rows.csv|--task|txt", "txt") for name in ("check", "plan", "train")),
    *((f"{name}|--data|{{p}}/rows.csv|--model|", "--model") for name in ("check", "plan", "train")),
    *((f"{name}|--data|{{p}}/rows.csv|--strategy|", "--strategy") for name in ("check", "plan", "train")),
    *((f"{name}|--data|{{p}}/rows.csv|--output|", "--output") for name in ("check", "plan", "train")),
    ("check", "RECIPE"),
    ("check|{p}/recipe.yaml|--samples|x", "'x'"),
    ("check|{p}/recipe.yaml|--samples|-1", "-1"),
    ("check|{p}/recipe.yaml|--samples|1.5", "1.5"),
    ("check|{p}/recipe.yaml|--cache|", "--cache"),
    ("check|{p}/recipe.yaml|--cache|{p}/file", "file"),
    ("plan", "RECIPE"),
    ("plan|{p}/none.yaml", "none.yaml"),
    ("plan|{p}/recipe.yaml|--gpu|h1000", "h100-80gb"),
    ("plan|{p}/recipe.yaml|--gpus|0", "--gpus"),
    ("plan|{p}/recipe.yaml|--gpus|2", "--gpu"),
    ("train|{p}/recipe.yaml|--cache|{p}/file", "file"),
    ("evaluate|{p}/run|--data|{p}/rows.csv|--cache|{p}/file", "file"),
    ("evaluate|{p}/run|--data|{p}/rows.csv|--cache|{p}/new|--processes|2", "cache"),
    ("train", "RECIPE"),
    ("train|{p}/recipe.yaml", "run"),
    ("train|{p}/recipe.yaml|--resume", "run"),
    ("train|{p}/recipe.yaml|output={p}/none|--resume", "none"),
    ("train|{p}/recipe.yaml|output={p}/file", "file"),
    ("train|{p}/recipe.yaml|output={p}/file/run", "file"),
    ("train|{p}/recipe.yaml|output={p}/file/run|--overwrite", "file"),
    ("train|{p}/recipe.yaml|output={p}/base|--overwrite", "base"),
    ("train|{p}/recipe.yaml|output=''", "output"),
    ("train|{p}/recipe.yaml|output=/proc/run", "/proc"),
    ("train|{p}/recipe.yaml|--accept-changes", "--resume"),
    ("train|{p}/recipe.yaml|--processes|0", "--processes"),
    ("train|{p}/recipe.yaml|--auto-resume|--resume", "--auto-resume"),
    ("train|{p}/recipe.yaml|--auto-resume|--overwrite", "--auto-resume"),
    ("train|{p}/recipe.yaml|output={p}/base|--auto-resume", "base"),
    ("job", "RECIPE"),
    ("job|{p}/recipe.yaml", "--for"),
    ("job|{p}/recipe.yaml|--for|pbs", "pbs"),
    ("job|{p}/none.yaml|--for|slurm", "none.yaml"),
    ("job|{p}/recipe.yaml|--for|slurm|--nodes|0", "--nodes"),
    ("job|{p}/recipe.yaml|--for|slurm|--gpus|h100", "h100"),
    ("job|{p}/recipe.yaml|output=runs/x|--for|kubernetes|--gpus|h100:4", "h100"),
    ("job|{p}/recipe.yaml|--for|slurm|--time|tomorrow", "tomorrow"),
    ("job|{p}/recipe.yaml|--for|kubernetes|--time|24:00:00", "--time"),
    ("job|{p}/recipe.yaml|--for|slurm|--output|{p}/file", "file"),
    ("job|{p}/recipe.yaml|--for|slurm|--output|{p}/none/job", "none"),
    ("job|{p}/recipe.yaml|--for|slurm|--output|", "--output"),
    ("job|{p}/recipe.yaml|--for|slurm|strategy=lroa", "lora"),
    ("job|{p}/recipe.yaml|--for|skypilot|output={p}/run", "output=runs/NAME"),
    ("evaluate", "RUN"),
    ("evaluate|{p}/run|--split|tset", "tset"),
    ("evaluate|{p}/run|--abstain-below|1", "--abstain-below"),
    ("evaluate|{p}/run|--abstain-below|0.9", "Accuracy gives no probability"),
    ("evaluate|{p}/run|--coverage|0.9", "Accuracy gives no probability"),
    ("evaluate|{p}/run|--split|", "''"),
    ("evaluate|{p}/run|--data|{p}/none.csv", "none.csv"),
    ("evaluate|{p}/run|--data|", "--data"),
    ("evaluate|{p}/run|--data|{p}/rows.csv|--output|", "--output"),
    ("evaluate|{p}/run|--data|{p}/rows.csv|--output|{p}/file", "file"),
    ("evaluate|{p}/run|--data|{p}/rows.csv|--output|{p}/new|--block-rows|0", "--block-rows"),
    ("evaluate|{p}/run|--data|{p}/rows.csv|--block-rows|5", "--output"),
    ("evaluate|{p}/run|--data|{p}/rows.csv|--processes|0", "--processes"),
    ("evaluate|{p}/run|--data|{p}/rows.csv|--engine|spark", "spark"),
    ("evaluate|{p}/run|--data|{p}/rows.csv|--address|a:1", "--engine ray"),
    ("evaluate|{p}/run|--data|{p}/nothing", "nothing"),
    ("evaluate|{p}/run|--task|text-classification", "which has its own task"),
    ("evaluate|{p}/run|preprocessor.max_length", "preprocessor.max_length"),
    ("evaluate|{p}/run|columns.review=text", "which has its own columns"),
    ("evaluate|no/model|--task|qa|--data|{p}/rows.csv", "no/model"),
    ("serve|{p}/run|--task|text-classification", "which has its own task"),
    ("serve|{p}/run|{p}/rows.csv", "POST /predict"),
    ("serve|{p}/run|--host|no.such.host.invalid|--port|0", "no.such.host.invalid"),
    ("serve|{p}/run|--port|70000", "70000"),
    ("serve|{p}/run|--abstain-below|2", "--abstain-below"),
    ("serve|{p}/run|--coverage|0.9|--port|0", "Accuracy gives no probability"),
    ("serve|{p}/run|--max-body-mb|0", "--max-body-mb"),
    ("serve|{p}/run|--max-characters|0", "--max-characters"),
    ("serve|{p}/run|--max-requests|0", "--max-requests"),
    ("serve|{p}/run|--batch-tokens|0", "--batch-tokens"),
    ("serve|{p}/run|--max-wait-ms|-1", "--max-wait-ms"),
    ("serve|{p}/run|--dockerfile|", "--dockerfile"),
    ("serve|{p}/run|--ray|my-app.py", "my-app.py"),
    ("serve|{p}/run|--with|tgi", "tgi"),
    ("serve|{p}/run|--dry-run", "--with"),
    ("serve|{p}/run|--base|", "--base"),
    ("serve|{p}/run|--modules|{p}/none", "none"),
    ("learn|start|99z", "99z"),
    ("learn|start|01a|--output|{p}/none/x.py", "none"),
    ("learn|check|{p}/exercise_01a.py", "exercise_01a.py"),
    ("learn|check|{p}/any.py|--exercise|99z", "99z"),
    ("learn|quiz|99", "99"),
    ("learn|solution|99z", "99z"),
    ("learn|grade|{p}/none", "none"),
    ("adopt", "FOLDER"),
    ("adopt|{p}/none|--output|{p}/new", "none"),
    ("adopt|{p}/run|--output|{p}/new", "run already"),
    ("adopt|{p}/nothing|--output|", "--output"),
    ("adopt|{p}/nothing|--output|{p}/new", "holds no model"),
    ("adopt|{p}/nothing|--output|{p}/new|--split|test", "--data"),
    ("adopt|{p}/nothing|--output|{p}/new|--data|", "--data"),
    ("adopt|{p}/nothing|--output|{p}/new|--task|", "--task"),
    ("adopt|{p}/nothing|--output|{p}/new|--base|", "--base"),
    ("adopt|{p}/nothing|{p}/rows.csv|--output|{p}/new", "--data"),
    ("evaluate|{p}/run|--base|{p}/none", "none"),
    ("evaluate|{p}/run|--base|", "--base"),
    ("evaluate|{p}/run|--modules|{p}/none", "none"),
    ("evaluate|{p}/run|--modules|{p}/file", "file"),
    ("evaluate|{p}/run|--base|{p}/nothing", "nothing"),
    ("predict", "RUN"),
    ("predict|{p}/run", "give a file"),
    ("predict|{p}/run|{p}/none.csv", "none.csv"),
    ("predict|{p}/run|", "dataset"),
    ("predict|{p}/run|{p}/nothing", "nothing"),
    ("predict|{p}/run|{p}/file", "file"),
    ("predict|{p}/run|a|b", "'b'"),
    ("predict|{p}/run|{p}/rows.csv|--output|", "--output"),
    ("predict|{p}/run|{p}/rows.csv|--output|{p}/file", "file"),
    ("predict|{p}/run|{p}/rows.csv|--output|{p}/new|--block-rows|0", "--block-rows"),
    ("predict|{p}/run|{p}/rows.csv|--output|{p}/new|--processes|0", "--processes"),
    ("predict|{p}/run|{p}/rows.csv|--output|{p}/new|--engine|spark", "spark"),
    ("predict|{p}/run|{p}/rows.csv|--output|{p}/new|--address|a:1", "--engine ray"),
    ("predict|{p}/run|{p}/rows.csv|--processes|2", "--output"),
    ("predict|{p}/run|--txet|ship", "text"),
    ("predict|{p}/run|--text|ship|--abstain-below|1.5", "--abstain-below"),
    ("predict|{p}/run|--text|ship|--abstain-below|0.9", "Accuracy gives no probability"),
    ("predict|{p}/run|--text|ship|--coverage|0", "--coverage"),
    ("predict|{p}/run|--text|ship|--coverage|0.9", "Accuracy gives no probability"),
    ("predict|{p}/run|--text", "text"),
    ("predict|{p}/run|--text|", "text"),
    ("predict|{p}/run|--|ship", "ship"),
    ("predict|{p}/run|--text|ship|generation.num_beams=4", "generation"),
    ("predict|{p}/run|--text|ship|generation.num_beams", "num_beams"),
    ("predict|{p}/run|--text|ship|--on-bad|ignore", "ignore"),
    ("predict|{p}/run|{p}/rows.csv|--format|xml", "xml"),
    ("evaluate|{p}/run|--data|{p}/rows.csv|--on-bad|ignore", "ignore"),
    ("predict|{p}/run|--text|ship|--task|text-classification", "which has its own task"),
    ("predict|{p}/run|--text|ship|--base|{p}/none", "none"),
    ("predict|{p}/run|--text|ship|--modules|{p}/none", "none"),
    ("predict|{p}/run|--text=ship|--modules|", "--modules"),
    ("compare|{p}/run|{p}/run|--modules|{p}/nowhere", "--modules"),
    ("card|{p}/run|--modules|{p}/nowhere", "--modules"),
    ("push|{p}/run|someone/name|--modules|{p}/nowhere", "--modules"),
    ("predict|{p}/run|-", "standard input is empty"),
    ("report", "RUN"),
    ("report|{p}/run|--output|{p}/none/page.html", "page.html"),
    ("report|{p}/run|--output|{p}/nothing", "nothing"),
    ("report|{p}/run|--output|", "--output"),
    ("compare", "RUN"),
    ("compare|{p}/run", "two"),
    ("compare|{p}/run|{p}/run|--split|tset", "tset"),
    ("compare|{p}/run|{p}/run|--html|{p}/none/page.html", "page.html"),
    ("compare|{p}/run|{p}/run|--html|{p}/nothing", "nothing"),
    ("compare|{p}/run|{p}/run|--html|", "--html"),
    ("list|x", "x"),
    ("show", "NAME"),
    ("show|", "''"),
    ("show|lroa", "lora"),
    ("show|no_such_module:Class", "no_such_module"),
    ("show|raises_at_import:Class", "raises_at_import"),
    ("show|toy:TAKS", "TASK"),
    ("show|toy:rows", "toy:rows"),
    ("show|toy:WORDS", "toy:WORDS"),
    ("show|:", "':'"),
    ("show|recipe", "Recipe"),
    ("schema|x", "x"),
    ("doctor|x", "x"),
    ("plugin|nwe", "nwe"),
    ("plugin|new", "NAME"),
    ("plugin|new|", "''"),
    ("plugin|new|9", "9"),
    ("plugin|new|finetune-text", "text"),
    ("plugin|new|finetune-mine|--kind|tsk", "tsk"),
    ("plugin|new|finetune-mine|--parent|{p}/file", "file"),
    ("plugin|new|finetune-mine|--parent|{p}/file/x", "file"),
    ("card|{p}/run|license", "license"),
    ("card|{p}/run|=mit", "''"),
    ("card|{p}/run|licence=mit", "license"),
    ("card|{p}/run|", "''"),
    ("push|{p}/run", "USER/NAME"),
    ("push|{p}/run|", "''"),
    ("push|{p}/run|a b/c", "a b/c"),
    ("push|{p}/run|a b/c|--check", "a b/c"),
    ("merge", "RUN"),
    ("tune|{p}/none.yaml", "none.yaml"),
    ("tune|{p}/recipe.yaml|search={seed: [1]}", "seed"),
    *((f"tune|{{p}}/recipe.yaml|--{name}|0", f"--{name}") for name in ("trials", "hours", "workers")),
    ("tune|{p}/recipe.yaml|--seeds|-1", "--seeds"),
    ("tune|{p}/recipe.yaml|--storage|", "--storage"),
    ("curve|{p}/none.yaml", "none.yaml"),
    ("curve|{p}/recipe.yaml|--seeds|0", "--seeds"),
    ("merge|{p}/run", "FullStrategy"),
    ("merge|{p}/run|--dtype|int3", "int3"),
    ("merge|{p}/run|--output|", "--output"),
    ("merge|{p}/run|--output|{p}/file", "file"),
    ("merge|{p}/run|--base|{p}/none", "none"),
    ("merge|{p}/run|--modules|{p}/none", "none"),
    ("export|{p}/run", "OUTPUT"),
    ("export|{p}/run|{p}/out", "--format"),
    ("export|{p}/run|{p}/out|--format|onxx", "onxx"),
    ("export|{p}/run|{p}/file|--format|onnx", "file"),
    ("export|{p}/run||--format|onnx", "OUTPUT"),
    ("export|{p}/run|{p}/out|--format|onnx|--calibrate|8", "--calibrate"),
    ("export|{p}/run|{p}/out|--format|onnx|--tolerance|-1", "--tolerance"),
    ("export|{p}/run|{p}/out|--format|onnx|--data|", "--data"),
    ("export|{p}/run|{p}/out|--format|onnx|--task|text-classification", "which has its own task"),
    ("export|{p}/run|{p}/out|--format|onnx|--base|", "--base"),
    ("export|{p}/run|{p}/out|--format|onnx|--modules|{p}/none", "none"),
    ("export|{p}/run|{p}/out|x|--format|onnx", "'x'"),
    ("export|{p}/run|{p}/out|--format|safetensors|--split|none", "none"),
    ("demo|x", "x"),
    ("demo|--output|{p}/file", "file"),
    ("demo|--predictions|x", "'x'"),
    ("demo|--predictions|-1", "-1"),
]
"""Arguments of a call, and what the message names."""


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


def verbs() -> Iterator[tuple[list[str], click.Command]]:
    """Yield the words of each command, and the command: `finetune plugin` has its own."""
    context = click.Context(main)
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None, name
        if isinstance(command, click.Group):
            yield from (([name, inner], part) for inner, part in command.commands.items())
        else:
            yield [name], command


def options_of(command: click.Command) -> list[click.Option]:
    """Return the options of a command."""
    return [parameter for parameter in command.params if isinstance(parameter, click.Option)]


def test_each_argument_that_is_missing_and_each_word_too_much_is_named() -> None:
    for words, command in verbs():
        arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
        required = [argument for argument in arguments if argument.required]
        for number, argument in enumerate(required):
            refused([*words, *["x"] * number], argument.make_metavar(click.Context(command)).strip("[]."))
        if not command.context_settings.get("ignore_unknown_options"):
            refused([*words, *["x"] * len(required), "--no-such-option"], "--no-such-option")
            if all(argument.nargs == 1 for argument in arguments):
                refused([*words, *["x"] * len(required), "too-much"], "too-much")


def test_each_flag_takes_no_value_and_each_other_option_needs_one() -> None:
    for words, command in verbs():
        for option in options_of(command):
            name = option.opts[0]
            refused([*words, f"{name}=x"] if option.is_flag else [*words, name], name)


def test_each_option_of_each_command_has_a_wrong_value_in_the_table() -> None:
    for words, command in verbs():
        calls = [call.split("|") for call, _ in CALLS if call.split("|")[: len(words)] == words]
        for option in options_of(command):
            if not option.is_flag:
                assert any(call.index(option.opts[0]) < len(call) - 1 for call in calls if option.opts[0] in call), (
                    f"add a call of {' '.join(words)} with a wrong value for {option.opts[0]}"
                )


def test_each_key_of_a_recipe_has_a_wrong_value_in_the_table() -> None:
    keys = {override.partition("=")[0] for override, _ in OVERRIDES}
    keys |= {key.partition(".")[0] for key in keys}
    for prefix, cls in (("", Recipe), ("model.", Model), ("dataset.", Source)):
        for field in fields(cls):
            assert any(key == f"{prefix}{field.name}" for key in keys), f"add a wrong value for {prefix}{field.name}"


@pytest.mark.parametrize(("call", "named"), CALLS, ids=[call for call, _ in CALLS])
def test_a_wrong_call_is_answered_in_a_few_lines(call: str, named: str, place: Path) -> None:
    refused(call.replace("{p}", str(place)).split("|"), named)


@pytest.mark.parametrize("command", OF_RUNS)
@pytest.mark.parametrize(("run", "named"), RUNS, ids=[run for run, _ in RUNS])
def test_what_is_no_finished_run_is_named(command: str, run: str, named: str, place: Path) -> None:
    words = [run if word == "RUN" else word for word in OF_RUNS[command]]
    refused([word.replace("{p}", str(place)) for word in words], named)


@pytest.mark.parametrize("command", ["check", "train"])
@pytest.mark.parametrize(("recipe", "named"), RECIPE_FILES, ids=[recipe for recipe, _ in RECIPE_FILES])
def test_what_is_no_recipe_is_named(command: str, recipe: str, named: str, place: Path) -> None:
    refused([command, recipe.replace("{p}", str(place))], named)


@pytest.mark.parametrize(("override", "named"), OVERRIDES, ids=[override for override, _ in OVERRIDES])
def test_a_wrong_override_is_named(override: str, named: str, place: Path) -> None:
    override = override.replace("{p}", str(place)).replace("{{", "{").replace("}}", "}")
    if "liger" in override and importlib.util.find_spec("liger_kernel"):
        pytest.skip("liger-kernel is installed")
    refused(["check", str(place / "recipe.yaml"), override], named)


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


@pytest.mark.parametrize(("override", "named"), MODEL_OPTIONS, ids=[override for override, _ in MODEL_OPTIONS])
def test_a_wrong_option_of_the_model_is_named(override: str, named: str, place: Path, tmp_path: Path) -> None:
    refused(["train", str(place / "recipe.yaml"), override, f"output={tmp_path}/run", "--quiet"], named)


def test_the_traceback_is_shown_if_python_is_in_development_mode(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune.user_code.sys", SimpleNamespace(flags=SimpleNamespace(dev_mode=True)))
    with pytest.raises(KeyError, match="sought"):
        CliRunner().invoke(main, ["check", str(place / "recipe.yaml"), CODE[0]], catch_exceptions=False)


def test_an_error_without_code_of_the_user_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune.plugins.discover", partial(json.loads, "{"))
    with pytest.raises(json.JSONDecodeError):
        CliRunner().invoke(main, ["list"], catch_exceptions=False)


def test_modules_names_the_folder_in_which_a_run_finds_python(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    run, modules = tmp_path / "run", tmp_path / "modules"
    shutil.copytree(place / "run", run)
    result = json.loads((run / "result.json").read_text())
    result["recipe"]["metrics"] = ["metric_of_a_run:score"]
    (run / "result.json").write_text(json.dumps(result))
    for folder, gain in ((run, 0.0), (modules, 7.0)):
        folder.mkdir(exist_ok=True)
        (folder / "metric_of_a_run.py").write_text(f"def score(records):\n    return {{'gain': {gain}}}\n")

    message = refused(["evaluate", str(run)], "'metric_of_a_run:score' is Python code")
    assert "--modules" in message
    done = CliRunner().invoke(main, ["evaluate", str(run), "--modules", str(modules), "--json"])
    assert (done.exit_code, json.loads(done.stdout)["scores"]["gain"]) == (0, 7.0), done.stderr
    assert sys.path[-1] == str(modules.resolve())


@pytest.mark.parametrize("command", [["evaluate", "RUN"], ["predict", "RUN", "--text", "ship"]])
def test_a_run_whose_tokenizer_changed_is_used_if_that_is_accepted(
    command: list[str], place: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(place / "run", run)
    settings = json.loads((run / "tokenizer_config.json").read_text())
    (run / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": 31}))
    words = [str(run) if word == "RUN" else word for word in command]
    refused(words, "--accept-changes")
    done = CliRunner().invoke(main, [*words, "--accept-changes"])
    assert done.exit_code == 0, done.stderr
