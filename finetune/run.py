"""`Plan` → `Result`: what happens in a run, from the first row read to the record written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import transformers
from transformers import set_seed

from finetune import callbacks, checkpoints, checks, folder, forgetting, models, report, training
from finetune import result as results
from finetune.analysis import analyse, judge, told_apart
from finetune.evidence import Evidence, weigh
from finetune.interfaces import Job
from finetune.models import Loaded
from finetune.plan import Plan, as_options
from finetune.plugins import resolve
from finetune.preparation import Prepared, prepare
from finetune.progress import Reporter
from finetune.result import Result
from finetune.scoring import Scored, score, try_metrics, write_predictions


@dataclass(frozen=True, kw_only=True)
class Ready:
    """A model loaded and prepared, and where training begins."""

    job: Job
    born_random: Sequence[str]
    trainable: int
    total: int
    checkpoint: str | None
    """Folder to resume from."""
    notes: Sequence[str]


def run(
    plan: Plan,
    *,
    resume: bool = False,
    accept_changes: bool = False,
    overwrite: bool = False,
    rows: Mapping[str, Any] | None = None,
    reporter: Reporter | None = None,
) -> Result:
    """Fine-tune as planned, and write the run folder.

    Args:
        plan: What to do.
        resume: Go on from the newest valid checkpoint of the output folder.
        accept_changes: Resume although the recipe or the data changed.
        overwrite: Replace an earlier run in the output folder.
        rows: Split → examples, instead of the recipe's data set.
        reporter: Told what happens.

    Raises:
        FinetuneError: With what went wrong, where, and what to do.
    """
    reporter, started = reporter or Reporter(), datetime.now(UTC).isoformat(timespec="seconds")
    output = Path(plan.recipe.output)
    folder.check(output, resume=resume, overwrite=overwrite)
    forgetting.require(plan.recipe.general_text)
    prepared = prepare(plan, rows=rows, reporter=reporter)
    with models.quiet(), folder.held(output):
        with reporter.phase("load the model"):
            ready = get_ready(prepared, resume=resume, accept_changes=accept_changes, reporter=reporter)
        dropped = prepared.examples.dropped
        folder.begin(output, resume=resume, content=resolved(prepared.plan, ready.job), dropped=dropped)
        plan.plugins.manager.hook.before_training(job=ready.job)
        trainer = resolve(plan.task.trainer)(ready.job)
        untouched = None
        if plan.recipe.untouched:
            with reporter.phase("score the untouched model"):
                untouched = score(prepared, ready.job, trainer, held_out=True)
        else:
            try_metrics(prepared, ready.job, trainer)
        with reporter.phase("train"), callbacks.stopping_cleanly(trainer):
            set_seed(plan.recipe.seed)  # scoring draws random numbers too
            trainer.train(resume_from_checkpoint=ready.checkpoint)
        with reporter.phase("save, reload and compare"):
            save(prepared, ready.job, trainer)
        with reporter.phase("score"):
            scored = score(prepared, ready.job, trainer)
        with reporter.phase("weigh the evidence"):
            evidence, parts = weigh(prepared, scored, untouched), told_apart(prepared, scored)
            analysis = analyse(prepared, scored, parts)
            forgotten = forgetting.measure(prepared.plan, prepared.tokenizer, ready.job.model, seed=plan.recipe.seed)
    write_predictions(output, prepared, scored, judge(scored, parts))
    facts = {**vars(analysis), "forgetting": forgotten, "phases": reporter.phases, "started": started}
    result = record(prepared, ready, trainer, untouched, scored=scored, evidence=evidence, facts=facts)
    result.save(output)
    report.write(result, output)
    plan.plugins.manager.hook.after_run(result=result, directory=output)
    return result


def get_ready(prepared: Prepared, *, resume: bool, accept_changes: bool, reporter: Reporter) -> Ready:
    """Load the model, let the strategy prepare it, and find where training begins; write nothing."""
    plan = prepared.plan
    set_seed(plan.recipe.seed)  # a new head is born here
    loaded = load_model(prepared)
    job = make_job(prepared, loaded, reporter)
    trainable, total = checks.something_trains(job.model, fresh=loaded.fresh)
    identity = identify(prepared, job)
    checkpoint: str | None = None
    notes = list(plan.strategy.notes(job.model))
    if resume:
        found, skipped = checkpoints.newest(Path(plan.recipe.output), identity, accept_changes=accept_changes)
        checkpoint, notes = str(found), [*notes, *skipped]
        if job.arguments.get("train_sampling_strategy") == "group_by_length":
            notes = [*notes, "not the same to the bit, because group_by_length draws its order anew on resume"]
    for note in notes:
        reporter.note(note)
    return Ready(
        job=replace(job, callbacks=[*job.callbacks, checkpoints.WriteManifest(identity)]),
        born_random=sorted(loaded.fresh),
        trainable=trainable,
        total=total,
        checkpoint=checkpoint,
        notes=notes,
    )


def load_model(prepared: Prepared) -> Loaded:
    """Load the pretrained model and check that it fits the data."""
    plan = prepared.plan
    loaded = load_base(plan)
    models.tell_padding(loaded.model, prepared.tokenizer)
    longest = max(part.longest for part in prepared.features.values())
    collator = plan.preprocessor.collator(prepared.tokenizer, loaded.model)
    checks.model_takes_features(loaded.model, prepared.tokenizer, longest=longest, padded=collator is None)
    checks.labels_mean_the_same(models.labels_of(plan.model), loaded.model, loaded.fresh)
    return loaded


def load_base(plan: Plan) -> Loaded:
    """Load the pretrained model as the plan's preprocessor and strategy want it."""
    options = {**plan.preprocessor.model_options(), **plan.strategy.load_options()}
    return models.load(plan.model, getattr(transformers, plan.task.model_class), options)


