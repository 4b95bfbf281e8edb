"""Merge a trained adapter into the weights of its base model, and load the merged model."""

from __future__ import annotations

import math
import os
import shutil
import warnings
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

import finetune
from finetune.errors import Incompatible, OutputExists, TrainingFailed
from finetune.interfaces import Strategy, Task
from finetune.kit import (
    LOG,
    PREDICTIONS,
    RECIPE,
    Result,
    base_model_of,
    config_of,
    describe_saved,
    dump_yaml,
    make_readable,
    model_outputs,
    reload,
    size_of_weights,
    suppress_output,
    write_atomically,
)

TOLERANCE = 1e-5
"""Greatest allowed change of an output by the merge in float32, relative to the greatest output."""
ROUNDING: Mapping[str, float] = {"float32": TOLERANCE, "bfloat16": 0.125, "float16": 0.0156}
"""Data type → greatest allowed change of an output by rounding the weights to it: 32 times the error of one number."""
COPIED = (PREDICTIONS, LOG, "README.md", "report.html")
"""Files of a run that hold for the merged model as well."""


@dataclass(frozen=True, kw_only=True)
class MergedStrategy(Strategy):
    """Loads a model whose adapter was merged into its weights; it trains nothing."""

    trained_by: Mapping[str, Any]
    """The strategy section of the recipe that trained the run."""
    trained_on: Mapping[str, Any] = field(default_factory=dict)
    """The model section of that recipe."""

    def prepare(self, model: Any, task: Task, *, newly_initialized: Collection[str] = ()) -> Any:
        """Refuse to train.

        Raises:
            Incompatible: Always: the recipe of a merged folder only says how the model is loaded.
        """
        raise Incompatible(
            "strategy: this recipe belongs to a merged model. To train as the run was trained, replace the strategy "
            "section by the content of strategy.trained_by, and the model section by that of strategy.trained_on."
        )


@dataclass(frozen=True, kw_only=True)
class UnquantizedStrategy(Strategy):
    """Loads a run's model with every weight in float32; weights that are quantized are unpacked."""

    strategy: Any
    """The `PeftStrategy` of the run."""

    def load_options(self) -> dict[str, Any]:
        """Return how the run loads its base model."""
        options: dict[str, Any] = self.strategy.load_options()
        return options

    def loading(self) -> AbstractContextManager[None]:
        """Return the context in which the run loads its base model."""
        context: AbstractContextManager[None] = self.strategy.loading()
        return context

    def prepare(self, model: Any, task: Task, *, newly_initialized: Collection[str] = ()) -> Any:
        """Refuse to train.

        Raises:
            Incompatible: Always: the class only loads.
        """
        raise Incompatible("strategy: UnquantizedStrategy loads a model for a merge, and trains none.")

    def load(self, directory: Path, *, model_class: Any, base: str, options: Mapping[str, Any]) -> Any:
        """Load the base model in float32, unpack what is quantized, and load the adapter onto it."""
        from peft import PeftModel

        from finetune_peft.strategy import suppress_warnings

        with self.loading():
            model = model_class.from_pretrained(base, **{**options, "dtype": "float32"})
        if is_quantized(model):
            try:
                model = model.dequantize()
            except (ValueError, NotImplementedError) as error:
                raise Incompatible(f"the base model {base!r} is quantized and cannot be unpacked: {error}.") from error
        with suppress_warnings():
            return PeftModel.from_pretrained(model.float(), directory)


@dataclass(frozen=True, kw_only=True)
class Merged:
    """What a merge changed, relative to the greatest output of a random batch."""

    dtype: str
    """Data type of the merged weights."""
    rounding: float
    """Change of an output by rounding the weights to the data type."""
    difference: float
    """Difference between an output of the merged model and of the run's model, as the run loads it."""


