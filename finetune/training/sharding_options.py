"""Options of training that divide the weights among the processes: FSDP version 2, in the words of transformers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from finetune.errors import BadOptions, Incompatible, did_you_mean
from finetune.interfaces import Strategy

FIXED: Mapping[str, tuple[Any, str]] = {
    "version": (2, "version 1 of FSDP is deprecated"),
    "state_dict_type": ("FULL_STATE_DICT", "torch reads other checkpoints with pickle, which can run code"),
    "activation_checkpointing": (
        False, "accelerate computes dropout again with other random numbers; use training.activation_checkpointing",
    ),
    "cpu_ram_efficient_loading": (False, "each process checks the model before the first step, so it loads the model"),
    "cpu_offload": (False, "it is not tested"),
}  # fmt: skip
"""Keys of `fsdp_config` → the only value that they may have, and why."""

LAYERS = "transformer_layer_cls_to_wrap"
"""Key of `fsdp_config` with the classes of layers whose weights are gathered at a time."""
POLICIES: Mapping[str, str] = {
    "TRANSFORMER_BASED_WRAP": "",
    "NO_WRAP": "",
    "SIZE_BASED_WRAP": "accelerate then divides the embeddings twice, and fails",
}
"""Values of `auto_wrap_policy` → why not."""

KNOWN = (*FIXED, LAYERS, "auto_wrap_policy", "reshard_after_forward")

OPTIMIZERS = ("adamw_torch", "adamw_torch_fused", "rmsprop")
"""Values of `optim` that are tested with divided weights. Those of torch 2.13 that keep nothing between steps (sgd), or
that begin with something (adagrad), cannot be saved or read back."""

UNTESTED = ("torch_compile", "fp16_full_eval", "bf16_full_eval", "neftune_noise_alpha", "optim_target_modules")
"""Options of training that are not tested with divided weights, or contradict them."""

_USES = "ACCELERATE_USE_FSDP"
_VARIABLES: Mapping[str, str] = {
    "FSDP_VERSION": "version",
    "FSDP_STATE_DICT_TYPE": "state_dict_type",
    "FSDP_ACTIVATION_CHECKPOINTING": "activation_checkpointing",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "cpu_ram_efficient_loading",
    "FSDP_OFFLOAD_PARAMS": "cpu_offload",
    "FSDP_AUTO_WRAP_POLICY": "auto_wrap_policy",
    "FSDP_TRANSFORMER_CLS_TO_WRAP": LAYERS,
    "FSDP_RESHARD_AFTER_FORWARD": "reshard_after_forward",
}
"""Variables in which ``accelerate launch`` passes its configuration → keys of `fsdp_config`."""
_DEFAULTS = {"FSDP_VERSION": "1", "FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT"}
"""What accelerate takes if its configuration says nothing."""


def check_fsdp(value: Any) -> None:
    """Check the value of `fsdp`.

    Raises:
        BadOptions: It is neither true nor false.
    """
    if value is not None and not isinstance(value, bool):
        raise BadOptions(
            f"training: 'fsdp' cannot be {value!r}: transformers has deprecated such values. Write fsdp: true, and "
            "what it should do under fsdp_config."
        )


def check_config(config: Any, training: Mapping[str, Any]) -> None:
    """Check the value of `fsdp_config`.

    Args:
        config: The value.
        training: All options of training.

    Raises:
        BadOptions: A key is unknown, a value is not supported, or `fsdp` is not set.
    """
    if not config:
        return
    if not isinstance(config, Mapping):
        raise BadOptions(f"training: 'fsdp_config' cannot be {config!r}. Write its keys into the recipe.")
    if not training.get("fsdp"):
        raise BadOptions("training: 'fsdp_config' has no effect without fsdp: true. Set it, or leave both out.")
    for key, value in config.items():
        where = f"training: fsdp_config: {key!r}"
        if key not in KNOWN:
            hint = did_you_mean(str(key).removeprefix("fsdp_"), KNOWN)
            raise BadOptions(f"{where} is not an option here.{hint} Write {', '.join(KNOWN)}.")
        check_value(where, key, value)


def check_value(where: str, key: str, value: Any) -> None:
    """Check one value of `fsdp_config`.

    Args:
        where: The option, for the message.
        key: Its key, one of `KNOWN`.
        value: Its value.

    Raises:
        BadOptions: It is not supported.
    """
    if key in FIXED:
        only, why = FIXED[key]
        if value != only or isinstance(value, bool) != isinstance(only, bool):
            raise BadOptions(f"{where} cannot be {value!r}: {why}. Write {_as_yaml(only)}.")
    elif key == "auto_wrap_policy":
        why = POLICIES.get(str(value).upper(), "it is unknown")
        if why:
            allowed = " or ".join(name for name, reason in POLICIES.items() if not reason)
            raise BadOptions(f"{where} cannot be {value!r}: {why}. Write {allowed}.")
    elif key == LAYERS:
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise BadOptions(f"{where} cannot be {value!r}. Write a list of names of classes.")
    elif not isinstance(value, bool):
        raise BadOptions(f"{where} cannot be {value!r}. Write true or false.")


def _as_yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def from_accelerate(environment: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Return the options of training that ``accelerate launch`` asks for; empty if it asks for no FSDP.

    Args:
        environment: The variables of the environment.

    Raises:
        BadOptions: Its configuration has a value that is not supported.
    """
    if not _is_true(environment.get(_USES, "")):
        return {}
    config: dict[str, Any] = {}
    for variable, key in _VARIABLES.items():
        text = environment.get(variable, _DEFAULTS.get(variable))
        if text is None:
            continue
        value = _read(text)
        check_value(f"the configuration of accelerate: {variable.lower()!r}", key, value)
        if key == LAYERS:
            config[key] = text.split(",")
        elif key not in FIXED:
            config[key] = value
    return {"fsdp": True, **({"fsdp_config": config} if config else {})}


def _is_true(text: str) -> bool:
    return text.lower() in ("true", "1", "yes")


def _read(text: str) -> Any:
    """Return the value of a variable: a number, true or false, or the text."""
    if text.isdigit():
        return int(text)
    return _is_true(text) if text.lower() in ("true", "false", "yes", "no") else text


def refuse(training: Mapping[str, Any], strategy: Strategy) -> None:
    """Refuse what cannot train weights that are divided among the processes, if the run divides them.

    Args:
        training: The options of training.
        strategy: The strategy of the run.

    Raises:
        BadOptions: An option of training cannot.
        Incompatible: The strategy cannot.
    """
    if not training.get("fsdp"):
        return
    if not strategy.trains_sharded:
        raise Incompatible(
            f"strategy: {type(strategy).__name__} cannot train weights that are divided among the processes "
            "(training.fsdp). Leave fsdp out, or use another strategy."
        )
    optimizer = str(training.get("optim") or OPTIMIZERS[0])
    if optimizer not in OPTIMIZERS:
        raise BadOptions(
            f"training: 'optim': {optimizer!r} cannot be used with fsdp. Write one of {', '.join(OPTIMIZERS)}."
        )
    for name in UNTESTED:
        if training.get(name):
            raise BadOptions(f"training: {name!r} is not tested with fsdp. Leave one of the two out.")


def require_processes(training: Mapping[str, Any], *, count: int) -> None:
    """Check that a run that divides its weights has several processes.

    Args:
        training: The options of training.
        count: How many processes the run has.

    Raises:
        BadOptions: It has one.
    """
    if training.get("fsdp") and count == 1:
        raise BadOptions(
            "training: 'fsdp' divides the weights among the processes, and the run has one. Start it with --processes "
            "2 or more, or leave fsdp out."
        )
