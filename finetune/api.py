"""The public functions of `import finetune`: `train`, `load` and `evaluate`."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

from finetune.training import upstream

upstream.import_bitsandbytes()  # before anything else imports transformers, which would import it with a warning

from datasets import Dataset
from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, TrainingArguments

from finetune import base as bases
from finetune import data, front_door, models, prediction, run_seeds, trust
from finetune import elsewhere as other_models
from finetune import folder as run_folder
from finetune import plan as plans
from finetune import recipe as recipes
from finetune import result as results
from finetune import run as runs
from finetune.checkpoint_folders import MANIFEST
from finetune.data import Examples, storage
from finetune.data.feature_cache import FeatureCache
from finetune.errors import BadData, BadOptions, BadRecipe, FinetuneError, Incompatible, OutputExists
from finetune.evaluation import scoring
from finetune.evaluation.summary import FILE, Evaluation, intervals_and_units
from finetune.interfaces import Evaluator, Job, Preprocessor, Record, Row, Strategy, Task
from finetune.plan import Plan
from finetune.plugins import Plugins, add_folder, discover, resolve
from finetune.prediction import BLOCK_ROWS, Asked, Blocks, Inference, Output, Predict, Predictor, Written
from finetune.progress import Console, Reporter
from finetune.python_objects import ROWS, PythonObjects
from finetune.recipe import Choice, Model, Recipe, Source, options
from finetune.result import RECIPE, RESULT, Result, as_plain
from finetune.seeds_result import SeedsResult
from finetune.training import callbacks, checkpoints
from finetune.training.arguments import LIMITS, check_generation, device_arguments
from finetune.user_code import described, place_of

IN_MEMORY = 10_000
"""Most rows given in Python that are predicted without a file."""


@overload
def train(
    recipe: None = None, *, task: str | Task | None = None,
    model: str | Path | Mapping[str, Any] | Model | PreTrainedModel | None = None, dataset: Any = None,
    strategy: str | Mapping[str, Any] | Choice | Strategy | None = None, output: str | Path | None = None,
    preprocessor: str | Mapping[str, Any] | Choice | Preprocessor | None = None,
    evaluator: str | Mapping[str, Any] | Choice | Evaluator | None = None,
    metrics: Sequence[str | Callable[..., Any]] | None = None,
    training: Mapping[str, Any] | TrainingArguments | None = None, generation: Mapping[str, Any] | None = None,
    seed: int | None = None, seeds: None = None, score_base_model: bool | None = None,
    general_text: str | Path | None = None, slices: Sequence[str] | None = None, card: Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None, tokenizer: str | Path | PreTrainedTokenizerBase | None = None,
    callbacks: Sequence[TrainerCallback | type[TrainerCallback]] | None = None,
    data_collator: Callable[..., Any] | None = None,
    compute_metrics: Callable[[EvalPrediction], Mapping[str, float]] | None = None, resume: bool = False,
    accept_changes: bool = False, overwrite: bool = False, trust_code: bool = False, plugins: Plugins | None = None,
    reporter: Reporter | None = None, cache: str | Path | None = None,
) -> Trained: ...  # fmt: skip


@overload
def train(
    recipe: str | Path | Mapping[str, Any] | Recipe, *, task: str | Task | None = None,
    model: str | Path | Mapping[str, Any] | Model | PreTrainedModel | None = None, dataset: Any = None,
    strategy: str | Mapping[str, Any] | Choice | Strategy | None = None, output: str | Path | None = None,
    preprocessor: str | Mapping[str, Any] | Choice | Preprocessor | None = None,
    evaluator: str | Mapping[str, Any] | Choice | Evaluator | None = None,
    metrics: Sequence[str | Callable[..., Any]] | None = None,
    training: Mapping[str, Any] | TrainingArguments | None = None, generation: Mapping[str, Any] | None = None,
    seed: int | None = None, seeds: None = None, score_base_model: bool | None = None,
    general_text: str | Path | None = None, slices: Sequence[str] | None = None, card: Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None, tokenizer: str | Path | PreTrainedTokenizerBase | None = None,
    callbacks: Sequence[TrainerCallback | type[TrainerCallback]] | None = None,
    data_collator: Callable[..., Any] | None = None,
    compute_metrics: Callable[[EvalPrediction], Mapping[str, float]] | None = None, resume: bool = False,
    accept_changes: bool = False, overwrite: bool = False, trust_code: bool = False, plugins: Plugins | None = None,
    reporter: Reporter | None = None, cache: str | Path | None = None,
) -> Trained | Any: ...  # a `SeedsResult` if the recipe has `seeds`, which types cannot know  # fmt: skip


@overload
def train(
    recipe: str | Path | Mapping[str, Any] | Recipe | None = None, *, task: str | Task | None = None,
    model: str | Path | Mapping[str, Any] | Model | PreTrainedModel | None = None, dataset: Any = None,
    strategy: str | Mapping[str, Any] | Choice | Strategy | None = None, output: str | Path | None = None,
    preprocessor: str | Mapping[str, Any] | Choice | Preprocessor | None = None,
    evaluator: str | Mapping[str, Any] | Choice | Evaluator | None = None,
    metrics: Sequence[str | Callable[..., Any]] | None = None,
    training: Mapping[str, Any] | TrainingArguments | None = None, generation: Mapping[str, Any] | None = None,
    seed: int | None = None, seeds: Sequence[int], score_base_model: bool | None = None,
    general_text: str | Path | None = None, slices: Sequence[str] | None = None, card: Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None, tokenizer: str | Path | PreTrainedTokenizerBase | None = None,
    callbacks: Sequence[TrainerCallback | type[TrainerCallback]] | None = None,
    data_collator: Callable[..., Any] | None = None,
    compute_metrics: Callable[[EvalPrediction], Mapping[str, float]] | None = None, resume: bool = False,
    accept_changes: bool = False, overwrite: bool = False, trust_code: bool = False, plugins: Plugins | None = None,
    reporter: Reporter | None = None, cache: str | Path | None = None,
) -> SeedsResult: ...  # fmt: skip


def train(
    recipe: str | Path | Mapping[str, Any] | Recipe | None = None,
    *,
    task: str | Task | None = None,
    model: str | Path | Mapping[str, Any] | Model | PreTrainedModel | None = None,
    dataset: Any = None,
    strategy: str | Mapping[str, Any] | Choice | Strategy | None = None,
    output: str | Path | None = None,
    preprocessor: str | Mapping[str, Any] | Choice | Preprocessor | None = None,
    evaluator: str | Mapping[str, Any] | Choice | Evaluator | None = None,
    metrics: Sequence[str | Callable[..., Any]] | None = None,
    training: Mapping[str, Any] | TrainingArguments | None = None,
    generation: Mapping[str, Any] | None = None,
    seed: int | None = None,
    seeds: Sequence[int] | None = None,
    score_base_model: bool | None = None,
    general_text: str | Path | None = None,
    slices: Sequence[str] | None = None,
    card: Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None,
    tokenizer: str | Path | PreTrainedTokenizerBase | None = None,
    callbacks: Sequence[TrainerCallback | type[TrainerCallback]] | None = None,
    data_collator: Callable[..., Any] | None = None,
    compute_metrics: Callable[[EvalPrediction], Mapping[str, float]] | None = None,
    resume: bool = False,
    accept_changes: bool = False,
    overwrite: bool = False,
    trust_code: bool = False,
    plugins: Plugins | None = None,
    reporter: Reporter | None = None,
    cache: str | Path | None = None,
) -> Trained | SeedsResult:
    """Fine-tune a model, and write the run folder.

    The arguments from `task` to `card` are the keys of a recipe. A key that is given replaces the
    key of `recipe`; a key that is None has the value of `recipe`, or else its default.

    What is given as an object becomes a key of `recipe.yaml` where that is possible. A callback, a
    collator, a function that cannot be imported and rows in memory cannot be written there;
    `recipe.yaml` names them, and such a run continues only by a call with the same objects.

    Examples:
        >>> result = finetune.train("recipe.yaml")  # doctest: +SKIP
        >>> result = finetune.train(  # doctest: +SKIP
        ...     task="text-classification", model="distilbert-base-uncased", strategy="lora",
        ...     dataset="reviews.csv", output="runs/reviews", training={"num_train_epochs": 1},
        ... )

    Args:
        recipe: Path of a YAML file, its content, or a `Recipe`; None if the other arguments say everything.
        task: Name of a task, as `finetune list` shows it: ``"text-classification"``; or a `Task`.
        model: Hub id or folder of the pretrained model, the ``model`` section of a recipe, or a loaded
            model, which is not changed.
        dataset: A path, the ``dataset`` section of a recipe, or the examples themselves: a
            `datasets.Dataset`, a data frame, an iterable of mappings, or split → one of these. They can
            also be the ``path`` of a section: ``{"path": rows, "limit": {"train": 100}}``.
        strategy: Name of a strategy, its name and options, ``{"name": "lora", "r": 8}``, or an object.
        output: Folder of the run. It must not exist or be empty, unless `resume` or `overwrite` is
            set.
        preprocessor: Options of the task's preprocessor; with ``name``, another preprocessor; or an object.
        evaluator: Options of the task's evaluator; with ``name``, another evaluator; or an object.
        metrics: Further metrics: names, or functions from records to scores.
        training: Options of the trainer: a mapping, or `transformers.TrainingArguments`. Options that such
            an object leaves at their defaults have the defaults of finetune.
        generation: Options of text generation, such as ``{"num_beams": 4}``, if the task generates
            text.
        seed: Seed of everything that is random; 42 by default.
        seeds: Several seeds instead of `seed`: a run with each, in folders ``seed-0``, ``seed-1`` and so on of
            `output`. `callbacks` and `data_collator` are copied for each of them.
        score_base_model: Whether to score the base model before training; True by default.
        general_text: Text on which forgetting is measured: ``"bundled"`` (the default), a text
            file, or ``"none"``.
        slices: Columns of the data by whose values the scores are also computed.
        card: Facts for the model card that only you know, such as ``license`` and ``language``.
        columns: Name of a column in the data → name that the task uses, ``{"review": "text"}``; it
            replaces ``columns`` of the ``dataset`` section.
        tokenizer: The tokenizer, if it is not that of the model: a name, a folder, or a loaded one.
        callbacks: Further callbacks of the trainer. `transformers.EarlyStoppingCallback` becomes
            ``training.early_stopping_patience``.
        data_collator: Makes the batches of the run in place of the task's own collator; predictions of
            the finished model use the task's.
        compute_metrics: A function as `transformers.Trainer` takes it. Its scores are added to those of
            the run; `evaluate` does not know it.
        resume: Continue from the newest valid checkpoint in the output folder.
        accept_changes: Resume even if the recipe or the data changed.
        overwrite: Replace an earlier run in the output folder.
        trust_code: Run the Python code that `recipe` names even if it comes from a run folder, which
            somebody else may have written.
        plugins: Where names are looked up; None to discover the installed plugins.
        reporter: Shows the progress; None for bars on a terminal and silence elsewhere.
        cache: Folder that keeps the features, so that later runs with the same data, preprocessor and
            tokenizer need not make them again.

    Returns:
        The result, which can also predict: ``result.predict("A fine inn.")``; or, with `seeds` here or in `recipe`, the
        `SeedsResult`. Load one of its runs to predict: ``finetune.load("runs/reviews/seed-0")``. A type checker cannot
        know what a recipe holds: if it can have `seeds`, ask with `isinstance`.

    Raises:
        FinetuneError: The run is refused or fails. The message says what is wrong, where, and what
            to do.
    """
    plugins = plugins or discover()
    given: dict[str, Any] = {
        "task": front_door.task_name(task, plugins) if isinstance(task, Task) else task,
        "model": model,
        "dataset": dataset,
        "strategy": front_door.section_of("strategy", strategy, plugins),
        "output": output,
        "preprocessor": front_door.section_of("preprocessor", preprocessor, plugins),
        "evaluator": front_door.section_of("evaluator", evaluator, plugins),
        "generation": generation,
        "seed": seed,
        "seeds": None if seeds is None else list(seeds),
        "score_base_model": score_base_model,
        "general_text": general_text,
        "slices": slices,
        "card": card,
    }
    objects = PythonObjects(data_collator=data_collator, compute_metrics=compute_metrics)
    front_door.require_callable("data_collator", data_collator)
    front_door.require_callable("compute_metrics", compute_metrics)
    more_training: dict[str, Any] = {}
    if training is not None:
        given["training"], of_arguments = front_door.training_section(training)
        for name, value in of_arguments.items():
            given[name] = value if given[name] is None else given[name]
    if callbacks is not None:
        made, more_training = front_door.trainer_callbacks(callbacks)
        objects = replace(objects, callbacks=made)
    if metrics is not None:
        given["metrics"], functions = front_door.metric_names(metrics)
        objects = replace(objects, metrics=functions)
    given["dataset"], rows = front_door.dataset_section(dataset)
    objects = replace(objects, rows=rows)
    if front_door.holds_objects(model, tokenizer):
        place = given["output"] or (_recipe(recipe, {}, trust_code=trust_code).output if recipe is not None else None)
        given["model"], notes = front_door.model_section(
            model, tokenizer, output=place, overwrite=overwrite, resume=resume
        )
        objects = replace(objects, notes=notes)
    keys = {name: value for name, value in given.items() if value is not None}
    read = _recipe(
        recipe, keys, columns=columns, training=more_training, python=objects.described(), trust_code=trust_code
    )
    plan = plans.make(read, plugins, objects=objects)
    if rows is not None:
        front_door.require_text(rows, plan.preprocessor.needs(), read.dataset.columns)
    if reporter is None and sys.stderr.isatty():
        reporter = Console()
    result = (run_seeds if read.seeds else runs).run(
        plan,
        resume=resume,
        accept_changes=accept_changes,
        overwrite=overwrite,
        rows=rows,
        reporter=reporter,
        cache=None if cache is None else Path(cache),
    )
    return result if isinstance(result, SeedsResult) else Trained.of(result, plugins=plugins)


def load(
    run: str | Path,
    *,
    task: str | None = None,
    base: str | Path | None = None,
    columns: Mapping[str, str] = {},
    preprocessor: Mapping[str, Any] = {},
    evaluator: Mapping[str, Any] = {},
    accept_changes: bool = False,
    trust_code: bool = False,
    plugins: Plugins | None = None,
) -> FineTuned:
    """Load the model of a finished run or of one of its checkpoints, or a model that another program trained.

    Examples:
        >>> model = finetune.load("runs/reviews")  # doctest: +SKIP
        >>> model.predict(text="A fine inn.")["prediction"]  # doctest: +SKIP
        'positive'
        >>> squad = finetune.load("deepset/roberta-base-squad2", task="question-answering")  # doctest: +SKIP

    Args:
        run: The run folder; or a checkpoint in it, ``"runs/reviews/checkpoint-12"``, also of a run that
            has not finished. Or a trained model of another program: a folder that transformers or PEFT wrote,
            ``package:name/folder``, or an id of the Hub.
        task: What the model of another program does, if its files do not say it; an id of the Hub needs it.
        base: Folder or Hub id of the base model, if it is no longer where it was when the run was
            trained.
        columns: Name of a column in the rows → name that the task uses, for a model of another program.
        preprocessor: Options of the task's preprocessor, for a model of another program.
        evaluator: Options of the task's evaluator, for a model of another program.
        accept_changes: Load the run even if the base model, the saved model or the saved tokenizer has changed.
        trust_code: Run the Python code that the run folder names, such as your own evaluator. Without
            it, a run folder from somebody else runs no code.
        plugins: Where names are looked up; None to discover the installed plugins.

    Raises:
        UntrustedCode: The run needs Python code that its folder names, and `trust_code` is not set.
        BadRecipe: The folder holds no finished run and no model, or its base model is gone.
        BadCheckpoint: A file of a checkpoint is missing or damaged.
        BadOptions: A run is given a task or options, which it has already.
        Incompatible: The base model, the saved model or the saved tokenizer has changed since the run was trained; or
            a model of another program was not trained for the task.
    """
    elsewhere = Elsewhere(task=task, columns=columns, preprocessor=preprocessor, evaluator=evaluator)
    return _with_weights(
        _opened(
            run, base=base, elsewhere=elsewhere, accept_changes=accept_changes, trust_code=trust_code, plugins=plugins
        ),
        Path(run),
    )


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """What the user says of a model that no run made; see `load`."""

    task: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    preprocessor: Mapping[str, Any] = field(default_factory=dict)
    evaluator: Mapping[str, Any] = field(default_factory=dict)

    def require_nothing(self, run: Path) -> None:
        """Check that nothing is said of a run, which knows it.

        Raises:
            BadOptions: Something is.
        """
        for each in fields(self):
            if getattr(self, each.name):
                raise BadOptions(
                    f"{each.name}: {str(run)!r} is a run, which has its own {each.name}. The option is for models of "
                    "other programs."
                )


def _opened(
    run: str | Path,
    *,
    base: str | Path | None,
    elsewhere: Elsewhere,
    accept_changes: bool,
    trust_code: bool,
    plugins: Plugins | None = None,
) -> FineTuned:
    """Return a finished run, or a model of another program, without the weights; see `load`."""
    plugins = plugins or discover()
    if not (Path(run) / MANIFEST).is_file() and other_models.is_one(run):
        found = other_models.find(
            run,
            task=elsewhere.task,
            base=None if base is None else str(base),
            columns=elsewhere.columns,
            sections={"preprocessor": elsewhere.preprocessor, "evaluator": elsewhere.evaluator},
            plugins=plugins,
        )
        return FineTuned(
            plan=found.plan, result=found.result, tokenizer=found.tokenizer, model=None, is_run=False,
            adapter=found.adapter,
        )  # fmt: skip
    elsewhere.require_nothing(Path(run))
    if (Path(run) / MANIFEST).is_file():
        return _opened_checkpoint(
            Path(run), base=base, accept_changes=accept_changes, trust_code=trust_code, plugins=plugins
        )
    result = Result.load(run, trust_code=trust_code)
    recipe = recipes.from_mapping(result.recipe, name=str(Path(run) / RECIPE))
    if base is not None:
        recipe = replace(recipe, model=replace(recipe.model, path=str(base)))
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
    if base is not None or plan.strategy.loads_base():
        bases.check_place(plan.model)
    if accept_changes:
        result = replace(result, base={})
    if plan.strategy.loads_base():
        bases.check_content(result.base, plan.model)
    bases.check_saved(result.base, Path(run))
    return FineTuned(plan=plan, result=result, tokenizer=_saved_tokenizer(Path(run), result), model=None)


def _saved_tokenizer(run: Path, result: Result) -> Any:
    """Load the tokenizer that a run saved."""
    from transformers import AutoTokenizer

    with models.suppress_output(), _explaining_damage(run, verified=bool(result.base.get("saved_model"))):
        return AutoTokenizer.from_pretrained(run, trust_remote_code=False)


def _opened_checkpoint(
    checkpoint: Path, *, base: str | Path | None, accept_changes: bool, trust_code: bool, plugins: Plugins
) -> FineTuned:
    """Return a checkpoint of a run, finished or not, without the weights of its model; see `load`.

    Its preprocessor is that of the run. Its evaluator is not fitted, because a run fits it at its end.

    Raises:
        BadCheckpoint: A file is missing or damaged.
        BadRecipe: The recipe of the run is not there, or the weights are divided among files of processes.
        Incompatible: The base model has changed.
    """
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
    recipe = recipes.read(file, trust_code=trust_code)
    if base is not None:
        recipe = replace(recipe, model=replace(recipe.model, path=str(base)))
    plan = plans.make(replace(recipe, metrics=()), plugins, for_training=False)
    plan = replace(plan, recipe=replace(plan.recipe, metrics=recipe.metrics))
    if plan.strategy.loads_base():
        bases.check_place(plan.model)
        then = (manifest["identity"].get(checkpoints.BASE) or {}).get("files")
        if then and not accept_changes and bases.facts(bases.describe(plan.model))["files"] != then:
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
    return FineTuned(plan=plan, result=result, tokenizer=_saved_tokenizer(checkpoint, result), model=None)


def _with_weights(opened: FineTuned, run: Path) -> FineTuned:
    """Load the weights of an opened run, or of a model of another program."""
    if not opened.is_run:
        with models.suppress_output():
            model = other_models.load(opened.plan, opened.adapter, opened.tokenizer)
        return replace(opened, model=model)
    verified = bool(opened.result.base.get("saved_model"))
    with models.suppress_output(), _explaining_damage(run, verified=verified):
        return replace(opened, model=runs.reload(opened.plan, run, opened.tokenizer))


@contextmanager
def _explaining_damage(run: Path, *, verified: bool) -> Iterator[None]:
    """Turn an error of a library that loads the files of a run into one sentence.

    Args:
        run: The run folder.
        verified: Whether the files are those that the run saved. Then an error is not theirs.

    Raises:
        BadRecipe: A file is damaged, or the files do not belong together.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, MemoryError) or place_of(error):
            raise
        problem = bases.unreadable(run)
        if not problem and (verified or isinstance(error, FinetuneError)):
            raise
        raise BadRecipe(
            f"the model in {str(run)!r} cannot be loaded: {problem or described(error)}. Restore the files as the run "
            "wrote them, or train again."
        ) from error


