"""From `Plan` to `Result`: everything that happens in a run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import transformers
from transformers import EarlyStoppingCallback, set_seed

from finetune import base as bases
from finetune import (
    failures,
    folder,
    gguf,
    kept_layers,
    models,
    processes,
    report,
    secrets,
    seed_folders,
    teachers,
    tracking,
)
from finetune import result as results
from finetune.data import feature_stream, lengths
from finetune.data.feature_stream import FeatureStream
from finetune.data.findings import one_line
from finetune.data.preparation import Prepared, prepare
from finetune.errors import Incompatible, OutputExists
from finetune.evaluation import calibration, forgetting, seeds
from finetune.evaluation.analysis import analyse, score_examples, split_into_slices
from finetune.evaluation.evidence import Evidence, compute_evidence
from finetune.evaluation.scoring import (
    Scored,
    check_best_metric,
    score,
    try_metrics,
    without_best,
    without_primary,
    write_predictions,
)
from finetune.interfaces import Job, Preprocessor
from finetune.models import Loaded
from finetune.plan import Plan
from finetune.plugins import resolve
from finetune.progress import Reporter
from finetune.recipe import to_mapping
from finetune.recipe.options import describe, document
from finetune.result import Result
from finetune.training import arguments as training_arguments
from finetune.training import (
    auto_batch,
    averaging,
    callbacks,
    checkpoints,
    checks,
    device_defaults,
    early_stopping,
    rates,
    sharding_options,
    soup,
    streaming,
    upstream,
)
from finetune.training import trainer as training
from finetune.training.sharding import require_same_kind


@dataclass(frozen=True, kw_only=True)
class TrainingSetup:
    """A model that is ready to train, and the checkpoint from which it starts."""

    job: Job
    newly_initialized: Sequence[str]
    trainable: int
    total: int
    checkpoint: str | None
    """Folder to resume from."""
    notes: Sequence[str]
    base: Mapping[str, Any]
    """The content of the base model, as `bases.describe` returns it."""
    kept_layers: Mapping[str, Mapping[str, Any]]
    """Which of its layers the model has; empty for all of them."""
    teacher: Mapping[str, Any]
    """The teacher; empty if there is none."""
    average: Mapping[str, Any] = field(default_factory=dict)
    """Which checkpoints were averaged, once the model is trained; empty if none should be."""


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
    before_writing: Callable[[Mapping[str, Any]], None] | None = None,
) -> Result:
    """Fine-tune a model, and write the run folder.

    Args:
        plan: The recipe and its objects.
        resume: Continue from the newest valid checkpoint in the output folder.
        auto_resume: Do what the output folder asks for: start a run, continue it from its newest valid checkpoint,
            start it again if it has none yet, or return its result if it has finished.
        accept_changes: Resume even if the recipe or the data changed.
        overwrite: Replace an earlier run in the output folder.
        rows: Split → examples, instead of the recipe's data set.
        reporter: Shows the progress.
        cache: Folder that keeps the features for later runs; None for none.
        before_writing: Called on the main process with the resolved recipe, just before the first file of the run is
            written: all that can be refused was refused by then.

    Raises:
        FinetuneError: The run is refused or fails.
    """
    output = Path(plan.recipe.output)
    if resume or auto_resume:
        folder.require_one_run(output)
    if reporter is None or not processes.is_main():
        reporter = Reporter()
    with (
        failures.explained(output, plan.recipe.training, began=resume) as attempt,
        processes.explained(lambda: failures.go_on(output)),
    ):
        processes.join(timeout=float(plan.recipe.training.get("ddp_timeout", 1800)))
        if auto_resume and processes.from_main(lambda: (output / results.RESULT).is_file()):
            finished = Result.load(output)
            with processes.agreed():
                if processes.is_main():
                    require_same_recipe(finished, plan)
            reporter.note(f"the run in {str(output)!r} has finished already; nothing is trained")
            return finished
        result = _run(
            plan,
            attempt,
            resume=resume,
            auto_resume=auto_resume,
            accept_changes=accept_changes,
            overwrite=overwrite,
            rows=rows,
            reporter=reporter,
            cache=cache,
            before_writing=before_writing,
        )
    if processes.is_main():
        plan.plugins.announce("after_run", result=result, directory=output)
    processes.wait()
    return result


def _run(
    plan: Plan,
    attempt: failures.Attempt,
    *,
    resume: bool,
    auto_resume: bool,
    accept_changes: bool,
    overwrite: bool,
    rows: Mapping[str, Any] | None,
    reporter: Reporter,
    cache: Path | None,
    before_writing: Callable[[Mapping[str, Any]], None] | None,
) -> Result:
    output, started = attempt.output, datetime.now(UTC).isoformat(timespec="seconds")
    if auto_resume:
        resume = processes.from_main(lambda: folder.has_checkpoint(output))
        overwrite = not resume
        attempt.began = resume
    with processes.agreed():
        if processes.is_main():
            folder.check(output, resume=resume, overwrite=overwrite)
        forgetting.require_general_text(plan.recipe.general_text)
    prepared = prepare_once(plan, rows=rows, reporter=reporter, cache=cache)
    with models.suppress_output(), ExitStack() as until_the_end:
        with processes.agreed():
            if processes.is_main():
                until_the_end.enter_context(folder.lock(output))
        if auto_resume and not resume and processes.from_main(lambda: folder.has_checkpoint(output)):
            # an earlier start was still running, and saved a checkpoint while this one prepared the data
            resume = True
            with processes.agreed():
                if processes.is_main():
                    folder.check(output, resume=True, overwrite=False)
        prepared, chosen = settle_batch(prepared, reporter, resume=resume)
        attempt.training = prepared.plan.recipe.training
        with reporter.phase("load the model"):
            with processes.agreed():
                ready, identity = prepare_training(prepared, reporter)
            if resume:
                ready = find_checkpoint(ready, identity, accept_changes=accept_changes)
        ready = replace(ready, notes=[*chosen, *ready.notes])
        for note in ready.notes:
            reporter.note(note)
        attempt.began = True
        with processes.agreed():
            if processes.is_main():
                dropped, content = prepared.examples.dropped, resolved(prepared.plan, ready.job)
                if before_writing is not None:
                    before_writing(content)
                folder.create(output, resume=resume, content=content, dropped=dropped)
                failures.require_room(output, **room(ready.job.model, ready.job.arguments))
        plan.plugins.announce("before_training", job=ready.job)
        step = None if ready.checkpoint is None else int(ready.checkpoint.rpartition("-")[2])
        trackers = until_the_end.enter_context(tracking.tracking(ready.job, step=step, note=reporter.note))
        trainer = resolve(plan.task.trainer)(trackers.job)
        parts = {split: part.features for split, part in prepared.features.items()}
        training.try_forward(trainer, parts, ready.job)
        training.try_teacher(trainer, ready.job)
        check_best_metric(prepared, ready.job, trainer)
        training.divide(trainer)
        base = None
        if plan.recipe.score_base_model:
            with reporter.phase("score the base model"):
                base = score(prepared, ready.job, trainer, held_out_only=True)
        else:
            try_metrics(prepared, ready.job, trainer)
        with reporter.phase("train"), callbacks.stopping_cleanly(trainer):
            set_seed(plan.recipe.seed)  # scoring also draws random numbers
            with training_arguments.upstream_refusals(trainer):
                trainer.train(resume_from_checkpoint=ready.checkpoint)
        callbacks.raise_if_paused(trainer)
        training.settle(trainer)
        averaged: Mapping[str, Any] = {}
        if averaging.is_on(ready.job.arguments):
            with reporter.phase("average the best checkpoints"):
                averaged = soup.greedy(trainer, ready.job)
        with reporter.phase("save, reload and compare"):
            whole = training.whole(trainer, ready.job)
            with processes.agreed():
                if processes.is_main():
                    save(prepared, whole, trainer)
        with reporter.phase("score"):
            scored = score(prepared, ready.job, trainer)
        result = processes.from_main(
            lambda: finish(
                prepared,
                replace(ready, job=whole, average=averaged),
                trainer,
                base,
                scored=scored,
                reporter=reporter,
                started=started,
            )
        )
        trackers.finish(result, output)
        return result


NOT_COMPARED = frozenset({"output", "card"})
"""Keys of a recipe that may differ from those of a finished run: a folder can move, and `finetune card` adds facts."""


def require_same_recipe(finished: Result, plan: Plan) -> None:
    """Check that a recipe is that of a finished run.

    Options that the recipe leaves out are not compared: the run recorded their defaults, and what it learned.

    Raises:
        OutputExists: It is another one; the message has a line for each key that differs.
    """
    given = json.loads(secrets.redacted(results.to_json(to_mapping(plan.recipe))))  # as the run wrote its own
    if auto_batch.is_on(given["training"]):
        rows = auto_batch.rows_of_a_step({**plan.task.training, **given["training"]})
        size = auto_batch.recorded(Path(plan.recipe.output), rows=rows) or rows
        given["training"] = auto_batch.divided(given["training"], size=size, rows=rows)
    for key in ("path", "tokenizer"):
        place = given["model"][key]
        given["model"][key] = models.absolute(place) if place else place
    if given.get("teacher"):
        given["teacher"]["path"] = models.absolute(given["teacher"]["path"])
    changes = []
    for name, now, then in _pairs(given, finished.recipe):
        if now != then and name not in NOT_COMPARED and name.removeprefix("training.") not in checkpoints.HARMLESS:
            changes.append(f"{name}: {then} then, {now} now")
    if changes:
        raise OutputExists(
            f"output: the run in {finished.directory!r} has finished, with another recipe.\n  "
            + "\n  ".join(changes)
            + "\nName another folder, or replace the run with --overwrite."
        )


def _pairs(given: Mapping[str, Any], then: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield each key of a recipe with a value of now and of then; those of a section with the name of the section."""
    for name, value in given.items():
        recorded = then.get(name)
        if value is None and name in ("preprocessor", "evaluator"):
            continue  # the run recorded the default
        if not isinstance(value, Mapping) or not isinstance(recorded, Mapping):
            yield name, value, recorded
            continue
        for key, each in value.items():
            if key != "name" or name == "strategy":  # the default of the others can be another class in a later version
                yield f"{name}.{key}", each, recorded.get(key)


