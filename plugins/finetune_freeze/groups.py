"""Layer groups: a model's parameters in the order of their depth, from the input to the head, found by its structure.

No table of architectures: blocks are the members of the outermost `torch.nn.ModuleList`s of the body. What stands
before them belongs to the embeddings, and what stands after whatever holds them (a pooler) to the head; what is beside
them after the last (a final norm) belongs to the last. Where a model is built otherwise, name its groups yourself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from finetune.errors import BadOptions, Incompatible

Patterns = Sequence[str | Sequence[str]]
"""A group each: a shell wildcard, or several."""


@dataclass(frozen=True, kw_only=True)
class LayerGroup:
    """Parameters of one depth."""

    name: str
    """``embeddings``, ``head``, the path of a block, or the recipe's pattern."""
    parameters: tuple[str, ...]
    """Their names, each under the first one only where it is tied."""


def layer_groups(
    model: Any, *, newly_initialized: Collection[str] = (), patterns: Patterns = ()
) -> tuple[LayerGroup, ...]:
    """Return the groups of a model, from the input to the output; every parameter is in one of them.

    An encoder and a decoder are taken in parallel, both from the top: their last blocks are one group. A head that is
    tied to the embeddings is with the embeddings. Layers that share their weights, as ALBERT's, are one group.

    Args:
        model: As loaded.
        newly_initialized: Modules that were newly initialized: wherever they are, they belong to the last group.
        patterns: Groups of your own instead, from the input to the output; the first that matches takes a parameter.

    Raises:
        BadOptions: A pattern takes nothing, or a parameter is taken by none.
        Incompatible: The model has no blocks that could be found.

    Source: Raffel et al. 2020, "Exploring the Limits of Transfer Learning", section 3.5.1, for encoder and decoder.
    """
    groups = _named(model, patterns) if patterns else _found(model)
    born = set(parameters_of(model, newly_initialized))
    *lower, (last, parameters) = [(name, [p for p in names if p not in born]) for name, names in groups]
    order = [*lower, (last, [*parameters, *sorted(born)])]
    return tuple(LayerGroup(name=name, parameters=tuple(names)) for name, names in order if names)


def parameters_of(model: Any, modules: Collection[str]) -> list[str]:
    """Return the names of the parameters inside some modules, each under its first name where it is tied."""
    first = {id(parameter): name for name, parameter in model.named_parameters()}
    starts = tuple(f"{module}." for module in modules if module)
    alone = "" in modules  # parameters that stand in no module
    every = model.named_parameters(remove_duplicate=False)
    found = [first[id(p)] for name, p in every if name.startswith(starts) or (alone and "." not in name)]
    return list(dict.fromkeys(found))


def head(model: Any) -> list[str]:
    """Return the names of the parameters that are no part of the body; none where the head is tied to it.

    T5's body has no name of its own: there, the head is what holds neither blocks nor embeddings.
    """
    names = [name for name, _ in model.named_parameters()]
    if prefix := _prefix(model):
        return [name for name in names if not name.startswith(f"{prefix}.")]
    blocks, embeddings = _stacks(model), _embeddings(model)
    body = {path.partition(".")[0] for path in [*blocks, *embeddings]}
    inside = any("." not in path for path in blocks)  # the model is a body without a head
    return [] if inside or not blocks else [name for name in names if name.partition(".")[0] not in body]


def last_block(model: Any) -> list[str]:
    """Return the names of the last block's parameters, the decoder's where there is one, and its final norm's."""
    stacks = _stacks(model)
    if not stacks:
        return []
    stack, size = list(stacks.items())[-1]
    return [name for name, place in _places(model, stacks).items() if place == (stack, size - 1)]


def listed(groups: Iterable[LayerGroup]) -> str:
    """Return the names of groups, as a message lists them."""
    return "; ".join(group.name for group in groups)