def merge(
    run: str | Path,
    output: str | Path,
    *,
    base: str | None = None,
    accept_changes: bool = False,
    dtype: str | None = None,
) -> Merged:
    """Write a run's model with the adapter merged into its weights, and everything that is needed to use it.

    The weights are merged in float32 and rounded once. Quantized weights are unpacked first, so the adapter is merged
    into the values with which it was trained.

    Args:
        run: The run folder.
        output: A new folder: like a run folder, but without the files that a resumed run needs.
        base: Folder or Hub id of the base model, if it has moved since the run was trained.
        accept_changes: Merge even if the base model or the saved tokenizer has changed.
        dtype: Data type of the merged weights: a name of `ROUNDING`; None for the one in which the run loaded its base
            model, or in which the base model is stored if the run quantized it.

    Raises:
        Incompatible: The run trained no PEFT adapter, or one that cannot be merged.
        OutputExists: The folder is not empty.
        TrainingFailed: The outputs of the merged model differ by more than rounding.
    """
    run, output = Path(run), Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise OutputExists(f"output: {str(output)!r} is not empty. Name another folder with --output.")
    finished = Result.load(run)
    loaded = finetune.load(run, base=base, accept_changes=accept_changes)
    check_mergeable(loaded.plan.strategy, loaded.model)
    batch = random_batch(loaded.model)
    of_run = _outputs(loaded.model, batch)
    dtype = dtype or default_dtype(loaded)
    plan, tokenizer, model = loaded.plan, loaded.tokenizer, loaded.model
    if is_quantized(base_model_of(model)) or any(p.dtype != torch.float32 for p in model.parameters()):
        del loaded, model  # frees the memory
        with suppress_output():
            model = reload(replace(plan, strategy=UnquantizedStrategy(strategy=plan.strategy)), run, tokenizer)
    exact = _outputs(model, batch)
    merged = merge_adapter(model)
    check_change(
        compare(exact, _outputs(merged, batch)),
        TOLERANCE,
        "by the merge in float32. Please report this, and use the adapter as it is",
    )
    try:
        output.mkdir(parents=True, exist_ok=True)
        merged.to(getattr(torch, dtype)).save_pretrained(output)
        tokenizer.save_pretrained(output)
        make_readable(output)
        record = write_record(finished, run, output, model=model_section(finished, base=base, dtype=dtype))
        of_merged = _outputs(finetune.load(output).model, batch)
        change = Merged(dtype=dtype, rounding=compare(exact, of_merged), difference=compare(of_run, of_merged))
        remedy = "Please report this, and use the adapter as it is"
        if dtype != "float32":
            remedy = "Merge with --dtype float32, or use the adapter as it is"
        check_change(change.rounding, ROUNDING[dtype], f"by rounding the weights to {dtype}. {remedy}")
    except BaseException:  # a full disk, or an interrupt: half a model must not look like a whole one
        shutil.rmtree(output, ignore_errors=True)
        raise
    if dtype != "float32":
        record = replace(record, notes=[*record.notes, describe_change(change)])
        record.save(output)
    # writes the card again: the copied one describes an adapter
    plan.plugins.announce("after_run", result=record, directory=output)
    return change


def describe_change(change: Merged) -> str:
    """Return what a merge changed, as a sentence."""
    return (
        f"merged in float32 and rounded to {change.dtype}: rounding changes an output by at most {change.rounding:.2g} "
        f"of the greatest, and the outputs differ from the run's by at most {change.difference:.2g}; the scores are "
        "those of the run"
    )


def default_dtype(loaded: Any) -> str:
    """Return the data type in which a run loaded its base model, or in which it is stored if it was quantized."""
    base = base_model_of(loaded.model)
    stored = base.dtype
    if is_quantized(base):
        stored = getattr(config_of(loaded.plan.model), "dtype", None) or torch.float32
    name = str(stored).removeprefix("torch.")
    return name if name in ROUNDING else "float32"


def is_quantized(model: Any) -> bool:
    """Return whether weights of a model of transformers are stored in fewer bits."""
    return getattr(model.config, "quantization_config", None) is not None


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
    if model.active_peft_config.is_prompt_learning:
        raise Incompatible(
            f"{name} puts virtual tokens before the text, and no weight can hold them. Use the run as it is."
        )


def merge_adapter(model: Any) -> Any:
    """Return the base model with the adapter merged into its weights, and without any module of PEFT.

    Raises:
        Incompatible: PEFT has no way to merge adapters of the type, or not into this model.
    """
    from peft.utils import ModulesToSaveWrapper

    untie_adapted(model)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Input and output embeddings are no longer tied")
        try:
            merged = model.merge_and_unload(safe_merge=True)
        except (NotImplementedError, AttributeError, ValueError) as error:
            kind = str(model.active_peft_config.peft_type.value)
            raise Incompatible(
                f"PEFT cannot merge an adapter of the type {kind} into this model: {error} Use the run as it is."
            ) from error
    for name, module in list(merged.named_modules()):
        if isinstance(module, ModulesToSaveWrapper):  # PEFT 0.21 leaves them if norms were trained
            merged.set_submodule(name, module.modules_to_save[module.active_adapters[0]])
    return merged


