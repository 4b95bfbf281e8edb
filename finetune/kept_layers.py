"""`model.layers`: a smaller model of some layers of a pretrained one.

The smaller model begins with the weights of the layers that it keeps, so it needs far less training than a small model
with random weights. By default they are evenly spaced, and the first and the last are among them.

Source: Sanh et al. 2019, "DistilBERT", section 3 (a student of every other layer); the script
`extract_distilbert.py` of that work keeps the layers 0, 2, 4, 7, 9 and 11 of BERT's twelve, which is what
`evenly_spaced` gives. Sajjad et al. 2023, "On the effect of dropping layers of pre-trained transformer models", section
4, compares this choice with others: to drop the top layers is as good or better on several tasks, so a list of layers
can be given.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.errors import BadRecipe, Incompatible
from finetune.user_code import first_line

Layers = int | Sequence[int]
OPTION = "model.layers"
ENCODER, DECODER = "encoder", "decoder"
_DECODER_LAYERS = ("decoder_layers", "num_decoder_layers")
"""How configurations of encoder-decoders call the number of layers of the decoder."""
_OF_EACH_LAYER = ("layer_", "layers_block_type", "mlp_layer_types", "no_rope_layers", "attention_window")
"""How the names of those lists of a configuration begin that can have an entry for each layer."""


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A list of equal layers in a model."""

    side: str
    """``encoder`` or ``decoder``; of a model with one stack, ``model``."""
    path: str
    """Path of the list in the model: ``bert.encoder.layer``."""
    option: str
    """Entry of the configuration that counts the layers."""
    size: int
    """How many layers there are."""


def evenly_spaced(count: int, *, size: int) -> list[int]:
    """Return which layers to keep, the first and the last among them.

    >>> evenly_spaced(6, size=12), evenly_spaced(3, size=6), evenly_spaced(1, size=6)
    ([0, 2, 4, 7, 9, 11], [0, 2, 5], [0])
    """
    if count == 1:
        return [0]
    return [round(place * (size - 1) / (count - 1)) for place in range(count)]


def check(layers: Any) -> None:
    """Check `model.layers` as far as possible without the model.

    Raises:
        BadRecipe: It names no layers, or names sides that no model has.
    """
    if isinstance(layers, Mapping):
        unknown = sorted(layers.keys() - {ENCODER, DECODER})
        if unknown or not layers:
            raise BadRecipe(f"{OPTION}: write {{encoder: 6, decoder: 3}}, not {layers!r}.")
    for given in layers.values() if isinstance(layers, Mapping) else [layers]:
        numbers = [given] if isinstance(given, int) else list(given)
        if isinstance(given, int) and given < 1:
            raise BadRecipe(f"{OPTION}: must keep at least 1 layer, not {given}.")
        if not isinstance(given, int) and (not numbers or numbers[0] < 0 or numbers != sorted(set(numbers))):
            raise BadRecipe(f"{OPTION}: write the numbers of the layers in their order, from 0, such as [0, 2, 5].")


def kept(layers: Any, stacks: Sequence[Stack]) -> dict[str, list[int]]:
    """Return side → which of its layers are kept.

    Raises:
        Incompatible: The model has not so many layers, or not this side.
    """
    sides = {stack.side: stack for stack in stacks}
    wanted = layers if isinstance(layers, Mapping) else dict.fromkeys(sides, layers)
    missing = sorted(set(wanted) - set(sides))
    if missing:
        raise Incompatible(f"{OPTION}: the model has no {missing[0]}. Write a number, or a list of layers.")
    chosen = {}
    for side, given in wanted.items():
        size = sides[side].size
        numbers = evenly_spaced(given, size=size) if isinstance(given, int) else list(given)
        if len(numbers) > size or numbers[-1] >= size:
            what = f"the {side}" if side != "model" else "it"
            raise Incompatible(
                f"{OPTION}: {given!r} does not fit the model: {what} has {size} layers, 0 to {size - 1}. Keep some of "
                "them."
            )
        chosen[side] = numbers
    return chosen


def find_stacks(model: Any) -> list[Stack]:
    """Return the stacks of a model.

    Raises:
        Incompatible: Its layers are not one list for each side, as in ALBERT, whose layers share their weights.
    """
    config = model.config
    if not config.is_encoder_decoder:
        return [_stack(model, "model", "num_hidden_layers", inside="")]
    options = [name for name in _DECODER_LAYERS if hasattr(config, name)]
    if not options or "encoder" in config.sub_configs:
        raise _unknown(model)
    return [
        _stack(model, ENCODER, "num_hidden_layers", inside=ENCODER),
        _stack(model, DECODER, options[0], inside=DECODER),
    ]


def _stack(model: Any, side: str, option: str, *, inside: str) -> Stack:
    from torch.nn import ModuleList

    size = getattr(model.config, option, None)
    found: list[str] = []
    for path, module in model.named_modules():
        parts = path.split(".")
        is_nested = any(path.startswith(f"{outer}.") for outer in found)
        if not isinstance(module, ModuleList) or is_nested or (inside and inside not in parts):
            continue
        if len(module) == size and len({type(layer) for layer in module}) == 1:
            found.append(path)
    if size is None or len(found) != 1:
        raise _unknown(model)
    return Stack(side=side, path=found[0], option=option, size=size)


