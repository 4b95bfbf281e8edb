"""A run with a teacher: the loss is what the page says, and the run is refused before its first step or goes well."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toy
import yaml
from cases import case
from safetensors.torch import load_file
from together import TASKS, bases_in

import finetune
from finetune import recipe as recipes
from finetune import run as runs
from finetune.errors import BadCheckpoint, BadOptions, BadRecipe, FinetuneError, Incompatible
from finetune.evaluation import verdicts
from finetune.interfaces import IGNORE_INDEX
from finetune.recipe import Teacher
from finetune.result import Result
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune.training import trainer as training
from finetune.training.distillation import Distillation, Outputs, divergence

LEARNS = (
    "text-classification", "text-regression", "multi-label-classification", "token-classification",
    "question-answering", "multiple-choice", "masked-language-modeling", "causal-language-modeling",
    "summarization", "translation", "text-to-text",
)  # fmt: skip
REFUSED = ("sft", "dpo", "kto", "reward", "rloo", "grpo", "decision")


def softmax(row: list[float], temperature: float) -> list[float]:
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def kl(teacher: list[float], student: list[float]) -> float:
    return sum(p * math.log(p / q) for p, q in zip(teacher, student, strict=True))


def by_hand(student: Any, teacher: Any, kind: str, temperature: float) -> float:
    """Return what `divergence` returns, from the definitions."""
    total = 0.0
    for one, other in zip(student.tolist(), teacher.tolist(), strict=True):
        if kind == "classes":
            total += temperature**2 * kl(softmax(other, temperature), softmax(one, temperature))
        for mine, its in zip(one, other, strict=True):
            if kind == "numbers":
                total += (mine - its) ** 2
            if kind == "labels":
                p, q = (1 / (1 + math.exp(-value / temperature)) for value in (its, mine))
                total += temperature**2 * kl([p, 1 - p], [q, 1 - q])
    return total


@pytest.mark.parametrize("kind", ["classes", "labels", "numbers"])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_distance_is_the_one_of_the_papers(kind: Any, temperature: float) -> None:
    draw = torch.Generator().manual_seed(3)
    student, teacher = (3 * torch.randn(5, 1 if kind == "numbers" else 4, generator=draw) for _ in range(2))
    found = divergence(Outputs(student=student, teacher=teacher, kind=kind), temperature=temperature)
    assert found.item() == pytest.approx(by_hand(student, teacher, kind, temperature), rel=1e-4)
    same = divergence(Outputs(student=teacher, teacher=teacher, kind=kind), temperature=temperature)
    assert same.item() == pytest.approx(0, abs=1e-5)


def recipe_of(base: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """Return the recipe of a run of the toy task that measures nothing but its scores."""
    return toy.recipe(base, output, score_base_model=False, general_text="none", **changes)


class Bases:
    """Bases and teachers of each task, made once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.base = folder, bases_in(folder / "bases")

    def recipe(self, task: str, output: Path, **changes: Any) -> dict[str, Any]:
        of = case(task)
        training = {**of.training, "learning_rate": 1e-2, "max_steps": 2, "per_device_train_batch_size": 4,
                    "save_strategy": "no", "eval_strategy": "no", **changes.pop("training", {})}  # fmt: skip
        return {
            "task": task, "model": str(self.base(of.family, of.words)), "strategy": "full", "output": str(output),
            "dataset": {**TASKS[task].starter["dataset"], "limit": {"train": 16, "validation": 4, "test": 4}},
            "preprocessor": dict(of.preprocessor), "generation": dict(of.generation), "training": training,
            "score_base_model": False, "general_text": "none", **changes,
        }  # fmt: skip

    def teacher(self, task: str) -> Path:
        output = self.folder / task
        if not output.is_dir():
            finetune.train(**self.recipe(task, output))
        return output


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Bases:
    return Bases(tmp_path_factory.mktemp("teachers"))


def trainer_of(content: dict[str, Any]) -> tuple[Any, Any]:
    """Return the trainer of a recipe, ready for its first step, and its job."""
    plan = finetune.plan.make(recipes.from_mapping(content), finetune.plugins.discover())
    prepared = finetune.data.preparation.prepare(plan)
    ready, _ = runs.prepare_training(prepared, finetune.progress.Reporter())
    return finetune.plugins.resolve(plan.task.trainer)(ready.job), ready.job


