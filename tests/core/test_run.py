"""A run, from rows to a folder that can be used, resumed, moved and trusted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import toy
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

import finetune
from finetune import recipe as recipes
from finetune.errors import BadCheckpoint, BadData, BadOptions, BadRecipe, OutputExists, TrainingFailed
from finetune.result import Result
from finetune.training.checkpoints import MANIFEST, verify

HERE = Path(__file__).parent
TOKEN = "hf_" + "c4naryC4NARY" * 3


@pytest.fixture(scope="module")
def base(toy_base: Path) -> Path:
    return toy_base


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("data")
    for split, size in (("train", 48), ("validation", 12), ("test", 12)):
        lines = [json.dumps(row) + "\n" for row in toy.rows(size, seed=size + len(split))]
        (folder / f"{split}.jsonl").write_text("".join(lines))
    return {split: str(folder / f"{split}.jsonl") for split in ("train", "validation", "test")}


def content(base: Path, examples: Any, output: Path, **changes: Any) -> dict[str, Any]:
    """Return the recipe of a short run."""
    training = {"max_steps": 12, "save_strategy": "steps", "save_steps": 2, "logging_steps": 1}
    training.update(changes.pop("training", {}))
    return toy.recipe(base, output, **{"dataset": examples, "training": training, **changes})


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(next(run.glob("*model.safetensors")))


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def run(base: Path, examples: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make one whole run, with a token in the environment that must appear nowhere."""
    output = tmp_path_factory.mktemp("run") / "run"
    before = dict(os.environ)
    os.environ["HF_TOKEN"] = TOKEN
    try:
        finetune.train(**content(base, examples, output))
    finally:
        os.environ.clear()
        os.environ.update(before)
    return output