def _unknown(model: Any) -> Incompatible:
    return Incompatible(
        f"{OPTION}: the layers of {type(model).__name__} are not one list, each with weights of its own, so some of "
        "them cannot be kept alone. Leave it out, or name a smaller model."
    )


def smaller_config(config: Any, stacks: Sequence[Stack], chosen: Mapping[str, Sequence[int]]) -> Any:
    """Return a copy of a configuration for the layers that are kept.

    Lists with an entry for each layer, such as ``layer_types``, keep the entries of these layers.

    Raises:
        Incompatible: The configuration says something else about the layers, as GPT-Neo's does.
    """
    content = config.to_dict()
    changed: dict[str, Any] = {}
    for stack in stacks:
        numbers = chosen.get(stack.side)
        if numbers is None:
            continue
        for name, value in content.items():
            if name.startswith(_OF_EACH_LAYER) and isinstance(value, list | tuple) and len(value) == stack.size:
                changed[name] = [value[number] for number in numbers]
        changed[config.attribute_map.get(stack.option, stack.option)] = len(numbers)
    try:
        return type(config).from_dict({**content, **changed})
    except Exception as error:  # a configuration can refuse in any way
        raise Incompatible(
            f"{OPTION}: {type(config).__name__} cannot describe a model of these layers: {first_line(error)}"
        ) from error


@dataclass(frozen=True, kw_only=True)
class Smaller:
    """A model of some layers of a pretrained one."""

    model: Any
    newly_initialized: frozenset[str]
    """Names of the modules whose weights the pretrained model lacks."""
    described: Mapping[str, Mapping[str, Any]]
    """Side → ``kept``, the numbers of its layers, and ``of``, how many there were."""


def keep(model: Any, layers: Any, *, model_class: Any, newly_initialized: Collection[str] = ()) -> Smaller:
    """Make a model with some layers of a pretrained one.

    It is made from its configuration and then gets the weights, so it is what transformers makes of the saved folder.

    Args:
        model: The pretrained model, whole.
        layers: As the recipe says it.
        model_class: The ``AutoModelFor…`` class of transformers that loaded the model.
        newly_initialized: Names of the modules whose weights the pretrained model lacks.

    Raises:
        Incompatible: The model has not these layers, or they need another one.
    """
    stacks = find_stacks(model)
    chosen = kept(layers, stacks)
    config = smaller_config(model.config, stacks, chosen)
    weights = {}
    for name, tensor in model.state_dict().items():
        new = new_name(name, stacks, chosen)
        if new is not None:
            weights[new] = tensor
    attention = getattr(model.config, "_attn_implementation", None)
    small = model_class.from_config(config, dtype=model.dtype, attn_implementation=attention)
    lost = small.load_state_dict(weights, strict=False)
    if lost.missing_keys or lost.unexpected_keys:
        name = [*lost.missing_keys, *lost.unexpected_keys][0]
        raise Incompatible(
            f"{OPTION}: the smaller {type(model).__name__} lacks the weight {name!r}. In some models, the first layer "
            "holds weights that all layers use: keep layer 0."
        )
    modules = {new_name(module, stacks, chosen) for module in newly_initialized}
    described = {}
    for stack in stacks:
        if stack.side in chosen:
            described[stack.side] = {"kept": chosen[stack.side], "of": stack.size}
    return Smaller(
        model=small.to(model.device).train(model.training),
        newly_initialized=frozenset(name for name in modules if name is not None),
        described=described,
    )


def new_name(name: str, stacks: Sequence[Stack], chosen: Mapping[str, Sequence[int]]) -> str | None:
    """Return the name of a weight in the smaller model; None if its layer is not kept.

    >>> stack = Stack(side="model", path="bert.encoder.layer", option="num_hidden_layers", size=6)
    >>> new_name("bert.encoder.layer.5.output.dense.bias", [stack], {"model": [0, 2, 5]})
    'bert.encoder.layer.2.output.dense.bias'
    """
    for stack in stacks:
        prefix = f"{stack.path}."
        if stack.side in chosen and name.startswith(prefix):
            number, dot, rest = name.removeprefix(prefix).partition(".")
            if int(number) not in chosen[stack.side]:
                return None
            return f"{prefix}{list(chosen[stack.side]).index(int(number))}{dot}{rest}"
    return name


def sentences(described: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return which layers a model keeps, for people.

    >>> sentences({"model": {"kept": [0, 2, 5], "of": 6}})
    ['layers that the model keeps of its base model: 0, 2, 5 of 6, counted from 0']
    """
    found = []
    for side, facts in described.items():
        numbers = ", ".join(map(str, facts["kept"]))
        found.append(f"layers that the {side} keeps of its base model: {numbers} of {facts['of']}, counted from 0")
    return found