def prepare_once(
    plan: Plan, *, rows: Mapping[str, Any] | None, reporter: Reporter, cache: Path | None = None
) -> Prepared:
    """Prepare the data on one process of each machine; the others there get the same features, on the disk.

    The plan holds code, so each process keeps its own.
    """

    def make() -> tuple[Any, Preprocessor]:
        prepared = prepare(plan, rows=rows, reporter=reporter, cache=cache)
        return replace(prepared, plan=None), prepared.plan.preprocessor  # type: ignore[arg-type]

    if processes.count() == 1:
        return prepare(plan, rows=rows, reporter=reporter, cache=cache)
    prepared, preprocessor = processes.shared(make)
    shared: Prepared = replace(prepared, plan=replace(plan, preprocessor=preprocessor))
    return shared


def settle_batch(prepared: Prepared, reporter: Reporter, *, resume: bool) -> tuple[Prepared, list[str]]:
    """Choose the batch size of a recipe with ``batch: auto``, and say why; a run that is resumed takes its own.

    Returns:
        The run with the numbers in its recipe, and a note.
    """
    recipe = prepared.plan.recipe
    if not auto_batch.is_on(recipe.training):
        return prepared, []
    from finetune.planning import batch_size  # it imports this module

    rows = auto_batch.rows_of_a_step({**prepared.plan.task.training, **recipe.training})
    size = auto_batch.recorded(Path(recipe.output), rows=rows) if resume else None
    if size is None:
        choice = batch_size.choose(prepared, reporter)
    else:
        why = f"batch: auto: per_device_train_batch_size {size}, as this run has chosen at its start"
        choice = batch_size.Choice(size=size, rows=rows, why=why)
    return batch_size.settle(prepared, choice), [choice.why]


