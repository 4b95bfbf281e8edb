"""A learning curve: the runs of one recipe on nested subsets of train, and what they say about more labels.

Everything lies in the recipe's `output`: the subsets as files in `data`, a run folder for each subset and seed, and
`curve.json`. Each run has a recipe of its own, so it can be compared, resumed and read like any other run. A call that
was interrupted is repeated: finished runs are kept, and the others continue from their checkpoints.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finetune.errors import BadData, BadOptions, OutputExists
from finetune.interfaces import Preprocessor
from finetune.kit import (
    RECIPE,
    Plugins,
    Recipe,
    Reporter,
    Result,
    evaluator_of,
    lock_folder,
    make_plan,
    nested_subsets,
    prepare,
    recipe_from_mapping,
    recipe_to_mapping,
    records_of,
    resampled_scores,
    run,
    suppress_progress_bars,
    to_json,
    units_of,
    verdicts,
    write_atomically,
)
from finetune_tune.extrapolation import Extrapolation, extrapolate
from finetune_tune.one_process import require_one_process

CURVE = "curve.json"
SETTINGS = "curve-settings.json"
"""What a second call must find unchanged: the recipe, the data and the sizes."""
SHARES = (0.125, 0.25, 0.5, 1.0)
"""Share of train of each subset; each is half of the next, so the curve has equal steps in ``log n``."""
LEAST_ROWS = 8
"""Rows of the smallest subset."""
FORMAT = 1
"""Number of the format of `curve.json`."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A run of the curve: a subset of train, and a seed."""

    size: int
    share: float
    seed: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"rows-{self.size}-seed-{self.seed}"


def curve(recipe: Recipe, plugins: Plugins, *, seeds: int = 3, reporter: Reporter | None = None) -> dict[str, Any]:
    """Train a recipe on nested subsets of train, and return the content of `curve.json`, which is written.

    Validation and test are the same for all runs. Each seed draws its own subsets, so that the scores also vary with
    the rows that are drawn.

    Args:
        recipe: What to train. Its `output` holds everything.
        plugins: Where names are looked up.
        seeds: How many seeds, beginning with the recipe's own.
        reporter: Shows the progress.

    Raises:
        BadOptions: The recipe streams or mixes its data, or several processes run.
        BadData: There are too few rows, or none to score on.
        OutputExists: The output holds something else.
        FinetuneError: A run is refused or fails. The runs that have finished are kept.
    """
    require_one_process("curve")
    _refuse(recipe)
    reporter = reporter or Reporter()
    output = Path(recipe.output)
    _require_place(output)
    prepared = prepare(make_plan(recipe, plugins), reporter=reporter)
    splits, preprocessor = prepared.examples.splits, prepared.plan.preprocessor
    if not splits.keys() & {"validation", "test"}:
        raise BadData(
            "dataset: there is no test or validation split, so nothing can be scored. Give one, or set "
            "dataset.validation_size."
        )
    sizes = sizes_of(len(splits["train"]))
    output.mkdir(parents=True, exist_ok=True)
    with lock_folder(output):
        _settle(output, recipe, sizes=sizes, fingerprints=prepared.examples.fingerprints)
        parts = []
        for seed in range(recipe.seed, recipe.seed + seeds):
            _write_subsets(output / "data", splits, preprocessor, sizes=sizes, seed=seed)
            parts += [Part(size=size, share=share, seed=seed) for size, share in sizes.items()]
        parts.sort(key=lambda part: (part.size, part.seed))
        results = []
        for number, part in enumerate(parts, start=1):
            reporter.note(f"run {number} of {len(parts)}: {part.size:,} rows of train, seed {part.seed}")
            plan = make_plan(_recipe_of(recipe, part, splits), plugins)
            results.append(run(plan, auto_resume=True, reporter=reporter))
        with reporter.phase("fit the learning curve"):
            content = summarize(recipe, parts, results)
        write_atomically(output / CURVE, to_json(content, indent=1) + "\n")
    return content


def sizes_of(rows: int) -> dict[int, float]:
    """Return the number of rows of each subset, with its share.

    >>> sizes_of(800)
    {100: 0.125, 200: 0.25, 400: 0.5, 800: 1.0}

    Raises:
        BadData: There are too few rows.
    """
    sizes = {round(rows * share): share for share in SHARES}
    if min(sizes) < LEAST_ROWS:
        raise BadData(
            f"train has {rows:,} rows, and the smallest subset of a learning curve would have {min(sizes)}. At least "
            f"{round(LEAST_ROWS / SHARES[0])} rows are needed."
        )
    return sizes