EXPECTED: dict[str, Callable[[Any, Any, Any], list[tuple[Any, Any, str]]]] = {
    "text-classification": lambda one, other, batch: [(one["logits"], other["logits"], "classes")],
    "text-regression": lambda one, other, batch: [(one["logits"], other["logits"], "numbers")],
    "multi-label-classification": lambda one, other, batch: [(one["logits"], other["logits"], "labels")],
    "multiple-choice": lambda one, other, batch: [(one["logits"], other["logits"], "classes")],
    "token-classification": lambda one, other, batch: [(*at_labels(one, other, batch["labels"]), "classes")],
    "masked-language-modeling": lambda one, other, batch: [(*at_labels(one, other, batch["labels"]), "classes")],
    "summarization": lambda one, other, batch: [(*at_labels(one, other, batch["labels"]), "classes")],
    "causal-language-modeling": lambda one, other, batch: [(*before_labels(one, other, batch["labels"]), "classes")],
    "question-answering": lambda one, other, batch: [
        (*real_positions(one[name], other[name], batch), "classes") for name in ("start_logits", "end_logits")
    ],
}  # fmt: skip
"""Task → what a teacher is compared with: rows of logits, of the student and of the teacher."""


QUICK = ("text-classification", "token-classification", "question-answering", "summarization")
"""Tasks of every shape of outputs, which are tried in each run of the suite."""


def at_labels(one: Any, other: Any, labels: Any) -> tuple[Any, Any]:
    seen = labels != IGNORE_INDEX
    assert seen.any()
    return one["logits"][seen], other["logits"][seen]


def before_labels(one: Any, other: Any, labels: Any) -> tuple[Any, Any]:
    seen = labels[:, 1:] != IGNORE_INDEX
    return one["logits"][:, :-1][seen], other["logits"][:, :-1][seen]


def real_positions(one: Any, other: Any, batch: Any) -> tuple[Any, Any]:
    """Give padding a logit so low that its probability is 0."""
    hidden = batch["attention_mask"] == 0
    return one.masked_fill(hidden, -60.0), other.masked_fill(hidden, -60.0)


@pytest.mark.parametrize(
    "task",
    [pytest.param(task, marks=() if task in QUICK else pytest.mark.slow) for task in EXPECTED],
)
def test_the_loss_of_a_batch_is_that_of_the_page(task: str, bases: Bases, tmp_path: Path) -> None:
    alpha, temperature = 0.3, 1.0 if task == "text-regression" else 3.0
    section = {"path": str(bases.teacher(task)), "alpha": alpha, "temperature": Teacher.temperature}
    if task != "text-regression":
        section["temperature"] = temperature
    built, job = trainer_of({**bases.recipe(task, tmp_path / "run"), "teacher": section})
    rows = training.model_columns(job.train.select(range(5)), job)
    torch.manual_seed(1)
    batch = dict(built.data_collator(list(rows)))
    model = job.model.train()  # its base has no dropout
    with torch.no_grad():
        for parameter in job.distillation.teacher.parameters():  # two steps of training change little
            parameter.add_(0.2 * torch.randn(parameter.shape))
        loss = built.compute_loss(model, dict(batch))
        built.distillation, kept = None, built.distillation
        own, one = built.compute_loss(model, dict(batch), return_outputs=True)
        hidden = {} if model.config.is_encoder_decoder else {"labels", "start_positions", "end_positions"}
        other = kept.teacher(**{name: value for name, value in batch.items() if name not in hidden})
    compared = EXPECTED[task](one, other, batch)
    total = 0.0
    for student, teacher, kind in compared:
        count = student.numel() if kind == "labels" else len(student)
        total += by_hand(student, teacher, kind, temperature) / count / len(compared)
    assert total > 1e-6, "the models differ"
    assert loss.item() == pytest.approx(alpha * total + (1 - alpha) * own.item(), rel=1e-3)