def finish(
    prepared: Prepared,
    ready: TrainingSetup,
    trainer: Any,
    base: Scored | None,
    *,
    scored: Scored,
    reporter: Reporter,
    started: str,
) -> Result:
    """Compute the evidence, and write predictions, result and report."""
    plan, output = prepared.plan, Path(prepared.plan.recipe.output)
    for note in notes_of(trainer, scored):
        reporter.note(note)
    with reporter.phase("compute intervals, slices and forgetting"):
        evidence = compute_evidence(prepared, scored, base)
        slices = split_into_slices(prepared, scored)
        analysis = analyse(prepared, scored, slices)
        forgotten = forgetting.measure(plan, prepared.tokenizer, ready.job.model, seed=plan.recipe.seed)
    write_predictions(output, prepared, scored, score_examples(scored, slices))
    if seed_folders.folder_above(output) is not None:
        seeds.keep_others(output, scored, base)
    if left := checkpoints.remove_leftovers(output):
        reporter.note(left)
        ready = replace(ready, notes=[*ready.notes, left])
    facts = {**vars(analysis), "forgetting": forgotten, "phases": reporter.phases, "started": started}
    result = record(prepared, ready, trainer, base, scored=scored, evidence=evidence, facts=facts)
    report.write(result, output)
    result.save(output)  # last: a run without it can be resumed
    return result


