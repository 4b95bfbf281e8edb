"""The formats of `finetune export`: what writes them, what computes them, and what they promise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from finetune.errors import BadOptions, Incompatible, MissingLibrary, listed

ONE_GRAPH = frozenset(
    {
        "AutoModelForSequenceClassification",
        "AutoModelForTokenClassification",
        "AutoModelForQuestionAnswering",
        "AutoModelForMultipleChoice",
    }
)
"""Classes of transformers whose answer is one forward pass."""
TWO_GRAPHS = frozenset({"AutoModelForSeq2SeqLM"})
"""Classes that write a text from a text: an encoder, and a decoder that is called for each token."""
EXTRA = "finetune-kit[export]"


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is exported."""

    model: Any
    """A plain model of transformers, in evaluation mode and float32."""
    batch: Mapping[str, Any]
    """A batch of real rows, as the model gets them."""
    calibration: Sequence[Mapping[str, Any]]
    """Batches of train for a static quantization; empty for a dynamic one."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format."""

    name: str
    runtime: str
    """Name of the runtime that computes it; see `finetune.runtimes`."""
    write: Callable[[Source, Path], Sequence[str]]
    """Writes the model into a folder, and returns the names of the files that only the runtime reads."""
    is_exact: bool
    """Whether it stores every weight as it is, so that the outputs are the same but for rounding."""
    libraries: tuple[str, ...] = ()
    """Modules that must be installed to write it."""
    calibrates: bool = False
    """Whether it can be quantized statically, with rows of train."""


def _graphs(name: str) -> Callable[[Source, Path], Sequence[str]]:
    def write(source: Source, directory: Path) -> Sequence[str]:
        from finetune_export import graphs

        writer: Callable[[Source, Path], Sequence[str]] = getattr(graphs, name)
        return writer(source, directory)

    return write


def _safetensors(source: Source, directory: Path) -> Sequence[str]:
    source.model.save_pretrained(directory)
    return ()


_ONNX = ("onnx", "onnxscript", "onnxruntime")
_FORMATS = (
    Format(name="onnx", runtime="onnx", write=_graphs("onnx"), is_exact=True, libraries=_ONNX),
    Format(name="onnx-int8", runtime="onnx", write=_graphs("onnx_int8"), is_exact=False, libraries=_ONNX,
           calibrates=True),
    Format(name="openvino", runtime="openvino", write=_graphs("openvino"), is_exact=True, libraries=("openvino",)),
    Format(name="openvino-int8", runtime="openvino", write=_graphs("openvino_int8"), is_exact=False,
           libraries=("openvino", "nncf"), calibrates=True),
    Format(name="safetensors", runtime="safetensors", write=_safetensors, is_exact=True),
    Format(name="pt2", runtime="pt2", write=_graphs("pt2"), is_exact=True),
)  # fmt: skip
FORMATS: Mapping[str, Format] = {each.name: each for each in _FORMATS}
"""Name → format."""


def find(name: str, *, model_class: str, calibrate: int) -> Format:
    """Return a format, after a check that it can hold the model of a task.

    Args:
        name: Name of the format.
        model_class: The ``AutoModelFor…`` class of the task.
        calibrate: Rows of train for a static quantization; 0 for a dynamic one.

    Raises:
        BadOptions: There is no such format, or it has no static quantization.
        Incompatible: It cannot hold such a model.
        MissingLibrary: A library that writes or computes it is not installed.
    """
    found = FORMATS.get(name)
    if found is None:
        raise BadOptions(
            f"--format: {name!r} is no format. The formats are {listed(list(FORMATS), most=len(FORMATS))}."
        )
    if calibrate and not found.calibrates:
        raise BadOptions(f"--calibrate has an effect with onnx-int8 and openvino-int8 only; {name} is not quantized.")
    if model_class in TWO_GRAPHS and (calibrate or name == "pt2"):
        why = "is not quantized with rows of train" if calibrate else "is not exported as pt2"
        raise Incompatible(f"--format: a model that writes texts {why}. Choose onnx or onnx-int8, without --calibrate.")
    if model_class not in ONE_GRAPH | TWO_GRAPHS and name != "safetensors":
        raise Incompatible(
            f"--format: {name} cannot hold a model of {model_class}: a decoder needs a cache of the tokens that it has "
            "read, which the exported graph would lack, so that each token would cost as much as the whole text. "
            "Export it as safetensors, which vLLM, llama.cpp and transformers read: --format safetensors."
        )
    missing = [library for library in found.libraries if find_spec(library) is None]
    if missing:
        raise MissingLibrary(f"--format {name} needs {listed(missing)}. Install it: pip install '{EXTRA}'")
    return found
