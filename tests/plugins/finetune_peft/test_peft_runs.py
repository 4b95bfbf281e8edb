"""Each method: what trains, what is saved, and that a run killed in the middle goes on as if it had not been."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toy
from click.testing import CliRunner
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaConfig, LlamaForCausalLM

import finetune
from finetune import recipe as recipes
from finetune.cli import main
from finetune.errors import BadCheckpoint, BadOptions, Incompatible, TrainingFailed
from finetune.plugins import discover
from finetune.recipe import options
from finetune.result import Result
from finetune.training import checks

FEW = {"num_virtual_tokens": 3}
WHOLE = r"\.(classifier|bert\.pooler\.dense)\.modules_to_save\."
"""The head, and what the base model lacks."""
METHODS: dict[str, tuple[dict[str, Any], str]] = {
    "lora": ({"name": "lora"}, r"(query|value)\.lora_[AB]\."),
    "all-linear": ({"name": "lora", "target_modules": "all-linear"}, r"bert\.encoder\..*\.lora_[AB]\."),
    "dora": ({"name": "lora", "use_dora": True}, r"(query|value)\.lora_([AB]|magnitude_vector)\."),
    "rslora": ({"name": "lora", "use_rslora": True}, r"(query|value)\.lora_[AB]\."),
    "qlora": ({"name": "qlora"}, r"bert\.encoder\..*\.lora_[AB]\."),
    "prefix": ({"name": "prefix", **FEW}, r"^prompt_encoder\."),
    "projection": ({"name": "prefix", "prefix_projection": True, **FEW}, r"^prompt_encoder\.default\."),
    "prompt": ({"name": "prompt", **FEW}, r"^prompt_encoder\."),
    "ptuning": ({"name": "ptuning", **FEW}, r"^prompt_encoder\.default\.(embedding|mlp_head)"),
    "lstm": ({"name": "ptuning", "encoder_reparameterization_type": "LSTM", **FEW}, r"^prompt_encoder\."),
    "ia3": ({"name": "ia3"}, r"\.(key|value|output\.dense)\.ia3_l\."),
    "layernorm": ({"name": "layernorm"}, r"LayerNorm\.ln_tuning_layers\."),
}
"""Name → the recipe's strategy section, and what finds every parameter that the method adds to train, and no other."""
MERGEABLE = ("lora", "all-linear", "dora", "rslora", "ia3", "layernorm", "qlora")
ROWS = {"train": toy.rows(32, seed=1), "validation": toy.rows(12, seed=2)}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.base(tmp_path_factory.mktemp("base") / "bert", hidden_dropout_prob=0.1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("data")
    for split, rows in ROWS.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {split: str(folder / f"{split}.jsonl") for split in ROWS}


def train(base: Path, data: Any, output: Path, strategy: Any, **training: Any) -> Result:
    usual = {
        "max_steps": 4, "per_device_train_batch_size": 8, "learning_rate": 1e-2, "logging_steps": 1,
        "save_strategy": "steps", "save_steps": 2, "save_total_limit": 9, "eval_strategy": "no",
    }  # fmt: skip
    return finetune.train(
        task="toy:TASK", model=str(base), dataset=data, strategy=strategy, output=str(output), score_base_model=False,
        general_text="none", training={**usual, **training},
    )  # fmt: skip


@pytest.fixture(scope="module")
def runs(base: Path, data: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what trains by a method, once."""
    folder = tmp_path_factory.mktemp("runs")

    def run(name: str) -> Path:
        if not (folder / name).exists():
            train(base, data, folder / name, METHODS[name][0])
        return folder / name

    return run


@pytest.mark.parametrize("name", METHODS)
def test_what_trains_is_what_the_method_adds_and_what_was_newly_initialized(name: str, base: Path) -> None:
    section, adds = METHODS[name]
    given = {option: value for option, value in section.items() if option != "name"}
    built = options.build(discover().find("strategies", section["name"]), given, where="strategy")
    with built.loading():
        model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2, **built.load_options())
    model = built.prepare(model, toy.TASK, newly_initialized={"classifier", "bert.pooler.dense"})
    trains = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    whole = {name for name in trains if re.search(WHOLE, name)}
    assert len(whole) == 4
    added = {name for name, _ in model.named_parameters() if re.search(adds, name)}
    assert added
    assert trains == whole | added


@pytest.mark.parametrize("name", METHODS)
def test_a_run_that_is_resumed_ends_with_the_bits_of_one_that_was_never_stopped(
    name: str, runs: Any, tmp_path: Path
) -> None:
    straight, resumed = runs(name), tmp_path / "run"
    shutil.copytree(straight, resumed)
    shutil.rmtree(resumed / "checkpoint-4")
    for left in ("result.json", "adapter_model.safetensors", "predictions.jsonl"):
        (resumed / left).unlink()
    written = {**recipes.to_mapping(recipes.read(straight / "recipe.yaml")), "output": str(resumed)}
    assert finetune.train(**written, resume=True).resumed_from == "checkpoint-2"
    folders = (straight, resumed, resumed / "checkpoint-2")
    one, two, half = (load_file(path / "adapter_model.safetensors") for path in folders)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not any(torch.equal(one[key], half[key]) for key in one)  # a control that the comparison can fail


@pytest.mark.parametrize("name", ["lora", "qlora", "prefix", "projection", "prompt", "ptuning", "dora"])
def test_the_best_checkpoint_is_what_is_saved(name: str, base: Path, data: Any, tmp_path: Path) -> None:
    # without progress in between every checkpoint is as good as the first
    best_of = {"load_best_model_at_end": True, "eval_strategy": "steps", "eval_steps": 2}
    train(base, data, tmp_path / "run", METHODS[name][0], metric_for_best_model="accuracy", **best_of)
    state = json.loads((tmp_path / "run" / "checkpoint-4" / "trainer_state.json").read_text())
    best = Path(state["best_model_checkpoint"]).name
    saved, kept = (
        load_file(path / "adapter_model.safetensors") for path in (tmp_path / "run", tmp_path / "run" / best)
    )
    assert all(torch.equal(saved[key], kept[key]) for key in saved)


def test_a_checkpoint_without_its_network_is_refused(runs: Any, tmp_path: Path) -> None:
    from finetune_peft.ptuning import PTuningStrategy

    with pytest.raises(BadCheckpoint, match="the trained parameters cannot be restored"):
        PTuningStrategy().read_checkpoint(torch.nn.Linear(1, 1), tmp_path)


# --- merging ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MERGEABLE)
def test_a_merged_model_computes_what_the_run_computes(name: str, runs: Any, tmp_path: Path) -> None:
    run, output = runs(name), tmp_path / "merged"
    answer = CliRunner(catch_exceptions=False).invoke(main, ["merge", str(run), "--output", str(output)])
    assert answer.exit_code == 0, answer.output
    assert re.search(r"plain weights in float32; outputs differ by at most \S+", answer.output)
    assert not (output / "adapter_config.json").exists()
    assert (output / "model.safetensors").is_file() and (output / "tokenizer.json").is_file()
    rows = [{"text": row["text"]} for row in ROWS["validation"]]
    one, two = finetune.load(run), finetune.load(output)
    for ours, theirs in zip(one.predict(rows), two.predict(rows), strict=True):
        assert ours["prediction"] == theirs["prediction"]
    plain = AutoModelForSequenceClassification.from_pretrained(output)
    batch = dict(one.tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt"))
    assert torch.allclose(checks.model_outputs(one.model, batch)[0], plain.eval()(**batch).logits, atol=1e-5)
    assert Result.load(output).recipe["strategy"]["trained_by"]["name"] == METHODS[name][0]["name"]
    card = ModelCard.load(output / "README.md")
    assert card.data.library_name == "transformers"
    assert card.data.tags == ["finetune-kit", METHODS[name][0]["name"]]  # the task is a path of Python here
    assert f"with the strategy {METHODS[name][0]['name']}." in card.text
    assert Result.load(output).saved_bytes > Result.load(run).saved_bytes > 0
    assert Result.load(output).scores == Result.load(run).scores


@pytest.mark.parametrize(
    ("name", "why"),
    [("prefix", "puts virtual tokens"), ("prompt", "no weight")],
)  # fmt: skip
def test_what_cannot_be_merged_is_refused_with_the_reason(name: str, why: str, runs: Any, tmp_path: Path) -> None:
    answer = CliRunner().invoke(main, ["merge", str(runs(name)), "--output", str(tmp_path / "merged")])
    assert answer.exit_code == 2
    assert why in answer.stderr
    assert not (tmp_path / "merged").exists()


def test_a_merge_that_would_change_the_model_keeps_nothing(runs: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from finetune_peft import merging

    monkeypatch.setattr(merging, "ROUNDING", {"bfloat16": 1e-9})
    with pytest.raises(TrainingFailed, match=r"the merged model would differ .* Merge with --dtype float32"):
        merging.merge(runs("lora"), tmp_path / "merged", dtype="bfloat16")
    monkeypatch.setattr(merging, "TOLERANCE", -1.0)
    with pytest.raises(TrainingFailed, match="The change comes by the merge in float32"):
        merging.merge(runs("lora"), tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_merge_that_cannot_be_written_leaves_no_half_of_a_model(runs: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from finetune_peft import merging

    def full_disk(folder: Path) -> None:
        assert (folder / "model.safetensors").is_file()
        raise OSError("No space left on device")

    monkeypatch.setattr(merging, "make_readable", full_disk)
    with pytest.raises(OSError, match="No space left"):
        merging.merge(runs("lora"), tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_merged_model_is_not_quantized_when_it_is_loaded(runs: Any) -> None:
    from finetune_peft import merging

    finished = Result.load(runs("lora"))
    section = {**finished.recipe["model"], "options": {"quantization_config": {"load_in_8bit": True}}}
    quantized = replace(finished, recipe={**finished.recipe, "model": section})
    assert merging.model_section(quantized, base=None, dtype="float32")["options"] == {}
    assert merging.model_section(quantized, base=None, dtype="bfloat16")["options"] == {"dtype": "bfloat16"}


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_an_adapter_on_a_half_precision_base_is_merged_in_float32_and_rounded_once(
    dtype: str, base: Path, data: Any, tmp_path: Path
) -> None:
    from finetune_peft import merging

    finetune.train(
        task="toy:TASK", model={"path": str(base), "options": {"dtype": dtype}}, dataset=data, strategy="lora",
        output=str(tmp_path / "run"), score_base_model=False, general_text="none", training={"max_steps": 2},
    )  # fmt: skip
    change = merging.merge(tmp_path / "run", tmp_path / "merged")
    assert change.dtype == dtype
    assert 0 < change.rounding < merging.ROUNDING[dtype]
    merged = load_file(tmp_path / "merged" / "model.safetensors")
    assert {str(tensor.dtype) for tensor in merged.values()} == {f"torch.{dtype}"}
    assert finetune.load(tmp_path / "merged").model.dtype == getattr(torch, dtype)
    assert any(f"rounded to {dtype}: rounding changes" in note for note in Result.load(tmp_path / "merged").notes)
    exact = merging.merge(tmp_path / "run", tmp_path / "exact", dtype="float32")
    assert exact.rounding <= merging.TOLERANCE
    tensors = load_file(tmp_path / "exact" / "model.safetensors")
    assert all(torch.equal(tensors[name].to(merged[name].dtype), merged[name]) for name in merged)  # rounded once


@pytest.mark.parametrize(
    "options",
    [
        {"modules_to_save": ("lm_head",)},
        {"modules_to_save": ("embed_tokens",)},
        {"target_modules": ("q_proj", "embed_tokens")},
        {"target_modules": ("q_proj", "lm_head")},
        {"target_modules": ("q_proj", "embed_tokens", "lm_head")},
    ],
)
def test_tied_embeddings_are_saved_and_merged_exactly(options: Any, tmp_path: Path) -> None:
    from finetune_peft.lora import LoraStrategy
    from finetune_peft.merging import compare, merge_adapter

    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=64, tie_word_embeddings=True, **size)).save_pretrained(tmp_path / "base")
    strategy, task = LoraStrategy(**options), replace(toy.TASK, peft_type="CAUSAL_LM")
    model = strategy.prepare(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), task)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += torch.randn(parameter.shape, generator=generator) / 10
    ids = torch.arange(1, 25).reshape(2, 12)
    batch = {"input_ids": ids, "use_cache": False}
    trained = checks.model_outputs(checks.align_memory(model), batch)
    strategy.save(model, tmp_path / "run")
    read = strategy.load(tmp_path / "run", model_class=AutoModelForCausalLM, base=str(tmp_path / "base"), options={})
    checks.reloads_equal(trained, checks.model_outputs(checks.align_memory(read), batch))
    merge_adapter(read).save_pretrained(tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert compare(trained, checks.model_outputs(merged, batch)) < 1e-5


def test_outputs_that_are_not_finite_differ_infinitely() -> None:
    from finetune_peft.merging import compare

    one, other = torch.ones(3), torch.tensor([1.0, float("nan"), 1.0])
    assert compare((one,), (other,)) == float("inf")
    assert compare((one,), (one / 2,)) == 0.5


def test_the_recipe_of_a_merged_folder_says_how_it_was_trained_and_trains_nothing(
    runs: Any, base: Path, data: Any, tmp_path: Path
) -> None:
    from finetune_peft import merging

    merging.merge(runs("lora"), tmp_path / "merged")
    content = recipes.to_mapping(recipes.read(tmp_path / "merged" / "recipe.yaml"))
    with pytest.raises(Incompatible, match=r"content of\s+strategy.trained_by"):
        finetune.train(**{**content, "output": str(tmp_path / "again")})


# --- the base model ---------------------------------------------------------------------------------------------------


@pytest.fixture
def apart(data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a run that names its base model by a relative path, seen from another folder."""
    monkeypatch.chdir(tmp_path)
    toy.base(Path("base"), hidden_dropout_prob=0.1)
    train(Path("base"), data, tmp_path / "run", {"name": "lora"}, max_steps=1)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "run"


def use(run: Path, *options: str) -> list[tuple[int, str]]:
    """Return exit status and errors of each command that uses a run."""
    answers = []
    for command in (["predict", str(run), "--text", "sea"], ["evaluate", str(run), "--split", "validation"]):
        answers.append(CliRunner().invoke(main, [*command, *options]))
    merged = run.with_name("merged")
    answers.append(CliRunner().invoke(main, ["merge", str(run), "--output", str(merged), *options]))
    shutil.rmtree(merged, ignore_errors=True)
    return [(answer.exit_code, answer.stderr) for answer in answers]


def test_a_relative_base_model_is_found_from_any_folder(apart: Path) -> None:
    assert [code for code, _ in use(apart)] == [0, 0, 0]
    base = apart.with_name("base")
    assert Result.load(apart).recipe["model"]["path"] == str(base)
    assert json.loads((apart / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)


def test_a_base_model_that_moved_may_be_named(apart: Path) -> None:
    moved = apart.with_name("base").rename(apart.with_name("moved"))
    for code, said in use(apart):
        assert code == 2
        assert "is not in" in said and "any more. If it is in another place, name it with --base" in said
    assert [code for code, _ in use(apart, "--base", str(moved))] == [0, 0, 0]


def test_a_base_model_that_was_replaced_is_refused_by_each_command(apart: Path, data: Any) -> None:
    base = apart.with_name("base")
    weights = load_file(base / "model.safetensors")
    weights[min(weights)] += 1
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    for code, said in use(apart):
        assert code == 2
        assert "is not the base model that the run was trained on: model.safetensors changed" in said
    finetune.load(apart, accept_changes=True)
    (apart / "result.json").unlink()
    content = {**recipes.to_mapping(recipes.read(apart / "recipe.yaml"))}
    with pytest.raises(BadCheckpoint, match=r"model\.safetensors of the base model: \w+ then, \w+ now"):
        finetune.train(**content, resume=True)


def test_a_run_recorded_with_a_relative_path_says_what_it_was(apart: Path) -> None:
    """Runs of older versions recorded the path as it was written."""
    content = json.loads((apart / "result.json").read_text())
    content["recipe"]["model"]["path"] = "base"
    del content["base"]
    (apart / "result.json").write_text(json.dumps(content))
    for code, said in use(apart):
        assert code == 2
        assert "There is no such folder here. If there was one where the run was trained, name its place" in said
    assert [code for code, _ in use(apart, "--base", str(apart.with_name("base")))] == [0, 0, 0]


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"name": "lora", "config": {"biass": "all"}}, r"'biass' is not a field of LoraConfig. Did you mean 'bias'\?"),
        ({"name": "ia3", "config": {"task_type": "SEQ_CLS"}}, "'task_type' cannot be set here: the task sets it"),
        ({"name": "lora", "config": {"r": 4}}, "'r' is an option of the strategy itself"),
        ({"name": "qlora", "bits": 3}, "bits: Input should be 4 or 8"),
        ({"name": "lora", "config": {"bias": "some"}}, "strategy: "),
        ({"name": "prompt", "prompt_tuning_init": "TEXT"}, "prompt_tuning_init_text can't be None"),
        ({"name": "lora", "target_modules": ["qeury"]}, "target_modules 'qeury' names no module .* mean 'query'"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    section: Any, message: str, base: Path, data: Any, tmp_path: Path
) -> None:
    with pytest.raises((BadOptions, Incompatible), match=message):
        train(base, data, tmp_path / "run", section)


def test_fields_of_peft_pass_through(base: Path, data: Any, tmp_path: Path) -> None:
    train(
        base, data, tmp_path / "run", {"name": "lora", "config": {"init_lora_weights": "gaussian", "bias": "lora_only"}}
    )
    written = json.loads((tmp_path / "run" / "adapter_config.json").read_text())
    assert (written["init_lora_weights"], written["bias"]) == ("gaussian", "lora_only")


# --- what cannot go together ------------------------------------------------------------------------------------------


def test_a_prefix_under_activation_checkpointing_is_refused(base: Path, data: Any, tmp_path: Path) -> None:
    with pytest.raises(Incompatible, match="prefix tuning keeps its keys and values in a cache"):
        train(base, data, tmp_path / "run", METHODS["prefix"][0], activation_checkpointing=True)


@pytest.mark.parametrize("name", ["prefix", "prompt", "ptuning"])
@pytest.mark.parametrize(
    ("beyond", "remedy"),
    [(88, "Lower strategy.num_virtual_tokens"), (-2, "Set preprocessor.max_length to 2 or less, or lower strategy")],
)
def test_virtual_tokens_that_leave_no_room_for_the_text_are_refused(
    name: str, beyond: int, remedy: str, base: Path, data: Any, tmp_path: Path
) -> None:
    positions = json.loads((base / "config.json").read_text())["max_position_embeddings"]
    count = positions + beyond
    with pytest.raises(Incompatible, match=rf"{count} virtual tokens .* has {positions} positions\. {remedy}"):
        train(base, data, tmp_path / "run", {"name": name, "num_virtual_tokens": count})