def notes_of(trainer: Any, scored: Scored) -> list[str]:
    """Return what a user must know of the end of a run."""
    notes = [*without_best(trainer), *without_primary(scored)]
    if scored.calibration is not None and (note := calibration.note_of(scored.calibration)):
        notes.append(note)
    return notes


def prepare_training(prepared: Prepared, reporter: Reporter) -> tuple[TrainingSetup, checkpoints.Identity]:
    """Load the model, let the strategy prepare it, and say what identifies the run; write nothing."""
    plan = prepared.plan
    trainer_arguments(prepared)  # what they refuse is refused before the model is loaded
    set_seed(plan.recipe.seed)  # a new head is initialized here
    loaded = load_model(prepared)
    job = make_job(prepared, loaded, reporter)
    teacher = teachers.load(prepared, job.model, longest_target=longest_target(prepared))
    job = teachers.with_teacher(job, teacher)
    trainable, total = checks.something_trains(job.model, newly_initialized=loaded.newly_initialized)
    described = bases.describe(plan.model)
    identity = identify(prepared, job, described, teacher=None if teacher is None else teacher.identity)
    notes = [*upstream.unsupported(), *feature_stream.notes(prepared.examples, plan.recipe.dataset)]
    if chosen := rates.choose(plan.recipe, plan.task, plan.strategy, folder=plan.model.path):
        notes.append(f"learning rate {chosen.training['learning_rate']:g}: {chosen.source}")
    device = device_defaults.this_device(job.arguments)
    notes += device_defaults.notes(plan.task, plan.recipe.training, job.arguments, device=device)
    notes += gguf.sentences(described.get("gguf", {}))
    notes += kept_layers.sentences(loaded.kept_layers)
    notes += teacher.notes if teacher is not None else ()
    notes += plan.strategy.notes(job.model)
    notes += plan.objects.notes
    for argument, names in plan.recipe.python.items():
        notes.append(f"given in Python, so not in recipe.yaml: {argument} ({', '.join(names)})")
    notes += training_arguments.without_effect(job.arguments)
    if models.has_sparse_attention(plan.model):
        notes.append(
            "the model computes full attention, not block sparse attention, whose outputs depend on the length of the "
            "batch; long texts need more memory"
        )
    if checks.depends_on_batch(job.model, prepared.tokenizer):
        notes.append(
            f"the outputs of {type(models.base_model_of(job.model)).__name__} for a text depend on the other texts of "
            "its batch, so evaluation and prediction take one text at a time, whatever per_device_eval_batch_size is"
        )
    if processes.count() > 1:
        size = job.arguments.get("per_device_train_batch_size", 8)
        accumulated = job.arguments.get("gradient_accumulation_steps", 1)
        rows = size * accumulated * processes.count()
        notes.append(f"{processes.count()} processes train together: a step takes {rows} rows")
    for finding in prepared.examples.findings:
        if finding.code == lengths.CODE:
            notes.append(one_line(finding))
    ready = TrainingSetup(
        job=replace(
            job,
            callbacks=[
                *job.callbacks,
                checkpoints.WriteManifest(identity, averages=averaging.is_on(job.arguments)),
                callbacks.CheckRoom(room(job.model, job.arguments)["model"]),
            ],
        ),
        newly_initialized=sorted(loaded.newly_initialized),
        trainable=trainable,
        total=total,
        checkpoint=None,
        notes=notes,
        base=described,
        kept_layers=loaded.kept_layers,
        teacher={} if teacher is None else teacher.described,
    )
    return ready, identity


