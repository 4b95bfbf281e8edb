"""Give runs a score that follows a curve, and compare the model they keep with the best one by brute force.

``python tests/campaigns/best_model.py`` measures the line "best model". Curves rise, fall, repeat values and hold NaN,
under names that look like scores and like losses, in both directions. Some curves are trained for real: the weights
that the run keeps have to be those of the checkpoint with the best score, the first one of several equal ones. Many
more go through the trainer's choice without training. A run without any finite score has to say that it keeps the last
model.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import curves
import toy
from safetensors.torch import load_file
from scorecard import Line, record
from transformers import TrainerState
from transformers.trainer_utils import SaveStrategy

import finetune
from finetune.errors import BadOptions
from finetune.interfaces import Evaluator
from finetune.plugins import discover, resolve
from finetune.recipe import parse
from finetune.training.arguments import arguments
from finetune.training.evaluating import Kept
from finetune.training.trainer import PatchedTrainer

NAMES = ("accuracy", "f1", "bleu", "quality", "perplexity", "wer", "error_rate", "log_loss", "loss_of_face")
STEPS = 6


@dataclass
class Figures:
    """What the curves showed."""

    seed: int
    trained: int = 0
    """Curves of runs that were really trained."""
    chosen: int = 0
    """Curves that went through the choice alone."""
    without: int = 0
    """Of both, curves without a finite score."""
    refused: int = 0
    """Names of scores without a direction, which are refused."""
    problems: list[str] = field(default_factory=list)


def best(curve: Sequence[float], *, greater: bool) -> int | None:
    """Return the first step with the best score, from 1, by brute force; None if no score is a number."""
    found = None
    for step, value in enumerate(curve, 1):
        if math.isnan(value):
            continue
        if found is None or (value > curve[found - 1] if greater else value < curve[found - 1]):
            found = step
    return found


def drawn(draw: random.Random, size: int) -> list[float]:
    """Return a curve."""
    kind = draw.choice(["random", "ties", "nan", "all nan", "rising", "falling", "negative", "tiny"])
    values = [draw.random() for _ in range(size)]
    if kind == "ties":
        values = [round(value * 2) / 2 for value in values]
    if kind == "nan":
        values = [math.nan if draw.random() < 0.5 else round(value, 1) for value in values]
    if kind == "all nan":
        values = [math.nan] * size
    if kind in ("rising", "falling"):
        values.sort(reverse=kind == "falling")
    if kind == "negative":
        values = [-value * 1e6 for value in values]
    if kind == "tiny":
        values = [0.5 + value * 1e-12 for value in values]
    return values


def measure(*, trained: int, chosen: int, seed: int, folder: Path, brute: Callable[..., int | None] = best) -> Figures:
    """Choose the best model of curves.

    Args:
        trained: How many runs to train.
        chosen: How many curves to choose from without training.
        seed: Seed of the curves.
        folder: Holds the base model and the runs.
        brute: Returns the right step.
    """
    draw, figures = random.Random(seed), Figures(seed)
    base = toy.base(folder / "base") if trained or chosen else folder
    for number in range(trained):
        evaluator = {"name": "curves:Curve", "primary": NAMES[number % len(NAMES)], "lower_is_better": number % 2 == 1}
        curve = drawn(draw, STEPS)
        if number % 20 == 1:
            curve = [math.nan] * STEPS
        step = brute(curve, greater=not evaluator["lower_is_better"])
        figures.trained += 1
        figures.without += step is None
        problem = train(folder / f"run-{number}", base, evaluator, curve, step)
        if problem:
            figures.problems.append(f"{evaluator['primary']}, lower is better: {number % 2 == 1}, {curve}: {problem}")
    for _ in range(chosen):
        curve, greater, name = drawn(draw, draw.randint(1, 30)), draw.random() < 0.5, draw.choice(NAMES)
        step, found = brute(curve, greater=greater), choose(base, curve, name, greater=greater)
        figures.chosen += 1
        figures.without += step is None
        if found != step:
            figures.problems.append(f"{name}, greater is better: {greater}, {curve}: step {found}, not {step}")
    if chosen:
        for name in NAMES[1:]:
            try:
                choose(base, [1.0], "accuracy", greater=True, metric_for_best_model=name)
                figures.problems.append(f"{name} is no primary score, and no direction was asked for")
            except BadOptions:
                figures.refused += 1
    return figures


def train(run: Path, base: Path, evaluator: dict[str, object], curve: list[float], step: int | None) -> str:
    """Train a run whose score follows a curve; return what is wrong with the model that it keeps, or an empty text."""
    curves.CURVE[:] = curve
    plugins = discover()
    plugins.manager.register(curves.Watch())
    training = {
        "max_steps": STEPS, "save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1,
        "load_best_model_at_end": True, "save_total_limit": STEPS + 1,
    }  # fmt: skip
    content = toy.recipe(base, run, evaluator=evaluator, training=training, score_base_model=False)
    result = finetune.train(**content, plugins=plugins)
    kept = load_file(run / "model.safetensors")
    same = []
    for number in range(1, STEPS + 1):
        other = load_file(run / f"checkpoint-{number}" / "model.safetensors")
        if all(kept[name].equal(other[name]) for name in kept):
            same.append(number)
    if same != [step or STEPS]:
        return f"the model of step {same} was kept, not that of {step or STEPS}"
    if step is None and not any("no evaluation gave a finite" in note for note in result.notes):
        return f"no score is finite, and the notes do not say so: {result.notes}"
    return ""


def choose(base: Path, curve: Sequence[float], name: str, *, greater: bool, **training: object) -> int | None:
    """Return the step that the trainer chooses with the arguments that a recipe gives it."""
    content = toy.recipe(base, base / "run", training={"load_best_model_at_end": True, **training})
    recipe = parse({**content, "dataset": "rows.jsonl"})
    evaluator: Evaluator = curves.Curve(primary=name, lower_is_better=not greater)
    strategy = discover().find("strategies", "full")()
    chosen = arguments(recipe, resolve("toy:TASK"), strategy, evaluator=evaluator, validation=True)
    trainer = object.__new__(PatchedTrainer)
    trainer.args = SimpleNamespace(save_strategy=SaveStrategy.STEPS, **{
        key: chosen[key] for key in ("metric_for_best_model", "greater_is_better")})  # fmt: skip
    trainer.callback_handler = SimpleNamespace(callbacks=[])
    trainer.kept = Kept()
    trainer.state = TrainerState()
    for step, value in enumerate(curve, 1):
        trainer.state.global_step = step
        key = name if name.startswith("eval_") else f"eval_{name}"
        trainer._determine_best_metric(metrics={key: value}, trial=None)
    return trainer.state.best_global_step


def main() -> None:
    """Measure the line, and record it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trained", type=int, default=40)
    parser.add_argument("--chosen", type=int, default=5_000)
    parser.add_argument("--seed", type=int, default=0)
    options, started = parser.parse_args(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="campaign-best-") as folder:
        found = measure(trained=options.trained, chosen=options.chosen, seed=options.seed, folder=Path(folder))
    print(found)
    record(
        Line(
            name="best model",
            goal="the step that brute force finds, for every curve; the direction of a score is known or asked for",
            stock="the direction is guessed from the name: perplexity and word error rate are maximised",
            ours=f"{found.trained} runs and {found.chosen:,} curves, {found.without:,} without a finite score: "
            f"{len(found.problems)} other choices; {found.refused} of {len(NAMES) - 1} scores without a direction "
            "refused",
            met=not found.problems and found.refused == len(NAMES) - 1,
            not_covered="Scores of infinity.",
        ),
        started=started,
    )


if __name__ == "__main__":
    main()
