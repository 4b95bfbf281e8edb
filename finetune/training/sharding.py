"""Weights that are divided among the processes of a run: FSDP version 2 of torch, as transformers uses it.

Each process holds a part of each weight, of its gradient and of the optimizer's numbers. A layer's weights are gathered
while the layer computes.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from finetune import processes
from finetune.errors import BadCheckpoint, BadOptions, Incompatible, TrainingFailed
from finetune.models import base_model_of
from finetune.training.sharding_options import LAYERS
from finetune.user_code import first_line

WEIGHTS = "pytorch_model_fsdp.bin"
"""File of a checkpoint in which accelerate keeps the weights that were divided."""


def enable_on_cpu(built: Any) -> None:
    """Let accelerate divide the weights on CPUs too, if the run asks for it.

    accelerate 1.15 divides them on GPUs and their like only. On CPUs it trains with DDP, and does not say so.

    Args:
        built: A trainer that has just made its accelerator.
    """
    if built.args.fsdp_plugin_args is None or built.args.device.type != "cpu":
        return
    plugin, state = FullyShardedDataParallelPlugin(**built.args.fsdp_plugin_args), built.accelerator.state
    if state.mixed_precision != "no":
        plugin.set_mixed_precision(state.mixed_precision)
    partial: Any = PartialState()
    partial.distributed_type = state.distributed_type = DistributedType.FSDP
    state.fsdp_plugin = plugin
    built.is_fsdp_enabled = True


def divide(built: Any) -> None:
    """Divide the weights of a trainer's model among the processes, and those of its optimizer with them.

    Trainers do so when training starts. To score the base model before, it has to happen earlier.

    Args:
        built: The trainer.

    Raises:
        BadOptions: `transformer_layer_cls_to_wrap` names a class that cannot be divided.
        Incompatible: accelerate cannot divide the model.
        TrainingFailed: The processes have different weights.
    """
    model, plugin = built.model, built.accelerator.state.fsdp_plugin
    # a head for each token returns a view of its logits; no loss of transformers or TRL changes them in place
    warnings.filterwarnings("ignore", message=r"FSDP2-wrapped module \(.*\) returned a view", category=UserWarning)
    require_same_weights(model)
    named = plugin.transformer_cls_names_to_wrap
    plugin.transformer_cls_names_to_wrap = layers_of(model) if named is None else _checked(model, named)
    try:
        built.create_optimizer()
        with _hidden_embeddings(model) if _are_shared_further(model) else nullcontext():
            built.model, built.optimizer = built.accelerator.prepare(model, built.optimizer)
    except (AttributeError, KeyError, NotImplementedError, TypeError, ValueError) as error:
        name = type(base_model_of(model)).__name__
        raise Incompatible(
            f"model: the weights of {name} cannot be divided among the processes: {first_line(error)}. Leave fsdp out."
        ) from error
    built.model_wrapped = built.model


def _are_shared_further(model: Any) -> bool:
    """Return whether a layer other than the input and the output embeddings has a parameter of these.

    Encoder and decoder of BART and T5 share their embeddings. The head of BERT for masked tokens shares its bias.
    """
    inside, own = set(), set()
    for embeddings in (model.get_input_embeddings(), model.get_output_embeddings()):
        if embeddings is not None:
            inside.update(embeddings.modules())
            own.update(embeddings.parameters())
    for module in model.modules():
        if module not in inside and not own.isdisjoint(module.parameters(recurse=False)):
            return True
    return False


@contextmanager
def _hidden_embeddings(model: Any) -> Iterator[None]:
    """Keep accelerate, inside a `with` block, from dividing the embeddings by themselves.

    They then belong to what remains of the model when its layers are divided. accelerate 1.15 takes the input and the
    output embeddings together, and torch refuses a weight that a third layer shares.
    """
    for name in ("get_input_embeddings", "get_output_embeddings"):
        setattr(model, name, lambda: None)
    try:
        yield
    finally:
        for name in ("get_input_embeddings", "get_output_embeddings"):
            delattr(model, name)


@contextmanager
def divided_before(accelerator: Any) -> Iterator[None]:
    """Keep an accelerator, inside a `with` block, from dividing weights that are divided.

    A second call of `prepare` finds the parameters of the optimizer by their addresses. Parts without a number all have
    the address 0, so some would be taken for others.
    """

    def prepare(*objects: Any) -> Any:
        prepared = []
        for each in objects:
            is_model = isinstance(each, torch.nn.Module)
            prepared.append(accelerator.prepare_model(each) if is_model else accelerator.prepare_optimizer(each))
        return tuple(prepared) if len(prepared) > 1 else prepared[0]

    accelerator.prepare = prepare
    try:
        yield
    finally:
        del accelerator.prepare


def require_same_weights(model: Any) -> None:
    """Check that each process has the same weights: DDP takes those of the main process, FSDP takes a part of each.

    Raises:
        TrainingFailed: They differ.
    """
    total = 0
    for parameter in model.parameters():
        total += int(parameter.detach().reshape(-1).view(torch.uint8).sum(dtype=torch.int64))
    if processes.any_of(int(processes.any_of(total) != total)):
        raise TrainingFailed("the processes begin with different weights. Please report this.")


def layers_of(model: Any) -> list[str]:
    """Return the classes of the layers whose weights are gathered at a time.

    These are the ones that transformers does not place on two devices, but for those that hold the embeddings, such as
    BertEmbeddings: accelerate 1.15 divides embeddings by themselves, and fails if a layer around them is divided.
    """
    names = []
    for name in getattr(model, "_no_split_modules", None) or ():
        if any(True for _ in _modules_of_class(model, name)) and not _holds_embeddings(model, name):
            names.append(name)
    return names


def _modules_of_class(model: Any, name: str) -> Iterator[Any]:
    return (module for module in model.modules() if type(module).__name__ == name)


def _holds_embeddings(model: Any, name: str) -> bool:
    """Return whether a layer of a class has the model's embeddings, at its input or output, inside."""
    embeddings = (model.get_input_embeddings(), model.get_output_embeddings())
    for layer in _modules_of_class(model, name):
        for module in layer.modules():
            if any(module is each for each in embeddings):
                return True
    return False