def evaluate(
    run: str | Path,
    dataset: Any = None,
    *,
    split: str | None = None,
    output: str | Path | None = None,
    on_bad: Literal["error", "drop"] | None = None,
    block_rows: int = BLOCK_ROWS,
    processes: int | None = None,
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
    overwrite: bool = False,
    task: str | None = None,
    base: str | Path | None = None,
    columns: Mapping[str, str] = {},
    preprocessor: Mapping[str, Any] = {},
    evaluator: Mapping[str, Any] = {},
    trust_code: bool = False,
    accept_changes: bool = False,
    plugins: Plugins | None = None,
    reporter: Reporter | None = None,
    cache: str | Path | None = None,
) -> dict[str, float]:
    """Score the model of a finished run, or of another program, on examples with answers.

    With `output`, `processes` or the engine ``"ray"``, the examples are predicted in blocks, as `predict` does, and the
    scores are computed of the records of all blocks. The records must fit into memory. Where examples are packed, those
    of different blocks are not packed together.

    Args:
        run: The run folder, or a model as `load` takes it.
        dataset: A path, the ``dataset`` section of a recipe, or rows as `train` takes them; None for the data of the
            run.
        split: The split to score; None for `test`, or for `validation` if there is no `test`. It has no effect if
            `dataset` has a single split: that one is scored.
        output: A folder for the records, one JSON object for each good row, as `predict` writes them, and for the
            scores in ``evaluation.json``; or a file that ends in ``.json``, for the scores alone; None to keep nothing.
            If the call is stopped, the same call predicts only the blocks that are missing in the folder.
        on_bad: What to do with bad rows of `dataset`: ``"error"``, or ``"drop"`` to leave them out; None for what the
            run did.
        block_rows: Rows of a block.
        processes: How many processes predict, as in `predict`.
        engine: ``"local"`` for this machine, ``"ray"`` for a cluster of Ray.
        address: Where the cluster of Ray is; None to start one on this machine.
        overwrite: Predict all rows again, and replace what `output` holds.
        task: What a model of another program does, as in `load`.
        base: Folder or Hub id of the base model, as in `load`.
        columns: As in `load`.
        preprocessor: As in `load`.
        evaluator: As in `load`.
        trust_code: Run the Python code that the run folder names, as in `load`.
        accept_changes: As in `load`.
        plugins: Where names are looked up; None to discover the installed plugins.
        reporter: Shows the progress.
        cache: As in `train`.

    Returns:
        Score → number.

    Raises:
        BadData: The data cannot be read, or has no such split.
        OutputExists: `output` holds something else, or another call writes into it.
        MissingLibrary: Ray is not installed.
        ProcessFailed: A process was killed.
    """
    found = evaluation(
        run, dataset, split=split, output=output, on_bad=on_bad, block_rows=block_rows, processes=processes,
        engine=engine, address=address, overwrite=overwrite, task=task, base=base, columns=columns,
        preprocessor=preprocessor, evaluator=evaluator, trust_code=trust_code, accept_changes=accept_changes,
        plugins=plugins, reporter=reporter, cache=cache,
    )  # fmt: skip
    return dict(found.scores)