def find_checkpoint(ready: TrainingSetup, identity: checkpoints.Identity, *, accept_changes: bool) -> TrainingSetup:
    """Find the checkpoint to resume from.

    Raises:
        BadCheckpoint: There is none, or it belongs to another run.
    """

    def find() -> tuple[Path, list[str]]:
        newest, skipped = checkpoints.newest(ready.job.output, identity, accept_changes=accept_changes)
        require_same_kind(newest, sharded=bool(ready.job.arguments.get("fsdp")))
        return newest, skipped

    found, skipped = processes.from_main(find)
    return replace(ready, checkpoint=str(found), notes=[*ready.notes, *skipped])


def load_model(prepared: Prepared) -> Loaded:
    """Load the base model, and check that it fits the data."""
    plan = prepared.plan
    loaded = load_base(plan)
    models.set_pad_token(loaded.model, prepared.tokenizer)
    longest = max(part.longest for part in prepared.features.values())
    collator = plan.preprocessor.collator(prepared.tokenizer, loaded.model)
    checks.model_takes_features(
        loaded.model,
        prepared.tokenizer,
        longest=longest,
        longest_target=longest_target(prepared),
        padded=collator is None,
    )
    checks.labels_mean_the_same(models.labels_of(plan.model), loaded.model, loaded.newly_initialized)
    return loaded


NUMBERS_KEPT: Mapping[str, int] = {
    **dict.fromkeys(("adagrad", "rmsprop", "lion_32bit", "paged_lion_32bit"), 1),
    **dict.fromkeys(("adamw_torch", "adamw_torch_fused", "adamw_anyprecision", "paged_adamw_32bit"), 2),
}
"""Value of `optim` → how many numbers the optimizer keeps for each trained number. Those of others are measured, when
the first checkpoint is saved."""


def room(model: Any, training: Mapping[str, Any]) -> dict[str, int]:
    """Return how many bytes the final weights and a checkpoint take, as far as that is known before the first step."""
    saved = optimizer = 0
    everything = models.base_model_of(model) is model  # PEFT's wrapper saves the adapter alone
    kept = NUMBERS_KEPT.get(str(training.get("optim") or "adamw_torch"), 0)
    for parameter in model.parameters():
        size = parameter.numel() * parameter.element_size()
        if everything or parameter.requires_grad:
            saved += size
        if parameter.requires_grad:
            optimizer += kept * size
    saves = training.get("save_strategy", "epoch") != "no"
    copies = 2 if training.get("fsdp") else 1  # accelerate adds a file of its own
    return {"model": saved, "checkpoint": saved * copies + optimizer if saves else 0}


def longest_target(prepared: Prepared) -> int | None:
    """Return the tokens of the longest target; None for a task whose model does not write targets."""
    if prepared.plan.task.model_class != "AutoModelForSeq2SeqLM":
        return None
    longest = 1
    for part in prepared.features.values():
        if "labels" not in part.features.column_names:
            continue
        for block in part.features.with_format("arrow").iter(10_000):
            longest = max(longest, pc.max(pc.list_value_length(block.column("labels"))).as_py() or 0)
    return longest


def load_base(plan: Plan) -> Loaded:
    """Load the base model with the options that preprocessor and strategy need."""
    options = {**plan.preprocessor.model_options(), **plan.strategy.load_options()}
    with plan.strategy.loading():
        return models.load(plan.model, getattr(transformers, plan.task.model_class), options)


def trainer_arguments(prepared: Prepared) -> dict[str, Any]:
    """Return the training options of a run, with defaults; see `finetune.training.arguments.arguments`."""
    plan = prepared.plan
    arguments = training_arguments.arguments(
        plan.recipe,
        plan.task,
        plan.strategy,
        evaluator=plan.evaluator,
        validation="validation" in prepared.features,
    )
    if chosen := rates.choose(plan.recipe, plan.task, plan.strategy, folder=plan.model.path):
        arguments |= chosen.training
    return arguments


