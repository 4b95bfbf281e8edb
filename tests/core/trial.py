"""One task with one strategy, tried for real: what each process of a cell of the composition test does."""

from __future__ import annotations

import gc
import multiprocessing
import multiprocessing.forkserver
import os
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import finetune
from finetune import hookimpl, models
from finetune.errors import FinetuneError
from finetune.interfaces import Job
from finetune.plugins import Plugins, discover
from finetune.training import checks

os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")  # else sums depend on where in memory a matrix lies
PRELOADED = (
    "finetune.api", "datasets", "peft", "pytest", "sacrebleu", "rouge_score.rouge_scorer",
    "scipy.stats", "sklearn.metrics",
    "matplotlib.backends.backend_svg", "torch", "transformers", "trl", "finetune_trl.preference.kto_trainer",
)  # fmt: skip
"""What the server imports once, before any cell; these imports take seconds, not only torch's."""
HALF = 5
"""Step of the checkpoint that a run is resumed from; it has twice as many."""


@dataclass(frozen=True, kw_only=True)
class Straight:
    """What a run from the first step to the last showed."""

    losses: list[float] = field(default_factory=list)
    newly_initialized: list[str] = field(default_factory=list)
    trainable: set[str] = field(default_factory=set)
    """Parameters that required a gradient when the last step was made."""
    moved: set[str] = field(default_factory=set)
    """Parameters that are not what they were, to the bit, before the first step."""
    parameters: set[str] = field(default_factory=set)
    refusal: str = ""
    """Why there was no first step."""


class Watch:
    """A plugin that keeps the job, and every parameter as it was before the first step."""

    def __init__(self) -> None:
        self.job: Job | None = None
        self.before: dict[str, torch.Tensor] = {}

    @hookimpl
    def before_training(self, job: Job) -> None:
        """Copy the parameters."""
        self.job = job
        self.before = {name: parameter.data.clone() for name, parameter in job.model.named_parameters()}

    def original(self, name: str) -> torch.Tensor:
        """Return a parameter before the first step; the reference that TRL adds is the policy as it was then."""
        return self.before[name if name in self.before else name.replace(".ref.", ".default.")]


def watched() -> tuple[Watch, Plugins]:
    """Return the plugins that are installed, and one more."""
    watch, plugins = Watch(), discover()
    plugins.manager.register(watch)
    return watch, plugins


def straight(recipe: Mapping[str, Any]) -> Straight:
    """Train without a stop; write the outputs of the model for some tokens next to the run folder."""
    output = Path(recipe["output"])
    watch, plugins = watched()
    try:
        result = finetune.train(**recipe, plugins=plugins)
    except FinetuneError as error:
        if (output / "log.jsonl").is_file() and (output / "log.jsonl").read_text(encoding="utf-8"):
            raise  # too late to be a refusal
        return Straight(refusal=f"{error}")
    model = watch.job.model
    save_file(answers(model), output.with_suffix(".safetensors"))
    now = dict(model.named_parameters())
    return Straight(
        losses=[entry["loss"] for entry in result.log if "loss" in entry],
        newly_initialized=result.newly_initialized,
        trainable={name for name, parameter in now.items() if parameter.requires_grad},
        moved={name for name, parameter in now.items() if not torch.equal(parameter.data, watch.original(name))},
        parameters=set(now),
    )


def again(recipe: Mapping[str, Any]) -> list[str]:
    """Load what a straight run saved, and resume its half; return what is not equal to the bit."""
    output, differences = Path(recipe["output"]), []
    tuned = finetune.load(output, trust_code=True)
    then, now = load_file(output.with_suffix(".safetensors")), answers(tuned.model)
    assert then and weights(output), "there is nothing to compare"
    differences += [f"reloaded: {name} differs" for name in then if not torch.equal(then[name], now[name])]
    if (scores := tuned.evaluate()) != tuned.result.scores["test"]:
        differences.append(f"reloaded: it scores {scores}, and the run recorded {tuned.result.scores['test']}")
    resumed = output.with_name("resumed")
    resumed.mkdir()
    shutil.copy(output / "recipe.yaml", resumed)
    shutil.copytree(output / f"checkpoint-{HALF}", resumed / f"checkpoint-{HALF}")
    result = finetune.train(**{**recipe, "output": str(resumed)}, resume=True)
    if result.resumed_from != f"checkpoint-{HALF}" or result.notes != tuned.result.notes:
        differences.append(f"resumed from {result.resumed_from}: {result.notes}")
    return differences + unequal(weights(output), weights(resumed))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return every tensor that a run saved."""
    return {f"{file.name}: {k}": v for file in sorted(folder.glob("*.safetensors")) for k, v in load_file(file).items()}


def unequal(ones: Mapping[str, torch.Tensor], others: Mapping[str, torch.Tensor]) -> list[str]:
    """Return which tensors one has and the other has not, or has otherwise."""
    lacking = [f"resumed: one of the runs did not save {name}" for name in sorted(set(ones) ^ set(others))]
    both = sorted(set(ones) & set(others))
    return lacking + [f"resumed: {name} differs" for name in both if not torch.equal(ones[name], others[name])]


def answers(model: Any) -> dict[str, torch.Tensor]:
    """Return the outputs of a model for random tokens, without data or a collator."""
    ids = torch.randint(5, model.config.vocab_size, (3, 12), generator=torch.Generator().manual_seed(0))
    if type(models.base_model_of(model)).__name__.endswith("ForMultipleChoice"):
        ids = ids[None]  # one question with three choices
    batch: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.config.is_encoder_decoder:
        batch["decoder_input_ids"] = ids[:, :6]
    if hasattr(model.config, "use_cache"):
        batch["use_cache"] = False
    made = checks.model_outputs(checks.align_memory(model), batch)
    return {f"output {n}": t.contiguous() for n, t in enumerate(made) if isinstance(t, torch.Tensor)}


def forkserver_state() -> dict[str, Any]:
    """Return the names of the threads of the process that this one was forked from, and what it had not imported."""
    threads = [path.read_text().strip() for path in Path(f"/proc/{os.getppid()}/task").glob("*/comm")]
    return {"threads": threads, "not imported": sorted(set(PRELOADED) - set(sys.modules))}


def in_new_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what a function of a module returns in a process that has done nothing yet but import."""
    context = multiprocessing.get_context("forkserver")
    server: Any = multiprocessing.forkserver._forkserver  # type: ignore[attr-defined]
    if server._preload_modules != list(PRELOADED):
        server._stop()  # another test may have started it, with other modules
    context.set_forkserver_preload(list(PRELOADED))
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send_result, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    try:
        went_well, value = ours.recv()
    except EOFError as error:
        process.join()
        raise AssertionError(f"the process ended with exit code {process.exitcode} and said nothing") from error
    process.join()
    assert went_well, value
    return value


def _send_result(pipe: Any, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    gc.freeze()  # what was imported stays; to look through it again and again takes longer than to train
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    try:
        value = (True, function(*arguments))
    except BaseException:  # noqa: BLE001, the calling process reports it
        value = (False, traceback.format_exc())
    pipe.send(value)