@pytest.mark.parametrize("task", [pytest.param(task, marks=pytest.mark.slow) for task in LEARNS])
def test_every_task_with_logits_learns_from_a_teacher(task: str, bases: Bases, tmp_path: Path) -> None:
    result = finetune.train(**bases.recipe(task, tmp_path / "run"), teacher=bases.teacher(task))
    assert result.steps == 2 and result.teacher["task"] == task and result.teacher["alpha"] == 0.5


@pytest.mark.parametrize("task", ["sft", pytest.param("dpo", marks=pytest.mark.slow), *(
    pytest.param(task, marks=pytest.mark.slow) for task in REFUSED[2:])])  # fmt: skip
def test_a_loss_without_logits_and_labels_is_refused(task: str, bases: Bases, tmp_path: Path) -> None:
    with pytest.raises(Incompatible, match=r"^teacher: the loss of \w+Trainer is none of logits and labels"):
        finetune.train(**bases.recipe(task, tmp_path / "run"), teacher=bases.teacher(task))


def test_no_task_is_forgotten() -> None:
    assert {*LEARNS, *REFUSED} == set(TASKS)


@pytest.fixture(scope="module")
def teacher(toy_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("toy-teacher") / "run"
    recipe = recipe_of(toy_base, output, training={"max_steps": 8})
    recipe["dataset"]["train"] = toy.rows(24, seed=99)
    finetune.train(**recipe)
    return output


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def equal(one: Path, other: Path) -> bool:
    ones, others = weights(one), weights(other)
    return ones.keys() == others.keys() and all(torch.equal(ones[name], others[name]) for name in ones)


def test_the_teacher_changes_nothing_but_the_loss(toy_base: Path, teacher: Path, tmp_path: Path) -> None:
    finetune.train(**recipe_of(toy_base, tmp_path / "plain"))
    # with 1e-30 the teacher is asked, and what it adds is below the precision: any other draw of dropout would show
    for name, alpha in (("zero", 0.0), ("least", 1e-30), ("half", 0.5)):
        section = {"path": str(teacher), "alpha": alpha}
        finetune.train(**recipe_of(toy_base, tmp_path / name), teacher=section)
    assert equal(tmp_path / "plain", tmp_path / "zero") and equal(tmp_path / "plain", tmp_path / "least")
    assert not equal(tmp_path / "plain", tmp_path / "half")


def test_with_alpha_1_the_labels_do_not_count(toy_base: Path, teacher: Path, tmp_path: Path) -> None:
    section = {"path": str(teacher), "alpha": 1.0}
    for name, swap in (("right", False), ("wrong", True)):
        recipe = recipe_of(toy_base, tmp_path / name)
        if swap:
            other = {"sea": "land", "land": "sea"}
            recipe["dataset"]["train"] = [{**row, "label": other[row["label"]]} for row in recipe["dataset"]["train"]]
        finetune.train(**recipe, teacher=section)
    assert equal(tmp_path / "right", tmp_path / "wrong")


def test_batches_that_are_accumulated_give_the_same_step(bases: Bases, tmp_path: Path) -> None:
    for name, size, count in (("whole", 8, 1), ("parts", 2, 4)):
        training = {"max_steps": 1, "per_device_train_batch_size": size, "gradient_accumulation_steps": count,
                    "optim": "sgd"}  # fmt: skip
        recipe = bases.recipe("text-classification", tmp_path / name, training=training)
        finetune.train(**recipe, teacher={"path": str(bases.teacher("text-classification")), "alpha": 0.9})
    ones, others = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.allclose(ones[name], others[name], atol=1e-7) for name in ones)


STEPS = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1, "save_total_limit": 9, "logging_steps": 1}


def test_a_run_that_was_killed_continues_to_the_bit(toy_base: Path, teacher: Path, tmp_path: Path) -> None:
    recipe = recipe_of(toy_base, tmp_path / "run", training=STEPS)
    finetune.train(**recipe, teacher=teacher)
    killed = shutil.copytree(tmp_path / "run", tmp_path / "killed")
    for path in (killed / "result.json", killed / "model.safetensors"):
        path.unlink()
    for step in (3, 4):
        shutil.rmtree(killed / f"checkpoint-{step}")
    again = {**recipe, "output": str(killed)}
    moved = shutil.copytree(teacher, tmp_path / "moved")
    for section, message in (
        ({"path": str(teacher), "alpha": 0.4}, "teacher: "),
        ({"path": str(teacher), "temperature": 3.0}, "teacher: "),
        (None, "teacher: "),
    ):
        with pytest.raises(BadCheckpoint, match=message):
            finetune.train(**again, teacher=section, resume=True)
    finetune.train(**again, teacher=moved, resume=True)  # a folder that moved is the same teacher
    assert equal(tmp_path / "run", killed)
    assert Result.load(killed, trust_code=True).resumed_from == "checkpoint-2"