def make_job(prepared: Prepared, loaded: Loaded, reporter: Reporter) -> Job:
    """Let the strategy prepare the model, and return what the trainer needs."""
    plan, validation = prepared.plan, prepared.features.get("validation")
    arguments = trainer_arguments(prepared)
    sharding_options.refuse(arguments, plan.strategy)
    sharding_options.require_processes(arguments, count=processes.count())
    model = plan.strategy.prepare(loaded.model, plan.task, newly_initialized=loaded.newly_initialized)
    if model is None:
        raise Incompatible(f"strategy: {type(plan.strategy).__name__}.prepare returned None. It must return the model.")
    return Job(
        task=plan.task,
        recipe=plan.recipe,
        output=Path(plan.recipe.output),
        seed=plan.recipe.seed,
        model=model,
        tokenizer=prepared.tokenizer,
        preprocessor=plan.preprocessor,
        strategy=plan.strategy,
        evaluator=plan.evaluator,
        train=prepared.features["train"].features,
        validation=validation.features if validation else None,
        validation_examples=validation.examples if validation else None,
        arguments={**training_arguments.device_arguments(), **arguments},
        generation=plan.recipe.generation,
        base=lambda: load_base(plan).model,
        stream=open_stream(prepared),
        data_collator=plan.objects.data_collator,
        compute_metrics=plan.objects.compute_metrics,
        callbacks=[
            *plan.strategy.callbacks(),
            *early_stopping.callbacks(arguments),
            *plan.objects.callbacks,
            callbacks.StopOnNaN(prepared.tokenizer),
            callbacks.WriteLog(Path(plan.recipe.output) / results.LOG, reporter),
            callbacks.ShowPredictionProgress(reporter),
            callbacks.StopOnSignal(),
        ],
    )


def open_stream(prepared: Prepared) -> FeatureStream | None:
    """Return the features of a streamed train split; None if it is not streamed."""
    plan, split = prepared.plan, prepared.examples.stream
    if split is None:
        return None
    return FeatureStream(
        split=split,
        preprocessor=plan.preprocessor,
        tokenizer=prepared.tokenizer,
        buffer=plan.recipe.dataset.shuffle_buffer,
        seed=plan.recipe.seed,
        process=processes.number(),
        processes=processes.count(),
    )


def resolved(plan: Plan, job: Job) -> dict[str, Any]:
    """Return the recipe as plain mappings, with every option."""
    not_written = set(training_arguments.device_arguments()) - set(plan.recipe.training)
    content = plan.resolved({name: value for name, value in job.arguments.items() if name not in not_written})
    # absolute, so that the run can be used from any folder
    for key in ("path", "tokenizer"):
        place = content["model"][key]
        content["model"][key] = models.absolute(place) if place else place
    if content.get("teacher"):
        content["teacher"]["path"] = models.absolute(content["teacher"]["path"])
    return content


def identify(
    prepared: Prepared, job: Job, described: Mapping[str, Any], *, teacher: Mapping[str, Any] | None = None
) -> checkpoints.Identity:
    """Return what must not change between a run and its continuation."""
    plan = prepared.plan
    content, environment = resolved(plan, job), results.environment()
    sections, harmless = ["task", "model", "strategy", "preprocessor", "seed"], checkpoints.HARMLESS
    if scores_choose_weights(job):
        sections += ["evaluator", "generation"]
        harmless -= checkpoints.EVALUATION
    if averaging.is_on(job.arguments):
        harmless -= {"save_total_limit"}  # it says which checkpoints can be averaged
    facts = {
        **{section: content[section] for section in sections},
        **{f"training.{key}": value for key, value in content["training"].items() if key not in harmless},
        **{f"data.{split}": digest for split, digest in prepared.examples.fingerprints.items()},
        **({"stream": job.stream.identity} if job.stream is not None else {}),
        **({"python": plan.recipe.python} if plan.recipe.python else {}),
        **({"teacher": teacher} if teacher is not None else {}),
        "processes": environment["processes"],
        checkpoints.BASE: bases.facts(described),
    }
    circumstances = {**environment["versions"], "threads": environment["threads"]}
    fixed = {"processes": streaming.FIXED_PROCESSES} if job.stream is not None else {}
    defaults: dict[str, dict[str, Any]] = {}
    for section in ("preprocessor", "strategy", "evaluator"):
        known = document(type(getattr(plan, section)))
        defaults[section] = {option.name: option.default for option in known if not option.required}
    return checkpoints.Identity(facts, circumstances, fixed, defaults)


