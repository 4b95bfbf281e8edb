"""Find the linear layers that get an adapter: the last one of each attention and of each feed-forward network.

They are found by the model's structure, not by a table of architectures. A block is a member of one of the body's
outermost lists of modules. An attention is an outermost module of the block whose name or class contains "attention" or
"attn". The feed-forward network is the block's other linear layers. The last linear layer of either writes back to the
hidden states.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from torch import nn

from finetune.errors import BadOptions, Incompatible, did_you_mean
from finetune_adapters.adapters import width_of

Placement = Literal["houlsby", "pfeiffer"]
ATTENTION = re.compile(r"attention|attn", re.IGNORECASE)


def find(model: Any, placement: Placement) -> list[str]:
    """Return the paths of the linear layers that get an adapter, in the order of the model.

    Raises:
        Incompatible: The structure of the model is unknown.
    """
    places: list[str] = []
    for path, block in _blocks(model):
        attention_outputs, feed_forward = _outputs(model, path, block)
        if placement == "houlsby":
            places.extend(f"{path}.{name}" for name in attention_outputs)
        places.append(f"{path}.{feed_forward}")
    if not places:
        raise Incompatible(_message(model, "it has no list of transformer blocks (nn.ModuleList)"))
    return places


def match_targets(model: Any, targets: Sequence[str]) -> list[str]:
    """Return the paths of the linear layers whose names end in any of some names.

    Raises:
        BadOptions: A name matches no module, or only modules that are not linear layers.
    """
    linear = _linear_layers(model)
    matched: dict[str, None] = {}
    for target in targets:
        matches = [name for name in linear if _ends_in(name, target)]
        if not matches:
            is_module = any(_ends_in(name, target) for name, _ in model.named_modules())
            problem = "is not a linear layer of" if is_module else "matches no module of"
            example = linear[0] if linear else ""
            hint = did_you_mean(target, sorted({_ending(name, like=target) for name in linear}))
            raise BadOptions(
                f"strategy: target_modules: {target!r} {problem} {type(model).__name__}.{hint} "
                f"The names of its linear layers look like {example!r}."
            )
        matched.update(dict.fromkeys(matches))
    return list(matched)


def _outputs(model: Any, path: str, block: Any) -> tuple[list[str], str]:
    """Return the last linear layer of each attention of a block, and that of its feed-forward network.

    Raises:
        Incompatible: The block has another structure.
    """
    attentions = list(_attentions(block))
    last_inside: dict[str, str] = {}  # attention → its last linear layer
    feed_forward = None
    for name in _linear_layers(block):
        attention = _outer(name, attentions)
        if attention is None:
            feed_forward = name
        else:
            last_inside[attention] = name
    if not attentions or len(last_inside) < len(attentions):
        raise Incompatible(_message(model, f"no attention that ends in a linear layer was found in {path}"))
    if any(parameter.ndim > 2 for parameter in block.parameters()):
        raise Incompatible(_message(model, f"{path} holds several layers in one tensor, as mixtures of experts do"))
    if feed_forward is None:
        raise Incompatible(_message(model, f"no feed-forward network of linear layers was found in {path}"))
    attention_outputs = list(last_inside.values())
    widths = {width_of(block.get_submodule(name)) for name in (*attention_outputs, feed_forward)}
    if len(widths) > 1:
        raise Incompatible(_message(model, f"attention and feed-forward network of {path} differ in width"))
    return attention_outputs, feed_forward


def _blocks(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield path and module of each block in the body."""
    body = model.base_model
    prefix = "" if body is model else model.base_model_prefix
    stacks: list[str] = []
    for path, module in body.named_modules(prefix=prefix):
        is_nested = _outer(path, stacks) is not None
        has_parameters = any(True for _ in module.parameters())
        if isinstance(module, nn.ModuleList) and has_parameters and not is_nested:
            stacks.append(path)
            for number, block in enumerate(module):
                yield f"{path}.{number}", block


def _attentions(block: Any) -> Iterator[str]:
    """Yield the paths of the outermost attentions that hold linear layers; T5's table of relative bias holds none."""
    attentions: list[str] = []
    for path, module in block.named_modules():
        if not path or _outer(path, attentions) is not None:
            continue
        name, class_name = path.rpartition(".")[2], type(module).__name__
        is_attention = ATTENTION.search(name) or ATTENTION.search(class_name)
        if is_attention and _linear_layers(module):
            attentions.append(path)
            yield path


def _linear_layers(module: Any) -> list[str]:
    """Return the paths of the linear layers in a module."""
    return [name for name, each in module.named_modules() if width_of(each) is not None]


def _outer(path: str, modules: Iterable[str]) -> str | None:
    """Return the first of some modules that a path is inside of."""
    for module in modules:
        if path.startswith(f"{module}."):
            return module
    return None


def _ends_in(path: str, name: str) -> bool:
    return path == name or path.endswith(f".{name}")


def _ending(path: str, *, like: str) -> str:
    """Return the last parts of a path, as many as a given name has."""
    return ".".join(path.split(".")[-(like.count(".") + 1) :])


def _message(model: Any, reason: str) -> str:
    linear = _linear_layers(model)
    example = linear[0] if linear else "…"
    return (
        f"strategy: cannot find where to put adapters in {type(model).__name__}: {reason}. Name the linear layers "
        "that write to the hidden states under strategy.target_modules, by the ends of their names "
        f"({example!r} is one of the model's linear layers)."
    )