def evaluation(
    run: str | Path,
    dataset: Any = None,
    *,
    split: str | None = None,
    output: str | Path | None = None,
    on_bad: Literal["error", "drop"] | None = None,
    block_rows: int = BLOCK_ROWS,
    processes: int | None = None,
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
    overwrite: bool = False,
    task: str | None = None,
    base: str | Path | None = None,
    columns: Mapping[str, str] = {},
    preprocessor: Mapping[str, Any] = {},
    evaluator: Mapping[str, Any] = {},
    trust_code: bool = False,
    accept_changes: bool = False,
    plugins: Plugins | None = None,
    reporter: Reporter | None = None,
    cache: str | Path | None = None,
) -> Evaluation:
    """Score the model of a finished run as `evaluate` does; return the scores with their intervals."""
    reporter = reporter or Reporter()
    file = Path(output) if output is not None and Path(output).suffix.lower() == ".json" else None
    folder = Path(output) if output is not None and file is None else None
    if folder is not None and folder.suffix.lower() in (".jsonl", ".csv", ".parquet") and not folder.is_dir():
        raise BadOptions(f"output: {str(folder)!r}: name a folder, or a .json file for the scores alone.")
    if file is not None and file.exists() and not overwrite:
        raise OutputExists(f"output: {str(file)!r} exists. Name another file, or replace this one with --overwrite.")
    if file is not None and not file.parent.is_dir():
        raise BadOptions(f"output: the folder {str(file.parent)!r} does not exist. Make it first.")
    in_blocks = folder is not None or processes not in (None, 1) or engine != "local"
    if in_blocks and cache is not None:
        raise BadOptions("cache has no effect with output, processes or Ray: each block makes its own features.")
    elsewhere = Elsewhere(task=task, columns=columns, preprocessor=preprocessor, evaluator=evaluator)
    asked = {"split": split, "on_bad": on_bad}
    opened = _opened(
        run, base=base, elsewhere=elsewhere, accept_changes=accept_changes, trust_code=trust_code, plugins=plugins
    )
    opened.say(reporter)
    if not in_blocks:
        with reporter.phase("load the model"):
            model = _with_weights(opened, Path(run))
        found = model._evaluation(dataset, **asked, reporter=reporter, cache=cache)  # type: ignore[arg-type]
        if file is not None:
            found.write(file)
        return found
    with ExitStack() as stack:
        if folder is None:
            folder = storage.folder()
            stack.callback(shutil.rmtree, folder)
        prediction.check(folder)
        stack.enter_context(run_folder.lock(folder))
        with reporter.phase("read and check the data"):
            to_score = opened._to_score(dataset, **asked, reporter=reporter)  # type: ignore[arg-type]
            blocks = Blocks(to_score.examples, rows=block_rows)
        if not opened.was_trained_here:  # it has learned how the rows write labels
            elsewhere = replace(elsewhere, preprocessor=options.as_options(to_score.plan.preprocessor))
        again = _Loading(
            run=_absolute(run),
            base=None if base is None else str(base),
            elsewhere=elsewhere,
            accept_changes=accept_changes,
            trust_code=trust_code,
            generation={},
            answers=True,
            trusted=trust.state(),
        )
        target, made = _write(
            opened, again, blocks, folder, processes=processes, engine=engine, address=address, overwrite=overwrite,
            reporter=reporter,
        )  # fmt: skip
        found = opened._scored(to_score, target.records())
        if output is not None and file is None:
            found = replace(found, files=len(blocks), reused=len(blocks) - made, output=str(output))
            found.write(folder / FILE)
        if file is not None:
            found.write(file)
        return found


