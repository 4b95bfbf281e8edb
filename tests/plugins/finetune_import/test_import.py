"""Recipes made of other tools' settings: nothing is dropped in silence, and values keep their meaning."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetune import importing
from finetune import plan as plans
from finetune import recipe as recipes
from finetune.cli import main
from finetune.conversion import EMPTY, Conversion
from finetune.errors import BadRecipe
from finetune.plugins import discover
from finetune.recipe import foreign
from finetune.training.arguments import arguments
from finetune_import import axolotl, llama_factory, texts, trainer_scripts, trl_command

PLUGINS = discover()

AXOLOTL: Mapping[str, Any] = {
    "base_model": "org/base",
    "datasets": [{"path": "rows.jsonl", "type": "chat_template", "field_messages": "turns"}],
    "val_set_size": 0.05,
    "sequence_len": 4096,
    "sample_packing": True,
    "adapter": "qlora",
    "load_in_4bit": True,
    "lora_r": 32,
    "lora_alpha": 16,
    "lora_target_linear": True,
    "gradient_accumulation_steps": 4,
    "micro_batch_size": 2,
    "num_epochs": 3,
    "optimizer": "adamw_bnb_8bit",
    "lr_scheduler": "cosine",
    "learning_rate": 2e-4,
    "bf16": "auto",
    "warmup_ratio": 0.1,
    "evals_per_epoch": 4,
    "saves_per_epoch": 2,
    "output_dir": "out",
    "wandb_project": None,
}
FACTORY: Mapping[str, Any] = {
    "model_name_or_path": "org/chat",
    "stage": "sft",
    "do_train": True,
    "finetuning_type": "lora",
    "lora_rank": 16,
    "dataset": "greetings",
    "template": "qwen3",
    "cutoff_len": 2048,
    "max_samples": 100,
    "per_device_train_batch_size": 1,
    "gradient_accumulation_steps": 8,
    "learning_rate": 1e-4,
    "num_train_epochs": 3.0,
    "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.1,
    "bf16": True,
    "output_dir": "saves/sft",
}
INFO = {
    "greetings": {"file_name": "greetings.json"},
    "chats": {
        "hf_hub_url": "org/chats",
        "formatting": "sharegpt",
        "columns": {"messages": "turns"},
        "tags": {"role_tag": "role", "content_tag": "content"},
    },
    "pairs": {
        "file_name": "pairs.json",
        "ranking": True,
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "chosen": "good", "rejected": "bad"},
    },
    "story": {"file_name": "story.json", "columns": {"prompt": "text"}},
    "photos": {"file_name": "photos.json", "columns": {"images": "images"}},
}


def convert(folder: Path, content: Mapping[str, Any], **options: Any) -> Conversion:
    """Return the conversion of settings in a file."""
    path = folder / "settings.yaml"
    path.write_text(json.dumps(content), encoding="utf-8")
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / "dataset_info.json").write_text(json.dumps(INFO), encoding="utf-8")
    return importing.convert(path, PLUGINS, **options)


def recipe_of(folder: Path, content: Mapping[str, Any], **options: Any) -> dict[str, Any]:
    """Return the recipe of settings as `finetune` reads it back from the printed text."""
    read: dict[str, Any] = recipes.load(importing.write(convert(folder, content, **options), name="settings.yaml"))
    return read


def lost(conversion: Conversion) -> dict[str, str]:
    """Return the keys without a place, with what is said about them."""
    return {key: " ".join(o.notes) for key, o in conversion.outcomes.items() if o.status == "missing"}


# --- every key has an outcome -----------------------------------------------------------------------------------------

_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1, 5000),
    st.floats(0.0, 10.0),
    st.sampled_from(["auto", "x", "cosine", "all"]),
)
_FREE = {
    "axolotl": (axolotl.KEYS, AXOLOTL, {"rl", "reward_model", "process_reward_model", "processor_type", "adapter",
                                        "diffusion", "base_model", "datasets", "pretraining_dataset"}),
    "llama-factory": (llama_factory.KEYS, FACTORY, {"stage", "model_name_or_path", "dataset", "finetuning_type",
                                                    "export_dir", "pref_loss", "quantization_bit", "dataset_dir",
                                                    "quantization_method", "eval_dataset", "do_train"}),
}  # fmt: skip
"""Tool → its table, settings to begin with, and keys whose wrong values refuse the whole file."""


@pytest.mark.parametrize("tool", _FREE)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_each_key_of_a_file_has_an_outcome(tool: str, tmp_path: Path, data: st.DataObject) -> None:
    table, base, fixed = _FREE[tool]
    names = st.sampled_from(sorted(table.keys() - fixed)) | st.from_regex(r"[a-z]{3,8}_zz", fullmatch=True)
    content = {**base, **data.draw(st.dictionaries(names, _VALUES, max_size=12))}
    try:
        conversion = convert(tmp_path, content, tool=tool)
    except BadRecipe:
        return  # refused with a reason: nothing is printed
    assert content.keys() - conversion.outcomes.keys() == set()
    for key, value in content.items():
        outcome = conversion.outcomes[key]
        assert outcome.status in {"mapped", "unneeded", "missing", "empty"}
        assert (outcome.status == "empty") == (value in EMPTY), (key, value, outcome)
        if outcome.status in {"missing", "unneeded"}:
            assert outcome.notes, key
    assert recipes.load(importing.write(conversion, name="a.yaml")) == json.loads(json.dumps(conversion.recipe))


def test_the_tables_say_something_of_each_key() -> None:
    for table in (axolotl.KEYS, llama_factory.KEYS, trl_command.KEYS, trainer_scripts.KEYS):
        for name, key in table.items():
            assert key.to or key.note, name


# --- Axolotl ----------------------------------------------------------------------------------------------------------


def test_axolotl_keeps_its_meaning(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, AXOLOTL)
    assert recipe["task"] == "sft"
    assert recipe["dataset"] == {"path": "rows.jsonl", "columns": {"turns": "messages"}, "validation_size": 0.05}
    assert recipe["preprocessor"] == {"max_length": 4096, "packing": True}
    assert recipe["strategy"] == {
        "name": "qlora", "bits": 4, "double_quant": True, "compute_dtype": "bfloat16", "r": 32, "lora_alpha": 16,
        "target_modules": "all-linear",
    }  # fmt: skip
    training = recipe["training"]
    assert training["per_device_train_batch_size"] * training["gradient_accumulation_steps"] == 8
    assert training["per_device_eval_batch_size"] == 2  # micro_batch_size
    assert training["eval_steps"] == pytest.approx(1 / (4 * 3), abs=1e-6)
    assert training["save_steps"] == pytest.approx(1 / (2 * 3), abs=1e-6)
    assert (training["eval_strategy"], training["save_strategy"]) == ("steps", "steps")
    assert training["warmup_steps"] == 0.1
    assert recipe["output"] == "out"
    assert lost(convert(tmp_path, AXOLOTL)) == {}
    plans.make(recipes.parse(recipe), discover(), for_training=False)


def test_axolotl_has_other_defaults_than_a_recipe(tmp_path: Path) -> None:
    given = {
        "base_model": "org/base",
        "learning_rate": 1e-5,
        "datasets": [{"path": "a.jsonl", "type": "chat_template"}],
    }
    recipe = recipe_of(tmp_path, given)
    assert recipe["dataset"]["validation_size"] == 0
    assert recipe["training"]["num_train_epochs"] == 1
    assert recipe["training"]["per_device_train_batch_size"] == 1
    assert recipe["training"]["lr_scheduler_type"] == "cosine"
    assert recipe["training"]["warmup_steps"] == 0.03
    assert recipe["strategy"] == "full"
    assert recipe["output"] == "./model-out"


@pytest.mark.parametrize(
    ("changes", "place", "value"),
    [
        ({"batch_size": 32, "gradient_accumulation_steps": None}, "training.gradient_accumulation_steps", 16),
        ({"cosine_min_lr_ratio": 0.1}, "training.lr_scheduler_type", "cosine_with_min_lr"),
        ({"cosine_min_lr_ratio": 0.1}, "training.lr_scheduler_kwargs.min_lr_rate", 0.1),
        ({"lr_scheduler": "rex"}, "training.lr_scheduler_type", "cosine"),
        ({"warmup_ratio": None, "warmup_steps": 1}, "training.warmup_steps", 2),
        ({"adapter": "lora", "load_in_4bit": False, "load_in_8bit": True}, "strategy.bits", 8),
        ({"adapter": "lora", "load_in_4bit": False}, "strategy.name", "lora"),
        ({"train_on_inputs": True}, "preprocessor.loss_on", "all"),
        ({"bf16": "full"}, "model.options.dtype", "bfloat16"),
        ({"optimizer": "ao_adamw_4bit"}, "training.optim", "adamw_torch_4bit"),
        ({"wandb_project": "harbour", "wandb_name": "a"}, "training.report_to", ["wandb"]),
        ({"fsdp": ["full_shard"], "adapter": "lora", "load_in_4bit": False}, "training.fsdp", True),
    ],
)
def test_a_value_of_axolotl_is_converted(changes: dict[str, Any], place: str, value: Any, tmp_path: Path) -> None:
    found: Any = recipe_of(tmp_path, {**AXOLOTL, **changes})
    for part in place.split("."):
        found = found[part]
    assert found == value


@pytest.mark.parametrize(
    ("dataset", "columns", "converter"),
    [
        ({"type": "alpaca"}, {}, "alpaca"),
        ({"type": "chat_template"}, {}, None),
        ({"type": "chat_template", "field_messages": "conversations",
          "message_property_mappings": {"role": "from", "content": "value"}}, {}, "sharegpt"),
        ({"type": "chat_template", "field_messages": "talk", "message_field_role": "from",
          "message_field_content": "value"}, {"talk": "conversations"}, "sharegpt"),
        ({"type": "sharegpt"}, {}, "sharegpt"),
        ({"type": {"field_instruction": "q", "field_output": "a", "format": "Q: {instruction}\nA:"}},
         {"q": "instruction", "a": "output"}, "alpaca"),
    ],
)  # fmt: skip
def test_a_type_of_axolotl_becomes_columns(
    dataset: dict[str, Any], columns: dict[str, str], converter: str | None, tmp_path: Path
) -> None:
    recipe = recipe_of(tmp_path, {**AXOLOTL, "datasets": [{"path": "a.jsonl", **dataset}]})
    assert recipe["dataset"].get("columns", {}) == columns
    assert recipe["preprocessor"].get("converter") == converter


def test_axolotl_of_plain_text_becomes_language_modeling(tmp_path: Path) -> None:
    given = {**AXOLOTL, "datasets": [{"path": "a.jsonl", "type": "completion", "field": "story"}], "adapter": None}
    recipe = recipe_of(tmp_path, {**given, "load_in_4bit": False})
    assert recipe["task"] == "causal-language-modeling"
    assert recipe["dataset"]["columns"] == {"story": "text"}
    stream = {"path": "org/web", "name": "10B", "text_column": "body"}
    pretraining = {**given, "datasets": None, "pretraining_dataset": [stream], "max_steps": 50, "load_in_4bit": False}
    recipe = recipe_of(tmp_path, {**pretraining, "val_set_size": None, "streaming_multipack_buffer_size": 500})
    assert recipe["dataset"] == {
        "path": "org/web", "name": "10B", "columns": {"body": "text"}, "streaming": True, "validation_size": 0,
        "shuffle_buffer": 500,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "task", "columns"),
    [
        ({"rl": "dpo", "type": "chatml.intel"}, "dpo", {"question": "prompt"}),
        ({"rl": "dpo", "type": "chat_template.default", "field_messages": "talk", "field_chosen": "good"}, "dpo",
         {"talk": "prompt", "good": "chosen"}),
        ({"rl": "ipo", "type": "llama3.icr"}, "dpo", {"input": "prompt"}),
        ({"rl": "kto", "type": "llama3.ultra"}, "kto", {}),
        ({"reward_model": True, "type": "bradley_terry.chat_template"}, "reward", {"input": "prompt"}),
    ],
)  # fmt: skip
def test_preferences_of_axolotl(changes: dict[str, Any], task: str, columns: dict[str, str], tmp_path: Path) -> None:
    dataset = {"path": "a.jsonl", **{key: value for key, value in changes.items() if key not in ("rl", "reward_model")}}
    top = {key: value for key, value in changes.items() if key in ("rl", "reward_model")}
    recipe = recipe_of(tmp_path, {**AXOLOTL, **top, "datasets": [dataset], "sample_packing": False, "rl_beta": 0.2})
    assert recipe["task"] == task
    assert recipe["dataset"].get("columns", {}) == columns
    assert recipe["preprocessor"]["conversational"] is True
    if task != "reward":
        assert recipe["training"]["beta"] == 0.2
    if changes.get("rl") == "ipo":
        assert recipe["training"]["loss_type"] == ["ipo"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rl": "orpo"}, "rl (line 1): there is no task for 'orpo'"),
        ({"processor_type": "AutoProcessor"}, "images or sound"),
        ({"adapter": "llama-adapter"}, "adapter (line 1): there is no importer for 'llama-adapter'"),
        ({"datasets": []}, "at least one data set"),
        (
            {"val_set_size": "x"},
            "val_set_size (line 1): 'x' is not a value that Axolotl takes. Write a whole number or a",
        ),
        ({"plugins": True}, "plugins (line 1): True is not a value that Axolotl takes. Write a list."),
    ],
)
def test_what_no_task_does_is_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(BadRecipe) as refusal:
        convert(tmp_path, {**AXOLOTL, **changes})
    assert words in str(refusal.value)


def test_a_mixture_and_its_forms(tmp_path: Path) -> None:
    rows = [{"path": "org/a", "type": "alpaca"}, {"path": "org/a", "type": "chat_template", "split": "train_sft[:5%]"}]
    conversion = convert(tmp_path, {**AXOLOTL, "datasets": rows})
    assert list(conversion.recipe["dataset"]["mixture"]) == ["a", "a-2"]
    assert conversion.recipe["dataset"]["mixture"]["a-2"]["splits"] == {"train": "train_sft"}
    assert "several forms" in lost(conversion)["datasets"]
    assert "limit" in lost(conversion)["datasets[1].split"]


def test_what_does_not_go_with_fsdp_is_named(tmp_path: Path) -> None:
    sharded = {**AXOLOTL, "fsdp_config": {"fsdp_version": 2}}
    conversion = convert(tmp_path, sharded)
    assert "fsdp" not in conversion.recipe["training"]
    assert "QLoraStrategy cannot train" in lost(conversion)["fsdp_config"]
    conversion = convert(tmp_path, {**sharded, "adapter": "lora", "load_in_4bit": False})
    assert conversion.recipe["training"]["fsdp"] is True
    assert "cannot be used with fsdp" in lost(conversion)["optimizer"]


STEPS = {"evals_per_epoch": None, "saves_per_epoch": None, "eval_strategy": "steps", "eval_steps": 50}


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ({**AXOLOTL, **STEPS, "save_steps": 100, "num_epochs": 9}, "early_stopping_patience"),
        ({**AXOLOTL, "save_strategy": "no", "load_best_model_at_end": False}, "early_stopping_patience"),
        ({**FACTORY, "eval_strategy": "steps", "eval_steps": 50, "save_steps": 500, "val_size": 0.1,
          "metric_for_best_model": "eval_loss"}, "early_stopping_steps"),
    ],
)  # fmt: skip
def test_a_run_that_stops_early_saves_when_it_is_scored(content: dict[str, Any], key: str, tmp_path: Path) -> None:
    conversion = convert(tmp_path, {**content, key: 3})
    training = conversion.recipe["training"]
    assert training["early_stopping_patience"] == 3
    assert training.keys().isdisjoint({"save_strategy", "save_steps", "load_best_model_at_end"})
    assert lost(conversion) == {}
    assert training.get("greater_is_better") == (False if "metric_for_best_model" in content else None)
    plan = plans.make(recipes.parse(conversion.recipe), discover(), for_training=False)
    chosen = arguments(plan.recipe, plan.task, plan.strategy, evaluator=plan.evaluator, validation=True)
    assert chosen["save_strategy"] == chosen["eval_strategy"] == "steps"
    assert chosen["save_steps"] == chosen["eval_steps"] == training["eval_steps"]


def test_early_stopping_that_cannot_work_is_named(tmp_path: Path) -> None:
    conversion = convert(tmp_path, {**FACTORY, "eval_strategy": "epoch", "val_size": 0.1, "early_stopping_steps": 3})
    assert "early_stopping_patience" not in conversion.recipe["training"]
    assert "because it is evaluated 3 times" in lost(conversion)["early_stopping_steps"]


def test_rows_that_axolotl_counts_are_no_share(tmp_path: Path) -> None:
    conversion = convert(tmp_path, {**AXOLOTL, "val_set_size": 500})
    assert "500" in lost(conversion)["val_set_size"]
    assert "validation_size" not in conversion.recipe["dataset"]


# --- Alpaca's prompt --------------------------------------------------------------------------------------------------


def test_the_chat_template_writes_alpacas_prompt() -> None:
    from finetune.testing.tokenizers import tokenizer

    words = tokenizer("llama")
    words.chat_template = texts.alpaca()
    asked = [{"role": "user", "content": "Name a port."}]
    prompt = words.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    whole = words.apply_chat_template([*asked, {"role": "assistant", "content": "Elm."}], tokenize=False)
    expected = (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nName a port.\n\n### Response:\n"
    )
    assert prompt == f"{words.bos_token}{expected}"
    assert whole == f"{prompt}Elm.{words.eos_token}"
    told = [{"role": "system", "content": "Be brief."}, *asked]
    written = words.apply_chat_template(told, tokenize=False)
    assert written == f"{words.bos_token}Be brief.\n\n### Instruction:\nName a port.\n\n### Response:\n"


# --- LLaMA-Factory ----------------------------------------------------------------------------------------------------


def test_llama_factory_keeps_its_meaning(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, FACTORY)
    assert recipe["task"] == "sft"
    assert recipe["dataset"]["path"].endswith("data/greetings.json")
    assert recipe["dataset"]["limit"] == {"train": 100}
    assert recipe["dataset"]["validation_size"] == 0
    assert recipe["preprocessor"] == {"max_length": 2048, "converter": "alpaca"}
    assert recipe["strategy"] == {
        "name": "lora", "r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": "all-linear"
    }  # fmt: skip
    assert recipe["training"]["warmup_steps"] == 0.1
    assert recipe["training"]["activation_checkpointing"] is True  # LLaMA-Factory's default
    assert lost(convert(tmp_path, FACTORY)) == {}
    plans.make(recipes.parse(recipe), discover(), for_training=False)


def test_llama_factory_finds_what_a_data_set_is(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, {**FACTORY, "dataset": "chats"})
    assert recipe["dataset"]["path"] == "org/chats"
    assert recipe["dataset"]["columns"] == {"turns": "messages"}
    assert "converter" not in recipe["preprocessor"]
    recipe = recipe_of(tmp_path, {**FACTORY, "dataset": "pairs", "stage": "dpo", "pref_beta": 0.3, "pref_ftx": 0.5})
    assert recipe["dataset"]["columns"] == {"conversations": "prompt", "good": "chosen", "bad": "rejected"}
    assert recipe["preprocessor"]["converter"] == "sharegpt"
    assert recipe["training"]["beta"] == 0.3
    assert (recipe["training"]["loss_type"], recipe["training"]["loss_weights"]) == (["sigmoid", "sft"], [1.0, 0.5])
    recipe = recipe_of(tmp_path, {**FACTORY, "dataset": "story", "stage": "pt"})
    assert recipe["task"] == "causal-language-modeling"
    assert "columns" not in recipe["dataset"]
    with pytest.raises(BadRecipe, match="photos holds images"):
        convert(tmp_path, {**FACTORY, "dataset": "photos"})


@pytest.mark.parametrize(
    ("changes", "place", "value"),
    [
        ({"val_size": 0.1}, "dataset.validation_size", 0.1),
        ({"quantization_bit": 4, "double_quantization": False}, "strategy.double_quant", False),
        ({"quantization_bit": 8}, "strategy.bits", 8),
        ({"lora_target": "q_proj,v_proj"}, "strategy.target_modules", ["q_proj", "v_proj"]),
        ({"loraplus_lr_ratio": 16.0}, "strategy.loraplus_lr_ratio", 16.0),
        ({"pissa_init": True}, "strategy.config.init_lora_weights", "pissa"),
        ({"flash_attn": "fa2"}, "model.options.attn_implementation", "flash_attention_2"),
        ({"neat_packing": True}, "preprocessor.packing", True),
        ({"mask_history": True}, "preprocessor.loss_on", "completion"),
        ({"train_on_prompt": True}, "preprocessor.loss_on", "all"),
        ({"enable_thinking": False}, "preprocessor.chat_template_kwargs.enable_thinking", False),
        ({"disable_gradient_checkpointing": True}, "training.activation_checkpointing", False),
        ({"save_steps": 500}, "training.save_strategy", "steps"),
        ({"finetuning_type": "full"}, "strategy", "full"),
        ({"learning_rate": None}, "training.learning_rate", 5e-5),
    ],
)
def test_a_value_of_llama_factory_is_converted(changes: dict[str, Any], place: str, value: Any, tmp_path: Path) -> None:
    found: Any = recipe_of(tmp_path, {**FACTORY, **changes})
    for part in place.split("."):
        found = found[part]
    assert found == value


def test_without_dataset_info_the_recipe_says_so(tmp_path: Path) -> None:
    path = tmp_path / "sft.yaml"
    path.write_text(json.dumps(FACTORY), encoding="utf-8")
    conversion = importing.convert(path, discover())
    assert "dataset_info.json" in lost(conversion)["dataset"]


# --- TRL and scripts --------------------------------------------------------------------------------------------------


def test_trl_needs_the_task_and_has_defaults(tmp_path: Path) -> None:
    given = {"model_name_or_path": "org/base", "dataset_name": "org/rows"}
    with pytest.raises(BadRecipe, match="--task sft or --task dpo"):
        convert(tmp_path, given)
    recipe = recipe_of(tmp_path, given, task="dpo")
    assert recipe["training"]["learning_rate"] == 1e-6
    assert recipe["training"]["bf16"] is True
    assert recipe["training"]["activation_checkpointing"] is True
    assert recipe["preprocessor"]["max_length"] == 1024
    assert recipe["dataset"]["validation_size"] == 0
    lora = recipe_of(tmp_path, {**given, "use_peft": True, "packing": True, "eval_strategy": "steps", "eval_steps": 5})
    assert lora["task"] == "sft"
    assert lora["strategy"] == {"name": "lora", "r": 16, "lora_alpha": 32, "lora_dropout": 0.05}
    assert lora["dataset"]["splits"] == {"validation": "test"}
    plans.make(recipes.parse(lora), discover(), for_training=False)


COMMANDS = {
    "trl": """
        #!/bin/bash
        export WANDB_MODE=offline
        trl dpo --model_name_or_path org/chat \\
            --dataset_name org/pairs --beta 0.2 --loss_type sigmoid sft --loss_weights 1.0 0.5 \\
            --learning_rate 5e-6 --gradient_checkpointing --no_remove_unused_columns --output_dir out
        """,
    "script": """
        accelerate launch --num_processes 2 examples/run_qa.py \\
          --model_name_or_path bert-base-uncased --dataset_name squad_v2 --version_2_with_negative \\
          --do_train --do_eval --per_device_train_batch_size=12 --learning_rate 3e-5 --num_train_epochs 2 \\
          --max_seq_length 384 --doc_stride 128 --output_dir /tmp/out  # as in the README
        """,
}


def test_a_shell_script_is_read(tmp_path: Path) -> None:
    for name, text in COMMANDS.items():
        (tmp_path / f"{name}.sh").write_text(textwrap.dedent(text).lstrip(), encoding="utf-8")
    dpo = importing.convert(tmp_path / "trl.sh", discover()).recipe
    assert dpo["task"] == "dpo"
    assert dpo["training"]["loss_type"] == ["sigmoid", "sft"]
    assert dpo["training"]["loss_weights"] == [1.0, 0.5]
    assert dpo["training"]["activation_checkpointing"] is True
    squad = importing.convert(tmp_path / "script.sh", discover())
    assert squad.recipe["task"] == "question-answering"
    assert squad.recipe["preprocessor"] == {"max_length": 384, "stride": 128}
    assert squad.recipe["training"]["per_device_train_batch_size"] == 12
    assert squad.recipe["training"]["learning_rate"] == 3e-5
    assert lost(squad) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("echo hello\n", "no command that trains"),
        ("trl sft --model_name_or_path a\ntrl dpo --model_name_or_path a\n", "several commands"),
        ("trl sft --model_name_or_path $MODEL --dataset_name b\n", "Write the value of the variable"),
        ("trl sft --model_name_or_path 'a\n", "line 1"),
    ],
)
def test_a_shell_script_that_cannot_be_read(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "run.sh"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadRecipe) as refusal:
        importing.convert(path, discover())
    assert words in str(refusal.value)


def test_a_task_that_the_file_contradicts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="--task dpo: the file makes the task 'sft'"):
        convert(tmp_path, AXOLOTL, task="dpo")


def test_run_glue_knows_its_columns(tmp_path: Path) -> None:
    given = {"model_name_or_path": "bert-base-cased", "task_name": "mrpc", "max_seq_length": 128, "do_train": True}
    recipe = recipe_of(tmp_path, {**given, "learning_rate": 2e-5, "num_train_epochs": 3, "output_dir": "out"})
    assert recipe["task"] == "text-classification"
    assert (recipe["dataset"]["path"], recipe["dataset"]["name"]) == ("nyu-mll/glue", "mrpc")
    assert recipe["dataset"]["columns"] == {"sentence1": "text", "sentence2": "text_pair"}
    assert recipe_of(tmp_path, {**given, "task_name": "stsb"})["task"] == "text-regression"
    files = {"model_name_or_path": "t5-small", "train_file": "a.json", "text_column": "body", "summary_column": "tl"}
    recipe = recipe_of(tmp_path, {**files, "source_prefix": "summarize: ", "max_target_length": 64})
    assert recipe["task"] == "summarization"
    assert recipe["dataset"]["columns"] == {"body": "document", "tl": "summary"}
    assert (recipe["preprocessor"]["prefix"], recipe["preprocessor"]["max_target_length"]) == ("summarize: ", 64)


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_a_recipe_and_a_summary(tmp_path: Path) -> None:
    path = tmp_path / "axolotl.yaml"
    path.write_text(
        "base_model: org/base\ndatasets:\n  - path: a.jsonl\n    type: chat_template\n"
        "learning_rate: 1e-4\nrelora: true\nsequence_length: 512\nwandb_entity:\n",
        encoding="utf-8",
    )
    done = CliRunner().invoke(main, ["import", str(path)])
    assert done.exit_code == 0, done.stderr
    recipe = recipes.load(done.stdout)
    assert recipe["training"]["learning_rate"] == 1e-4
    assert "path: org/base  # base_model" in done.stdout
    assert "relora (line 6)" in done.stdout
    for words in (
        "sequence_length (line 7)",
        "Did you mean 'sequence_len'",
        "Empty, so without effect: wandb_entity",
    ):
        assert words in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the file is empty"),
        ("- a\n", "must be a mapping"),
        ("a: [1\n", "line 2, column 1"),
        ("a: &x [*x]\n", "a value holds itself"),
        ("a: !!python/object:os.system {}\n", "line 1, column 4"),
        ("some: thing\n", "no importer recognises this file"),
    ],
)
def test_a_file_that_is_none(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text, encoding="utf-8")
    done = CliRunner().invoke(main, ["import", str(path)])
    assert done.exit_code == 2
    assert words in done.stderr


def test_an_alias_bomb_is_refused(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(BadRecipe, match="at most 50,000 keys and values"):
        importing.convert(path, discover())


def test_a_python_script_is_answered_with_what_can_be_read(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("args = TrainingArguments(output_dir='out', learning_rate=1e-4)\n")
    with pytest.raises(BadRecipe, match="is Python, which is neither run nor read"):
        foreign.read(script)
