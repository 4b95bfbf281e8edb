"""Models for other runtimes: ONNX Runtime, OpenVINO and `torch.export`, with proof that they still compute the same."""

from __future__ import annotations

from collections.abc import Mapping

from finetune import hookimpl
from finetune.hookspecs import Command


@hookimpl
def runtimes() -> Mapping[str, str]:
    """Register what computes an exported model."""
    return {
        "onnx": "finetune_export.runtime:load_onnx",
        "openvino": "finetune_export.runtime:load_openvino",
        "pt2": "finetune_export.runtime:load_pt2",
        "safetensors": "finetune_export.runtime:load_safetensors",
    }


@hookimpl
def commands() -> Mapping[str, Command]:
    """Register `export`."""
    return {"export": Command("finetune_export.command:command", group="use")}


@hookimpl
def card_sections() -> Mapping[str, str]:
    """Register the section that says what an export changed."""
    return {"Export": "finetune_export.card:section"}


@hookimpl
def requirements() -> Mapping[str, Mapping[str, str]]:
    """Return what the runtimes need."""
    extra = "finetune-kit[export]"
    return {
        "onnx": {"onnx": extra, "onnxscript": extra, "onnxruntime": extra},
        "openvino": {"openvino": extra},
    }