@pytest.mark.slow
def test_another_teacher_in_the_same_place_is_noticed(toy_base: Path, teacher: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(teacher, tmp_path / "teacher")
    recipe = recipe_of(toy_base, tmp_path / "run", training=STEPS)
    finetune.train(**recipe, teacher=copied)
    (tmp_path / "run" / "result.json").unlink()
    shutil.rmtree(copied)
    finetune.train(**recipe_of(toy_base, copied, training={"max_steps": 3}))
    with pytest.raises(BadCheckpoint, match="teacher: "):
        finetune.train(**recipe, teacher=copied, resume=True)


def test_the_result_the_recipe_and_the_card_name_the_teacher(toy_base: Path, teacher: Path, tmp_path: Path) -> None:
    result = finetune.train(**recipe_of(toy_base, tmp_path / "run"), teacher=teacher)
    assert result.teacher["path"] == str(teacher) and result.teacher["files"]["model.safetensors"]
    assert result.teacher["parameters"] == sum(tensor.numel() for tensor in weights(teacher).values())
    written = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())["teacher"]
    assert written == {"path": str(teacher), "temperature": 2.0, "alpha": 0.5}
    assert recipes.read(tmp_path / "run" / "recipe.yaml").teacher == Teacher(path=str(teacher))
    assert any("0.5 × the distance to its outputs at temperature 2 + 0.5 × the loss" in note for note in result.notes)
    (said, seen) = verdicts.origin(result)
    assert said.startswith(
        "Knowledge distillation: the teacher is run (25,282 parameters), and the loss 0.5 × the dist"
    )
    assert "Knowledge distillation" in (tmp_path / "run" / "README.md").read_text() and "not_known" not in seen


def test_a_teacher_that_has_seen_the_test_rows_is_named(toy_base: Path, tmp_path: Path) -> None:
    def written(name: str, seed: int) -> dict[str, str]:
        files = {}
        for split, size in (("train", 24), ("validation", 10), ("test", 12)):
            rows = toy.rows(size, seed=seed + size)
            if name == "leaking" and split == "train":
                rows = [*rows[:-5], *toy.rows(12, seed=12)[:5]]
            files[split] = str(tmp_path / f"{name}-{split}.jsonl")
            Path(files[split]).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return files

    for name in ("clean", "leaking"):
        recipe = recipe_of(toy_base, tmp_path / name)
        recipe["dataset"] = {"path": written(name, 500)}
        finetune.train(**recipe)
    recipe = recipe_of(toy_base, tmp_path / "run")
    recipe["dataset"] = {"path": written("student", 0)}
    seen = {}
    for name in ("leaking", "clean"):
        result = finetune.train(**recipe, teacher=tmp_path / name, overwrite=True)
        seen[name] = result.teacher["seen"]["test"]
        (note,) = [note for note in result.notes if "teacher was trained on" in note]
        assert (f"{5 + seen[name]['near']} of 12 rows of test" in note) is (name == "leaking")
    assert (seen["leaking"]["exact"], seen["clean"]["exact"]) == (5, 0)
    Path(written("clean", 500)["train"]).unlink()
    result = finetune.train(**recipe, teacher=tmp_path / "clean", overwrite=True)
    assert "its training data cannot be read again" in result.teacher["seen"]["not_known"]


def refusal(recipe: dict[str, Any], teacher: Any) -> str:
    with pytest.raises(FinetuneError) as raised:
        finetune.train(**recipe, teacher=teacher)
    assert not (Path(recipe["output"]) / "log.jsonl").exists(), "it is refused before the run folder is written"
    return str(raised.value)