def _checked(model: Any, names: Any) -> list[str]:
    """Return the names of layers that the user wrote, after a check.

    Raises:
        BadOptions: The model has no such layer, or it holds the embeddings.
    """
    listed = names.split(",") if isinstance(names, str) else list(names)
    usual = ", ".join(layers_of(model)) or "none"
    for name in listed:
        where = f"training: fsdp_config: {LAYERS!r}: {name!r}"
        if not any(True for _ in _modules_of_class(model, name)):
            raise BadOptions(f"{where} is no layer of the model. Leave it out; those of the model are {usual}.")
        if _holds_embeddings(model, name):
            raise BadOptions(f"{where} holds the embeddings, which are divided by themselves. Leave it out.")
    return listed


def without_weights(model: Any) -> Any:
    """Return a copy of a model that has no memory for its weights, to be filled by `filled`.

    Args:
        model: Its weights are not divided yet.
    """
    memo: dict[int, Any] = {}
    for parameter in model.parameters():
        empty = torch.empty_like(parameter, device="meta")
        memo[id(parameter)] = torch.nn.Parameter(empty, requires_grad=parameter.requires_grad)
    copied = deepcopy(model, memo)
    for module in copied.modules():
        vars(module).pop("forward", None)  # a trainer's wrapper, which calls the model that was copied
    return copied


def gather(model: Any) -> dict[str, torch.Tensor]:
    """Return the whole weights of a model on the main process, in the memory of the CPU; nothing on the others.

    Each process has to call it.
    """
    weights: dict[str, Any] = get_model_state_dict(
        model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
    )
    return weights


def filled(copied: Any, weights: Mapping[str, torch.Tensor]) -> Any:
    """Put weights into a copy of a model, and return it.

    Args:
        copied: What `without_weights` returned.
        weights: What `gather` returned.

    Raises:
        TrainingFailed: There is no weight for a parameter.
    """
    made: dict[int, torch.nn.Parameter] = {}
    empty = list(copied.named_parameters(remove_duplicate=False))
    for name, parameter in empty:
        if name in weights and id(parameter) not in made:
            made[id(parameter)] = torch.nn.Parameter(weights[name], requires_grad=parameter.requires_grad)
    for name, parameter in empty:
        if id(parameter) not in made:
            raise TrainingFailed(f"the weights of {name!r} are missing on the main process. Please report this.")
        owner, _, attribute = name.rpartition(".")
        setattr(copied.get_submodule(owner), attribute, made[id(parameter)])
    for name, buffer in copied.named_buffers():
        if name in weights:
            buffer.copy_(weights[name])
    return copied


@contextmanager
def whole_weights(model: Any, *, reshard: bool) -> Iterator[None]:
    """Keep the whole weights of a model in each process inside a `with` block.

    Processes that write texts call the model a different number of times, so they cannot gather layers together.

    Args:
        model: Its weights are divided.
        reshard: Whether training frees the weights of a layer after its forward pass.
    """
    units = _units(model)
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()
    try:
        yield
    finally:
        divide_again(model)
        for unit in units:
            unit.set_reshard_after_forward(reshard and unit is not model, recurse=False)


def divide_again(model: Any) -> None:
    """Free what this process does not hold of the weights of a model.

    torch keeps the weights outside the layers whole until the backward pass, which a prediction has not. A checkpoint
    cannot be read into whole weights.
    """
    for unit in _units(model):
        unit.reshard()


def _units(model: Any) -> list[FSDPModule]:
    """Return the modules whose weights are gathered at a time."""
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Return the part of a tensor that this process holds; all of it if it is not divided."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def require_same_kind(directory: Path, *, sharded: bool) -> None:
    """Check that a checkpoint can be read by a run that divides its weights, or by one that does not.

    Args:
        directory: The checkpoint.
        sharded: Whether the run divides its weights.

    Raises:
        BadCheckpoint: It cannot.
    """
    if (directory / WEIGHTS).is_file() != sharded:
        then, now = ("without", "with") if sharded else ("with", "without")
        raise BadCheckpoint(
            f"{directory.name} was written {then} training.fsdp, and cannot be read {now} it. Change that option back, "
            "or start again with --overwrite."
        )
