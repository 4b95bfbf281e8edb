"""Models of transformers → graphs of other runtimes, by `transformers.exporters`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from finetune.errors import Incompatible
from finetune.kit import require_upstream
from finetune_export.formats import Source
from finetune_export.quiet import quiet
from finetune_export.runtime import DECODER, ENCODER, MANIFEST, MODEL

FIRST_TOKENS = 4
"""Length of the targets with which a decoder is traced. It must be none that the graph would take for a constant."""


def onnx(source: Source, directory: Path) -> Sequence[str]:
    """Write ONNX graphs in float32."""
    return _write(source, directory, "OnnxExporter", "OnnxConfig")


def onnx_int8(source: Source, directory: Path) -> Sequence[str]:
    """Write ONNX graphs whose weights have 8 bits, with a scale for each channel.

    The activations have 8 bits too: with a scale that is computed of each batch, or of the calibration batches.
    """
    if source.calibration:
        from onnxruntime.quantization import QuantType

        settings = _upstream("OnnxRuntimeStaticConfig")(
            per_channel=True,
            op_types_to_quantize=["MatMul", "Gemm", "Gather"],
            activation_type=QuantType.QUInt8,  # with signed activations, x86 processors gain nothing
            weight_type=QuantType.QInt8,
        )
    else:
        settings = _upstream("OnnxRuntimeDynamicConfig")(per_channel=True)
    quantizer = _upstream("OnnxRuntimeQuantizer")(settings, calibration_dataset=list(source.calibration) or None)
    return _write(source, directory, "OnnxExporter", "OnnxConfig", quantizer=quantizer)


def openvino(source: Source, directory: Path) -> Sequence[str]:
    """Write graphs of OpenVINO in float32."""
    return _write(source, directory, "OpenVINOExporter", "OpenVINOConfig")


def openvino_int8(source: Source, directory: Path) -> Sequence[str]:
    """Write graphs of OpenVINO whose weights have 8 bits; with calibration batches, the activations too."""
    settings = _upstream("NNCFWeightCompressionConfig")()
    if source.calibration:
        settings = _upstream("NNCFQuantizationConfig")(subset_size=len(source.calibration))
    with quiet():  # imports NNCF
        quantizer = _upstream("NNCFOpenVINOQuantizer")(settings, calibration_dataset=list(source.calibration) or None)
    return _write(source, directory, "OpenVINOExporter", "OpenVINOConfig", quantizer=quantizer)


def pt2(source: Source, directory: Path) -> Sequence[str]:
    """Write a program of `torch.export`."""
    return _write(source, directory, "DynamoExporter", "DynamoConfig")


def _upstream(name: str) -> Any:
    with quiet():
        return require_upstream("transformers.exporters", name)


def _write(source: Source, directory: Path, exporter: str, config: str, **options: Any) -> list[str]:
    """Trace the graphs of a model, save them with its configuration, and return the names of their files.

    Raises:
        Incompatible: The model cannot be traced.
    """
    with quiet():
        maker = _upstream(exporter)()  # warns that it is experimental
    settings = _upstream(config)(dynamic=True, **options)
    components = {}
    with quiet():
        for name, (model, inputs) in _parts(source).items():
            try:
                exported = maker.export(model, dict(inputs), settings)
            except Exception as error:
                raise Incompatible(
                    f"--format: {type(source.model).__name__} cannot be exported: the {name} fails with "
                    f"{type(error).__name__}: {str(error).strip().splitlines()[0][:300] if str(error) else ''}. Export "
                    "it as safetensors: --format safetensors."
                ) from error
            components[name] = exported.components["model"]
        generation = source.model.generation_config if source.model.can_generate() else None
        whole = _upstream("ExportedModel")(
            components, maker.export_format, config=source.model.config, generation_config=generation
        )
        whole.save_pretrained(directory)
    return [MANIFEST, *_files(maker, directory)]


def _files(maker: Any, directory: Path) -> list[str]:
    described = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    names = [name for entry in described["components"].values() for name in maker.program_files(entry["file"])]
    return [name for name in names if (directory / name).is_file()]


def _parts(source: Source) -> dict[str, tuple[Any, Mapping[str, Any]]]:
    """Return the models to trace, with the inputs to trace them with: one model, or an encoder and a decoder."""
    model, batch = source.model, dict(source.batch)
    if not model.config.is_encoder_decoder or not model.can_generate():
        return {MODEL: (model, batch)}
    encoder = model.get_encoder()
    read = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        encoded = encoder(**read)
    given = {
        "decoder_input_ids": batch["input_ids"][:, :FIRST_TOKENS].clone(),
        "encoder_outputs": type(encoded)(last_hidden_state=encoded.last_hidden_state),
        "attention_mask": batch["attention_mask"],
        "use_cache": False,
    }
    return {ENCODER: (encoder, read), DECODER: (model, given)}
