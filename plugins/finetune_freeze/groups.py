"""Layer groups: a model's parameters in the order of their depth, from the input to the head.

The groups are found by the model's structure, not by a table of architectures. Blocks are the members of the body's
outermost `torch.nn.ModuleList`s. Parameters before the blocks belong to the embeddings. Parameters after the module
that holds the blocks (a pooler) belong to the head, and parameters inside that module but after its last block (a final
norm) belong to the last block. For a model with another structure, name the groups in the recipe.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from finetune.errors import BadOptions, Incompatible

Patterns = Sequence[str | Sequence[str]]
"""One item for each group: a shell wildcard, or several."""


@dataclass(frozen=True, kw_only=True)
class LayerGroup:
    """Parameters of one depth."""

    name: str
    """``embeddings``, ``head``, the path of a block, or the recipe's pattern."""
    parameters: tuple[str, ...]
    """Their names; a tied parameter has only its first name."""


def layer_groups(
    model: Any, *, newly_initialized: Collection[str] = (), patterns: Patterns = ()
) -> tuple[LayerGroup, ...]:
    """Return the groups of a model, from the input to the output; every parameter is in one of them.

    The blocks of an encoder and of a decoder are aligned at the top: their last blocks are one group. A head that is
    tied to the embeddings is part of the embeddings. Layers that share their weights, as in ALBERT, are one group.

    Args:
        model: As loaded.
        newly_initialized: Modules that were newly initialized. They belong to the last group, wherever they are.
        patterns: Groups to use instead, from the input to the output. A parameter belongs to the first that matches.

    Raises:
        BadOptions: A pattern matches no parameter, or a parameter matches no pattern.
        Incompatible: No blocks were found in the model.

    Source: Raffel et al. 2020, "Exploring the Limits of Transfer Learning", section 3.5.1, for encoder and decoder.
    """
    named = _named_groups(model, patterns) if patterns else _structural_groups(model)
    new = set(parameters_of(model, newly_initialized))
    last = len(named) - 1
    groups: list[LayerGroup] = []
    for position, (name, parameters) in enumerate(named):
        pretrained = [parameter for parameter in parameters if parameter not in new]
        members = (*pretrained, *sorted(new)) if position == last else tuple(pretrained)
        if members:
            groups.append(LayerGroup(name=name, parameters=members))
    return tuple(groups)


def parameters_of(model: Any, modules: Collection[str]) -> list[str]:
    """Return the names of the parameters inside some modules; a tied parameter has only its first name.

    The module ``""`` stands for the parameters that are in no module.
    """
    first_name = {id(parameter): name for name, parameter in model.named_parameters()}
    prefixes = tuple(f"{module}." for module in modules if module)
    with_top_level = "" in modules
    found: dict[str, None] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        is_top_level = "." not in name
        if name.startswith(prefixes) or (with_top_level and is_top_level):
            found[first_name[id(parameter)]] = None
    return list(found)


def match_parameters(model: Any, patterns: Sequence[str], *, option: str) -> list[str]:
    """Return the names of the parameters that match any of some shell wildcards.

    Args:
        model: Any model.
        patterns: The wildcards.
        option: The option that holds them, for the message.

    Raises:
        BadOptions: A pattern matches no parameter.
    """
    names = _parameter_names(model)
    matched: dict[str, None] = {}
    for pattern in patterns:
        matches = [name for name in names if fnmatchcase(name, pattern)]
        if not matches:
            raise BadOptions(
                f"{option}: {pattern!r} matches no parameter of {type(model).__name__}. "
                f"Their names look like {names[0]!r}."
            )
        matched.update(dict.fromkeys(matches))
    return list(matched)


def head(model: Any) -> list[str]:
    """Return the names of the parameters outside the body; none if the head is tied to the body.

    T5 keeps no name for its body. There, the head is the top-level modules without blocks and embeddings.
    """
    names = _parameter_names(model)
    prefix = _body_prefix(model)
    if prefix:
        return [name for name in names if not name.startswith(f"{prefix}.")]
    stacks = _stacks(model)
    is_body_itself = any("." not in path for path in stacks)
    if is_body_itself or not stacks:
        return []
    body = {_top_level(path) for path in [*stacks, *_embeddings(model)]}
    return [name for name in names if _top_level(name) not in body]


def last_block(model: Any) -> list[str]:
    """Return the names of the parameters of the last block and its final norm; of the decoder if there is one."""
    stacks = _stacks(model)
    if not stacks:
        return []
    stack, size = list(stacks.items())[-1]
    return [name for name, place in _places(model, stacks).items() if place == (stack, size - 1)]


def join_names(groups: Iterable[LayerGroup]) -> str:
    """Return the names of groups as one text, for messages."""
    return "; ".join(group.name for group in groups)


