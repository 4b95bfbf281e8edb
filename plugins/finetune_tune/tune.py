"""From a recipe to what a study of it found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from finetune.errors import BadRecipe, Interrupted
from finetune.kit import Plan, Reporter, add_recipe_folder, discover, make_plan, prepare, read_recipe
from finetune_tune import report
from finetune_tune.conclusion import Conclusion, conclude, require_enough_seeds
from finetune_tune.one_process import require_one_process
from finetune_tune.space import check_space, space_of, with_evaluations
from finetune_tune.study import STUDY, open_study
from finetune_tune.trial import Settings, Trial
from finetune_tune.worker import search
from finetune_tune.workers import work


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """A study that is finished."""

    output: Path
    settings: Settings
    trials: Sequence[Trial]
    conclusion: Conclusion


def tune(
    recipe: Path,
    overrides: Sequence[str] = (),
    *,
    trials: int = 27,
    hours: float | None = None,
    seeds: int = 3,
    workers: int = 1,
    storage: str | None = None,
    trust_code: bool = False,
    reporter: Reporter | None = None,
) -> Tuned:
    """Search the options of a recipe, and test the winner; or continue the study in the recipe's output folder.

    Args:
        recipe: The file of the recipe.
        overrides: Keys to replace, such as ``training.max_steps=300``.
        trials: How many trials the study has in all.
        hours: No trial is started after this many hours of trials.
        seeds: With how many new seeds the winner and the recipe are trained at the end; 0 for none.
        workers: How many processes work on the study.
        storage: A URL of a database, or the path of a journal file; None for a database in the study folder.
        trust_code: Whether the workers trust the Python code that a recipe in a run folder names.
        reporter: Shows the progress.

    Raises:
        FinetuneError: The recipe or its space is wrong, too many trials fail, or a signal stops the study.
    """
    require_one_process("tune", "For several GPUs, give --workers: each has a GPU and trains trials of its own.")
    reporter = reporter or Reporter()
    read = read_recipe(recipe, tuple(overrides))
    add_recipe_folder(recipe)
    plan = make_plan(read, discover())
    settings = Settings(
        trials=trials,
        seed=read.seed,
        greater_is_better=plan.evaluator.greater_is_better,
        primary=plan.evaluator.primary,
        hours=hours,
        seeds=seeds,
    )
    space = space_of(plan)
    _require_comparable(plan)
    known = (Path(read.output) / STUDY).is_file()
    refused = {} if known else check_space(read, space, plan.plugins)
    for values, reason in refused.items():
        reporter.note(f"cannot be combined: {values}: {reason}")
    has_test = _check_data(plan, reporter=reporter)
    study = open_study(plan, space, settings, storage=storage)
    require_enough_seeds(study)
    reporter.note(f"searched: {', '.join(each.key for each in space.parameters)} ({space.source})")
    if workers > 1:
        options = {"trials": trials, "hours": hours, "seeds": seeds, "storage": storage}
        arguments = [str(recipe), *overrides, *(["--trust-code"] if trust_code else [])]
        if type(reporter) is Reporter:  # it shows nothing
            arguments.append("--quiet")
        for name, value in options.items():
            if value is not None:
                arguments += [f"--{name}", str(value)]
        work(arguments, count=workers, reporter=reporter)
    try:
        search(study, reporter=reporter)
        conclusion = conclude(study, has_test=has_test, reporter=reporter)
    except Interrupted as stop:
        signal = stop.exit_code - 128
        raise Interrupted(
            f"the study in {str(study.output)!r} was stopped. The same command continues it.", signal=signal
        ) from stop
    with study.alone():
        study.write({"conclusion": asdict(conclusion)})
        report.write(study, conclusion)
    return Tuned(output=study.output, settings=settings, trials=study.trials.all(), conclusion=conclusion)


def _require_comparable(plan: Plan) -> None:
    """Check that trials and the runs at the end can be compared by the primary score.

    Raises:
        BadRecipe: They cannot.
    """
    training, primary = plan.recipe.training, plan.evaluator.primary
    with_evaluations(training)
    best = str(training.get("metric_for_best_model", primary)).removeprefix("eval_")
    if best != primary:
        raise BadRecipe(
            f"training.metric_for_best_model: a study searches for the evaluator's primary score, {primary!r}, and "
            f"this is {best!r}. Remove it, or set evaluator.primary."
        )
    if plan.recipe.seeds:
        raise BadRecipe(
            "seeds: the trials of a study have one seed, and --seeds says with how many new ones the winner and the "
            "recipe are trained at the end. Write `seed` in place of `seeds`."
        )


def _check_data(plan: Plan, *, reporter: Reporter) -> bool:
    """Check the data as `finetune check` does, and return whether there is a test split.

    Raises:
        BadRecipe: There is no validation split to compare trials on.
    """
    prepared = prepare(plan, reporter=Reporter())
    if "validation" not in prepared.features:
        raise BadRecipe("dataset: trials are compared on validation, and there is none. Set dataset.validation_size.")
    if "test" in prepared.features:
        return True
    reporter.note(
        "there is no test split, so the winner is not compared with the recipe as it is written: its score of "
        "validation is too good"
    )
    return False
