"""The public functions of `import finetune`: `train`, `load`, `evaluate` and `predict`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, overload

from finetune.training import upstream

upstream.import_bitsandbytes()  # before anything else imports transformers, which would import it with a warning

from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback, TrainingArguments

from finetune import folder as run_folder
from finetune import front_door, prediction, run_seeds, trust
from finetune import plan as plans
from finetune import recipe as recipes
from finetune import run as runs
from finetune.data import storage
from finetune.errors import BadOptions, OutputExists
from finetune.evaluation.answering import Answering
from finetune.evaluation.summary import FILE, Evaluation
from finetune.fine_tuned import FineTuned, Opening
from finetune.interfaces import Evaluator, Preprocessor, Record, Row, Strategy, Task
from finetune.opening import open_without_weights, with_weights
from finetune.plugins import Plugins, add_folder, discover
from finetune.prediction import BLOCK_ROWS, Blocks, Output, Predict, Written
from finetune.progress import Console, Reporter
from finetune.python_objects import PythonObjects
from finetune.recipe import Choice, Model, Recipe, Source, Teacher, options
from finetune.result import Result
from finetune.seeds_result import SeedsResult


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
    teacher: str | Path | Mapping[str, Any] | Teacher | None = None,
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
    teacher: str | Path | Mapping[str, Any] | Teacher | None = None,
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
    teacher: str | Path | Mapping[str, Any] | Teacher | None = None,
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
    teacher: str | Path | Mapping[str, Any] | Teacher | None = None,
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

    The arguments from `task` to `teacher` are the keys of a recipe. A key that is given replaces the
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
        teacher: A trained model to learn from as well: its folder, or a mapping with the options of `Teacher`.
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
    upstream.sum_reproducibly()
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
        "teacher": teacher,
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
    opening = Opening(
        task=task,
        base=None if base is None else str(base),
        columns=columns,
        preprocessor=preprocessor,
        evaluator=evaluator,
        accept_changes=accept_changes,
        trust_code=trust_code,
    )
    return with_weights(open_without_weights(run, opening, plugins=plugins))


def evaluate(
    model: str | Path | FineTuned,
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
    reporter: Reporter | None = None,
    cache: str | Path | None = None,
) -> dict[str, float]:
    """Score the model of a finished run, or of another program, on examples with answers.

    With `output`, `processes` or the engine ``"ray"``, the examples are predicted in blocks, as `predict` does, and the
    scores are computed of the records of all blocks. The records must fit into memory. Where examples are packed, those
    of different blocks are not packed together.

    Args:
        model: The run folder; or a model that `load` returned, if it needs options: ``load("folder", task="…")``.
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
        model, dataset, split=split, output=output, on_bad=on_bad, block_rows=block_rows, processes=processes,
        engine=engine, address=address, overwrite=overwrite, reporter=reporter, cache=cache,
    )  # fmt: skip
    return dict(found.scores)


def evaluation(
    model: str | Path | FineTuned,
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
    reporter: Reporter | None = None,
    cache: str | Path | None = None,
) -> Evaluation:
    """Score a model as `evaluate` does; return the scores with their intervals."""
    reporter = reporter or Reporter()
    file, folder = _places(output, overwrite=overwrite)
    in_blocks = folder is not None or processes not in (None, 1) or engine != "local"
    if in_blocks and cache is not None:
        raise BadOptions("cache has no effect with output, processes or Ray: each block makes its own features.")
    opened = _opened(model)
    opened.say(reporter)
    if not in_blocks:
        with reporter.phase("load the model"):
            loaded = with_weights(opened)
        found = loaded.evaluation(dataset, split=split, on_bad=on_bad, reporter=reporter, cache=cache)
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
            to_score = opened.to_score(dataset, split=split, on_bad=on_bad, reporter=reporter)
            blocks = Blocks(to_score.examples, rows=block_rows)
        with_form = opened
        if not opened.was_trained_here:  # it has learned how the rows write labels
            learned = to_score.plan.preprocessor
            with_form = replace(
                opened,
                plan=replace(opened.plan, preprocessor=learned),
                opening=replace(opened.opening, preprocessor=options.as_options(learned)),
            )
        target, made = _write(
            with_form, blocks, folder, answers=True, processes=processes, engine=engine,
            address=address, overwrite=overwrite, reporter=reporter,
        )  # fmt: skip
        found = opened.scored(to_score, target.records())
        if output is not None and file is None:
            found = replace(found, files=len(blocks), reused=len(blocks) - made, output=str(output))
            found.write(folder / FILE)
        if file is not None:
            found.write(file)
        return found