def _refuse(recipe: Recipe) -> None:
    """Check that the runs of a curve can be made of a recipe.

    Raises:
        BadOptions: They cannot.
    """
    if recipe.dataset.streaming:
        raise BadOptions("dataset.streaming: subsets are drawn of rows that are read once. Leave streaming out.")
    if recipe.dataset.mixture:
        raise BadOptions(
            "dataset.mixture: a learning curve has one data set. Write the rows into one file, or make a curve of each."
        )
    if recipe.python:
        raise BadOptions(f"python: the recipe needs objects that no file holds: {', '.join(recipe.python)}.")


def _require_place(output: Path) -> None:
    """Check that a folder is free, or holds a curve.

    Raises:
        OutputExists: It holds something else.
    """
    if not output.is_dir() or (output / SETTINGS).is_file():
        if output.exists() and not output.is_dir():
            raise OutputExists(f"output: {str(output)!r} is a file. Name a folder.")
        return
    found = sorted(path.name for path in output.iterdir() if not path.name.startswith("."))
    if found:
        what = "a run" if RECIPE in found else f"other files, such as {found[0]!r}"
        raise OutputExists(
            f"output: {str(output)!r} holds {what}, and a learning curve has a folder of its own. Name another one: "
            f"output={output}-curve."
        )


def _settle(output: Path, recipe: Recipe, *, sizes: Mapping[int, float], fingerprints: Mapping[str, str]) -> None:
    """Write what the runs have in common, or check that it is what an earlier call has written.

    Raises:
        OutputExists: The recipe or the data have changed.
    """
    content = recipe_to_mapping(recipe)
    del content["output"], content["card"]
    facts = {"recipe": content, "sizes": list(sizes), "data": dict(fingerprints)}
    text = to_json(facts, indent=1, default=str) + "\n"
    path = output / SETTINGS
    if not path.is_file():
        write_atomically(path, text)
    elif path.read_text(encoding="utf-8") != text:
        raise OutputExists(
            f"output: {str(output)!r} holds the curve of another recipe or of other data ({SETTINGS} says of which). "
            "Name another folder."
        )


def _write_subsets(
    folder: Path, splits: Mapping[str, Any], preprocessor: Preprocessor, *, sizes: Mapping[int, float], seed: int
) -> None:
    """Write the rows of each split, and of each subset of train, as Parquet files.

    Raises:
        BadData: A label would be missing in a subset.
    """
    folder.mkdir(exist_ok=True)
    train = splits["train"]
    labels = _labels(train, preprocessor)
    for name, rows in splits.items():
        if name != "train":
            _write(folder / f"{name}.parquet", rows)
    for size, places in nested_subsets(train, preprocessor, list(sizes), seed=seed).items():
        subset = train.select(places)
        if lost := labels - _labels(subset, preprocessor):
            raise BadData(
                f"a subset of {size:,} rows has no row with the label {sorted(map(str, lost))[0]!r}: train has "
                f"{len(labels)} labels. A learning curve needs more rows."
            )
        _write(folder / f"train-{size}-seed-{seed}.parquet", subset)


def _labels(rows: Any, preprocessor: Preprocessor) -> set[Any]:
    return {label for row in rows for label in preprocessor.strata(row)}


def _write(path: Path, rows: Any) -> None:
    """Write rows as Parquet, so that the file is complete or not there; one that is there is kept."""
    if path.is_file():
        return
    scratch = path.with_name(f".{path.name}.{os.getpid()}.scratch")
    with suppress_progress_bars():
        rows.to_parquet(str(scratch))
    scratch.replace(path)


def _recipe_of(recipe: Recipe, part: Part, splits: Mapping[str, Any]) -> Recipe:
    """Return the recipe of a run: that of the curve with its own rows, seed and folder."""
    folder = Path(recipe.output)
    files = {name: str(folder / "data" / f"{name}.parquet") for name in splits}
    files["train"] = str(folder / "data" / f"train-{part.size}-seed-{part.seed}.parquet")
    content = recipe_to_mapping(recipe)
    for name in ("seeds", "search"):  # a run of the curve is one run
        content.pop(name, None)
    changed = {
        "dataset": {"path": files, "validation_size": 0, "on_bad": recipe.dataset.on_bad},
        "output": str(folder / part.name),
        "seed": part.seed,
        "score_base_model": False,
        "general_text": "none",
    }
    return recipe_from_mapping({**content, **changed}, name=f"the recipe of {part.name}")


