"""From the `Plan` of a recipe with `seeds` to a `SeedsResult`: an ordinary run for each seed, then all together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from finetune import failures, folder, models, processes, recipe, seed_folders
from finetune import plan as plans
from finetune import run as runs
from finetune.errors import BadOptions, OutputExists
from finetune.evaluation import seeds
from finetune.plan import Plan
from finetune.progress import Reporter
from finetune.python_objects import PythonObjects
from finetune.report import seeds_page
from finetune.result import LOG, RECIPE, RESULT, Result, to_json, write_atomically
from finetune.seeds_result import SeedsResult


def run(
    plan: Plan,
    *,
    resume: bool = False,
    auto_resume: bool = False,
    accept_changes: bool = False,
    overwrite: bool = False,
    rows: Mapping[str, Any] | None = None,
    reporter: Reporter | None = None,
    cache: Path | None = None,
) -> SeedsResult:
    """Fine-tune a model with each seed of a recipe, and write the folder that holds their runs.

    Each run is the same, to the bit, as one of the recipe in its folder alone. If the call is stopped, a call with
    `resume` trains only what is missing: finished seeds stay, and the one that was stopped continues from its newest
    checkpoint. More seeds can be added in the same way.

    Args:
        plan: The recipe and its objects.
        resume: Continue what is in the output folder.
        auto_resume: Start, or continue if the folder holds something of these seeds.
        accept_changes: Resume even if the recipe or the data changed; a finished seed must have the same recipe.
        overwrite: Replace what an earlier call wrote into the output folder.
        rows: Split → examples, instead of the recipe's data set.
        reporter: Shows the progress.
        cache: Folder that keeps the features for later runs; None for none.

    Raises:
        FinetuneError: A run is refused or fails.
    """
    output, numbers = Path(plan.recipe.output), plan.recipe.seeds
    if reporter is None or not processes.is_main():
        reporter = Reporter()
    if rows is not None:  # what can be read once only would be empty for the second seed
        rows = {split: list(each) if isinstance(each, Iterator) else each for split, each in rows.items()}
    own = [_plan_of(plan, seed) for seed in numbers]  # what is wrong with one of them is said before the first trains
    processes.join(timeout=float(plan.recipe.training.get("ddp_timeout", 1800)))
    if auto_resume:
        resume = processes.from_main(lambda: bool(seed_folders.seeds_of(output)))
    with processes.agreed():
        if processes.is_main():
            _check(output, numbers, resume=resume, overwrite=overwrite)
    results: list[Result] = []
    with ExitStack() as until_the_end, failures.explained(output, plan.recipe.training, began=resume):
        with processes.agreed():
            if processes.is_main():
                until_the_end.enter_context(folder.lock(output))
        for seed, each in zip(numbers, own, strict=True):
            reporter.phases = []
            reporter.note(f"seed {seed}, {len(results) + 1} of {len(numbers)}")
            result = runs.run(
                each,
                auto_resume=resume,
                accept_changes=accept_changes,
                overwrite=not resume,
                rows=rows,
                reporter=reporter,
                cache=cache,
                before_writing=_claim(output, numbers, keep=resume or bool(results)),
            )
            results.append(result)
            if processes.is_main():
                _log(output, numbers, results)
        found = processes.from_main(lambda: _finish(plan, output, results[0], reporter))
    if processes.is_main():
        plan.plugins.announce("after_seeds", result=found, directory=output)
    processes.wait()
    return found


def _plan_of(plan: Plan, seed: int) -> Plan:
    """Return the plan of the run with one of the seeds, whose objects share nothing with those of the others."""
    try:
        callbacks = copy.deepcopy(plan.objects.callbacks)
        collator = copy.deepcopy(plan.objects.data_collator)
    except TypeError as error:
        raise BadOptions(
            f"seeds: callbacks and data_collator are copied for each seed, and one of them cannot be copied: {error}. "
            "Give the class of a callback, or train each seed by a call of its own."
        ) from error
    objects: PythonObjects = replace(plan.objects, callbacks=callbacks, data_collator=collator)
    return plans.make(plan.recipe.with_seed(seed), plan.plugins, objects=objects)


def _check(output: Path, seeds: Sequence[int], *, resume: bool, overwrite: bool) -> None:
    """Check that the runs of some seeds may write into a folder; write nothing.

    Raises:
        OutputExists: The folder holds something else; or all seeds have finished, and none is new.
    """
    before = seed_folders.seeds_of(output)
    if not resume:
        if not _holds_locks_alone(output, seeds):
            folder.check(output, resume=False, overwrite=overwrite)
        return
    if not before:
        what = "a run with one seed" if (output / RECIPE).is_file() else "no runs of several seeds"
        raise OutputExists(
            f"output: {str(output)!r} holds {what}, so there is nothing to resume with `seeds`. Name another folder, "
            "or train without --resume."
        )
    gone = [str(seed) for seed in before if seed not in seeds]
    if gone:
        raise OutputExists(
            f"output: {str(output)!r} also holds seed {', '.join(gone)}, which `seeds` leaves out. Write all of them: "
            f"seeds=[{', '.join(map(str, before))}]. Seeds can be added."
        )


def _holds_locks_alone(output: Path, seeds: Sequence[int]) -> bool:
    """Return whether a call that was killed before its first run wrote anything left a folder."""
    if not output.is_dir():
        return False
    names = [recipe.seed_folder(seed) for seed in seeds]
    for path in output.iterdir():
        if path.name == folder.LOCK:
            continue
        if path.name not in names or path.is_symlink() or not path.is_dir():
            return False
        if any(inside.name != folder.LOCK for inside in path.iterdir()):
            return False
    return True


def _claim(output: Path, numbers: Sequence[int], *, keep: bool) -> Callable[[Mapping[str, Any]], None]:
    """Return what is called before a run writes: it replaces what the folder held, and writes the recipe there.

    Args:
        output: The folder of the seeds.
        numbers: The seeds.
        keep: Whether the folder holds runs of these seeds.
    """

    def claim(content: Mapping[str, Any]) -> None:
        if not keep:
            folder.empty(output, but=[Path(content["output"]).name])
        if seed_folders.seeds_of(output) != list(numbers):
            write_atomically(output / RECIPE, recipe.dump(_of_all(content, output, numbers)))
        (output / LOG).touch()  # it says that this is the folder of a run, whose recipe somebody else may have written
        (output / RESULT).unlink(missing_ok=True)  # a seed was added

    return claim


def _of_all(content: Mapping[str, Any], output: Path, numbers: Sequence[int]) -> dict[str, Any]:
    """Return the recipe of all seeds from that of one of their runs, with every option."""
    changed: dict[str, Any] = {}
    for key, value in content.items():
        if key == "seed":
            changed["seeds"] = list(numbers)
        else:
            changed[key] = value
    return {**changed, "output": str(output)}


def _log(output: Path, numbers: Sequence[int], results: Sequence[Result]) -> None:
    """Write a line for each seed that has finished."""
    lines = []
    for seed, result in zip(numbers, results, strict=False):
        scores = {split: scores.get(result.primary) for split, scores in result.scores.items()}
        lines.append(to_json({"seed": seed, "steps": result.steps, result.primary: scores}) + "\n")
    write_atomically(output / LOG, lines)


def _finish(plan: Plan, output: Path, first: Result, reporter: Reporter) -> SeedsResult:
    """Compute what the runs say together, and write recipe, report and result."""
    content = _of_all(first.recipe, output, plan.recipe.seeds)
    if (output / RESULT).is_file() and seed_folders.seeds_of(output) == list(plan.recipe.seeds):
        reporter.note(f"all seeds in {str(output)!r} have finished already; nothing is trained")
        return SeedsResult.load(output)
    write_atomically(output / RECIPE, recipe.dump(content))
    with reporter.phase("compare the seeds"), models.suppress_output():
        found = seeds.collect(content, output)
    seeds_page.write(found, output)
    found.save(output)  # last: a folder without it can be resumed
    return found