def test_the_folder_holds_what_was_promised_and_no_pickled_arguments(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
    assert {"recipe.yaml", "result.json", "predictions.jsonl", "log.jsonl"} <= names
    assert {"checkpoint-10", "checkpoint-12"} <= names
    assert not list(run.rglob("training_args.bin"))
    for checkpoint in run.glob("checkpoint-*"):
        verify(checkpoint)


def test_no_token_is_written_anywhere(run: Path) -> None:
    for path in run.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path


def test_weights_have_the_mode_of_other_files(run: Path) -> None:
    assert (run / "model.safetensors").stat().st_mode == (run / "config.json").stat().st_mode


def test_the_result_is_read_back_as_it_was(run: Path, tmp_path: Path) -> None:
    result = Result.load(run)
    assert result.steps == 12
    assert set(result.scores) == {"train", "validation", "test"}
    assert set(result.base_model_scores) == {"validation", "test"}
    assert result.newly_initialized == ["bert.pooler.dense", "classifier"]
    assert result.data_report["train"]["read"] == result.data_report["train"]["features"] == 48
    assert result.trainable_parameters == result.total_parameters > 0
    assert [phase.name for phase in result.phases][-3:] == [
        "save, reload and compare", "score", "compute intervals, slices and forgetting"
    ]  # fmt: skip
    assert all(phase.peak_memory_mb > 0 for phase in result.phases)
    assert result.arguments["learning_rate"] == 1e-3
    assert len(result.fingerprints) == 3
    result.save(tmp_path)
    assert Result.load(tmp_path).scores == result.scores


def test_training_beats_the_base_model(run: Path) -> None:
    result = Result.load(run)
    assert result.score("test") > result.base_model_scores["test"]["accuracy"]


def test_plain_transformers_reads_the_folder(run: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(run)
    assert model.config.id2label == {0: "land", 1: "sea"}


def test_predictions_stand_beside_their_examples(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    assert [(line["split"], line["index"]) for line in lines][:2] == [("validation", 0), ("validation", 1)]
    right = [line["prediction"] == line["reference"] for line in lines if line["split"] == "test"]
    assert sum(right) / len(right) == Result.load(run).scores["test"]["accuracy"]


def test_the_recipe_written_gives_the_same_run(run: Path, tmp_path: Path) -> None:
    result = finetune.train(run / "recipe.yaml", output=str(tmp_path / "again"))
    assert same(weights(run), weights(tmp_path / "again"))
    assert result.scores == Result.load(run).scores


def test_scoring_the_base_model_changes_no_weight(run: Path, tmp_path: Path) -> None:
    finetune.train(run / "recipe.yaml", output=str(tmp_path / "again"), score_base_model=False)
    assert same(weights(run), weights(tmp_path / "again"))


def test_a_run_that_was_moved_predicts_as_before(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "moved")
    lines = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    model = finetune.load(tmp_path / "moved")
    texts = [{"text": line["example"]["text"]} for line in lines]
    assert [record["prediction"] for record in model.predict(texts)] == [line["prediction"] for line in lines]
    assert model.predict(text=texts[0]["text"])["prediction"] == lines[0]["prediction"]
    assert model.predict([]) == []


def test_evaluating_again_gives_the_scores_of_the_result(run: Path, examples: Any) -> None:
    assert finetune.evaluate(run) == Result.load(run).scores["test"]
    assert finetune.evaluate(run, examples["validation"]) == Result.load(run).scores["validation"]


def test_a_validation_split_taken_from_train_is_the_same_when_evaluated_again(
    base: Path, examples: Any, tmp_path: Path
) -> None:
    result = finetune.train(**content(base, {"path": examples["train"], "validation_size": 0.25}, tmp_path / "split"))
    assert result.data_report["validation"]["kept"] == 12
    assert finetune.evaluate(tmp_path / "split", split="validation") == result.scores["validation"]
    assert finetune.evaluate(tmp_path / "split") == result.scores["validation"]  # there is no test
    with pytest.raises(BadData, match=r"no split 'test'\. It has: train, validation"):
        finetune.evaluate(tmp_path / "split", split="test")


def test_rows_given_in_python_train_as_files_do(run: Path, base: Path, tmp_path: Path) -> None:
    rows = {split: toy.rows(size, seed=size + len(split)) for split, size in (("train", 48), ("validation", 12))}
    finetune.train(**content(base, rows, tmp_path / "rows"))
    assert same(weights(run), weights(tmp_path / "rows"))
    with pytest.raises(BadRecipe, match="examples given in Python"):
        finetune.evaluate(tmp_path / "rows")


def test_a_whole_model_predicts_without_its_base(run: Path, tmp_path: Path) -> None:
    rows = [{"text": row["text"]} for row in toy.rows(4, seed=5)]
    shutil.copytree(run, tmp_path / "run")
    result = json.loads((run / "result.json").read_text())
    result["recipe"]["model"]["path"] = str(tmp_path / "gone")
    (tmp_path / "run" / "result.json").write_text(json.dumps(result))
    moved = finetune.load(tmp_path / "run")
    assert moved.predict(rows) == finetune.load(run).predict(rows)


@pytest.mark.parametrize("strategy", ["full", "frozen", "lora", {"name": "lora", "target_modules": "all-linear"}])
def test_what_was_newly_initialized_survives_a_reload(
    strategy: Any, base: Path, examples: Any, tmp_path: Path, run: Path
) -> None:
    # the base lacks pooler and classifier: train() itself compares the reloaded outputs to the bit, and this does so
    # once more, in a way that a user would
    result = finetune.train(**content(base, examples, tmp_path / "s", strategy=strategy))
    assert result.newly_initialized == ["bert.pooler.dense", "classifier"]
    lines = [json.loads(line) for line in (tmp_path / "s" / "predictions.jsonl").read_text().splitlines()]
    predicted = finetune.load(tmp_path / "s").predict([{"text": line["example"]["text"]} for line in lines])
    assert [record["prediction"] for record in predicted] == [line["prediction"] for line in lines]
    if strategy != "full":
        assert result.trainable_parameters < result.total_parameters / 2
        of_the_base = {n: t for n, t in load_file(base / "model.safetensors").items() if ".layer.0." in n}
        if strategy == "frozen":
            after = weights(tmp_path / "s")
            assert all(torch.equal(after[name], tensor) for name, tensor in of_the_base.items())


@pytest.mark.parametrize("strategy", ["full", "lora"])
def test_training_in_bf16_saves_what_it_trained(strategy: str, base: Path, examples: Any, tmp_path: Path) -> None:
    result = finetune.train(**content(base, examples, tmp_path / "b", strategy=strategy, training={"bf16": True}))
    assert finetune.evaluate(tmp_path / "b") == result.scores["test"]


def test_a_folder_that_holds_something_is_refused(run: Path, base: Path, examples: Any, tmp_path: Path) -> None:
    with pytest.raises(OutputExists, match="--resume, replace it with --overwrite"):
        finetune.train(**content(base, examples, run))
    with pytest.raises(OutputExists, match="has finished"):
        finetune.train(**content(base, examples, run), resume=True)
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "monday.txt").write_text("dear diary")
    for flags in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(OutputExists, match=r"not empty|not a run folder"):
            finetune.train(**content(base, examples, tmp_path / "diary"), **flags)
    assert (tmp_path / "diary" / "monday.txt").read_text() == "dear diary"
    with pytest.raises(OutputExists, match="does not exist"):
        finetune.train(**content(base, examples, tmp_path / "nothing"), resume=True)


def test_two_runs_never_write_into_one_folder(on_disk: tuple[Path, Path]) -> None:
    recipe, output = on_disk
    process = spawn(recipe)
    try:
        wait_for(output / "checkpoint-1" / MANIFEST, process)
        with pytest.raises(OutputExists, match="is writing into"):
            finetune.train(recipe, overwrite=True)
        assert output.is_dir()
    finally:
        process.kill()
        process.communicate()
    finetune.train(recipe, overwrite=True, training={"max_steps": 1})


def test_overwriting_leaves_nothing_of_the_earlier_run(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "old")
    (tmp_path / "old" / "checkpoint-999").mkdir()
    finetune.train(run / "recipe.yaml", output=str(tmp_path / "old"), overwrite=True)
    assert not (tmp_path / "old" / "checkpoint-999").exists()
    assert same(weights(run), weights(tmp_path / "old"))


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"learning_rat": 1}, "'learning_rat' is not an option of TrainingArguments. Did you mean 'learning_rate'"),
        ({"warmup_ratio": 0.1}, "Write warmup_steps; below 1 it is a share"),
        ({"output_dir": "x"}, "it is the recipe's `output`"),
        ({"learning_rate": "fast"}, "'learning_rate': .*number.*'fast'"),
        ({"save_total_limit": 1}, "Write at least 2"),
    ],
)
def test_a_training_option_that_means_nothing_is_refused(
    training: Any, message: str, base: Path, examples: Any, tmp_path: Path
) -> None:
    with pytest.raises(BadOptions, match=message):
        finetune.train(**content(base, examples, tmp_path / "x", training=training))
    assert not (tmp_path / "x").exists()