def make_job(prepared: Prepared, loaded: Loaded, reporter: Reporter) -> Job:
    """Let the strategy prepare the model, and gather what the trainer needs."""
    plan, validation = prepared.plan, prepared.features.get("validation")
    arguments = training.arguments(plan.recipe, plan.task, evaluator=plan.evaluator, validation=validation is not None)
    return Job(
        task=plan.task,
        model=plan.strategy.prepare(loaded.model, plan.task, fresh=loaded.fresh),
        tokenizer=prepared.tokenizer,
        preprocessor=plan.preprocessor,
        strategy=plan.strategy,
        evaluator=plan.evaluator,
        train=prepared.features["train"].features,
        validation=validation.features if validation else None,
        validation_examples=validation.examples if validation else None,
        arguments={**training.machine(), **arguments, "output_dir": plan.recipe.output, "seed": plan.recipe.seed},
        generation=plan.recipe.generation,
        base=lambda: load_base(plan).model,
        callbacks=[
            *plan.strategy.callbacks(),
            callbacks.Guard(),
            callbacks.KeepLog(Path(plan.recipe.output) / results.LOG, reporter),
            callbacks.ShowPredicting(reporter),
            callbacks.StopOnSignal(),
        ],
    )


def resolved(plan: Plan, job: Job) -> dict[str, Any]:
    """Return the recipe with every option of ours spelt out."""
    not_written = {"output_dir", "seed", *(set(training.machine()) - set(plan.recipe.training))}
    return plan.resolved({name: value for name, value in job.arguments.items() if name not in not_written})


def identify(prepared: Prepared, job: Job) -> checkpoints.Identity:
    """Gather what must not change between a run and its continuation."""
    content, environment = resolved(prepared.plan, job), results.environment()
    facts = {
        **{section: content[section] for section in ("task", "model", "strategy", "preprocessor", "seed")},
        **{f"training.{key}": value for key, value in content["training"].items() if key not in checkpoints.HARMLESS},
        **{f"data.{split}": digest for split, digest in prepared.examples.fingerprints.items()},
        "processes": environment["processes"],
    }
    circumstances = {**environment["versions"], "threads": environment["threads"]}
    return checkpoints.Identity(facts, circumstances)


def save(prepared: Prepared, job: Job, trainer: Any) -> None:
    """Write model and tokenizer, load them as a user would, and compare outputs to the bit."""
    plan, output = prepared.plan, Path(prepared.plan.recipe.output)
    plan.strategy.save(job.model, output)
    job.tokenizer.save_pretrained(output)
    folder.readable(output)
    batch = training.batch(trainer, prepared.features["train"].features, job, size=4)
    reloaded = reload(plan, output, job.tokenizer).to(job.model.device)
    trained, read = (checks.outputs(checks.align(model), batch) for model in (job.model, reloaded))
    checks.reloads_equal(trained, read)


def reload(plan: Plan, directory: Path, tokenizer: Any) -> Any:
    """Load the model that a run saved."""
    model = plan.model
    loaded = plan.strategy.load(
        directory,
        model_class=getattr(transformers, plan.task.model_class),
        base=models.locate(model),
        options=models.from_pretrained_options(
            model, {**plan.preprocessor.model_options(), **plan.strategy.load_options()}
        ),
    )
    models.tell_padding(loaded, tokenizer)
    return loaded


def record(
    prepared: Prepared,
    ready: Ready,
    trainer: Any,
    untouched: Scored | None,
    *,
    scored: Scored,
    evidence: Evidence,
    facts: Mapping[str, Any],
) -> Result:
    """Gather everything that happened."""
    plan, found, evaluator = prepared.plan, prepared.examples, scored.evaluator
    chose = trainer.args.load_best_model_at_end or evaluator != plan.evaluator
    return Result(
        recipe=resolved(plan, ready.job),
        scores=scored.scores,
        untouched=untouched.scores if untouched else {},
        **vars(evidence),
        **facts,
        details={split: evaluator.details(records) for split, records in scored.records.items()},
        primary=evaluator.primary,
        greater_is_better=evaluator.greater_is_better,
        chosen_on="validation" if chose else None,
        ledger=prepared.ledger,
        findings=found.counts,
        fingerprints=found.fingerprints,
        leakage=prepared.leakage,
        preprocessor=described(plan.preprocessor),
        evaluator=described(evaluator),
        trainable_parameters=ready.trainable,
        total_parameters=ready.total,
        saved_bytes=folder.size_of_weights(Path(plan.recipe.output)),
        born_random=ready.born_random,
        steps=trainer.state.global_step,
        log=trainer.state.log_history,
        arguments=public_arguments(trainer.args),
        environment=results.environment(),
        notes=ready.notes,
        resumed_from=Path(ready.checkpoint).name if ready.checkpoint else None,
        directory=plan.recipe.output,
    )


def described(built: Any) -> dict[str, Any]:
    """Return a preprocessor or evaluator as data: its class and its options."""
    cls = type(built)
    return {"class": f"{cls.__module__}:{cls.__qualname__}", "options": as_options(built)}


def public_arguments(arguments: Any) -> dict[str, Any]:
    """Return every training argument as JSON can hold it, tokens left out."""
    return {name: value for name, value in arguments.to_dict().items() if not name.endswith("_token")}
