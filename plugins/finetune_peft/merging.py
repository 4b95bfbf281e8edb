"""Merge a trained adapter into the weights of its base model, and load the merged model."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import finetune
from finetune.errors import Incompatible, OutputExists, TrainingFailed
from finetune.interfaces import Strategy, Task
from finetune.kit import (
    PREDICTIONS,
    RECIPE,
    Result,
    base_model_of,
    dump_yaml,
    make_readable,
    model_outputs,
    size_of_weights,
    write_atomically,
)

MERGEABLE = frozenset({"LORA", "IA3", "LN_TUNING"})
"""PEFT's types of adapters that change weights; the others add something that no weight can hold."""
TOLERANCE = 1e-5
"""Greatest allowed change of an output, relative to the greatest output."""
COPIED = (PREDICTIONS, "README.md", "report.html")
"""Files of a run that hold for the merged model as well."""


@dataclass(frozen=True, kw_only=True)
class MergedStrategy(Strategy):
    """Loads a model whose adapter was merged into its weights; it trains nothing."""

    trained_by: Mapping[str, Any]
    """The strategy section of the recipe that trained the run."""

    def prepare(self, model: Any, task: Task, *, newly_initialized: Collection[str] = ()) -> Any:
        """Refuse to train.

        Raises:
            Incompatible: Always: the recipe of a merged folder only says how the model is loaded.
        """
        raise Incompatible(
            "strategy: this recipe belongs to a merged model. To train as the run was trained, replace the strategy "
            "section by the content of strategy.trained_by."
        )


def merge(run: str | Path, output: str | Path) -> float:
    """Write a run's model with the adapter merged into its weights, and everything that is needed to use it.

    Args:
        run: The run folder.
        output: A new folder: like a run folder, but without the files that a resumed run needs.

    Returns:
        The greatest difference between an output of the merged model and of the run's model, relative to the greatest
        output.

    Raises:
        Incompatible: The run trained no PEFT adapter, or one that cannot be merged.
        OutputExists: The folder is not empty.
        TrainingFailed: The outputs of the merged model differ from those of the run's model.
    """
    run, output = Path(run), Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise OutputExists(f"output: {str(output)!r} is not empty. Name another folder with --output.")
    finished = Result.load(run)
    loaded = finetune.load(run)
    check_mergeable(loaded.plan.strategy, loaded.model)
    batch = random_batch(loaded.model)
    before = model_outputs(loaded.model, batch)

    output.mkdir(parents=True, exist_ok=True)
    merge_adapter(loaded.model).save_pretrained(output)
    loaded.tokenizer.save_pretrained(output)
    make_readable(output)
    merged = write_record(finished, run, output)
    difference = check_outputs(before, model_outputs(finetune.load(output).model, batch), output)
    # writes the card again: the copied one describes an adapter
    loaded.plan.plugins.announce("after_run", result=merged, directory=output)
    return difference


def check_mergeable(strategy: Any, model: Any) -> None:
    """Check that a run's adapter can be merged.

    Raises:
        Incompatible: With the reason.
    """
    # imported here, so that a merged model loads where PEFT is not installed
    from finetune_peft.strategy import PeftStrategy

    name = type(strategy).__name__
    if not isinstance(strategy, PeftStrategy):
        raise Incompatible(f"the run's strategy {name} trained no PEFT adapter. There is nothing to merge.")
    if getattr(base_model_of(model).config, "quantization_config", None) is not None:
        raise Incompatible(
            "the base model is quantized. An adapter merged into such weights would be rounded as they are, and the "
            "model would not be the one that was scored. Use the adapter as it is, or train with `lora` if you need "
            "plain weights."
        )
    if str(model.active_peft_config.peft_type.value) not in MERGEABLE:
        raise Incompatible(
            f"{name} puts virtual tokens before the text, and no weight can hold them. Use the run as it is."
        )


def merge_adapter(model: Any) -> Any:
    """Return the base model with the adapter merged into its weights, and without any module of PEFT."""
    from peft.utils import ModulesToSaveWrapper

    merged = model.merge_and_unload(safe_merge=True)
    for name, module in list(merged.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):  # PEFT 0.21 leaves them if norms were trained
            merged.set_submodule(name, module.modules_to_save[module.active_adapters[0]])
    return merged


def write_record(finished: Result, run: Path, output: Path) -> Result:
    """Write the recipe and the result of a merged model, copy the run's files that still hold, and return the result.

    The recipe's strategy section says how the folder is loaded, and how the run was trained.
    """
    strategy = {"name": "finetune_peft.merging:MergedStrategy", "trained_by": dict(finished.recipe["strategy"])}
    recipe = {**finished.recipe, "strategy": strategy}
    write_atomically(output / RECIPE, dump_yaml(recipe))
    note = f"merged from {run.name}: the adapter is part of the weights"
    record = replace(
        finished,
        recipe=recipe,
        notes=[*finished.notes, note],
        directory=str(output),
        saved_bytes=size_of_weights(output),
    )
    record.save(output)
    for name in COPIED:
        if (run / name).is_file():
            shutil.copy2(run / name, output / name)
    return record


def random_batch(model: Any) -> dict[str, Any]:
    """Return four rows of 16 random tokens, which any text model takes."""
    config = model.config.get_text_config()
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, (4, 16), generator=generator).to(model.device)
    batch: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.config.is_encoder_decoder:
        batch["decoder_input_ids"] = ids[:, :8]
    if hasattr(config, "use_cache"):
        batch["use_cache"] = False
    return batch


def check_outputs(before: Any, after: Any, output: Path) -> float:
    """Return the greatest relative difference between outputs; delete the merged model if it is not only rounding.

    Raises:
        TrainingFailed: The difference is greater than `TOLERANCE`.
    """
    differences: list[float] = []
    for original, merged in zip(before, after, strict=True):
        if isinstance(original, torch.Tensor):
            scale = max(1.0, float(original.abs().max()))
            differences.append(float((original - merged).abs().max()) / scale)
    greatest = max(differences)
    if not all(difference <= TOLERANCE for difference in differences):  # so that NaN is refused as well
        shutil.rmtree(output)
        raise TrainingFailed(
            f"the merged model would differ from the run's model: an output changes by {greatest:.3g} of the greatest "
            f"output, and {TOLERANCE:g} is allowed. Nothing was kept. Was the run trained in half precision? Set "
            "model.options: {dtype: float32} and train again, or use the adapter as it is."
        )
    return greatest