def test_label_smoothing_that_a_loss_of_its_own_would_ignore_is_refused(
    base: Path, examples: Any, tmp_path: Path
) -> None:
    smoothed = content(base, examples, tmp_path / "x", training={"label_smoothing_factor": 0.1})
    with pytest.raises(BadOptions, match="has no effect"):
        finetune.train(**{**smoothed, "preprocessor": {"poison": 10**6}})


def test_all_problems_of_a_recipe_are_reported_together(base: Path, examples: Any, tmp_path: Path) -> None:
    wrong = content(
        base, examples, tmp_path / "x", strategy="lroa", training={"learning_rat": 1}, model="package:no_such"
    )
    with pytest.raises(BadRecipe) as caught:
        finetune.train(**wrong)
    assert all(part in str(caught.value) for part in ("lroa", "learning_rat", "no_such"))


def test_the_best_model_is_chosen_by_the_evaluator_s_own_direction(base: Path, examples: Any, tmp_path: Path) -> None:
    training = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 2}
    result = finetune.train(**content(base, examples, tmp_path / "best", training=training))
    assert result.arguments["metric_for_best_model"] == "accuracy"
    assert result.arguments["greater_is_better"] is True
    assert result.selection_split == "validation"


@pytest.mark.parametrize(("metric", "score_base_model"), [("acuracy", True), ("eval_acuracy", False)])
def test_a_score_that_no_checkpoint_can_be_chosen_by_is_refused_before_training(
    metric: str, score_base_model: bool, base: Path, examples: Any, tmp_path: Path
) -> None:
    training = {"load_best_model_at_end": True, "metric_for_best_model": metric, "greater_is_better": True,
                "eval_strategy": "steps", "eval_steps": 2}  # fmt: skip
    wrong = content(base, examples, tmp_path / "x", training=training, score_base_model=score_base_model)
    message = "'acuracy', which is not a score of .* Did you mean 'accuracy'. Its scores are: accuracy, loss"
    with pytest.raises(BadOptions, match=message):
        finetune.train(**wrong)
    assert not list((tmp_path / "x").glob("checkpoint-*"))