def predict(
    run: str | Path,
    data: str | Path | Source,
    output: str | Path,
    *,
    format: Literal["jsonl", "csv", "parquet"] | None = None,  # noqa: A002, the word of the command
    on_bad: Literal["error", "drop"] | None = None,
    generation: Mapping[str, Any] = {},
    block_rows: int = BLOCK_ROWS,
    processes: int | None = None,
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
    overwrite: bool = False,
    task: str | None = None,
    base: str | Path | None = None,
    columns: Mapping[str, str] = {},
    preprocessor: Mapping[str, Any] = {},
    evaluator: Mapping[str, Any] = {},
    trust_code: bool = False,
    accept_changes: bool = False,
    reporter: Reporter | None = None,
) -> Written:
    """Predict every row of a data set with the model of a finished run or of another program; write a file or a folder.

    Each line has the ``place`` of its row, the columns of its ``input``, and the record. The rows are predicted in
    blocks. In a folder, each block becomes one file of JSON lines, ``part-00000.jsonl`` and so on, in the order of the
    rows. If the call is stopped, the same call predicts only the blocks that are missing or damaged. The memory that
    it takes does not depend on the number of rows.

    A script that sets `processes` must call this function below ``if __name__ == "__main__":``, because each process
    imports the script.

    Args:
        run: The run folder, or a model as `load` takes it.
        data: A path in any format of a recipe, with the columns of the run's data or of the task; ``"-"`` for standard
            input; or a `Source`.
        output: A file that ends in ``.jsonl``, ``.csv`` or ``.parquet`` and does not exist; or a folder, which must not
            exist, be empty, or hold predictions of the same rows by the same model. With `overwrite`, either is
            replaced.
        format: The format of the file; None for that of its suffix.
        on_bad: What to do with bad rows: ``"error"``, or ``"drop"`` for a record without a prediction;
            None for what the run did.
        generation: Options of text generation that replace those of the run.
        block_rows: Rows of a block. With fewer, less is lost when the call is stopped; with more,
            there are fewer files.
        processes: How many processes predict, each with its own copy of the model; None for one, and
            in Ray for as many as the cluster has GPUs, or CPUs.
        engine: ``"local"`` for this machine, ``"ray"`` for a cluster of Ray.
        address: Where the cluster of Ray is; None to start one on this machine.
        overwrite: Predict all rows again, and replace what `output` holds.
        task: What a model of another program does, as in `load`.
        base: Folder or Hub id of the base model, as in `load`.
        columns: As in `load`.
        preprocessor: As in `load`.
        evaluator: As in `load`.
        trust_code: Run the Python code that the run folder names, as in `load`.
        accept_changes: As in `load`.
        reporter: Shows the progress.

    Raises:
        BadData: The data cannot be used, or a row is bad and `on_bad` is ``error``.
        OutputExists: `output` holds something else, or another call writes into it.
        MissingLibrary: Ray is not installed.
        ProcessFailed: A process was killed.
    """
    reporter = reporter or Reporter()
    target = prediction.target(output, format)
    if not isinstance(data, Source):
        target.refuse_inputs([str(data)])
    target.check(overwrite=overwrite)
    elsewhere = Elsewhere(task=task, columns=columns, preprocessor=preprocessor, evaluator=evaluator)
    opened = _opened(run, base=base, elsewhere=elsewhere, accept_changes=accept_changes, trust_code=trust_code)
    opened.say(reporter)
    if generation:
        opened = opened.with_generation(**generation)
    asked = prediction.Asked(source=data) if isinstance(data, Source) else opened.asked(str(data))
    if on_bad is not None:
        asked = replace(asked, source=replace(asked.source, on_bad=on_bad))
    with run_folder.lock(target.folder):
        with reporter.phase("read and check the data"):
            blocks = opened._blocks(asked, rows=block_rows)
        target.refuse_inputs(blocks.files)
        loading = _Loading(
            run=_absolute(run),
            base=None if base is None else str(base),
            elsewhere=elsewhere,
            accept_changes=accept_changes,
            trust_code=trust_code,
            generation=dict(generation),
            answers=False,
            trusted=trust.state(),
        )
        written, made = _write(
            opened, loading, blocks, target.folder, processes=processes, engine=engine, address=address,
            overwrite=overwrite, reporter=reporter,
        )  # fmt: skip
        target.finish(written)
    return Written(output=target.path, rows=blocks.rows, parts=len(blocks), made=made, dropped=blocks.dropped)