def summarize(recipe: Recipe, parts: Sequence[Part], results: Sequence[Result]) -> dict[str, Any]:
    """Return the content of `curve.json`.

    Args:
        recipe: That of the curve.
        parts: The runs, by size and then by seed.
        results: Their results.
    """
    first = results[0]
    split, name = verdicts.report_split(first), first.primary
    assert split is not None
    sizes = sorted({part.size for part in parts})
    count = len(parts) // len(sizes)
    scores = np.array([result.scores[split].get(name, np.nan) for result in results]).reshape(len(sizes), count)
    records = [records_of(result.directory, split) for result in results]
    evaluators = [evaluator_of(result) for result in results]
    resampled = resampled_scores(evaluators, records, units_of(first, split), seed=recipe.seed).get(name)
    drawn = np.full((1, len(results)), np.nan) if resampled is None else resampled.drawn
    found = extrapolate(sizes, scores, drawn.reshape(-1, len(sizes), count).mean(axis=2), seed=recipe.seed)
    factor, unit = scale_of(first, name)
    steps = np.array([result.steps for result in results]).reshape(len(sizes), count)
    return {
        "format": FORMAT,
        "task": recipe.task,
        "split": split,
        "rows": len(records[0]),
        "score": name,
        "greater_is_better": first.greater_is_better,
        "selected_on_split": first.selection_split == split,
        "factor": factor,
        "unit": unit,
        "training": how_long(recipe.training, sizes, steps),
        "points": [
            {
                "size": size,
                "share": parts[place * count].share,
                "steps": int(np.median(steps[place])),
                "scores": scores[place].tolist(),
                **asdict(found.scores[place]),
            }
            for place, size in enumerate(sizes)
        ],
        "seeds": [part.seed for part in parts[:count]],
        "runs": [part.name for part in parts],
        "doubling": None if found.gain is None else {"size": 2 * sizes[-1], **asdict(found.gain)},
        "reason": found.reason,
        "exponent": None if found.exponent is None else asdict(found.exponent),
        "curve": [{"size": size, **asdict(score)} for size, score in found.curve],
        "sentence": sentence(found, sizes[-1], factor=factor, unit=unit, better=first.greater_is_better),
    }


def scale_of(result: Result, name: str) -> tuple[float, str]:
    """Return by what a score is multiplied where people read it, and the unit that it then has."""
    scale = result.scales.get(name, "")
    if scale in ("0 to 1", "−1 to 1"):
        return 100.0, f"points of {name}"
    return 1.0, f"points of {name}" if scale == "0 to 100" else name


def sentence(found: Extrapolation, largest: int, *, factor: float, unit: str, better: bool) -> str:
    """Return what twice the rows are worth, as a sentence.

    Args:
        found: The extrapolation.
        largest: The largest number of rows.
        factor: See `scale_of`.
        unit: See `scale_of`.
        better: Whether a greater score is better.
    """
    if found.gain is None:
        return f"What doubling the labels is worth cannot be said: {found.reason}."
    sign = factor if better else -factor
    low, high = sorted([sign * found.gain.low, sign * found.gain.high])
    value, least, most = numbers([sign * found.gain.value, low, high])
    less = "" if better else "less "
    rows = f"from {largest:,} to {2 * largest:,} rows"
    text = f"Doubling the labels, {rows}, is worth {value} [{least}, {most}] {less}{unit}."
    if low <= 0 <= high:
        text += " The interval contains 0, so more labels may be worth nothing."
    return text


def numbers(values: Sequence[float]) -> list[str]:
    """Return numbers with the same decimals: one, or as many as the largest needs for two digits.

    >>> numbers([1.24, 0.31, -0.04]), numbers([0.0013, -0.012, 0.031])
    (['1.2', '0.3', '0.0'], ['0.001', '−0.012', '0.031'])
    """
    largest = max(map(abs, values))
    decimals = max(1, 1 - math.floor(math.log10(largest))) if largest else 1
    texts = []
    for value in values:
        text = f"{abs(value):.{decimals}f}"
        texts.append(f"−{text}" if value < 0 and float(text) else text)
    return texts


def how_long(training: Mapping[str, Any], sizes: Sequence[int], steps: Any) -> str:
    """Return how long the runs train, as a sentence.

    Args:
        training: The training options of the recipe.
        sizes: Rows of the subsets.
        steps: Steps of each run: (sizes, seeds).
    """
    if training.get("max_steps", -1) > 0:
        return (
            f"Each run makes the {training['max_steps']:,} steps of the recipe (max_steps), so the rows of a small "
            "subset are seen more often."
        )
    epochs = training.get("num_train_epochs", 3)
    few, many = int(np.median(steps[0])), int(np.median(steps[-1]))
    return (
        f"Each run makes the recipe's number of epochs ({epochs:g}), so a small subset gets fewer steps: {few:,} with "
        f"{sizes[0]:,} rows, {many:,} with {sizes[-1]:,}."
    )
