"""What a run was: its hyper-parameters, its files and its kinds of scores, as the page lists them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from finetune.evaluation import verdicts
from finetune.recipe import as_trained
from finetune.result import LOG, PREDICTIONS, RECIPE, RESULT, Result
from finetune.seeds_result import SeedsResult

CARD = "README.md"
FILES = {
    PREDICTIONS: "every held-out row with its prediction",
    RECIPE: "the recipe, with every option",
    RESULT: "everything on this page, as data",
    LOG: "the training log",
    CARD: "the model card",
}
"""Files of a run folder that the page links to → what they hold."""
NOT_SCORES = frozenset({"rows", "tokens", "threshold"})
"""Scales of numbers that explain scores and are none; see `Evaluator.scales`."""


def files(folder: str) -> list[dict[str, str]]:
    """Return the links to the files of a run.

    Args:
        folder: Path from the page to the run folder, with forward slashes; empty if the page is in it.
    """
    # The leading dot keeps a folder such as `javascript:` from being read as a scheme.
    start = quote(f"./{folder}/" if folder and not folder.startswith("/") else f"{folder}/" if folder else "./")
    return [{"href": start + name, "name": name, "what": what} for name, what in FILES.items()]


def name_of(result: Result) -> str:
    """Return the name of a run: the last part of its folder."""
    return PurePosixPath(str(result.recipe.get("output") or "")).name


def started(result: Result) -> str:
    """Return when a run started, to the minute."""
    date, _, time = result.started.partition("T")
    return f"{date} {time[:5]} UTC" if time else date


def hyper_parameters(result: Result) -> Iterator[tuple[str, str]]:
    """Yield what a reader asks first of a run, by name: data, strategy, rate, schedule, batch, steps and cost."""
    recipe, arguments = result.recipe, {**result.arguments, **(result.recipe.get("training") or {})}
    dataset = recipe.get("dataset") or {}
    source = as_trained(recipe)
    yield "Base model", str(source.recipe["model"]["path"])
    if isinstance(dataset.get("path"), str):
        yield "Data", dataset["path"]
    rows = [f"{counts.get('kept', 0):,} {split}" for split, counts in result.data_report.items()]
    yield "Rows", ", ".join(rows)
    trained, total = result.trainable_parameters, result.total_parameters
    if result.adopted_from is None:
        yield "Strategy", ", ".join([_strategy(source.recipe["strategy"]), *source.afterwards])
        yield "Trained parameters", f"{trained:,} ({verdicts.format_percent(trained, total)})"
    else:
        yield "Adopted from", result.adopted_from
        yield "Parameters", f"{total:,}"
    for title, key in (("Learning rate", "learning_rate"), ("Schedule", "lr_scheduler_type")):
        if arguments.get(key) is not None:
            yield title, _plain(arguments[key])
    if warmup := arguments.get("warmup_steps"):
        yield "Warm-up", f"{_plain(warmup)} {'of the steps' if warmup < 1 else 'steps'}"
    yield "Steps", f"{result.steps:,}{_epochs(result)}"
    if batch := _batch(arguments):
        yield "Batch size", batch
    if arguments.get("weight_decay"):
        yield "Weight decay", _plain(arguments["weight_decay"])
    if result.adopted_from is not None:
        return
    yield "Seed", str(recipe.get("seed", ""))
    seconds = sum(phase.seconds for phase in result.phases)
    yield "Time", _duration(seconds)
    yield "Peak memory", f"{result.peak_memory_mb:,.0f} MiB"


def _strategy(section: Mapping[str, Any]) -> str:
    """Return the strategy and its options that are plain numbers."""
    options = []
    for key, value in section.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            options.append(f"{key} {value}")
    return f"{section['name']} ({', '.join(options)})" if options else str(section["name"])


def _epochs(result: Result) -> str:
    epochs = [entry["epoch"] for entry in result.log if isinstance(entry.get("epoch"), int | float)]
    return f" ({epochs[-1]:.3g} epochs)" if epochs else ""


def _batch(arguments: Mapping[str, Any]) -> str:
    size, accumulated = arguments.get("per_device_train_batch_size"), arguments.get("gradient_accumulation_steps") or 1
    if size is None:
        return ""
    return str(size) if accumulated == 1 else f"{size} × {accumulated} accumulated"


def _duration(seconds: float) -> str:
    """Return a duration for people.

    >>> _duration(48.4), _duration(754), _duration(8000)
    ('48 s', '12 min 34 s', '2 h 13 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def scale_of(result: Result | SeedsResult, name: str) -> str:
    """Return the scale of a score in words, an empty text if it is unknown; that of ``f1/cat`` is the one of ``f1``."""
    return result.scales.get(name) or result.scales.get(name.partition("/")[0], "")


def split_scores(result: Result, split: str) -> dict[str, list[str]]:
    """Return the names of a split's scores by kind: ``scores``, ``counts``, and ``classes`` (those of one class)."""
    kinds: dict[str, list[str]] = {"scores": [], "counts": [], "classes": []}
    names = sorted(result.scores[split], key=lambda name: name != result.primary)
    tabled = verdicts.shown(result.scores[split], primary=result.primary)
    for name in names:
        if name in verdicts.MICRO and name not in tabled:
            continue  # equal to the accuracy
        if name not in tabled or scale_of(result, name) in NOT_SCORES:
            kinds["counts"].append(name)
        else:
            kinds["classes" if "/" in name else "scores"].append(name)
    return kinds
