"""Folding what an adapter learned into plain weights."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft.utils import ModulesToSaveWrapper

import finetune
from finetune.errors import Incompatible, OutputExists, TrainingFailed
from finetune.kit import (
    PREDICTIONS,
    RECIPE,
    Result,
    dump_yaml,
    make_readable,
    model_outputs,
    size_of_weights,
    write_atomically,
)
from finetune_peft.qlora import QLoraStrategy
from finetune_peft.strategy import PeftStrategy

FOLDS = frozenset({"LORA", "IA3", "LN_TUNING"})
"""Methods of PEFT that change weights; others put something beside them."""
TOLERANCE = 1e-5
"""How far an output may move, relative to the greatest."""
KEPT = (PREDICTIONS, "README.md", "report.html")
"""Files of a run that are as true of the merged model."""


def merge(run: str | Path, output: str | Path) -> float:
    """Write a run's model as one whose adapter is folded into its weights, with all that it takes to use it.

    Args:
        run: The run folder.
        output: A new folder: like a run folder, but without what a run needs to be resumed.

    Returns:
        The greatest difference between an output of the merged model and of the run's, relative to the greatest output.

    Raises:
        Incompatible: The run trained no adapter of PEFT, or one that cannot be folded.
        OutputExists: The folder holds something.
        TrainingFailed: The merged model computes something else than the run's.
    """
    run, output = Path(run), Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise OutputExists(f"output: {str(output)!r} is not empty. Name another folder with --output.")
    finished = Result.load(run)
    fitted = finetune.load(run)
    refuse(fitted.plan.strategy, fitted.model)
    batch = some_batch(fitted.model)
    before = model_outputs(fitted.model, batch)
    merged = folded(fitted.model)
    output.mkdir(parents=True, exist_ok=True)
    merged.save_pretrained(output)
    fitted.tokenizer.save_pretrained(output)
    make_readable(output)
    content = {**finished.recipe, "strategy": merged_strategy(finished.recipe["strategy"])}
    note = f"merged from {run.name}: what the strategy learned is folded into the weights"
    write_atomically(output / RECIPE, dump_yaml(content))
    record = replace(finished, recipe=content, notes=[*finished.notes, note], directory=str(output))
    record = replace(record, saved_bytes=size_of_weights(output))
    record.save(output)
    for name in KEPT:
        if (run / name).is_file():
            shutil.copy2(run / name, output / name)
    worst = compared(before, model_outputs(finetune.load(output).model, batch), output)
    fitted.plan.plugins.manager.hook.after_run(result=record, directory=output)  # its card is no longer an adapter's
    return worst


def folded(model: Any) -> Any:
    """Return the base with what was learned in its weights, and nothing of PEFT left."""
    merged = model.merge_and_unload(safe_merge=True)
    for name, module in list(merged.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):  # PEFT 0.21 leaves them where norms were trained
            merged.set_submodule(name, module.modules_to_save[module.active_adapters[0]])
    return merged


def refuse(strategy: Any, model: Any) -> None:
    """Refuse what cannot be folded.

    Raises:
        Incompatible: With the reason.
    """
    if not isinstance(strategy, PeftStrategy):
        raise Incompatible(
            f"the run's strategy {type(strategy).__name__} made no adapter of PEFT. There is nothing to merge."
        )
    if isinstance(strategy, QLoraStrategy):
        raise Incompatible(
            f"the base was loaded in {strategy.bits} bits: folded into such weights, what was learned would be rounded "
            f"to {strategy.bits} bits too, and the model would not be the one that was scored. Use the adapter as it "
            "is; or train by `lora` if you need plain weights."
        )
    kind = str(model.active_peft_config.peft_type.value)
    if kind not in FOLDS:
        raise Incompatible(
            f"{type(strategy).__name__} put virtual tokens before the text, and no weight can stand for them. "
            "Use the run as it is."
        )


def merged_strategy(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return the strategy section of a merged folder's recipe: how it is loaded, and how it was trained."""
    return {"name": "finetune_peft.merged:MergedStrategy", "trained_by": dict(section)}


def some_batch(model: Any) -> dict[str, Any]:
    """Return four rows of 16 random tokens that any model of text takes."""
    config = model.config.get_text_config()
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, (4, 16), generator=draw).to(model.device)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.config.is_encoder_decoder:
        batch["decoder_input_ids"] = ids[:, :8]
    return {**batch, **({"use_cache": False} if hasattr(config, "use_cache") else {})}


def compared(before: Any, after: Any, output: Path) -> float:
    """Return the greatest relative difference between outputs.

    Raises:
        TrainingFailed: It is more than rounding.
    """
    differences = [
        float((one - two).abs().max() / max(1.0, float(one.abs().max())))
        for one, two in zip(before, after, strict=True)
        if isinstance(one, torch.Tensor)
    ]
    if not (worst := max(differences)) <= TOLERANCE:
        shutil.rmtree(output)
        raise TrainingFailed(
            f"the merged model would not be the run's: an output differs by {worst:.3g} of the greatest, and "
            f"{TOLERANCE:g} is allowed. Nothing was kept. Was the run trained in half precision? Set model.options: "
            "{dtype: float32} and train again, or use the adapter as it is."
        )
    return worst