def _places(output: str | Path | None, *, overwrite: bool) -> tuple[Path | None, Path | None]:
    """Return the file for the scores alone, and the folder for records and scores, of which one is None.

    Raises:
        BadOptions: The name is neither, or the folder of the file does not exist.
        OutputExists: The file exists.
    """
    if output is None:
        return None, None
    place = Path(output)
    if place.suffix.lower() != ".json":
        if place.suffix.lower() in (".jsonl", ".csv", ".parquet") and not place.is_dir():
            raise BadOptions(f"output: {str(place)!r}: name a folder, or a .json file for the scores alone.")
        return None, place
    if place.exists() and not overwrite:
        raise OutputExists(f"output: {str(place)!r} exists. Name another file, or replace this one with --overwrite.")
    if not place.parent.is_dir():
        raise BadOptions(f"output: the folder {str(place.parent)!r} does not exist. Make it first.")
    return place, None


def predict(
    model: str | Path | FineTuned,
    data: str | Path | Source,
    output: str | Path,
    *,
    format: Literal["jsonl", "csv", "parquet"] | None = None,  # noqa: A002, the word of the command
    on_bad: Literal["error", "drop"] | None = None,
    block_rows: int = BLOCK_ROWS,
    processes: int | None = None,
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
    overwrite: bool = False,
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
        model: The run folder; or a model that `load` returned, if it needs options: ``load("folder", task="…")``.
        data: A path in any format of a recipe, with the columns of the run's data or of the task; ``"-"`` for standard
            input; or a `Source`.
        output: A file that ends in ``.jsonl``, ``.csv`` or ``.parquet`` and does not exist; or a folder, which must not
            exist, be empty, or hold predictions of the same rows by the same model. With `overwrite`, either is
            replaced.
        format: The format of the file; None for that of its suffix.
        on_bad: What to do with bad rows: ``"error"``, or ``"drop"`` for a record without a prediction;
            None for what the run did.
        block_rows: Rows of a block. With fewer, less is lost when the call is stopped; with more,
            there are fewer files.
        processes: How many processes predict, each with its own copy of the model; None for one, and
            in Ray for as many as the cluster has GPUs, or CPUs.
        engine: ``"local"`` for this machine, ``"ray"`` for a cluster of Ray.
        address: Where the cluster of Ray is; None to start one on this machine.
        overwrite: Predict all rows again, and replace what `output` holds.
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
    opened = _opened(model)
    opened.say(reporter)
    asked = prediction.Asked(source=data) if isinstance(data, Source) else opened.asked(str(data))
    if on_bad is not None:
        asked = replace(asked, source=replace(asked.source, on_bad=on_bad))
    with run_folder.lock(target.folder):
        with reporter.phase("read and check the data"):
            blocks = opened.blocks(asked, rows=block_rows)
        target.refuse_inputs(blocks.files)
        written, made = _write(
            opened, blocks, target.folder, answers=False, processes=processes, engine=engine, address=address,
            overwrite=overwrite, reporter=reporter,
        )  # fmt: skip
        target.finish(written)
    return Written(output=target.path, rows=blocks.rows, parts=len(blocks), made=made, dropped=blocks.dropped)


def _opened(model: str | Path | FineTuned) -> FineTuned:
    """Return a model as it is, or the model of a folder without its weights."""
    return model if isinstance(model, FineTuned) else open_without_weights(model, Opening())


def _write(
    opened: FineTuned,
    blocks: Blocks,
    folder: Path,
    *,
    answers: bool,
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
    loading: Callable[[], Predict] = _Loading(
        place=opened.place, opening=opened.opening, answers=answers, trusted=trust.state()
    )
    if opened.model is not None and engine == "local" and processes in (None, 1):
        loading = partial(opened.block_function, answers=answers)  # it is loaded already
    target = Output(
        folder,
        model=opened.fingerprint(),
        answers=answers,
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

    place: str
    opening: Opening
    answers: bool
    """Whether the rows have answers, which become part of the records."""
    trusted: trust.State

    def __call__(self) -> Predict:
        for folder in trust.restore(self.trusted):
            add_folder(folder)
        return with_weights(open_without_weights(self.place, self.opening)).block_function(answers=self.answers)


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
    given = {name: front_door.without_paths(value) for name, value in keys.items()}
    trust.allow(given)
    content: dict[str, Any] = {}
    if isinstance(recipe, Recipe):
        content = recipes.to_mapping(recipe)
        if trust_code:
            trust.allow(content)
        trust.allow_object(content)  # `read` may have made it from a run folder
    elif isinstance(recipe, Mapping):
        content = {str(name): front_door.without_paths(value) for name, value in recipe.items()}
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


__all__ = [
    "Answering",
    "FineTuned",
    "Opening",
    "SeedsResult",
    "Trained",
    "evaluate",
    "load",
    "open_without_weights",
    "predict",
    "train",
    "with_weights",
]
