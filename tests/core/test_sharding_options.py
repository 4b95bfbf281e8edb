"""Which options divide the weights among the processes, and what is refused with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from pickle import UnpicklingError
from typing import Any

import accelerate.utils.fsdp_utils as upstream
import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import FullyShardedDataParallelPlugin
from hypothesis import given
from hypothesis import strategies as st
from transformers import TrainingArguments

from finetune.errors import BadOptions, Incompatible
from finetune.interfaces import Strategy
from finetune.plugins import discover, resolve
from finetune.training.arguments import check_arguments
from finetune.training.sharding_options import (
    FIXED,
    KNOWN,
    OPTIMIZERS,
    UNTESTED,
    from_accelerate,
    refuse,
    require_processes,
)

STRATEGIES = {name: resolve(target) for name, target in discover().catalogues["strategies"].targets.items()}


def check(config: Any, fsdp: Any = True) -> None:
    check_arguments(TrainingArguments, {"fsdp": fsdp, "fsdp_config": config})


@pytest.mark.parametrize("fsdp", [True, False, None])
def test_fsdp_is_true_or_false(fsdp: Any) -> None:
    check_arguments(TrainingArguments, {"fsdp": fsdp})


@pytest.mark.parametrize("fsdp", ["full_shard auto_wrap", "true", "", ["full_shard"], 1])
def test_another_value_of_fsdp_is_refused_with_what_to_write(fsdp: Any) -> None:
    with pytest.raises(BadOptions, match="Write fsdp: true"):
        check_arguments(TrainingArguments, {"fsdp": fsdp})


@pytest.mark.parametrize(
    "config",
    [
        None, {}, {name: only for name, (only, _) in FIXED.items()}, {"reshard_after_forward": False},
        {"auto_wrap_policy": "no_wrap"}, {"transformer_layer_cls_to_wrap": ["BertLayer"]},
        {"transformer_layer_cls_to_wrap": "BertLayer"},
    ],
    ids=str,
)  # fmt: skip
def test_a_configuration_that_works_is_accepted(config: Any) -> None:
    check(config)


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"version": 1}, "'version' cannot be 1: version 1 of FSDP is deprecated. Write 2."),
        ({"version": True}, "Write 2."),
        ({"state_dict_type": "SHARDED_STATE_DICT"}, "with pickle, which can run code. Write FULL_STATE_DICT."),
        ({"activation_checkpointing": True}, "use training.activation_checkpointing. Write false."),
        ({"cpu_ram_efficient_loading": True}, "Write false."),
        ({"cpu_offload": True}, "Write false."),
        ({"auto_wrap_policy": "SIZE_BASED_WRAP"}, "Write TRANSFORMER_BASED_WRAP or NO_WRAP."),
        ({"auto_wrap_policy": "x"}, "Write TRANSFORMER_BASED_WRAP or NO_WRAP."),
        ({"reshard_after_forward": "full_shard"}, "Write true or false."),
        ({"transformer_layer_cls_to_wrap": [1]}, "Write a list of names of classes."),
        ({"fsdp_version": 2}, "'fsdp_version' is not an option here. Did you mean 'version'?"),
        ({"min_num_params": 5}, "is not an option here"),
        ("fsdp.json", "Write its keys into the recipe."),
    ],
    ids=str,
)
def test_a_configuration_that_does_not_is_refused_with_the_reason(config: Any, what: str) -> None:
    with pytest.raises(BadOptions) as caught:
        check(config)
    assert str(caught.value).startswith("training: ") and what in str(caught.value)


def test_a_configuration_without_fsdp_has_no_effect() -> None:
    for off in (False, None):
        with pytest.raises(BadOptions, match="has no effect without fsdp: true"):
            check({"reshard_after_forward": True}, off)


FILE = {
    "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
    "FSDP_ACTIVATION_CHECKPOINTING": "false", "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
    "FSDP_OFFLOAD_PARAMS": "false", "FSDP_RESHARD_AFTER_FORWARD": "true",
}  # fmt: skip
"""Variables that ``accelerate launch`` sets."""


@given(
    reshard=st.booleans(),
    policy=st.sampled_from([None, "NO_WRAP", "TRANSFORMER_BASED_WRAP"]),
    layers=st.lists(st.sampled_from(["BertLayer", "T5Block"]), unique=True),
)
def test_the_configuration_of_accelerate_becomes_options_of_training(
    reshard: bool, policy: str | None, layers: list[str]
) -> None:
    environment = {**FILE, "FSDP_RESHARD_AFTER_FORWARD": str(reshard).lower()}
    expected: dict[str, Any] = {"reshard_after_forward": reshard}
    if policy is not None:
        environment["FSDP_AUTO_WRAP_POLICY"] = expected["auto_wrap_policy"] = policy
    if layers:
        environment["FSDP_TRANSFORMER_CLS_TO_WRAP"] = ",".join(layers)
        expected["transformer_layer_cls_to_wrap"] = layers
    found = from_accelerate(environment)
    assert found == {"fsdp": True, "fsdp_config": expected}
    check_arguments(TrainingArguments, found)
    assert expected.keys() <= set(KNOWN)


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"FSDP_VERSION": "1"}, "fsdp_version"),
        ({"FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT"}, "fsdp_state_dict_type"),
        ({"FSDP_OFFLOAD_PARAMS": "true"}, "fsdp_offload_params"),
        ({"FSDP_CPU_RAM_EFFICIENT_LOADING": "true"}, "fsdp_cpu_ram_efficient_loading"),
        ({"FSDP_AUTO_WRAP_POLICY": "SIZE_BASED_WRAP"}, "fsdp_auto_wrap_policy"),
    ],
)
def test_a_configuration_of_accelerate_is_refused_in_its_words(changed: Mapping[str, str], name: str) -> None:
    with pytest.raises(BadOptions, match=f"the configuration of accelerate: '{name}' cannot be "):
        from_accelerate({**FILE, **changed})


def test_what_accelerate_leaves_out_is_what_it_would_take() -> None:
    assert from_accelerate({}) == {}
    assert from_accelerate({"ACCELERATE_USE_FSDP": "false", "FSDP_VERSION": "1"}) == {}
    for name in ("FSDP_VERSION", "FSDP_STATE_DICT_TYPE"):
        with pytest.raises(BadOptions, match=f"'{name.lower()}' cannot be"):
            from_accelerate({key: value for key, value in FILE.items() if key != name})


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_trains_divided_weights_or_is_refused_by_name(name: str) -> None:
    cls = STRATEGIES[name]
    strategy = object.__new__(cls)
    refuse({}, strategy)
    if cls.trains_sharded:
        assert cls.write_checkpoint is Strategy.write_checkpoint, "its checkpoints would lack the other parts"
        refuse({"fsdp": True}, strategy)
        return
    with pytest.raises(Incompatible, match=f"{cls.__name__} cannot train weights that are divided"):
        refuse({"fsdp": True}, strategy)


def test_options_that_are_not_tested_are_refused() -> None:
    strategy = object.__new__(STRATEGIES["full"])
    for name in OPTIMIZERS:
        refuse({"fsdp": True, "optim": name}, strategy)
    with pytest.raises(BadOptions, match="'optim': 'sgd' cannot be used with fsdp"):
        refuse({"fsdp": True, "optim": "sgd"}, strategy)
    for name in UNTESTED:
        with pytest.raises(BadOptions, match=f"'{name}' is not tested with fsdp"):
            refuse({"fsdp": True, name: True}, strategy)


def test_one_process_has_nothing_to_divide() -> None:
    require_processes({"fsdp": True}, count=2)
    require_processes({"fsdp": False}, count=1)
    with pytest.raises(BadOptions, match="the run has one"):
        require_processes({"fsdp": True}, count=1)


class _Canary:
    def __reduce__(self) -> Any:
        return (open, ("canary", "w"))


@pytest.mark.parametrize("load", ["load_fsdp_model", "load_fsdp_optimizer"])
def test_accelerate_reads_whole_checkpoints_as_tensors_only(
    load: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("pytorch_model_fsdp.bin", "optimizer.bin"):
        torch.save(_Canary(), tmp_path / name)
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, state_dict_type="FULL_STATE_DICT")
    accelerator = Accelerator(cpu=True)
    monkeypatch.setattr(Accelerator, "is_fsdp2", True)
    model = torch.nn.Linear(2, 2)
    given = [model] if load == "load_fsdp_model" else [torch.optim.SGD(model.parameters()), model]
    with pytest.raises(UnpicklingError, match="Weights only load failed"):
        getattr(upstream, load)(plugin, accelerator, *given, str(tmp_path))
    assert not (tmp_path / "canary").exists()
