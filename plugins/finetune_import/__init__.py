"""Recipes made of the settings of Axolotl, LLaMA-Factory, TRL and the example scripts of transformers."""

from __future__ import annotations

from collections.abc import Mapping

from finetune import hookimpl


@hookimpl
def importers() -> Mapping[str, str]:
    """Register the importers, by the name of the tool."""
    return {
        "axolotl": "finetune_import.axolotl:AxolotlImporter",
        "llama-factory": "finetune_import.llama_factory:LlamaFactoryImporter",
        "trl": "finetune_import.trl_command:TRLImporter",
        "example-scripts": "finetune_import.trainer_scripts:TrainerImporter",
    }