def test_other_labels_are_refused(toy_base: Path, teacher: Path, tmp_path: Path) -> None:
    recipe = recipe_of(toy_base, tmp_path / "run")
    renamed = {split: [{**row, "label": row["label"].upper()} for row in rows]
               for split, rows in recipe["dataset"].items()}  # fmt: skip
    assert "its labels are land, sea, and those of the data LAND, SEA" in refusal(
        {**recipe, "dataset": renamed}, teacher
    )


def test_another_vocabulary_is_refused(teacher: Path, tmp_path: Path) -> None:
    words = tokenizer("bert", [row["text"] for row in toy.rows(9, seed=5)], vocab_size=90)
    base = tiny_model("bert", words, tmp_path / "base", model_class="AutoModelForMaskedLM")
    said = refusal(recipe_of(base, tmp_path / "run"), teacher)
    assert said.startswith("teacher: its vocabulary is another one") and "model.layers" in said


def test_another_task_is_refused(bases: Bases, tmp_path: Path) -> None:
    said = refusal(bases.recipe("text-classification", tmp_path / "run"), bases.teacher("token-classification"))
    assert "'token-classification' is what it was trained for, and this run learns 'text-classification'" in said


def test_a_model_of_another_program_teaches(toy_base: Path, teacher: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    for path in teacher.glob("*"):
        if path.suffix == ".safetensors" or path.name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
            shutil.copy(path, foreign)
    content = recipe_of(toy_base, tmp_path / "run")
    content["task"] = "text-classification"
    result = finetune.train(**content, teacher=foreign)
    assert result.teacher["seen"] == {"not_known": "no run of finetune trained it"}
    config = json.loads((foreign / "config.json").read_text())
    config["id2label"] = {"0": "LABEL_0", "1": "LABEL_1"}
    (foreign / "config.json").write_text(json.dumps({**config, "label2id": {"LABEL_0": 0, "LABEL_1": 1}}))
    assert "id2label" in refusal({**content, "output": str(tmp_path / "second")}, foreign)
    assert refusal(recipe_of(toy_base, tmp_path / "none"), tmp_path / "missing").startswith("teacher: ")


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"path": "x", "alpha": 1.5}, "teacher.alpha: must be from 0"),
        ({"path": "x", "alpha": float("nan")}, "teacher.alpha: must be from 0"),
        ({"path": "x", "temperature": 0}, "teacher.temperature: must be a number greater than 0"),
        ({"path": "x", "temprature": 1}, "Did you mean 'temperature'"),
        ({"alpha": 0.5}, "path"),
    ],
)
def test_wrong_options_are_refused_while_reading(section: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadRecipe) as raised:
        recipes.from_mapping({**recipe_of(tmp_path, tmp_path / "run"), "dataset": "x.csv", "teacher": section})
    assert message in str(raised.value)


def test_a_temperature_for_numbers_is_refused(bases: Bases, tmp_path: Path) -> None:
    section = {"path": str(bases.teacher("text-regression")), "temperature": 4.0}
    with pytest.raises(BadOptions, match=r"teacher\.temperature: has no effect on a number"):
        finetune.train(**bases.recipe("text-regression", tmp_path / "run"), teacher=section)


def test_outputs_of_another_shape_are_refused() -> None:
    class Fixed(torch.nn.Module):
        config = type("Config", (), {"is_encoder_decoder": False, "problem_type": None})

        def forward(self, input_ids: Any) -> Any:
            return {"logits": torch.zeros(2, 3)}

    made = Distillation(teacher=Fixed(), options=Teacher(path="x"))
    batch = {"input_ids": torch.zeros(2, 4), "labels": torch.tensor([0, 1])}
    own = torch.tensor(1.0)
    for outputs, message in (({"logits": torch.zeros(2, 5)}, "have the shape"), ({"scores": own}, "are no logits")):
        with pytest.raises(Incompatible, match=message):
            made.loss(own, outputs, batch, student=Fixed(), items=None)
    unlabelled = replace(made)
    with pytest.raises(Incompatible, match="are no logits"):
        unlabelled.loss(
            own, {"logits": torch.zeros(2, 3)}, {"input_ids": batch["input_ids"]}, student=Fixed(), items=None
        )