def _named(model: Any, patterns: Patterns) -> list[tuple[str, list[str]]]:
    left = [name for name, _ in model.named_parameters()]
    example = left[0]
    groups = []
    for pattern in patterns:
        wanted = [pattern] if isinstance(pattern, str) else list(pattern)
        taken = [name for name in left if any(fnmatchcase(name, each) for each in wanted)]
        if not taken:
            raise BadOptions(
                f"strategy: groups: {', '.join(wanted)!r} matches no parameter of {type(model).__name__} that an "
                f"earlier group has not taken. They are called like {example!r}."
            )
        left = [name for name in left if name not in taken]
        groups.append((", ".join(wanted), taken))
    if left:
        raise BadOptions(
            f"strategy: groups: no group takes {', '.join(left[:3])}{' …' if len(left) > 3 else ''} "
            f"({len(left)} parameters). Groups go from the input to the output; '*' at the end takes the rest."
        )
    return groups


def _found(model: Any) -> list[tuple[str, list[str]]]:
    stacks = _stacks(model)
    if not stacks:
        raise Incompatible(
            f"strategy: no list of blocks was found in {type(model).__name__}, so its layers have no order that could "
            "be known. Name them under strategy.groups, from the input to the output, by patterns of their "
            f"parameters' names, which are like {next(iter(model.named_parameters()))[0]!r}."
        )
    deepest = max(stacks.values())
    levels: list[list[str]] = [[] for _ in range(deepest + 2)]
    for name, (stack, number) in _places(model, stacks).items():
        depth = 1 + deepest - stacks[stack] + number if stack else number * (deepest + 1)
        levels[depth].append(name)
    blocks = [
        ", ".join(f"{stack}.{size - up}" for stack, size in stacks.items() if size >= up)
        for up in range(deepest, 0, -1)
    ]
    return list(zip(["embeddings", *blocks, "head"], levels, strict=True))


_BELOW, _ABOVE = ("", 0), ("", 1)


def _places(model: Any, stacks: dict[str, int]) -> dict[str, tuple[str, int]]:
    """Return where each parameter is: the stack and the block's number, `_BELOW` all blocks, or `_ABOVE` them."""
    heads, embeddings = set(head(model)), _embeddings(model)
    found: dict[str, tuple[str, int]] = {}
    passed: dict[str, str] = {}  # what holds a stack → the stack, once its blocks have been gone past
    for name, _ in model.named_parameters():
        module, _, _ = name.rpartition(".")
        inside = next((stack for stack in stacks if name.startswith(f"{stack}.")), None)
        holder = next((h for h in map(_holder, stacks) if not h or f"{module}.".startswith(f"{h}.")), None)
        if inside:
            passed[_holder(inside)] = inside
            found[name] = (inside, int(name.removeprefix(f"{inside}.").partition(".")[0]))
        elif name in heads:
            found[name] = _ABOVE
        elif module in embeddings:
            found[name] = _BELOW
            # DeBERTa's relative positions come after its blocks, then a norm and a convolution that go with them
            passed.pop(str(holder), None)
        elif "emb" in name.lower():
            found[name] = _BELOW
        elif holder is None:
            found[name] = _ABOVE if passed else _BELOW
        elif "final" in module:  # OPT writes its final norm down before its blocks
            found[name] = next((stack, size - 1) for stack, size in stacks.items() if _holder(stack) == holder)
        else:
            found[name] = (passed[holder], stacks[passed[holder]] - 1) if holder in passed else _BELOW
    return found


def _stacks(model: Any) -> dict[str, int]:
    """Return the path of each list of blocks in the body, and how many blocks it has."""
    found: dict[str, int] = {}
    for path, module in model.base_model.named_modules(prefix=_prefix(model)):
        nested = any(path.startswith(f"{stack}.") for stack in found)
        if isinstance(module, nn.ModuleList) and not nested and any(True for _ in module.parameters()):
            found[path] = len(module)
    return found


def _embeddings(model: Any) -> list[str]:
    return [path for path, module in model.named_modules() if isinstance(module, nn.Embedding)]


def _holder(stack: str) -> str:
    return stack.rpartition(".")[0]


def _prefix(model: Any) -> str:
    """Return the name of the body inside a model; nothing where the model is its own body."""
    return "" if model.base_model is model else str(model.base_model_prefix)