def _named_groups(model: Any, patterns: Patterns) -> list[tuple[str, list[str]]]:
    """Return the groups that a recipe names."""
    remaining = _parameter_names(model)
    example = remaining[0]
    groups: list[tuple[str, list[str]]] = []
    for pattern in patterns:
        wildcards = [pattern] if isinstance(pattern, str) else list(pattern)
        name = ", ".join(wildcards)
        matched = [parameter for parameter in remaining if _matches_any(parameter, wildcards)]
        if not matched:
            raise BadOptions(
                f"strategy: groups: {name!r} matches no parameter of {type(model).__name__} that is not in an earlier "
                f"group. Their names look like {example!r}."
            )
        remaining = [parameter for parameter in remaining if parameter not in matched]
        groups.append((name, matched))
    if remaining:
        more = " …" if len(remaining) > 3 else ""
        raise BadOptions(
            f"strategy: groups: no group matches {', '.join(remaining[:3])}{more} ({len(remaining)} parameters). "
            "Groups go from the input to the output; '*' at the end matches the rest."
        )
    return groups


def _structural_groups(model: Any) -> list[tuple[str, list[str]]]:
    """Return embeddings, one group for each depth of blocks, and head."""
    stacks = _stacks(model)
    if not stacks:
        raise Incompatible(
            f"strategy: no list of blocks was found in {type(model).__name__}, so the order of its layers is unknown. "
            "Name the groups under strategy.groups, from the input to the output, by patterns of parameter names, "
            f"which look like {_parameter_names(model)[0]!r}."
        )
    deepest = max(stacks.values())
    levels: list[list[str]] = [[] for _ in range(deepest + 2)]
    for name, (stack, number) in _places(model, stacks).items():
        if stack:  # the last blocks of all stacks are at the same depth
            levels[1 + deepest - stacks[stack] + number].append(name)
        else:
            levels[0 if (stack, number) == _BELOW else -1].append(name)
    names = ["embeddings"]
    for from_top in range(deepest, 0, -1):
        blocks = [f"{stack}.{size - from_top}" for stack, size in stacks.items() if size >= from_top]
        names.append(", ".join(blocks))
    names.append("head")
    return list(zip(names, levels, strict=True))


_BELOW, _ABOVE = ("", 0), ("", 1)


def _places(model: Any, stacks: dict[str, int]) -> dict[str, tuple[str, int]]:
    """Return the place of each parameter: its stack and block number, `_BELOW` all blocks, or `_ABOVE` them.

    Parameters are visited in the order in which the model declares them. A parameter that belongs to no block lies
    below or above the blocks, depending on whether the blocks of its holder (the module around the list) came before.
    """
    heads = set(head(model))
    embeddings = _embeddings(model)
    places: dict[str, tuple[str, int]] = {}
    passed: dict[str, str] = {}  # holder → its stack, once a block of the stack was visited
    for name in _parameter_names(model):
        module = name.rpartition(".")[0]
        stack = _stack_of(name, stacks)
        holder = _holder_of(module, stacks)
        if stack:
            passed[_holder(stack)] = stack
            number = name.removeprefix(f"{stack}.").partition(".")[0]
            places[name] = (stack, int(number))
        elif name in heads:
            places[name] = _ABOVE
        elif module in embeddings:
            places[name] = _BELOW
            # after its blocks, DeBERTa declares its relative positions, and a norm and a convolution that go with them
            passed.pop(str(holder), None)
        elif "emb" in name.lower():
            places[name] = _BELOW
        elif holder is None:
            places[name] = _ABOVE if passed else _BELOW
        elif "final" in module:  # OPT declares its final norm before its blocks
            places[name] = _last_place(holder, stacks)
        elif holder in passed:
            places[name] = (passed[holder], stacks[passed[holder]] - 1)
        else:
            places[name] = _BELOW
    return places


def _stack_of(parameter: str, stacks: Iterable[str]) -> str | None:
    """Return the list of blocks that a parameter is in."""
    for stack in stacks:
        if parameter.startswith(f"{stack}."):
            return stack
    return None


def _holder_of(module: str, stacks: Iterable[str]) -> str | None:
    """Return the first module around a list of blocks that also contains another module."""
    for stack in stacks:
        holder = _holder(stack)
        if not holder or f"{module}.".startswith(f"{holder}."):
            return holder
    return None


def _last_place(holder: str, stacks: dict[str, int]) -> tuple[str, int]:
    stack = next(stack for stack in stacks if _holder(stack) == holder)
    return stack, stacks[stack] - 1


def _stacks(model: Any) -> dict[str, int]:
    """Return the path of each list of blocks in the body, and how many blocks it has."""
    stacks: dict[str, int] = {}
    for path, module in model.base_model.named_modules(prefix=_body_prefix(model)):
        is_nested = _stack_of(path, stacks) is not None
        has_parameters = any(True for _ in module.parameters())
        if isinstance(module, nn.ModuleList) and has_parameters and not is_nested:
            stacks[path] = len(module)
    return stacks


def _parameter_names(model: Any) -> list[str]:
    return [name for name, _ in model.named_parameters()]


def _embeddings(model: Any) -> list[str]:
    return [path for path, module in model.named_modules() if isinstance(module, nn.Embedding)]


def _matches_any(name: str, wildcards: Sequence[str]) -> bool:
    return any(fnmatchcase(name, wildcard) for wildcard in wildcards)


def _holder(stack: str) -> str:
    return stack.rpartition(".")[0]


def _top_level(path: str) -> str:
    return path.partition(".")[0]


def _body_prefix(model: Any) -> str:
    """Return the name of the body inside a model; empty if the model is its own body."""
    return "" if model.base_model is model else str(model.base_model_prefix)
