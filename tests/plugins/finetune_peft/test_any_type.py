"""The strategy `peft`: each of PEFT's types trains and reloads equal, or is refused with the reason; none is silent.

``pytest -m slow tests/plugins/finetune_peft/test_any_type.py`` tries every type with every kind of model through whole
runs, and writes `docs/reference/peft-types.md`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import peft_types
import pytest
import torch
import transformers
import trial
from cases import case
from compatibility import FAILS, TRAINS
from peft import PeftType
from peft_types import KINDS, SMALL

import finetune_peft.influence
from finetune.errors import BadOptions, Incompatible
from finetune.plugins import discover
from finetune.recipe import options
from finetune.testing.models import tiny_model
from finetune.testing.tokenizers import tokenizer
from finetune.training import checks
from finetune_peft import types
from finetune_peft.any_type import AnyPeftStrategy
from finetune_peft.lora import LoraStrategy
from finetune_peft.merging import compare, merge_adapter, random_batch

COMMAND = "pytest -m slow tests/plugins/finetune_peft/test_any_type.py"
TASKS = discover().catalogues["tasks"].targets
TYPES = sorted(kind.value for kind in PeftType)
CLASSES = {"bert": "AutoModelForMaskedLM", "t5": "AutoModelForSeq2SeqLM"}


def test_every_type_of_peft_is_trained_or_refused_by_name() -> None:
    refused = {}
    for kind in TYPES:
        try:
            built = options.build(AnyPeftStrategy, {"type": kind.lower(), **SMALL.get(kind, {})}, where="strategy")
            assert built.kind == kind
        except BadOptions as error:
            refused[kind] = str(error)
    assert set(refused) == {*types.OWN, *types.REFUSED}
    assert all(kind in message for kind, message in refused.items())
    assert len(types.trainable()) == 35


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"type": "MIS"}, r"PEFT has no type 'MIS'\. Did you mean 'MISS'\? Types: ADAMSS, "),
        ({"type": "MISS", "rr": 4}, r"'rr' is not a field of MissConfig\. Did you mean 'r'\? See"),
        ({"type": "MISS", "r": "4"}, r"'r' of MissConfig must be a whole number, not '4'"),
        ({"type": "MISS", "r": True}, r"'r' of MissConfig must be a whole number, not True"),
        ({"type": "SHIRA", "target_modules": 3}, r"must be a text or a list of which each is a text or null, not 3"),
        ({"type": "LORA", "bias": "som"}, r"'bias' of LoraConfig must be one of none, all, lora_only, not 'som'"),
        ({"type": "MISS", "task_type": "CAUSAL_LM"}, r"'task_type' cannot be set here: the task sets it"),
        ({"type": "MISS", "r": 4, "config": {"r": 5}}, r"'r' is set twice: by itself, and in config"),
        ({"type": "PREFIX_TUNING"}, r"PREFIX_TUNING is the strategy prefix"),
        ({"type": "XLORA"}, r"XLORA cannot be trained here: it mixes adapters that were trained before"),
        ({"type": "BOFT", "boft_n_butterfly_factor": 2}, r"'boft_n_butterfly_factor' must be 1"),
    ],
)
def test_wrong_options_are_refused_with_what_is_right(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOptions, match=message):
        options.build(AnyPeftStrategy, given, where="strategy")


def test_options_stand_in_the_section_or_in_config() -> None:
    inline = options.build(AnyPeftStrategy, {"type": "VERA", "r": 8, "d_initial": 1}, where="strategy")
    nested = options.build(AnyPeftStrategy, {"type": "VERA", "config": {"r": 8, "d_initial": 1}}, where="strategy")
    assert inline == nested
    assert options.as_options(inline)["config"] == {"r": 8, "d_initial": 1}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return what writes, once, a tiny model of a kind."""
    folder = tmp_path_factory.mktemp("bases")

    @cache
    def base(kind: str) -> Path:
        family, words, _ = KINDS[kind]
        model_class = CLASSES.get(family, "AutoModelForCausalLM")
        return tiny_model(family, tokenizer(words, vocab_size=600), folder / kind, model_class=model_class)

    return base


def prepared(strategy: Any, base: Path, kind: str) -> tuple[Any, Any, dict[str, Any]]:
    """Return a model as a strategy prepares it, its class, and the options it is loaded with."""
    task = TASKS[KINDS[kind][2]]
    model_class = getattr(transformers, task.model_class)
    given = {"dtype": "float32", **({"num_labels": 2} if kind == "encoder" else {})}
    torch.manual_seed(0)
    model, info = model_class.from_pretrained(base, output_loading_info=True, **given)
    missing = {name.rpartition(".")[0] for name in info["missing_keys"]}
    return strategy.prepare(model, task, newly_initialized=missing), model_class, given


