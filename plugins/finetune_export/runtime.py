"""Models whose outputs a runtime computes, and which are used as models of transformers.

Such a model is an object of the class of transformers that was exported, without any weight: its outputs come from the
graphs in a folder. So whatever asks for its class, for its configuration or for the arguments of its `forward` finds
what it finds in the source, and a model that writes texts has the methods of transformers that write.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, GenerationConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from finetune.errors import BadRecipe, Incompatible
from finetune.kit import require_trust, require_upstream
from finetune_export.quiet import quiet

ANSWERS = frozenset({"labels", "start_positions", "end_positions", "next_sentence_label"})
"""Arguments of models that hold answers; an exported model computes no loss."""
FLAGS = frozenset({"use_cache", "return_dict", "output_attentions", "output_hidden_states"})
"""Arguments that change what a model returns; an exported model returns what it was exported with."""
MODEL, ENCODER, DECODER = "model", "encoder", "decoder"
"""Names of the graphs in a folder."""
PT2 = "model.pt2"
"""The file of a program of `torch.export`."""
MANIFEST = "export.json"
"""The file in which transformers describes the graphs of a folder."""


def load_onnx(directory: Path, model_class: Any) -> PreTrainedModel:
    """Return a model that ONNX Runtime computes, on the processor, with as many threads as torch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return _load(directory, "onnx", device="cpu", session_options=options)


def load_openvino(directory: Path, model_class: Any) -> PreTrainedModel:
    """Return a model that OpenVINO computes, on the processor, with as many threads as torch.

    By default, OpenVINO computes in bfloat16 where the processor can, and the outputs of a float32 model then depend on
    the machine. transformers 5.23 writes the precision into the file, which OpenVINO 2026.4 does not read.
    """
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    return _load(directory, "openvino", device="cpu", config=config)


def load_pt2(directory: Path, model_class: Any) -> PreTrainedModel:
    """Return a model that torch computes from an exported program.

    Raises:
        UntrustedCode: The file comes from somebody else, perhaps: torch reads it with pickle, which can run code.
    """
    require_trust(pickle_name(directory / PT2), where=f"{PT2}, which torch reads with pickle")
    return _load(directory, "dynamo", device=None)


def pickle_name(path: Path) -> str:
    """Return how a recipe names a file that is read with pickle: by its content, so that trust in one is not in all."""
    with path.open("rb") as file:
        return f"pickle:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def load_safetensors(directory: Path, model_class: Any) -> PreTrainedModel:
    """Return a model of transformers with the weights in a folder."""
    loaded: PreTrainedModel = model_class.from_pretrained(
        directory, dtype="float32", use_safetensors=True, trust_remote_code=False
    )
    return loaded


def _load(directory: Path, export_format: str, **options: Any) -> PreTrainedModel:
    """Return the model of a folder that transformers exported.

    Raises:
        BadRecipe: The folder holds no such export.
    """
    described = _described(directory)
    if described.get("export_format") != export_format:
        raise BadRecipe(
            f"{str(directory / MANIFEST)!r} describes no {export_format} model. Export again: finetune export."
        )
    with quiet():
        exported = require_upstream("transformers.exporters", "ExportedModel").from_pretrained(directory, **options)
    config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
    unset: Any = GenerationConfig  # upstream leaves it without types
    generation = exported.generation_config or unset()
    graphs = {name: _Graph(name, runner, _inputs(described, name)) for name, runner in exported.runners.items()}
    return build(config, generation, graphs)


def _described(directory: Path) -> Mapping[str, Any]:
    try:
        content = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadRecipe(f"{str(directory / MANIFEST)!r} cannot be read: {error}. Export again.") from error
    return content if isinstance(content, Mapping) else {}


def _inputs(described: Mapping[str, Any], name: str) -> tuple[str, ...]:
    return tuple(described["components"][name]["metadata"]["kwargs"])


