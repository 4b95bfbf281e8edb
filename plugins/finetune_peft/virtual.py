"""Virtual tokens: they stand before the text, and nobody after the model shall have to know."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from finetune.errors import BadCheckpoint, Incompatible
from finetune.interfaces import IGNORE_INDEX, Task

CHECKPOINT = "trained.safetensors"
"""File of a checkpoint that holds all that trains: PEFT keeps what a network makes of it, and not the network."""
PER_TOKEN: Mapping[str, tuple[str, ...]] = {"TOKEN_CLS": ("logits",), "QUESTION_ANS": ("start_logits", "end_logits")}
"""Type of PEFT → outputs that have one row a token."""


def refuse_typeless(task: Task) -> None:
    """Refuse a task that PEFT has no type for: it could not put virtual tokens before the text.

    Raises:
        Incompatible: PEFT has none.
    """
    if task.peft_type is None:
        raise Incompatible(
            "strategy: PEFT has no type for this task (it has none for masked language modelling), and methods that "
            "put virtual tokens before the text need one. Use one that changes the layers: lora, ia3, layernorm."
        )


def of_hidden_size(model: Any, given: int | None) -> int:
    """Return the width of the network that makes virtual tokens: as given, or the model's own."""
    return given or int(model.config.get_text_config().hidden_size)


def unshifted(model: Any) -> Any:
    """Return a wrapped model whose outputs, one a token, are those of the text's tokens alone.

    PEFT 0.21 puts virtual tokens before the text and leaves the rest to the user: token classification then fails, as
    there are more logits than labels, and spans of question answering are trained and read so many tokens too far left.
    Here labels are padded and positions shifted on the way in, and logits cut on the way out.
    """
    config = model.active_peft_config
    if config.task_type == "CAUSAL_LM":
        _forget_positions(model)
    outputs, count = PER_TOKEN.get(config.task_type, ()), config.num_virtual_tokens
    if outputs:
        base = model.get_base_model()
        base.register_forward_pre_hook(lambda _, args, kwargs: (args, _moved(kwargs, count)), with_kwargs=True)
        base.register_forward_hook(lambda _, __, kwargs, made: _cut(made, kwargs, outputs, count), with_kwargs=True)
    return model


def _forget_positions(model: Any) -> None:
    """Drop positions, as PEFT does, but without a warning at every text that is written.

    Where positions are learnt, that is no trifle, and `refusals` says so; where they are relative, it is none.
    """
    adjust = model._adjust_prompt_learning_kwargs

    def adjusted(config: Any, *, kwargs: dict[str, Any], **more: Any) -> None:
        if "position_ids" in kwargs:
            kwargs["position_ids"] = None
        adjust(config, kwargs=kwargs, **more)

    model._adjust_prompt_learning_kwargs = adjusted


def _moved(kwargs: dict[str, Any], count: int) -> dict[str, Any]:
    """Return arguments of a forward pass with the labels where the virtual tokens moved the text to."""
    if kwargs.get("inputs_embeds") is None:  # the adapter is switched off
        return kwargs
    moved = dict(kwargs)
    if (labels := kwargs.get("labels")) is not None:
        moved["labels"] = nn.functional.pad(labels, (count, 0), value=IGNORE_INDEX)
    for name in ("start_positions", "end_positions"):
        if (positions := kwargs.get(name)) is not None:
            moved[name] = positions + count
    return moved


def _cut(made: Any, kwargs: Mapping[str, Any], outputs: tuple[str, ...], count: int) -> Any:
    """Return the outputs of a forward pass without those of the virtual tokens."""
    if kwargs.get("inputs_embeds") is not None:
        for name in outputs:
            made[name] = made[name][:, count:].contiguous()
    return made


def encoded_once(model: Any) -> Any:
    """Return a model of prefix tuning that makes its prefix once a batch, rather than once an example.

    The prefixes of a batch are equal, but for the last bits, which depend on the size of the batch: what is saved would
    not be what was trained.
    """
    encoder = model.prompt_encoder[model.active_adapter]
    if hasattr(encoder, "transform"):
        encoder.transform.register_forward_pre_hook(lambda _, args: (args[0][:1],))
        encoder.register_forward_hook(lambda _, args, made: made.expand(len(args[0]), -1, -1).contiguous())
    return model


def write_all(model: Any, directory: Path) -> None:
    """Write every parameter that trains, as it is."""
    tensors = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if p.requires_grad}
    save_file(tensors, directory / CHECKPOINT)


def read_all(model: Any, directory: Path) -> bool:
    """Read every parameter that trains.

    Raises:
        BadCheckpoint: The checkpoint holds others.
    """
    path = directory / CHECKPOINT
    if not path.is_file():
        raise BadCheckpoint(
            f"{directory.name} lacks {CHECKPOINT}, so the network that makes the virtual tokens is lost. "
            "Start afresh with --overwrite."
        )
    tensors = load_file(path)
    trains = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if tensors.keys() != trains.keys():
        other = sorted(tensors.keys() ^ trains.keys())[0]
        raise BadCheckpoint(f"{directory.name}: {CHECKPOINT} is of another model: {other!r} is not in both.")
    with torch.no_grad():
        for name, parameter in trains.items():
            parameter.copy_(tensors[name])
    return True