def test_grouping_by_length_trains_in_another_order_and_scores_in_the_same(
    run: Path, base: Path, examples: Any, tmp_path: Path
) -> None:
    # transformers shuffles the evaluation features too: without our guard, validation and test scores are noise
    training = {"train_sampling_strategy": "group_by_length", "eval_strategy": "steps", "eval_steps": 12}
    result = finetune.train(
        **content(base, examples, tmp_path / "g", training={**training, "per_device_eval_batch_size": 2})
    )
    evaluated = [entry["eval_accuracy"] for entry in result.log if "eval_accuracy" in entry]
    assert evaluated[-1] == result.scores["validation"]["accuracy"]
    assert finetune.evaluate(tmp_path / "g") == result.scores["test"]
    assert not same(weights(run), weights(tmp_path / "g"))


def test_a_model_loaded_in_its_own_way_is_reloaded_in_that_way(base: Path, examples: Any, tmp_path: Path) -> None:
    # another way to compute attention differs in the last digits, and no weight is lost by it
    model = {"path": str(base), "options": {"attn_implementation": "eager"}}
    written = content(
        base, examples, tmp_path / "eager", model=model, score_base_model=False, training={"max_steps": 1}
    )
    finetune.train(**written)
    assert finetune.load(tmp_path / "eager").model.config._attn_implementation == "eager"


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"bf16": "no"}, "'bf16': write False without quotes, not the text 'no'"),
        ({"learning_rate": "3e-5"}, "write 3e-05 without quotes"),
        (
            {"load_best_model_at_end": True, "metric_for_best_model": "loss"},
            "Set evaluator.primary, or set training.greater_is",
        ),
    ],
)
def test_a_training_option_that_would_act_otherwise_than_it_reads_is_refused(
    training: dict[str, Any], message: str, base: Path, examples: Any, tmp_path: Path
) -> None:
    with pytest.raises(BadOptions, match=message):
        finetune.train(**content(base, examples, tmp_path / "run", training=training))


def test_constants_of_a_run_come_with_it_when_it_is_used(base: Path, tmp_path: Path) -> None:
    rows = [{"words": row["text"], "label": row["label"]} for row in toy.rows(24, seed=1)]
    for name in ("train", "other"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps({"label": row["label"]}) for row in rows))
    dataset = {"path": str(tmp_path / "train.jsonl"), "constants": {"text": "a wave"}, "validation_size": 0}
    finetune.train(**content(base, dataset, tmp_path / "run", training={"max_steps": 1}, score_base_model=False))
    assert set(finetune.evaluate(tmp_path / "run", str(tmp_path / "other.jsonl"))) == {"accuracy"}
    model = finetune.load(tmp_path / "run")
    assert model.predict([{}])[0]["prediction"] == model.predict(text="a wave")["prediction"]


