"""The learning rate that a recipe gets: by model, task and strategy, printed by init and recorded by a run."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import toy
import yaml
from hypothesis import given
from hypothesis import strategies as st
from transformers import BartConfig, BertConfig, LlamaConfig, T5Config

import finetune
from finetune.interfaces import Base, Strategy, Suggestion, Task
from finetune.plan import make
from finetune.plugins import discover
from finetune.recipe import Model, from_mapping, starter
from finetune.run import require_same_recipe
from finetune.training import rates

PLUGINS = discover()
STRATEGIES = sorted(PLUGINS.catalogues["strategies"].targets)
CONFIGS = {
    "a small encoder": (
        BertConfig(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536), "encoder",
        (22e6, 24e6), 1.5e-4,
    ),
    "BERT-base": (BertConfig(), "encoder", (105e6, 115e6), 5e-5),
    "BERT-large": (
        BertConfig(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096), "encoder",
        (320e6, 350e6), 2e-5,
    ),
    "T5-small": (T5Config(), "encoder-decoder", (55e6, 65e6), 3e-4),
    "BART-large": (BartConfig(), "encoder-decoder", (380e6, 420e6), 3e-5),
    "a small decoder": (
        LlamaConfig(
            hidden_size=576, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
            intermediate_size=1536, vocab_size=49152,
        ), "decoder", (130e6, 140e6), 1e-4,
    ),
    "Llama 2": (LlamaConfig(), "decoder", (6.4e9, 7e9), 2e-5),
}  # fmt: skip


def task(name: str, **changes: Any) -> Task:
    found: Task = PLUGINS.find("tasks", name)
    return replace(found, **changes)


@dataclass(frozen=True, kw_only=True)
class Stranger(Strategy):
    """What somebody else wrote: half the usual rate, and more epochs."""

    def suggest(self, task: Task, base: Base) -> Suggestion:
        training = {"learning_rate": base.learning_rate / 2, "num_train_epochs": 7}
        return Suggestion(training=training, source=f"half of it, for {base.kind}s")

    def prepare(self, model: Any, task: Task, *, newly_initialized: Any = ()) -> Any:
        return model


@pytest.mark.parametrize("name", CONFIGS)
def test_the_rate_of_full_fine_tuning_depends_on_the_kind_and_the_size_of_the_model(name: str, tmp_path: Path) -> None:
    config, kind, (least, most), rate = CONFIGS[name]
    config.save_pretrained(tmp_path)
    base = rates.describe(Model(path=str(tmp_path)), task("text-classification"))
    assert base is not None
    assert (base.kind, base.learning_rate) == (kind, rate)
    assert least < base.parameters < most


@pytest.mark.parametrize(
    ("path", "name", "rate"),
    [
        ("HuggingFaceTB/SmolLM2-135M", "sft", 1e-4),
        ("meta-llama/Llama-2-7b-hf", "sft", 2e-5),
        ("google-bert/bert-base-uncased", "text-classification", 5e-5),
        ("FacebookAI/roberta-large", "text-classification", 2e-5),
        ("google-t5/t5-small", "summarization", 3e-4),
        ("facebook/bart-large-cnn", "summarization", 3e-5),
        ("me/mine", "text-classification", 5e-5),
    ],
)
def test_the_name_of_a_model_counts_if_its_files_are_not_here(path: str, name: str, rate: float) -> None:
    base = rates.describe(Model(path=path), task(name), offline=True)
    assert base is not None and base.learning_rate == rate


def test_the_base_that_comes_with_the_samples_gets_the_same_rate_from_init_and_from_a_run(toy_base: Path) -> None:
    model = Model(path=str(toy_base))
    found = [rates.describe(model, task("text-classification"), offline=offline) for offline in (True, False)]
    assert found[0] == found[1]


@given(rate=st.floats(1e-6, 1.0), factor=st.sampled_from([0.05, 0.5, 1.0, 2.0]))
def test_a_rate_that_the_task_states_for_its_starter_is_that_of_full_fine_tuning(rate: float, factor: float) -> None:
    starter_of = {"model": {"path": "scheme:base"}, "training": {"learning_rate": rate}}
    stated = task("text-classification", starter=starter_of, learning_rate_factor=factor)
    full = PLUGINS.find("strategies", "full")()
    found = rates.suggest(Model(path="scheme:base"), stated, full, offline=True)
    assert found is not None
    assert found.training["learning_rate"] == pytest.approx(rate, rel=0.05)  # two digits
    assert rates.suggest(Model(path="scheme:other"), stated, full, offline=True) is None


def test_a_task_takes_its_share_of_the_rate() -> None:
    full, model = PLUGINS.find("strategies", "full")(), Model(path="me/model-7b")
    supervised = rates.suggest(model, task("sft"), full, offline=True)
    preferred = rates.suggest(model, task("dpo"), full, offline=True)
    assert supervised is not None and preferred is not None
    assert preferred.training["learning_rate"] == pytest.approx(0.05 * supervised.training["learning_rate"])
    assert "0.05" in preferred.source


@pytest.mark.parametrize(
    ("strategy", "small", "large", "tiny"),
    [
        ("full", 1.5e-4, 2e-5, 3e-3),
        ("discriminative", 1.5e-4, 2e-5, 3e-3),
        ("gradual", 4.5e-4, 6e-5, 9e-3),
        ("lora", 1.5e-3, 2e-4, 5e-3),  # 3e-2 was never measured
        ("qlora", 5e-4, 2e-4, 1.7e-3),
        ("bottleneck", 1.5e-3, 2e-4, 5e-3),
        ("frozen", 1e-1, 1e-2, 1e-1),
        ("layernorm", 1e-2, 1e-3, 1e-2),
        ("ia3", 3e-2, 3e-3, 3e-2),
        ("prefix", 3e-2, 1e-2, 3e-2),
        ("ptuning", 1.5e-2, 1e-3, 1.5e-2),
        ("prompt", 0.3, 0.3, 0.3),
    ],
)
def test_a_strategy_suggests_a_rate_for_each_size(strategy: str, small: float, large: float, tiny: float) -> None:
    built = PLUGINS.find("strategies", strategy)()
    for size, full, rate in ((23_000_000, 1.5e-4, small), (7_000_000_000, 2e-5, large), (1_000_000, 3e-3, tiny)):
        base = Base(kind="encoder", parameters=size, learning_rate=full, source="a source")
        found = built.suggest(task("text-classification"), base)
        assert found.training["learning_rate"] == pytest.approx(rate)
        assert found.source


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_init_prints_the_rate_of_the_strategy_and_where_it_comes_from(strategy: str) -> None:
    text = starter.write("text-classification", PLUGINS, strategy=strategy, output="run")
    content = yaml.safe_load(text)
    model = Model(path=content["model"]["path"])
    found = rates.suggest(model, task("text-classification"), PLUGINS.find("strategies", strategy)(), offline=True)
    assert found is not None
    assert content["training"]["learning_rate"] == found.training["learning_rate"]
    assert " ".join(found.source.split()) in " ".join(text.replace("#", " ").split())


def test_init_prints_no_rate_for_a_model_about_which_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = task("text-classification", starter={"model": {"path": "scheme:unknown"}})
    monkeypatch.setitem(PLUGINS.catalogues["tasks"].targets, "unknown", unknown)
    text = starter.write("unknown", PLUGINS, strategy="full", output="run")
    assert "learning_rate" not in (yaml.safe_load(text)["training"] or {})
    assert "A learning rate is chosen for the model when the run starts" in text


@pytest.mark.parametrize(
    ("training", "chosen"),
    [
        ({}, True),
        ({"optim": "adamw_torch_fused"}, True),
        ({"learning_rate": 1e-3}, False),
        ({"optim": "sgd"}, False),
        ({"optim": "adafactor"}, False),
    ],
)
def test_a_rate_is_chosen_for_adamw_alone_and_only_if_the_recipe_states_none(
    training: dict[str, Any], chosen: bool, toy_base: Path
) -> None:
    recipe = from_mapping({**toy.recipe(toy_base, Path("run")), "training": training, "dataset": "x.csv"})
    found = rates.choose(recipe, task("text-classification"), Stranger(), folder=str(toy_base))
    assert (found is not None) == chosen
    if found is not None:
        assert list(found.training) == ["learning_rate"]  # never the epochs of a recipe


def test_a_run_states_the_rate_that_it_chose_and_records_it(toy_base: Path, tmp_path: Path) -> None:
    recipe = toy.recipe(toy_base, tmp_path / "run")
    recipe["training"] = {"max_steps": 2, "save_steps": 1, "save_strategy": "steps"}
    recipe["strategy"] = "test_rates:Stranger"
    files = {split: tmp_path / f"{split}.jsonl" for split in recipe["dataset"]}
    for split, rows in recipe["dataset"].items():
        files[split].write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe["dataset"] = {"path": {split: str(file) for split, file in files.items()}}
    result = finetune.train(**recipe)
    base = rates.describe(Model(path=str(toy_base)), task("text-classification"))
    assert base is not None
    rate = base.learning_rate / 2
    assert result.arguments["learning_rate"] == rate
    assert yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())["training"]["learning_rate"] == rate
    assert f"learning rate {rate:g}: half of it, for encoders" in result.notes
    assert result.arguments["num_train_epochs"] == 3  # upstream's: only `init` prints the epochs of a strategy
    require_same_recipe(result, make(from_mapping(recipe), PLUGINS))  # `--auto-resume` finds the run finished