class _Graph:
    """One graph: inputs by name → what the exported model returned."""

    def __init__(self, name: str, runner: Any, inputs: tuple[str, ...]) -> None:
        self.name = name
        self.runner = runner
        self.inputs = inputs

    def __call__(self, **given: Any) -> Any:
        """Compute the outputs.

        transformers leaves out inputs that the graph lacks. A model that does not read the types of its tokens, say,
        gives other answers, so here that is an error.

        Raises:
            Incompatible: The graph does not read an input.
        """
        given = {name: value for name, value in given.items() if value is not None}
        if unread := sorted(set(given) - set(self.inputs)):
            raise Incompatible(f"the exported {self.name} does not read {', '.join(unread)}. Export again.")
        ids = given.get("input_ids")
        if "attention_mask" in self.inputs and "attention_mask" not in given and ids is not None:
            given["attention_mask"] = torch.ones_like(ids)
        if "token_type_ids" in self.inputs and "token_type_ids" not in given and ids is not None:
            given["token_type_ids"] = torch.zeros_like(ids)  # as the models of transformers do
        return self.runner(**given)


class _Encoder(torch.nn.Module):
    """The encoder of an exported model that writes texts."""

    main_input_name = "input_ids"

    def __init__(self, graph: _Graph) -> None:
        super().__init__()
        self.graph = graph

    def forward(self, input_ids: Any = None, attention_mask: Any = None, **_: Any) -> BaseModelOutput:
        found = self.graph(input_ids=input_ids, attention_mask=attention_mask)
        return BaseModelOutput(last_hidden_state=found.last_hidden_state)


def build(config: Any, generation: Any, graphs: Mapping[str, Any]) -> PreTrainedModel:
    """Return an object of the class that a configuration names, whose outputs graphs compute.

    Args:
        config: Of the exported model.
        generation: How it writes texts.
        graphs: Name → function from inputs to outputs.

    Raises:
        BadRecipe: The configuration names no class of transformers.
    """
    name = next(iter(config.architectures or ()), "")
    cls = getattr(transformers, name, None)
    if not (isinstance(cls, type) and issubclass(cls, PreTrainedModel)):
        raise BadRecipe(f"the configuration of the exported model names the class {name!r}, which transformers lacks.")
    computed = _one_graph(graphs[MODEL]) if MODEL in graphs else _two_graphs(graphs[ENCODER], graphs[DECODER])
    members: dict[str, Any] = {
        "forward": _with_signature_of(cls, computed),
        "device": property(lambda _: torch.device("cpu")),
        "dtype": property(lambda _: torch.float32),
        "__module__": __name__,
    }
    if ENCODER in graphs:
        members |= {"get_encoder": lambda self, *_, **__: self.exported_encoder, "generate": _without_cache(cls)}
    made: Any = type(name, (cls,), members)
    model: Any = made.__new__(made)
    torch.nn.Module.__init__(model)
    model.config, model.generation_config = config, generation
    if ENCODER in graphs:
        model.exported_encoder = _Encoder(graphs[ENCODER])
    exported: PreTrainedModel = model.eval()
    return exported


def _one_graph(graph: Any) -> Callable[..., Any]:
    def forward(self: Any, *args: Any, **given: Any) -> Any:
        return graph(**_plain(self, args, given))

    return forward


def _two_graphs(encoder: Any, decoder: Any) -> Callable[..., Any]:
    def forward(self: Any, *args: Any, **given: Any) -> Any:
        given = _plain(self, args, given)
        encoded = given.pop("encoder_outputs", None)
        ids = given.pop("input_ids", None)
        if encoded is None:
            encoded = self.exported_encoder(ids, given.get("attention_mask"))
        given.pop("past_key_values", None)
        return decoder(encoder_outputs=BaseModelOutput(last_hidden_state=encoded[0]), **given)

    return forward


def _plain(model: Any, args: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of a model by their names, without answers and flags."""
    names = list(inspect.signature(type(model).forward).parameters)[1:]
    named = {**dict(zip(names, args, strict=False)), **given}
    return {name: value for name, value in named.items() if name not in ANSWERS | FLAGS}


def _without_cache(cls: Any) -> Callable[..., Any]:
    """Return the `generate` of a class, for a decoder that computes all positions at each step."""

    def generate(self: Any, *args: Any, **options: Any) -> Any:
        return cls.generate(self, *args, **{**options, "use_cache": False})

    return generate


def _with_signature_of(cls: Any, function: Any) -> Any:
    """Give a function the signature of the `forward` of a class, without answers: no loss is computed."""
    signature = inspect.signature(cls.forward)
    kept = [each for name, each in signature.parameters.items() if name not in ANSWERS]
    function.__signature__ = signature.replace(parameters=kept)
    return function