def test_evaluating_more_often_trains_the_same_weights(run: Path, base: Path, examples: Any, tmp_path: Path) -> None:
    # a loader draws a random number when it starts: upstream, each evaluation changes what dropout drops after it,
    # and a run killed between a checkpoint and an evaluation resumes to other weights
    training = {"eval_strategy": "steps", "eval_steps": 1}
    finetune.train(**content(base, examples, tmp_path / "often", training=training))
    assert same(weights(run), weights(tmp_path / "often"))


def test_accumulated_gradients_are_those_of_one_batch(examples: Any, tmp_path: Path) -> None:
    # upstream, the loss and gradient of a model that ignores num_items_in_batch come out four times as large
    still = toy.base(tmp_path / "still", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    logs = []
    for size, steps in ((12, 1), (3, 4)):
        training = {"per_device_train_batch_size": size, "gradient_accumulation_steps": steps, "max_steps": 2}
        recipe = content(still, examples, tmp_path / str(steps), training=training, score_base_model=False)
        logs.append(finetune.train(**recipe).log[0])
    for name in ("loss", "grad_norm"):
        assert logs[0][name] == pytest.approx(logs[1][name], rel=1e-4)


# --- what goes wrong while training -----------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [1, 5])
def test_a_loss_that_is_no_number_stops_the_run_before_the_update(
    call: int, base: Path, examples: Any, tmp_path: Path
) -> None:
    wrong = content(base, examples, tmp_path / "nan", preprocessor={"poison": call}, score_base_model=False)
    with pytest.raises(TrainingFailed, match=f"step {call}: the loss is not a finite number"):
        finetune.train(**wrong)
    for path in (tmp_path / "nan").rglob("*.safetensors"):
        assert all(tensor.isfinite().all() for tensor in load_file(path).values()), path
    assert not (tmp_path / "nan" / "result.json").exists()


def interrupted(run: Path, output: Path) -> Path:
    """Return a folder as a crash after step 10 would leave it: checkpoints 8 and 10, no result."""
    shutil.copytree(run, output)
    for name in ("result.json", "model.safetensors", "predictions.jsonl"):
        (output / name).unlink()
    shutil.rmtree(output / "checkpoint-12")
    return output


def resume(output: Path, run: Path, **changes: Any) -> Result:
    recipe = {**recipes.to_mapping(recipes.read(run / "recipe.yaml")), "output": str(output)}
    recipe["training"] = {**recipe["training"], **changes.pop("training", {})}
    flags = {key: changes.pop(key) for key in ("accept_changes",) if key in changes}
    return finetune.train(**{**recipe, **changes}, resume=True, **flags)


def test_a_resumed_run_ends_with_the_same_weights_to_the_bit(run: Path, tmp_path: Path) -> None:
    output = interrupted(run, tmp_path / "r")
    result = resume(output, run)
    assert result.resumed_from == "checkpoint-10"
    assert same(weights(run), weights(output))
    shutil.rmtree(tmp_path / "r")
    # a control that the comparison can fail: other data order, other weights
    finetune.train(run / "recipe.yaml", output=str(tmp_path / "r"), seed=43)
    assert not same(weights(run), weights(tmp_path / "r"))


@pytest.mark.parametrize("harm", ["manifest", "optimizer.pt", "scheduler.pt", "rng_state.pth", "flip", "truncate"])
def test_an_invalid_checkpoint_is_named_and_skipped(
    harm: str, run: Path, tmp_path: Path, base: Path, examples: Any
) -> None:
    output = interrupted(run, tmp_path / "r")
    victim = toy.copy_checkpoint(output / "checkpoint-10", 11)
    target = victim / {"manifest": MANIFEST, "flip": "model.safetensors", "truncate": "optimizer.pt"}.get(harm, harm)
    if harm == "flip":
        data = bytearray(target.read_bytes())
        data[len(data) // 2] ^= 1
        target.write_bytes(data)
    elif harm == "truncate":
        target.write_bytes(target.read_bytes()[: target.stat().st_size // 2])
    else:
        target.unlink()
    result = resume(output, run)
    assert result.resumed_from == "checkpoint-10"
    assert any("checkpoint-11" in note for note in result.notes)
    assert any("removed" in note and "checkpoint-11" in note for note in result.notes)
    assert not list(output.glob("*-checkpoint-*"))
    assert same(weights(run), weights(output))


def test_without_a_valid_checkpoint_nothing_starts_again_by_itself(run: Path, tmp_path: Path) -> None:
    output = interrupted(run, tmp_path / "r")
    for checkpoint in output.glob("checkpoint-*"):
        (checkpoint / MANIFEST).unlink()
    with pytest.raises(BadCheckpoint, match=r"no checkpoint to resume from.*checkpoint-10 is not complete"):
        resume(output, run)
    assert not (output / "result.json").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"training": {"learning_rate": 5e-4}}, r"training.learning_rate: 0.001 then, 0.0005 now"),
        ({"training": {"per_device_train_batch_size": 8}}, "training.per_device_train_batch_size: 4 then, 8 now"),
        ({"seed": 1}, "seed: 42 then, 1 now"),
        ({"strategy": "frozen"}, "strategy: "),
    ],
)
def test_a_run_is_not_resumed_as_another(changes: Any, message: str, run: Path, tmp_path: Path) -> None:
    output = interrupted(run, tmp_path / "r")
    with pytest.raises(BadCheckpoint, match=message):
        resume(output, run, **changes)
    assert (output / "checkpoint-10").is_dir()