def _write(
    opened: FineTuned,
    loading: _Loading,
    blocks: Blocks,
    folder: Path,
    *,
    processes: int | None,
    engine: str,
    address: str | None,
    overwrite: bool,
    reporter: Reporter,
) -> tuple[Output, int]:
    """Predict the blocks that a folder lacks.

    Returns:
        The folder, and how many blocks were predicted.
    """
    target = Output(
        folder,
        model=opened._digest(Path(loading.run)),
        answers=loading.answers,
        input=blocks.input,
        block_rows=blocks.size,
        blocks=len(blocks),
        rows=blocks.rows,
    )
    missing = target.begin(overwrite=overwrite)
    if missing:
        with (
            reporter.phase("predict"),
            closing(
                prediction.predicted(loading, blocks, missing, engine=engine, count=processes, address=address)
            ) as done,
        ):
            for finished, (number, text) in enumerate(done, start=len(blocks) - len(missing) + 1):
                target.write(number, text)
                reporter.step(finished, len(blocks))
    return target, len(missing)


@dataclass(frozen=True, kw_only=True)
class _Loading:
    """How a process loads the model, which may be another process than the one that read the data."""

    run: str
    base: str | None
    elsewhere: Elsewhere
    accept_changes: bool
    trust_code: bool
    generation: Mapping[str, Any]
    answers: bool
    """Whether the rows have answers, which become part of the records."""
    trusted: trust.State

    def __call__(self) -> Predict:
        for folder in trust.restore(self.trusted):
            add_folder(folder)
        model = load(
            self.run,
            base=self.base,
            task=self.elsewhere.task,
            columns=self.elsewhere.columns,
            preprocessor=self.elsewhere.preprocessor,
            evaluator=self.elsewhere.evaluator,
            accept_changes=self.accept_changes,
            trust_code=self.trust_code,
        )
        if self.generation:
            model = model.with_generation(**self.generation)
        if self.answers:
            return model._predictor(answers=True)
        return model._for_inference()._predictor(answers=False)


@dataclass(frozen=True, kw_only=True)
class _ToScore:
    """The good rows of one split, which are scored."""

    plan: Plan
    """With the metrics of the run."""
    examples: Examples
    dropped: int
    """Number of bad rows of the split that were left out."""
    data: str | None
    """The data that they come from; None for those of the run."""
    is_whole: bool
    """Whether the data have no other split."""