def scores_choose_weights(job: Job) -> bool:
    """Return whether the final weights depend on the scores of validation."""
    arguments = job.arguments
    follows = str(arguments.get("lr_scheduler_type")) in checkpoints.FOLLOWS_SCORES
    stops = any(isinstance(callback, EarlyStoppingCallback) for callback in job.callbacks)
    return bool(arguments.get("load_best_model_at_end")) or follows or stops


def save(prepared: Prepared, job: Job, trainer: Any) -> None:
    """Write model and tokenizer, load them again, and check that the outputs are equal to the bit."""
    plan, output = prepared.plan, Path(prepared.plan.recipe.output)
    plan.strategy.save(job.model, output)
    job.tokenizer.save_pretrained(output)
    folder.make_readable(output)
    batch = training.example_batch(trainer, prepared.features["train"].features, job, size=4)
    reloaded = reload(plan, output, job.tokenizer).to(job.model.device)
    trained, read = (checks.model_outputs(checks.align_memory(model), batch) for model in (job.model, reloaded))
    checks.reloads_equal(trained, read)


def reload(plan: Plan, directory: Path, tokenizer: Any) -> Any:
    """Load the model that a run saved.

    Raises:
        BadRecipe: The strategy loads the base model, and it cannot be loaded.
    """
    model, needs_base = plan.model, plan.strategy.loads_base()
    configured = model if needs_base else replace(model, path=str(directory))  # a whole model needs no base
    options = {**plan.preprocessor.model_options(), **plan.strategy.load_options()}
    try:
        with models.keeping_loaded_rows():
            loaded = plan.strategy.load(
                directory,
                model_class=getattr(transformers, plan.task.model_class),
                base=models.locate(model) if needs_base else model.path,
                options=models.from_pretrained_options(configured, options),
            )
    except OSError as error:
        raise (bases.not_found(model, error) if needs_base else models.cannot_load(str(directory), error)) from error
    models.set_pad_token(loaded, tokenizer)
    return loaded


def record(
    prepared: Prepared,
    ready: TrainingSetup,
    trainer: Any,
    base: Scored | None,
    *,
    scored: Scored,
    evidence: Evidence,
    facts: Mapping[str, Any],
) -> Result:
    """Return the result of the run."""
    plan, found, evaluator = prepared.plan, prepared.examples, scored.evaluator
    before = calibration.with_temperature(evaluator, plan.evaluator.temperature)  # a temperature changes no prediction
    chose = trainer.args.load_best_model_at_end or before != plan.evaluator
    return Result(
        recipe=resolved(plan, ready.job),
        scores=scored.scores,
        base_model_scores=base.scores if base else {},
        **vars(evidence),
        **facts,
        details=scored.details,
        calibration=asdict(scored.calibration) if scored.calibration is not None else {},
        primary=evaluator.primary,
        greater_is_better=evaluator.greater_is_better,
        scales=dict(evaluator.scales()),
        selection_split="validation" if chose else None,
        data_report=prepared.data_report,
        findings=found.counts,
        fingerprints=found.fingerprints,
        leakage=prepared.leakage,
        column_use=found.column_use,
        limits=prepared.limits,
        early_stopping=early_stopping.describe(trainer, ready.job.arguments),
        preprocessor=describe(plan.preprocessor),
        evaluator=describe(evaluator),
        trainable_parameters=ready.trainable,
        total_parameters=ready.total,
        saved_bytes=folder.size_of_weights(Path(plan.recipe.output)),
        newly_initialized=ready.newly_initialized,
        steps=trainer.state.global_step,
        log=trainer.state.log_history,
        arguments=public_arguments(trainer.args),
        environment=results.environment(),
        notes=[*ready.notes, *notes_of(trainer, scored)],
        base={**ready.base, **bases.describe_saved(Path(plan.recipe.output))},
        kept_layers=ready.kept_layers,
        teacher=ready.teacher,
        average=ready.average,
        resumed_from=Path(ready.checkpoint).name if ready.checkpoint else None,
        directory=plan.recipe.output,
    )


def public_arguments(arguments: Any) -> dict[str, Any]:
    """Return every training argument as JSON can hold it, without access tokens."""
    return {name: value for name, value in arguments.to_dict().items() if not name.endswith("_token")}
