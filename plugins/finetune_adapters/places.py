"""Where adapters go: behind the last linear layer of every attention, and of every feed-forward network.

No table of architectures. A block is a member of one of the body's outermost lists of modules; an attention is the
outermost module in it that is called so, by its name or its class; a feed-forward network is what linear layers a block
has beside. Of either, the last one is what writes back into the stream of hidden states.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from torch import nn

from finetune.errors import BadOptions, Incompatible
from finetune_adapters.adapters import width_of

Placement = Literal["houlsby", "pfeiffer"]
ATTENTION = re.compile(r"attention|attn", re.IGNORECASE)


def find(model: Any, placement: Placement) -> list[str]:
    """Return the paths of the linear layers that get an adapter, in the order of the model.

    Raises:
        Incompatible: The model is built in such a way that they cannot be known.
    """
    found: list[str] = []
    for path, block in _blocks(model):
        attentions = list(_attentions(block))
        outputs = [_last(block, inside=name) for name in attentions]
        feed_forward = _last(block, beside=attentions)
        if not attentions or None in outputs:
            raise Incompatible(_refusal(model, f"no attention that ends in a linear layer was found in {path}"))
        if any(parameter.ndim > 2 for parameter in block.parameters()):
            raise Incompatible(_refusal(model, f"{path} holds several layers stacked, as mixtures of experts do"))
        if feed_forward is None:
            raise Incompatible(_refusal(model, f"no feed-forward network of linear layers was found in {path}"))
        widths = {width_of(block.get_submodule(name)) for name in (*outputs, feed_forward) if name}
        if len(widths) > 1:
            raise Incompatible(_refusal(model, f"attention and feed-forward network of {path} differ in width"))
        chosen = [*outputs, feed_forward] if placement == "houlsby" else [feed_forward]
        found += [f"{path}.{name}" for name in chosen]
    if not found:
        raise Incompatible(_refusal(model, "it has no list of blocks"))
    return found


def named(model: Any, targets: Sequence[str]) -> list[str]:
    """Return the paths of the linear layers whose names end in one of some names.

    Raises:
        BadOptions: A name fits no module, or one that is no linear layer.
    """
    found: dict[str, None] = {}
    for target in targets:
        fits = {name: m for name, m in model.named_modules() if name == target or name.endswith(f".{target}")}
        linear = {name: None for name, module in fits.items() if width_of(module) is not None}
        if not linear:
            what = (
                f"is no linear layer of {type(model).__name__}" if fits else f"fits no module of {type(model).__name__}"
            )
            example = next((name for name, module in model.named_modules() if width_of(module) is not None), "")
            raise BadOptions(f"strategy: target_modules: {target!r} {what}. These are called like {example!r}.")
        found |= linear
    return list(found)


def _blocks(model: Any) -> Iterator[tuple[str, Any]]:
    body = model.base_model
    prefix = "" if body is model else model.base_model_prefix
    stacks: list[str] = []
    for path, module in body.named_modules(prefix=prefix):
        nested = any(path.startswith(f"{stack}.") for stack in stacks)
        if isinstance(module, nn.ModuleList) and not nested and any(True for _ in module.parameters()):
            stacks.append(path)
            yield from ((f"{path}.{number}", block) for number, block in enumerate(module))


def _attentions(block: Any) -> Iterator[str]:
    """Yield the paths of the outermost attentions that hold linear layers (T5's relative bias is no attention)."""
    found: list[str] = []
    for path, module in block.named_modules():
        if not path or any(path.startswith(f"{outer}.") for outer in found):
            continue
        called = ATTENTION.search(path.rpartition(".")[2]) or ATTENTION.search(type(module).__name__)
        if called and any(width_of(each) is not None for each in module.modules()):
            found.append(path)
            yield path


def _last(block: Any, *, inside: str = "", beside: Sequence[str] = ()) -> str | None:
    """Return the path of the last linear layer inside a module, or beside some."""
    others = tuple(f"{other}." for other in beside)
    names = [name for name, module in block.named_modules() if width_of(module) is not None]
    fits = [name for name in names if name.startswith(f"{inside}." if inside else "") and not name.startswith(others)]
    return fits[-1] if fits else None


def _refusal(model: Any, why: str) -> str:
    example = next((name for name, module in model.named_modules() if width_of(module) is not None), "…")
    return (
        f"strategy: where adapters belong in {type(model).__name__} could not be found: {why}. Name the linear layers "
        f"that write into the stream of hidden states under strategy.target_modules, by the ends of their names "
        f"({example!r} is one of the model's linear layers)."
    )