@dataclass(frozen=True, kw_only=True)
class FineTuned:
    """A fine-tuned model with everything needed to use it."""

    plan: Plan
    """The recipe of the run, with the objects built from it."""
    result: Result
    """The result of the run."""
    tokenizer: Any
    """The tokenizer that the run saved."""
    model: Any
    """The model of transformers, or PEFT's wrapper."""
    is_run: bool = True
    """Whether a run of finetune made the model. If not, it has no data of its own, and `result` has no scores."""
    adapter: Path | None = None
    """The folder of the adapter, if another program saved one."""

    @property
    def was_trained_here(self) -> bool:
        """Whether a run of finetune trained the model, so that its training data are known."""
        return self.is_run and self.result.adopted_from is None

    def say(self, reporter: Reporter) -> None:
        """Show what a user must know of a model that no run made; nothing for a run."""
        if not self.is_run:
            for note in self.result.notes:
                reporter.note(note)

    def with_generation(self, **generation: Any) -> FineTuned:
        """Return the same model with other generation options: ``model.with_generation(num_beams=4).predict(…)``.

        Args:
            **generation: Options of `transformers.GenerationConfig`. They replace those of the run;
                a new limit, such as ``max_new_tokens``, replaces all limits of the run.

        Raises:
            BadOptions: The task does not generate text, or an option is unknown or contradicts
                another.
        """
        given = dict(self.plan.recipe.generation)
        if generation.keys() & LIMITS:
            given = {name: value for name, value in given.items() if name not in LIMITS}
        recipe = replace(self.plan.recipe, generation={**given, **generation})
        check_generation(self.plan.task, recipe)
        return replace(self, plan=replace(self.plan, recipe=recipe))

    @overload
    def predict(self, examples: str | Row | None = None, **columns: Any) -> Record: ...

    @overload
    def predict(self, examples: Iterable[Row] | list[str] | tuple[str, ...]) -> list[Record]: ...

    def predict(
        self, examples: str | Row | Iterable[Row] | list[str] | tuple[str, ...] | None = None, **columns: Any
    ) -> Record | list[Record]:
        """Predict one example or many.

        Args:
            examples: One example as a mapping, or several as a list, a `datasets.Dataset` or a data
                frame. If the task reads a single text, an example can be that text.
            **columns: One example by its columns: ``question="Who?", context="…"``.

        Returns:
            The record of one example, or a list of records.

        Raises:
            BadData: A column is missing or cannot be used.
        """
        if examples is not None and columns:
            raise BadData(f"give examples or the columns of one example ({', '.join(columns)}), not both.")
        if examples is None:
            return self._predict_rows([columns])[0]
        rows = front_door.examples_of(examples, self.plan.preprocessor.needs())
        return self._predict_rows([rows])[0] if isinstance(rows, Mapping) else self._predict_rows(rows)

    def _predict_rows(self, examples: Iterable[Row]) -> list[Record]:
        rows = list(examples)
        if not rows:
            return []
        records = self._for_inference()._records(self._checked(rows), answers=False)
        return [as_plain(record) for record in records]

    def _checked(self, examples: Sequence[Any]) -> Dataset:
        """Return rows to predict with the column names of the task.

        Raises:
            BadData: A row is bad.
        """
        constants = self._constants()
        given = front_door.examples_of(list(examples), self.plan.preprocessor.needs())
        rows = [{**constants, **row} for row in given]
        inputs = self.plan.preprocessor.needs().inputs
        columns = {theirs: ours for theirs, ours in self.plan.recipe.dataset.columns.items() if ours in inputs}
        found = data.from_rows(
            {"test": rows},
            self.plan.preprocessor,
            columns={theirs: ours for theirs, ours in columns.items() if any(theirs in row for row in rows)},
            fit=False,
            answers=False,
            column_use=self.result.column_use,
            tokenizer=lambda: self.tokenizer,
            in_memory=len(rows) <= IN_MEMORY,
        )
        return found.splits["test"]

    def _for_inference(self) -> FineTuned:
        """Return the same model with a preprocessor that does not pack examples."""
        return replace(self, plan=replace(self.plan, preprocessor=self.plan.preprocessor.for_inference()))

    def _constants(self) -> dict[str, str]:
        """Return the constant columns of the run that the task reads when it predicts."""
        inputs = self.plan.preprocessor.needs().inputs
        return {name: text for name, text in self.plan.recipe.dataset.constants.items() if name in inputs}

    def predict_source(self, source: Source) -> tuple[list[Record], Sequence[Mapping[str, Any]]]:
        """Predict every row in all splits of a source.

        Each record has the ``place`` of its row and the columns of its ``input`` before the prediction. The columns of
        the answers are not read. If `Source.on_bad` is ``drop``, a bad row gets a record without a prediction:
        ``{'place': {'file': 'new.csv', 'line': 3, 'row': 1}, 'input': {'text': ''}, 'prediction': None, 'left_out':
        'the row has no text.'}``.

        Args:
            source: The data, without a limit.

        Returns:
            One record for each row, in order, and the bad rows as `dropped.jsonl` holds them.

        Raises:
            BadData: The data cannot be used, or a row is bad and `Source.on_bad` is ``error``.
        """
        blocks = self._blocks(prediction.Asked(source=source))
        return list(self._each(blocks)), blocks.dropped

    def _each(self, blocks: Blocks, reporter: Reporter | None = None) -> Iterator[Record]:
        """Yield the record of each row, block by block."""
        predict = self._for_inference()._predictor(answers=False, reporter=reporter if len(blocks) == 1 else None)
        for block in blocks:
            for record in block.records(predict):
                yield as_plain(record)
            if reporter is not None and len(blocks) > 1:
                reporter.step(block.number + 1, len(blocks))

    def _blocks(self, asked: Asked, *, rows: int = BLOCK_ROWS) -> Blocks:
        """Read and check the rows of a source for a prediction."""
        with prediction.naming(asked.names):
            found = data.load(
                asked.source,
                self.plan.preprocessor,
                plugins=self.plan.plugins,
                seed=0,
                fit=False,
                answers=False,
                column_use=self.result.column_use,
                tokenizer=lambda: self.tokenizer,
            )
        return Blocks(found, rows=rows, names=asked.names)

    def _digest(self, run: Path) -> str:
        """Return the SHA-256 of everything that a prediction depends on, except the rows."""
        recipe = self.plan.recipe
        saved = self.result.base if self.result.base.get("saved_model") else bases.describe_saved(run)
        files = {name: saved[name] for name in ("saved_model", "saved_tokenizer") if name in saved}
        if "files" in self.result.base:
            files["base"] = self.result.base["files"]
        elif self.plan.strategy.loads_base():
            files["base"] = bases.describe(self.plan.model)["files"]
        known = prediction_options(self.plan.task)
        content = {
            "task": recipe.task,
            "strategy": recipes.to_mapping(recipe)["strategy"],
            "preprocessor": self.result.preprocessor,
            "evaluator": self.result.evaluator,
            "training": {name: value for name, value in recipe.training.items() if name in known},
            "generation": recipe.generation,
            "seed": recipe.seed,
            "files": {
                kind: {name: entry["sha256"] for name, entry in described.items()} for kind, described in files.items()
            },
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()

    def asked(self, path: str) -> Asked:
        """Return the rows to predict of a file, or of standard input: as `source_like` does, without what only answers
        need.

        Lines of text are rows if the task reads one column.
        """
        own = bool(_suffixes(path) & _suffixes(self.plan.recipe.dataset.path))
        return prediction.asked(path, self.source_like(path), self.plan.preprocessor.needs(), has_own_format=own)

    def source_like(self, path: str, **changes: Any) -> Source:
        """Return another file as a data set with the columns and constants of the run's data set.

        If the run read files with the same suffix, format and options are the same, too.

        Args:
            path: What `Source.path` takes.
            **changes: Other keys of `Source`.

        Raises:
            BadRecipe: The run mixes data sets whose columns or constants differ, so the right ones
                are not known.
        """
        source = self.plan.recipe.dataset
        if source.mixture:
            parts = [part for part, _ in recipes.parts(source).values()]
            if any((part.columns, part.constants) != (parts[0].columns, parts[0].constants) for part in parts):
                raise BadRecipe(
                    f"the run mixes data sets whose columns or constants differ. Give those of {path} in a dataset "
                    "section: {path: …, columns: …, constants: …}."
                )
            source = parts[0]
        same = {name: getattr(source, name) for name in ("columns", "constants", "encoding", "on_bad")}
        if _suffixes(path) & _suffixes(source.path):
            same |= {"format": source.format, "options": source.options}
        return Source(path=path, validation_size=0, **{**same, **changes})

    def evaluate(
        self,
        dataset: Any = None,
        *,
        split: str | None = None,
        reporter: Reporter | None = None,
        cache: str | Path | None = None,
    ) -> dict[str, float]:
        """Score the model on examples with answers.

        Args:
            dataset: A path, the ``dataset`` section of a recipe, or rows as `train` takes them; None for
                the data of the run.
            split: The split to score; None for `test`, or for `validation` if there is no `test`. It has no effect if
                `dataset` has a single split: that one is scored.
            reporter: Shows the progress.
            cache: As in `train`.

        Returns:
            Score → number.

        Raises:
            BadData: The data cannot be read, or has no such split.
            BadRecipe: `dataset` is None, and the run was trained on examples that were given in
                Python.
        """
        to_score = self._to_score(dataset, split=split, reporter=reporter or Reporter())
        records = self._records_to_score(to_score, reporter=reporter, cache=cache)
        (rows,) = to_score.examples.splits.values()
        return scoring.all_scores(to_score.plan.evaluator, to_score.plan, records, examples=rows)

    def _evaluation(
        self,
        dataset: str | Path | Mapping[str, Any] | None,
        *,
        split: str | None,
        on_bad: Literal["error", "drop"] | None,
        reporter: Reporter,
        cache: str | Path | None,
    ) -> Evaluation:
        """Score the model as `evaluate` does; return the scores with their intervals."""
        with reporter.phase("read and check the data"):
            to_score = self._to_score(dataset, split=split, on_bad=on_bad, reporter=reporter)
        with reporter.phase("predict"):
            records = self._records_to_score(to_score, reporter=reporter, cache=cache)
        return self._scored(to_score, records)

    def _records_to_score(
        self, to_score: _ToScore, *, reporter: Reporter | None, cache: str | Path | None
    ) -> list[Record]:
        """Predict the rows to score, with their answers."""
        kept = None
        if cache is not None:
            kept = FeatureCache(Path(cache), plugins=self.plan.plugins, note=(reporter or Reporter()).note)
        (rows,) = to_score.examples.splits.values()
        (fingerprint,) = (to_score.examples.fingerprints[name] for name in to_score.examples.splits)
        scoring_model = replace(self, plan=replace(self.plan, preprocessor=to_score.plan.preprocessor))
        return scoring_model._predictor(answers=True, reporter=reporter, cache=kept, fingerprint=fingerprint)(rows, 0)

    def _scored(self, to_score: _ToScore, records: list[Record]) -> Evaluation:
        """Return the scores of records, and how far they can be trusted."""
        ((split, rows),) = to_score.examples.splits.items()
        evaluator = to_score.plan.evaluator
        scores = scoring.all_scores(evaluator, to_score.plan, records, examples=rows)
        column = self.plan.preprocessor.needs().group
        seed = self.plan.recipe.seed
        intervals, units = intervals_and_units(evaluator, records, examples=rows, column=column, seed=seed)
        return Evaluation(
            run=str(self.result.directory),
            data=to_score.data,
            split=None if to_score.is_whole else split,
            rows=len(rows),
            dropped=to_score.dropped,
            primary=evaluator.primary,
            greater_is_better=evaluator.greater_is_better,
            scores=scores,
            intervals=intervals,
            units=units,
            details=scoring.details_of(evaluator, records),
        )

    def _to_score(
        self,
        dataset: Any,
        *,
        split: str | None,
        on_bad: Literal["error", "drop"] | None = None,
        reporter: Reporter,
    ) -> _ToScore:
        """Return the good rows of the split to score, and the plan with the metrics of the run; see `evaluate`."""
        recipe = self.plan.recipe
        plan = replace(self.plan, metrics=plans.find_metrics(recipe, self.plan.plugins))
        section, rows = front_door.dataset_section(dataset)
        if rows is not None:
            source = replace(self.source_like(ROWS), path=ROWS, format=None, options={})
            source = replace(source, columns=front_door.renames_of(source.columns, rows))
            if on_bad is not None:
                section = {**section, "on_bad": on_bad}
            recipe = recipes.from_mapping({**recipes.to_mapping(recipe), "dataset": {**asdict(source), **section}})
        elif dataset is not None:
            trust.allow(_without_paths(dataset))
            # A path is another file with the same columns.
            section = (
                _without_paths(dataset) if isinstance(dataset, Mapping) else asdict(self.source_like(str(dataset)))
            )
            if on_bad is not None:
                section = {**section, "on_bad": on_bad}
            recipe = recipes.from_mapping({**recipes.to_mapping(recipe), "dataset": section})
        elif not self.was_trained_here and "test" not in self.result.scores:
            raise BadOptions(
                f"dataset: another program trained {self.result.directory!r}, so it has no data of its own. Give the "
                "rows to score with --data (in Python: the first argument)."
            )
        elif recipe.dataset.path == ROWS:
            raise BadRecipe("the run was trained on examples given in Python. Give the rows, or a path, to score.")
        elif on_bad is not None:
            raise BadOptions("on_bad has an effect with other data only: that of the run was checked by the run.")
        options_of_data: dict[str, Any] = {
            "seed": recipe.data_seed,
            # The data of the run is fitted and split again, as in the run; other data is used as it is.
            "fit": dataset is None and self.was_trained_here,
            "column_use": self.result.column_use,
            "tokenizer": lambda: self.tokenizer,
            "learn_form": not self.was_trained_here,
        }
        if rows is not None:
            found = data.from_rows(rows, self.plan.preprocessor, source=recipe.dataset, **options_of_data)
        else:
            found = data.load(recipe.dataset, self.plan.preprocessor, plugins=self.plan.plugins, **options_of_data)
        splits = dict(found.splits)
        if dataset is not None and len(splits) == 1:
            split = next(iter(splits))
        elif split is None:
            split = "test" if "test" in splits or "validation" not in splits else "validation"
            if split == "validation":
                chosen_on = ", on which the model was selected" if self.result.selection_split == split else ""
                reporter.note(f"there is no test split, so validation is scored{chosen_on if dataset is None else ''}")
        chosen = splits.get(split)
        if chosen is None:
            raise BadData(f"the data has no split {split!r}. It has: {', '.join(splits)}. Set `split` to one of these.")
        dropped = [row for row in found.dropped if row["split"] == split]
        if dropped:
            reporter.note(data.left_out(dropped, rows=found.data_report[split]["read"]))
        if not self.was_trained_here:
            plan = replace(plan, preprocessor=found.preprocessor)
        examples = replace(found, splits={split: chosen}, sizes={split: {None: len(chosen)}}, dropped=())
        named = dataset
        if rows is not None:
            named = "rows given in Python"
        elif isinstance(dataset, Mapping):
            named = dataset.get("path")
        return _ToScore(
            plan=plan,
            examples=examples,
            dropped=len(dropped),
            data=None if named is None else str(named),
            is_whole=named is not None and len(splits) == 1,
        )

    def _load_base(self) -> Any:
        """Load the base model, which preference tasks compare with, after a check of its content."""
        bases.check_place(self.plan.model)
        bases.check_content(self.result.base, self.plan.model)
        return runs.load_base(self.plan).model

    def _records(self, examples: Any, *, answers: bool = True, reporter: Reporter | None = None) -> list[Record]:
        """Predict examples with the task's trainer."""
        return self._predictor(answers=answers, reporter=reporter)(examples, 0)

    def _predictor(
        self,
        *,
        answers: bool,
        reporter: Reporter | None = None,
        cache: FeatureCache | None = None,
        fingerprint: str = "",
    ) -> Predict:
        """Return a function that predicts examples with the task's trainer, which is built once.

        Args:
            answers: Whether the examples have answers.
            reporter: Shows the progress.
            cache: Keeps the features; None for none.
            fingerprint: That of all examples, if there is a cache.
        """
        inference = self._inference(reporter=reporter)

        def predict(examples: Any, number: int) -> list[Record]:
            made = inference.features(
                examples, answers=answers, reporter=reporter, cache=cache, fingerprint=fingerprint
            )
            if made.from_cache and reporter is not None:
                reporter.note("the features come from the cache")
            return inference.records(made, number=number)

        return predict

    def _inference(self, *, reporter: Reporter | None = None) -> Inference:
        """Return what makes features and records, with the task's trainer."""
        known = prediction_options(self.plan.task)
        given = {name: value for name, value in self.plan.recipe.training.items() if name in known}
        job = Job(
            task=self.plan.task,
            recipe=self.plan.recipe,
            output=storage.folder(),  # a trainer needs one, and writes nothing
            seed=self.plan.recipe.seed,
            model=self.model,
            tokenizer=self.tokenizer,
            preprocessor=self.plan.preprocessor,
            strategy=self.plan.strategy,
            evaluator=self.plan.evaluator,
            train=None,
            validation=None,
            validation_examples=None,
            arguments={
                **self.plan.task.training,
                **given,
                **device_arguments(),
                "report_to": "none",
                "disable_tqdm": True,
            },
            generation=self.plan.recipe.generation,
            base=self._load_base,
            callbacks=[callbacks.ShowPredictionProgress(reporter or Reporter())],
        )
        return Inference(job)

    def fingerprint(self) -> str:
        """Return the SHA-256 of everything that a prediction depends on, except the rows: model, tokenizer, options."""
        return self._digest(Path(self.result.directory))

    def predictor(self) -> Predictor:
        """Return an object that predicts rows which arrive one by one, as a server gets them.

        It gives the same records as `predict`, builds its trainer once, keeps everything in memory, and has an error
        for each bad row where `predict` raises one for all rows.
        """
        return Predictor(self._for_inference()._inference(), self._checked)


class Trained(Result):
    """The result of a run, which can also use its model; the model is loaded when it is first used."""

    @classmethod
    def of(cls, result: Result, *, plugins: Plugins) -> Trained:
        """Return a result that can use its model, with the plugins of its run."""
        made = cls(**{each.name: getattr(result, each.name) for each in fields(Result)})
        vars(made)["_place"] = Path(result.directory).absolute()  # the current folder can change
        vars(made)["_plugins"] = plugins
        return made

    def __eq__(self, other: object) -> bool:
        """Return whether another result holds the same."""
        if not isinstance(other, Result):
            return NotImplemented
        return all(getattr(self, each.name) == getattr(other, each.name) for each in fields(Result))

    __hash__ = None  # type: ignore[assignment]

    @cached_property
    def finetuned(self) -> FineTuned:
        """The fine-tuned model, as `load` returns it."""
        return load(vars(self)["_place"], plugins=vars(self)["_plugins"])

    @overload
    def predict(self, examples: str | Row | None = None, **columns: Any) -> Record: ...

    @overload
    def predict(self, examples: Iterable[Row] | list[str] | tuple[str, ...]) -> list[Record]: ...

    def predict(self, examples: Any = None, **columns: Any) -> Record | list[Record]:
        """Predict one example or many; see `FineTuned.predict`."""
        found: Record | list[Record] = self.finetuned.predict(examples, **columns)
        return found

    def evaluate(self, dataset: Any = None, *, split: str | None = None) -> dict[str, float]:
        """Score the model on examples with answers; see `FineTuned.evaluate`."""
        return self.finetuned.evaluate(dataset, split=split)


def prediction_options(task: Task) -> set[str]:
    """Return the names of the training options that change predictions.

    They include the options that TRL's classes add: DPO's ``beta`` scales the rewards, and GRPO's
    ``max_completion_length`` limits the answers that are rewarded.
    """
    arguments = resolve(task.arguments)
    own = {f.name for f in fields(arguments)} - {f.name for f in fields(TrainingArguments)}
    return {*own, "per_device_eval_batch_size", "bf16", "bf16_full_eval", "fp16"}


def _recipe(
    recipe: str | Path | Mapping[str, Any] | Recipe | None,
    keys: Mapping[str, Any],
    *,
    columns: Mapping[str, str] | None = None,
    training: Mapping[str, Any] = {},
    python: Mapping[str, Any] = {},
    trust_code: bool,
) -> Recipe:
    """Return the recipe with the keys that the user gave in Python.

    Args:
        recipe: What `train` takes.
        keys: Keys that replace those of the recipe.
        columns: Replace those of the data set.
        training: Options that are added to those of the recipe.
        python: Objects that no file can hold, as `Recipe.python` describes them.
        trust_code: As in `train`.
    """
    given = {name: _without_paths(value) for name, value in keys.items()}
    trust.allow(given)
    content: dict[str, Any] = {}
    if isinstance(recipe, Recipe):
        content = recipes.to_mapping(recipe)
        if trust_code:
            trust.allow(content)
        trust.allow_object(content)  # `read` may have made it from a run folder
    elif isinstance(recipe, Mapping):
        content = {str(name): _without_paths(value) for name, value in recipe.items()}
        trust.allow(content)
    elif recipe is not None:
        content = recipes.to_mapping(recipes.read(recipe, trust_code=trust_code))
    for name in ("seed", "seeds"):
        if name in given:
            recipes.choose_seeds(content, name)
    content = {**content, **given}
    if training:
        content["training"] = {**content.get("training", {}), **training}
    if python:
        content["python"] = {**content.get("python", {}), **python}
    made = recipes.from_mapping(content)
    if columns is not None:
        plain = recipes.to_mapping(made)
        made = recipes.from_mapping({**plain, "dataset": {**plain["dataset"], "columns": dict(columns)}})
    return made


def _absolute(run: str | Path) -> str:
    """Return the absolute path of a folder; an id of the Hub or a folder of a package as it is."""
    return str(Path(run).absolute()) if Path(run).exists() else str(run)


def _suffixes(path: Any) -> set[str]:
    """Return the suffixes of the files that a `Source.path` names.

    >>> _suffixes({"train": ["a.conll", "b.conll"], "test": "c.txt"}) == {".conll", ".txt"}
    True
    """
    if isinstance(path, Mapping):
        return set().union(*map(_suffixes, path.values()))
    if isinstance(path, list | tuple):
        return set().union(*map(_suffixes, path))
    suffix = Path(path).suffix
    return {suffix.lower()} if suffix else set()


def _without_paths(value: Any) -> Any:
    """Return a value of a recipe with text for every `Path`."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return {name: _without_paths(each) for name, each in value.items()}
    return [_without_paths(each) for each in value] if isinstance(value, list) else value


__all__ = ["FineTuned", "SeedsResult", "Trained", "evaluate", "load", "predict", "train"]
