"""`finetune adopt`: a run folder of what `transformers.Trainer` and PEFT write, and what is said of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
from click.testing import CliRunner
from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments

import finetune
from finetune.cli import main
from finetune.errors import BadData, BadOptions, BadRecipe, OutputExists
from finetune.result import Result
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune_peft.strategy import suppress_warnings

TEXTS = ["the boat is late", "fog over the quay", "salt, tar and a fine inn", "a fine boat", "late again", "fine fog"]
LABELS = [0, 0, 1, 1, 0, 1]
ROWS = [{"text": text, "label": ["bad", "good"][label]} for text, label in zip(TEXTS * 5, LABELS * 5, strict=True)]
NAMES = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the user's own script leaves it: checkpoints, and which was best."""
    place = tmp_path_factory.mktemp("elsewhere")
    words = tokenizer("bert")
    base = tiny_model("bert", words, place / "base", model_class="AutoModelForSequenceClassification", **NAMES)
    features: Any = [{**words(text), "labels": label} for text, label in zip(TEXTS, LABELS, strict=True)] * 5
    arguments = TrainingArguments(
        str(place / "output"),
        num_train_epochs=6,
        per_device_train_batch_size=8,
        learning_rate=0.01,
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_steps=2,
        load_best_model_at_end=True,
        save_total_limit=3,
        report_to="none",
        dataloader_pin_memory=False,
        disable_tqdm=True,
    )
    model = AutoModelForSequenceClassification.from_pretrained(base)
    trainer = Trainer(model, arguments, train_dataset=features, eval_dataset=features, processing_class=words)
    trainer.train()
    return place / "output"


def test_the_log_of_trainer_becomes_that_of_the_run(trained: Path, tmp_path: Path) -> None:
    state = _state(last_checkpoint(trained))
    result = finetune.adopt(trained, tmp_path / "run")
    assert [dict(entry) for entry in result.log] == state["log_history"]
    assert result.steps == state["global_step"]
    assert result.data_report["validation"]["kept"] == len(ROWS)  # as the times in the log show
    best = Path(state["best_model_checkpoint"]).name
    assert any(f"{best} was the best by its own record" in note for note in result.notes)
    assert any(f"is {best}" in note and "still exists" in note for note in result.notes)
    loaded = Result.load(tmp_path / "run")
    assert (loaded.notes, loaded.adopted_from, list(loaded.log)) == (result.notes, str(trained), list(result.log))
    assert not result.scores
    card = (tmp_path / "run" / "README.md").read_text()
    assert "that another program trained" in card
    assert "How to reproduce" not in card
    assert "Not scored" in (tmp_path / "run" / "report.html").read_text()


def test_a_best_checkpoint_that_is_gone_is_named(trained: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(trained, copy)
    best, last = "checkpoint-4", last_checkpoint(copy)
    shutil.rmtree(copy / best, ignore_errors=True)
    (last / "trainer_state.json").write_text(json.dumps({**_state(last), "best_model_checkpoint": f"output/{best}"}))
    result = finetune.adopt(copy, tmp_path / "run")
    assert any(f"was {best}" in note and "not in" in note for note in result.notes)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (last / "model.safetensors").read_bytes()


def test_scores_have_intervals_and_errors_and_are_those_of_evaluate(trained: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    before = {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    result = finetune.adopt(trained, tmp_path / "run", file)
    assert before == {path: path.read_bytes() for path in trained.rglob("*") if path.is_file()}
    assert result.intervals["test"]["accuracy"]["low"] <= result.score("test")
    assert len((tmp_path / "run" / "predictions.jsonl").read_text().splitlines()) == len(ROWS)
    best = Path(_state(last_checkpoint(trained))["best_model_checkpoint"]).name
    assert finetune.evaluate(tmp_path / "run") == result.scores["test"]
    assert finetune.evaluate(tmp_path / "run", ROWS)["accuracy"] == result.score("test")
    assert finetune.load(tmp_path / "run").predict(TEXTS) == finetune.load(trained / best).predict(TEXTS)
    rows = [{"text": row["text"], "label": NAMES["label2id"][row["label"]]} for row in ROWS]
    ids = finetune.adopt(trained, tmp_path / "ids", rows)
    assert ids.scores == result.scores
    run = CliRunner()
    finetune.adopt(last_checkpoint(trained), tmp_path / "last", file)
    compared = run.invoke(main, ["compare", str(tmp_path / "run"), str(tmp_path / "last")])
    assert compared.exit_code == 0, compared.output
    with pytest.raises(BadOptions, match="no data of its own"):
        finetune.evaluate(finetune.adopt(trained, tmp_path / "bare").directory)


def last_checkpoint(folder: Path) -> Path:
    return max(folder.glob("checkpoint-*"), key=lambda path: int(path.name.partition("-")[2]))


def _state(checkpoint: Path) -> Any:
    return json.loads((checkpoint / "trainer_state.json").read_text())


def test_an_adapter_keeps_its_settings(tmp_path: Path) -> None:
    words = tokenizer("bert")
    base = tiny_model("bert", words, tmp_path / "base")
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    config = peft.LoraConfig(task_type="SEQ_CLS", r=3, lora_alpha=5, target_modules=["query"], init_lora_weights=False)
    with suppress_warnings():
        wrapped = peft.get_peft_model(model, config)
    wrapped.save_pretrained(tmp_path / "adapter")
    result = finetune.adopt(tmp_path / "adapter", tmp_path / "run", preprocessor={"labels": ["bad", "good"]})
    strategy = result.recipe["strategy"]
    assert (strategy["name"], strategy["r"], strategy["lora_alpha"]) == ("lora", 3, 5)
    assert any("no trainer_state.json" in note for note in result.notes)
    ours = finetune.load(tmp_path / "run").predict(TEXTS)
    assert ours == finetune.load(tmp_path / "adapter", preprocessor={"labels": ["bad", "good"]}).predict(TEXTS)


def test_nothing_is_written_if_it_fails(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(BadData):
        finetune.adopt(trained, tmp_path / "run", [{"text": "fog", "label": "terrible"}])
    assert not (tmp_path / "run").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(OutputExists):
        finetune.adopt(trained, tmp_path / "full")
    with pytest.raises(BadRecipe, match="there is no folder"):
        finetune.adopt(tmp_path / "nothing", tmp_path / "run")


def test_another_program_s_folder_is_named_by_the_commands_for_runs(trained: Path) -> None:
    checkpoint = next(trained.glob("checkpoint-*"))
    for words in (["report"], ["card"]):
        done = CliRunner().invoke(main, [*words, str(checkpoint)])
        assert done.exit_code != 0
        assert "finetune adopt" in done.output


def test_the_command_says_how_to_go_on(trained: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["adopt", str(trained), "--output", str(tmp_path / "run")])
    assert done.exit_code == 0, done.output
    assert f"finetune evaluate {tmp_path / 'run'} --data FILE" in done.output
