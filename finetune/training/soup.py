"""`training.average: greedy`: the mean of the weights of a run's best checkpoints, as far as validation allows it.

The checkpoints are tried from the best to the worst. One is kept if the mean of it and of those that were kept before
scores no worse on validation than the mean before. If the mean is no better than the best checkpoint in the end, the
best checkpoint stands.

Source: Wortsman et al. 2022, "Model soups: averaging weights of multiple fine-tuned models improves accuracy without
increasing inference time", recipe 1 (greedy soup), there for the models of several runs; Izmailov et al. 2018,
"Averaging Weights Leads to Wider Optima and Better Generalization", for the checkpoints of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from finetune.checkpoint_folders import name_of
from finetune.errors import BadCheckpoint, BadOptions
from finetune.interfaces import Job
from finetune.training import averaging, checkpoints
from finetune.training.trainer import PatchedTrainer, compute_metrics


def greedy(built: Any, job: Job) -> dict[str, Any]:
    """Replace the weights of a trained model by the mean of its best checkpoints, if that is better on validation.

    Args:
        built: The trainer, with the weights of the best checkpoint.
        job: What was trained.

    Returns:
        As `Result.average` describes it; empty if the run does not ask for an average, or has no best checkpoint.

    Raises:
        BadOptions: The trainer cannot load checkpoints.
    """
    if not averaging.is_on(job.arguments) or built.state.best_model_checkpoint is None:
        return {}
    if not isinstance(built, PatchedTrainer):
        raise BadOptions(
            f"training: '{averaging.OPTION}' needs a PatchedTrainer, and this task has a {type(built).__name__}."
        )
    metric = str(built.args.metric_for_best_model).removeprefix("eval_")
    is_better = bool(built.args.greater_is_better)
    order = averaging.best_first(built.state.log_history, metric=metric, greater_is_better=is_better)
    found, left_out = _candidates(order, Path(job.output), best=Path(built.state.best_model_checkpoint).name)
    evaluate = _evaluation(built, job, metric)
    best_step, best_path, _ = found[0]
    built.load_weights(best_path)
    best = score = evaluate()
    total, steps, tried = _weights(built.model), [best_step], []
    for step, path, then in found[1:]:
        built.load_weights(path)
        with_it = _sum(total, _weights(built.model))
        _set(built.model, with_it, count=len(steps) + 1)
        reached = evaluate()
        keeps = reached >= score if is_better else reached <= score
        tried.append({"step": step, "score": then, "with_it": reached, "kept": keeps})
        if keeps:
            total, score = with_it, reached
            steps.append(step)
    improves = score > best if is_better else score < best
    if improves:
        _set(built.model, total, count=len(steps))
    else:
        built.load_weights(best_path)
    return {
        "score": metric,
        "best_step": best_step,
        "best": best,
        "tried": tried,
        "steps": sorted(steps) if improves else [best_step],
        "value": score if improves else best,
        "left_out": left_out,
    }


def _candidates(
    order: Sequence[tuple[int, float]], output: Path, *, best: str
) -> tuple[list[tuple[int, Path, float]], list[str]]:
    """Return the checkpoints on the disk, the best first, and why others are left out."""
    found, left_out = [], []
    for step, score in sorted(order, key=lambda item: name_of(item[0]) != best):
        path = output / name_of(step)
        if not path.is_dir():
            continue  # save_total_limit, or it was not saved
        try:
            checkpoints.verify(path)
        except BadCheckpoint as error:
            if path.name == best:
                raise
            left_out.append(str(error))
            continue
        found.append((step, path, score))
    return found, left_out


def _evaluation(built: Any, job: Job, metric: str) -> Callable[[], float]:
    """Return a function that scores the trainer's model on validation, and logs nothing."""
    quiet = compute_metrics(replace(job, callbacks=()))

    def evaluate() -> float:
        kept, built.compute_metrics = built.compute_metrics, quiet
        try:
            return float(built.predict(built.eval_dataset, metric_key_prefix="eval").metrics[f"eval_{metric}"])
        finally:
            built.compute_metrics = kept

    return evaluate


def _tensors(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the parameters and buffers of a model that have a mean; 4-bit weights, which are frozen, have none."""
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point():
            yield name, tensor


def _weights(model: Any) -> dict[str, torch.Tensor]:
    """Return a copy of the weights, in double precision, so that their sum loses nothing."""
    return {name: tensor.detach().to("cpu", torch.float64, copy=True) for name, tensor in _tensors(model)}


def _sum(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor + other[name] for name, tensor in one.items()}


@torch.no_grad()
def _set(model: Any, total: Mapping[str, torch.Tensor], *, count: int) -> None:
    """Give a model the mean of weights."""
    for name, tensor in _tensors(model):
        tensor.copy_(total[name] / count)
