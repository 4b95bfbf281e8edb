"""Opens the model of a run, of a checkpoint of a run, or of another program."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from finetune import base as bases
from finetune import elsewhere, models
from finetune import plan as plans
from finetune import recipe as recipes
from finetune import result as results
from finetune import run as runs
from finetune.checkpoint_folders import MANIFEST
from finetune.errors import BadRecipe, FinetuneError, Incompatible
from finetune.fine_tuned import FineTuned, Opening
from finetune.plugins import Plugins, discover
from finetune.recipe import options
from finetune.result import RECIPE, RESULT, Result
from finetune.runtimes import RuntimeStrategy
from finetune.training import checkpoints, upstream
from finetune.user_code import described, place_of


def open_without_weights(run: str | Path, opening: Opening, *, plugins: Plugins | None = None) -> FineTuned:
    """Open a model as `finetune.load` does, without the weights, so that data and options are checked first."""
    upstream.sum_reproducibly()
    plugins = plugins or discover()
    folder = Path(run)
    if (folder / MANIFEST).is_file():
        opened = _opened_checkpoint(folder, opening, plugins=plugins)
    elif elsewhere.is_one(run):
        opened = _opened_elsewhere(run, opening, plugins=plugins)
    else:
        opened = _opened_run(folder, opening, plugins=plugins)
    if opening.generation:
        opened = opened.with_generation(**opening.generation)
    return opened.with_answering(**asdict(opening.answering))


def with_weights(opened: FineTuned) -> FineTuned:
    """Load the weights of an opened model; return one that has them as it is."""
    if opened.model is not None:
        return opened
    if not opened.is_run:
        with models.suppress_output():
            return replace(opened, model=elsewhere.load(opened.plan, opened.adapter, opened.tokenizer))
    run = Path(opened.place)
    verified = bool(opened.result.base.get("saved_model"))
    weights = not isinstance(opened.plan.strategy, RuntimeStrategy)
    with models.suppress_output(), _explaining_damage(run, verified=verified, weights=weights):
        return replace(opened, model=runs.reload(opened.plan, run, opened.tokenizer))


def _opened_elsewhere(place: str | Path, opening: Opening, *, plugins: Plugins) -> FineTuned:
    """Return a model of another program, without the weights."""
    found = elsewhere.find(
        place,
        task=opening.task,
        base=opening.base,
        columns=opening.columns,
        sections={"preprocessor": opening.preprocessor, "evaluator": opening.evaluator},
        plugins=plugins,
    )
    return FineTuned(
        plan=found.plan,
        result=found.result,
        tokenizer=found.tokenizer,
        model=None,
        place=_absolute(place),
        opening=opening,
        is_run=False,
        adapter=found.adapter,
    )


def _opened_run(run: Path, opening: Opening, *, plugins: Plugins) -> FineTuned:
    """Return a finished run, without the weights of its model."""
    opening.refuse_for_runs(run)
    result = Result.load(run, trust_code=opening.trust_code)
    recipe = recipes.from_mapping(result.recipe, name=str(run / RECIPE))
    if opening.base is not None:
        recipe = replace(recipe, model=replace(recipe.model, path=opening.base))
    # Use the fitted classes of the run: in a later version, the default of a recipe may be another
    # class.
    plan = plans.make(replace(recipe, preprocessor=None, evaluator=None, metrics=()), plugins, for_training=False)
    plan = replace(
        plan,
        # Further metrics can be code that is not installed here, so they are loaded only when
        # something is scored.
        recipe=replace(plan.recipe, metrics=recipe.metrics),
        preprocessor=options.rebuild(result.preprocessor, where="preprocessor", plugins=plugins),
        evaluator=options.rebuild(result.evaluator, where="evaluator", plugins=plugins),
    )
    if opening.base is not None or plan.strategy.loads_base():
        bases.check_place(plan.model)
    if opening.accept_changes:
        result = replace(result, base={})
    if plan.strategy.loads_base():
        bases.check_content(result.base, plan.model)
    bases.check_saved(result.base, run)
    return FineTuned(
        plan=plan,
        result=result,
        tokenizer=_saved_tokenizer(run, result),
        model=None,
        place=_absolute(run),
        opening=opening,
    )


def _saved_tokenizer(run: Path, result: Result) -> Any:
    """Load the tokenizer that a run saved."""
    from transformers import AutoTokenizer

    with models.suppress_output(), _explaining_damage(run, verified=bool(result.base.get("saved_model"))):
        return AutoTokenizer.from_pretrained(run, trust_remote_code=False)


def _opened_checkpoint(checkpoint: Path, opening: Opening, *, plugins: Plugins) -> FineTuned:
    """Return a checkpoint of a run, finished or not, without the weights of its model.

    Its preprocessor is that of the run. Its evaluator is not fitted, because a run fits it at its end.

    Raises:
        BadCheckpoint: A file is missing or damaged.
        BadRecipe: The recipe of the run is not there, or the weights are divided among files of processes.
        Incompatible: The base model has changed.
    """
    opening.refuse_for_runs(checkpoint)
    manifest = checkpoints.verify(checkpoint)
    file = checkpoint.parent / RECIPE
    if not file.is_file():
        raise BadRecipe(
            f"{str(checkpoint)!r} is a checkpoint, and the {RECIPE} of its run is not in the folder above. Put it back."
        )
    if not any(checkpoint.glob("*.safetensors")):
        raise BadRecipe(
            f"{str(checkpoint)!r} has its weights in parts, one for each process. Continue the run with --resume; its "
            "end writes the whole model."
        )
    recipe = recipes.read(file, trust_code=opening.trust_code)
    if opening.base is not None:
        recipe = replace(recipe, model=replace(recipe.model, path=opening.base))
    plan = plans.make(replace(recipe, metrics=()), plugins, for_training=False)
    plan = replace(plan, recipe=replace(plan.recipe, metrics=recipe.metrics))
    if plan.strategy.loads_base():
        bases.check_place(plan.model)
        then = (manifest["identity"].get(checkpoints.BASE) or {}).get("files")
        if then and not opening.accept_changes and bases.facts(bases.describe(plan.model))["files"] != then:
            raise Incompatible(
                f"model: {plan.model.path!r} is not the base model that the checkpoint was trained on. Put the right "
                "one back, or name its place with base=…."
            )
    finished = checkpoint.parent / RESULT
    column_use = {}
    if finished.is_file():
        column_use = json.loads(finished.read_text(encoding="utf-8")).get("column_use", {})
    result = results.bare(
        recipe=plan.resolved(),
        preprocessor=options.describe(plan.preprocessor),
        evaluator=options.describe(plan.evaluator),
        primary=plan.evaluator.primary,
        greater_is_better=plan.evaluator.greater_is_better,
        steps=manifest["step"],
        column_use=column_use,
        directory=str(checkpoint),
    )
    return FineTuned(
        plan=plan,
        result=result,
        tokenizer=_saved_tokenizer(checkpoint, result),
        model=None,
        place=_absolute(checkpoint),
        opening=opening,
    )


@contextmanager
def _explaining_damage(run: Path, *, verified: bool, weights: bool = True) -> Iterator[None]:
    """Turn an error of a library that loads the files of a run into one sentence.

    Args:
        run: The run folder.
        verified: Whether the files are those that the run saved. Then an error is not theirs.
        weights: Whether the folder must hold weights as safetensors.

    Raises:
        BadRecipe: A file is damaged, or the files do not belong together.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, MemoryError) or place_of(error):
            raise
        problem = bases.unreadable(run, weights=weights)
        if not problem and (verified or isinstance(error, FinetuneError)):
            raise
        raise BadRecipe(
            f"the model in {str(run)!r} cannot be loaded: {problem or described(error)}. Restore the files as the run "
            "wrote them, or train again."
        ) from error


def _absolute(run: str | Path) -> str:
    """Return the absolute path of a folder; an id of the Hub or a folder of a package as it is."""
    return str(Path(run).absolute()) if Path(run).exists() else str(run)