def test_changed_data_is_refused_and_can_be_accepted(run: Path, tmp_path: Path, examples: Any) -> None:
    output = interrupted(run, tmp_path / "r")
    changed = tmp_path / "train.jsonl"
    changed.write_text(Path(examples["train"]).read_text().replace("wave", "ship", 1))
    with pytest.raises(BadCheckpoint, match=r"data\.train"):
        resume(output, run, dataset={**examples, "train": str(changed)})
    result = resume(output, run, dataset={**examples, "train": str(changed)}, accept_changes=True)
    assert any("resumed with a change: data.train" in note for note in result.notes)


def spawn(recipe: Path, *flags: str) -> subprocess.Popen[str]:
    """Start `finetune train` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(HERE), "PYTHONWARNINGS": "default"}
    return subprocess.Popen(
        [sys.executable, "-m", "finetune", "train", str(recipe), "--quiet", *flags],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    while not path.exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


@pytest.fixture
def on_disk(base: Path, examples: Any, tmp_path: Path) -> tuple[Path, Path]:
    """Write the recipe of a longer run; return it and the run's folder."""
    output = tmp_path / "out"
    written = content(base, examples, output, score_base_model=False, training={"max_steps": 60, "save_steps": 1})
    (tmp_path / "recipe.yaml").write_text(recipes.dump(written))
    return tmp_path / "recipe.yaml", output


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_saves_a_checkpoint_and_exits_with_its_code(
    number: signal.Signals, code: int, on_disk: tuple[Path, Path]
) -> None:
    recipe, output = on_disk
    process = spawn(recipe)
    wait_for(output / "checkpoint-2" / MANIFEST, process)
    process.send_signal(number)
    _, printed = process.communicate(timeout=120)
    assert process.returncode == code, printed
    assert f"stopped by {number.name} at step" in printed
    assert "Continue with: finetune train " in printed
    steps = [int(path.name.rpartition("-")[2]) for path in output.glob("checkpoint-*")]
    verify(output / f"checkpoint-{max(steps)}")
    assert not (output / "result.json").exists()