def train_a_little(model: Any) -> None:
    """Make four steps that move the outputs."""
    batch = random_batch(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(4):
        model(**batch).logits.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("kind", types.trainable())
def test_a_trained_adapter_of_each_type_reloads_equal_and_merges_or_says_why_not(
    kind: str, bases: Any, tmp_path: Path
) -> None:
    strategy = AnyPeftStrategy(type=kind, config=SMALL.get(kind, {}))
    model, model_class, given = prepared(strategy, bases("decoder"), "decoder")
    frozen = {name: p.detach().clone() for name, p in model.named_parameters() if not p.requires_grad}
    batch = random_batch(model)
    plain = model_class.from_pretrained(bases("decoder"), **given).eval()
    before = checks.model_outputs(plain, batch)
    train_a_little(model.train())
    trained = checks.model_outputs(checks.align_memory(model.eval()), batch)
    assert compare(before, trained) > 1e-4
    now = dict(model.named_parameters())
    assert all(torch.equal(now[name], value) for name, value in frozen.items())
    with torch.no_grad():
        one = model(**{name: value[:1] if isinstance(value, torch.Tensor) else value for name, value in batch.items()})
        assert compare([trained[0][:1]], [one.logits]) < 1e-5, "the answer for one row depends on the others"
    with model.disable_adapter():  # which is the reference of preference learning
        assert compare(before, checks.model_outputs(model, batch)) == 0
    strategy.save(model, tmp_path)
    torch.manual_seed(1)  # what a type draws at random must come from the file
    loaded = strategy.load(tmp_path, model_class=model_class, base=str(bases("decoder")), options=given).eval()
    again = checks.model_outputs(checks.align_memory(loaded), batch)
    assert all(torch.equal(one, other) for one, other in zip(trained, again, strict=True) if hasattr(one, "shape"))
    if kind in {"ADAPTION_PROMPT", "BEFT", "SHADOW"}:
        with pytest.raises(Incompatible, match=f"PEFT cannot merge an adapter of the type {kind} into this model: "):
            merge_adapter(loaded)
    else:
        assert compare(trained, checks.model_outputs(merge_adapter(loaded), batch)) < 1e-3


def test_a_type_that_would_change_nothing_is_refused(bases: Any) -> None:
    strategy = AnyPeftStrategy(type="TRAINABLE_TOKENS", config={"token_indices": []})
    with pytest.raises(Incompatible):
        prepared(strategy, bases("decoder"), "decoder")
    # PEFT 0.21 knows no layer of GPT-2 for OSF, wraps the model, and trains nothing
    with pytest.raises(Incompatible, match="OSF added no parameter that trains to GPT2LMHeadModel"):
        prepared(AnyPeftStrategy(type="OSF"), bases("GPT-2"), "GPT-2")


def test_an_adapter_without_gradients_is_refused(bases: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(model: Any, kind: str) -> None:
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)

    monkeypatch.setattr(finetune_peft.influence, "_backward", without)
    with pytest.raises(Incompatible, match="no parameter that MISS added to LlamaForCausalLM gets a gradient"):
        prepared(AnyPeftStrategy(type="MISS", config={"r": 4}), bases("decoder"), "decoder")


@pytest.mark.parametrize("start", ["gaussian", "orthogonal", "pissa", "olora", "mica"])
def test_a_start_of_lora_leaves_the_outputs_and_reloads_equal(start: str, bases: Any, tmp_path: Path) -> None:
    strategy = LoraStrategy(r=4, config={"init_lora_weights": start})
    model, model_class, given = prepared(strategy, bases("decoder"), "decoder")
    batch = random_batch(model)
    plain = model_class.from_pretrained(bases("decoder"), **given).eval()
    assert compare(checks.model_outputs(plain, batch), checks.model_outputs(model.eval(), batch)) < 1e-5
    train_a_little(model.train())
    trained = checks.model_outputs(checks.align_memory(model.eval()), batch)
    strategy.save(model, tmp_path)
    torch.manual_seed(1)
    loaded = strategy.load(tmp_path, model_class=model_class, base=str(bases("decoder")), options=given).eval()
    again = checks.model_outputs(checks.align_memory(loaded), batch)
    assert all(torch.equal(one, other) for one, other in zip(trained, again, strict=True) if hasattr(one, "shape"))
    merged = checks.model_outputs(merge_adapter(loaded), batch)
    assert compare(trained, merged) < 1e-5


@pytest.mark.parametrize("start", ["eva", "corda", "loftq", "lora_ga", "pissa_niter_4"])
@pytest.mark.parametrize("strategy", ["lora", "qlora"])
def test_a_start_that_a_run_cannot_make_is_refused(start: str, strategy: str) -> None:
    cls = discover().find("strategies", strategy)
    with pytest.raises(BadOptions, match=f"init_lora_weights: {start} cannot be used here: "):
        options.build(cls, {"config": {"init_lora_weights": start}}, where="strategy")


def test_a_start_that_the_model_cannot_compute_with_is_refused(bases: Any) -> None:
    # PEFT 0.21 divides GPT-2's weights, which are stored the other way, into factors of wrong shapes
    with pytest.raises(Incompatible, match="GPT2LMHeadModel cannot compute with olora: "):
        prepared(LoraStrategy(r=4, config={"init_lora_weights": "olora"}), bases("GPT-2"), "GPT-2")


def test_lora_plus_gives_b_its_own_rate(bases: Any) -> None:
    strategy = LoraStrategy(r=4, loraplus_lr_ratio=16)
    model, *_ = prepared(strategy, bases("encoder"), "encoder")
    groups = strategy.parameter_groups(model, learning_rate=1e-3, weight_decay=0.1)
    assert groups is not None
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert set(rates) == {name for name, p in model.named_parameters() if p.requires_grad}
    for name, (rate, decay) in rates.items():
        assert rate == pytest.approx(16e-3 if ".lora_B." in name else 1e-3), name
        assert decay == (0.0 if name.endswith(".bias") else 0.1), name
    assert LoraStrategy().parameter_groups(model, learning_rate=1e-3, weight_decay=0.1) is None
    with pytest.raises(BadOptions, match="loraplus_lr_ratio must be a number above 0, not -1"):
        options.build(LoraStrategy, {"loraplus_lr_ratio": -1}, where="strategy")


def test_an_adapter_of_another_program_is_loaded_by_its_type(bases: Any, tmp_path: Path) -> None:
    strategy = AnyPeftStrategy(type="MISS", config={"r": 4})
    model, *_ = prepared(strategy, bases("decoder"), "decoder")
    strategy.save(model, tmp_path)
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    found = AnyPeftStrategy.for_adapter(settings)
    assert found is not None and found["type"] == "MISS" and found["config"]["r"] == 4
    assert options.build(AnyPeftStrategy, found, where="strategy").kind == "MISS"
    assert AnyPeftStrategy.for_adapter({**settings, "peft_type": "LORA"}) is None


def recipe(kind: str, base: Path, model: str, output: Path) -> dict[str, Any]:
    task = KINDS[model][2]
    limits = {"train": 16, "validation": 4, "test": 4}
    return {
        "task": task,
        "model": str(base),
        "dataset": {**TASKS[task].starter["dataset"], "limit": limits},
        "strategy": {"name": "peft", "type": kind, **SMALL.get(kind, {})},
        "preprocessor": case(task).preprocessor,
        "generation": case(task).generation,
        "training": {"max_steps": 2 * trial.HALF, "per_device_train_batch_size": 8, "learning_rate": 1e-2,
                     "logging_steps": 1, "save_strategy": "steps", "save_steps": trial.HALF, "eval_strategy": "no",
                     "lr_scheduler_type": "constant"},
        "score_base_model": False,
        "general_text": "none",
        "output": str(output),
    }  # fmt: skip


def outcome(kind: str, model: str, bases: Any, folder: Path) -> str:
    """Try a cell: return `TRAINS`, once everything that the page promises was so, or the words of the refusal."""
    tried = recipe(kind, bases(model), model, folder / "run")
    seen = trial.straight(tried)
    if seen.refusal:
        assert kind in seen.refusal or "strategy" in seen.refusal
        return str(seen.refusal)
    assert seen.moved <= seen.trainable, "what moved is not what trains"
    assert any(".modules_to_save." not in name for name in seen.moved), "only the head moved"
    differences = trial.again(tried)
    assert not differences
    return TRAINS


def test_a_run_trains_reloads_and_resumes_equal(bases: Any, tmp_path: Path) -> None:
    assert outcome("OFT", "encoder", bases, tmp_path) == TRAINS


OUTCOMES: dict[tuple[str, str], str] = {}


@pytest.mark.slow
@pytest.mark.parametrize("model", list(KINDS))
@pytest.mark.parametrize("kind", TYPES)
def test_every_type_with_every_kind_of_model(kind: str, model: str, bases: Any, tmp_path: Path) -> None:
    OUTCOMES[kind, model] = FAILS
    OUTCOMES[kind, model] = outcome(kind, model, bases, tmp_path)


@pytest.mark.slow
def test_the_page_is_written_when_every_cell_was_tried() -> None:
    if len(OUTCOMES) < len(TYPES) * len(KINDS):
        pytest.skip(f"{len(OUTCOMES)} cells were tried in this session; the page stays as it is")
    counts = {words: list(OUTCOMES.values()).count(words) for words in (TRAINS, FAILS)}
    print(f"{len(OUTCOMES)} cells: {counts[TRAINS]} train, {counts[FAILS]} fail, the rest is refused")
    peft_types.PAGE.write_text(peft_types.page(OUTCOMES, COMMAND), encoding="utf-8")


def test_the_page_has_every_type_and_no_failure() -> None:
    text = peft_types.PAGE.read_text(encoding="utf-8")
    assert all(f"| `{kind}` |" in text for kind in TYPES)
    assert "**fails**" not in text