def untie_adapted(model: Any) -> None:
    """Give each module its own copy of a weight that it shares with a module that has an adapter.

    Otherwise the update of one, such as the head, would be merged into the other as well, such as the embeddings.
    """
    owners: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        owners.setdefault(id(parameter), []).append(name)
    for names in owners.values():
        has_adapter = any(".base_layer." in name for name in names)
        if len(names) == 1 or not has_adapter:
            continue
        for name in names[1:]:
            path, _, attribute = name.rpartition(".")
            module = model.get_submodule(path)
            copied = torch.nn.Parameter(getattr(module, attribute).detach().clone(), requires_grad=False)
            setattr(module, attribute, copied)
        base_model_of(model).config.tie_word_embeddings = False


def model_section(finished: Result, *, base: str | None, dtype: str) -> dict[str, Any]:
    """Return the recipe's `model` section of a merged model: where the base model was found, and the data type."""
    section = dict(finished.recipe["model"])
    if base is not None:
        section["path"] = os.path.abspath(base) if Path(base).is_dir() else base
    options = {name: value for name, value in section["options"].items() if name != "quantization_config"}
    if dtype != "float32" or "dtype" in options:
        options["dtype"] = dtype
    return {**section, "options": options}


def write_record(finished: Result, run: Path, output: Path, *, model: Mapping[str, Any]) -> Result:
    """Write the recipe and the result of a merged model, copy the run's files that still hold, and return the result.

    The recipe's strategy section says how the folder is loaded, and how the run was trained.
    """
    strategy = {
        "name": "finetune_peft.merging:MergedStrategy",
        "trained_by": dict(finished.recipe["strategy"]),
        "trained_on": dict(finished.recipe["model"]),
    }
    recipe = {**finished.recipe, "model": model, "strategy": strategy, "output": str(output)}
    write_atomically(output / RECIPE, dump_yaml(recipe))
    note = f"merged from {run.name}: the adapter is part of the weights"
    record = replace(
        finished,
        recipe=recipe,
        notes=[*finished.notes, note],
        directory=str(output),
        saved_bytes=size_of_weights(output),
        base={**finished.base, **describe_saved(output)},
    )
    record.save(output)
    for name in COPIED:
        if (run / name).is_file():
            shutil.copy2(run / name, output / name)
    return record


def random_batch(model: Any) -> dict[str, Any]:
    """Return four rows of 16 random tokens, which any text model takes; for multiple choice, two of two choices."""
    config = model.config.get_text_config()
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, (4, 16), generator=generator).to(model.device)
    if type(base_model_of(model)).__name__.endswith("ForMultipleChoice"):
        ids = ids.view(2, 2, 16)
    batch: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.config.is_encoder_decoder:
        batch["decoder_input_ids"] = ids[:, :8]
    if hasattr(config, "use_cache"):
        batch["use_cache"] = False
    return batch


def _outputs(model: Any, batch: Mapping[str, Any]) -> list[Any]:
    """Return the outputs of a model on the processor, where models on different devices can be compared."""
    moved = {
        name: value.to(model.device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()
    }
    outputs = model_outputs(model, moved)
    return [output.cpu() if isinstance(output, torch.Tensor) else output for output in outputs]


def compare(before: Any, after: Any) -> float:
    """Return the greatest difference between outputs, relative to the greatest output; infinity if not finite."""
    greatest = 0.0
    for original, changed in zip(before, after, strict=True):
        if isinstance(original, torch.Tensor):
            original, changed = original.float(), changed.float()
            difference = float((original - changed).abs().max()) / max(1.0, float(original.abs().max()))
            greatest = max(greatest, difference) if math.isfinite(difference) else math.inf
    return greatest


def check_change(change: float, limit: float, why: str) -> None:
    """Check that a change is not greater than its limit.

    Raises:
        TrainingFailed: It is.
    """
    if change > limit:
        raise TrainingFailed(
            f"the merged model would differ from the run's model: an output changes by {change:.3g} of the greatest "
            f"output, and {limit:g} is allowed. Nothing was kept. The change comes {why}."
        )
