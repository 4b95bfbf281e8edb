"""`Plan` → `Result`: what happens in a run, from the first row read to the record written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import set_seed

from finetune import checkpoints, checks, data, features, folder, models, training
from finetune import result as results
from finetune.data import Examples
from finetune.errors import BadOptions
from finetune.features import Features
from finetune.interfaces import Evaluator, Job, Record
from finetune.models import Loaded
from finetune.plan import Plan, as_options
from finetune.plugins import resolve
from finetune.progress import Reporter
from finetune.result import Result

SAMPLE = 500
"""Training examples that are scored, beside the held-out ones: enough to see a gap."""


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Data read, checked and turned into features: all that can be done without weights."""

    plan: Plan
    """With the fitted preprocessor."""
    examples: Examples
    tokenizer: Any
    features: Mapping[str, Features]

    @property
    def ledger(self) -> dict[str, dict[str, int]]:
        """Split → what became of it, from rows read to tokens lost."""
        return {split: {**rows, **self.features[split].ledger} for split, rows in self.examples.ledger.items()}


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Records and scores of every split, and the evaluator that made them."""

    evaluator: Evaluator
    records: Mapping[str, list[Record]]
    scores: Mapping[str, dict[str, float]]


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
    reporter = reporter or Reporter()
    output, started = Path(plan.recipe.output), datetime.now(UTC).isoformat(timespec="seconds")
    folder.check(output, resume=resume, overwrite=overwrite)
    prepared = prepare(plan, rows=rows, reporter=reporter)
    plan = prepared.plan
    with reporter.phase("load the model"):
        set_seed(plan.recipe.seed)  # a new head is born here
        loaded = load_model(plan, prepared)
        job = make_job(plan, prepared, loaded, reporter)
        trainable, total = checks.something_trains(job.model, fresh=loaded.fresh)
        identity = identify(plan, prepared, job)
        checkpoint, notes = checkpoints.newest(output, identity, accept_changes=accept_changes) if resume else ("", [])
    for note in notes:
        reporter.note(note)
    content = plan.resolved({k: v for k, v in job.arguments.items() if k not in ("output_dir", "seed")})
    folder.begin(output, resume=resume, content=content, dropped=prepared.examples.dropped)
    plan.plugins.manager.hook.before_training(job=job)
    job = replace(job, callbacks=[*job.callbacks, checkpoints.WriteManifest(identity)])
    trainer = resolve(plan.task.trainer)(job)
    untouched = None
    if plan.recipe.untouched:
        with reporter.phase("score the untouched model"):
            untouched = score(prepared, job, trainer, held_out=True)
    with reporter.phase("train"), stopping_cleanly(trainer):
        set_seed(plan.recipe.seed)  # scoring draws random numbers too
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    with reporter.phase("save, reload and compare"):
        save(plan, job, output, prepared)
    with reporter.phase("score"):
        scored = score(prepared, job, trainer)
    write_predictions(output, prepared, scored)
    result = Result(
        recipe=content,
        scores=scored.scores,
        untouched=untouched.scores if untouched else {},
        details={split: scored.evaluator.details(records) for split, records in scored.records.items()},
        primary=scored.evaluator.primary,
        greater_is_better=scored.evaluator.greater_is_better,
        chosen_on=chosen_on(plan, trainer, scored),
        ledger=prepared.ledger,
        findings=prepared.examples.counts,
        fingerprints=prepared.examples.fingerprints,
        overlap=prepared.examples.overlap,
        preprocessor=described(plan.preprocessor),
        evaluator=described(scored.evaluator),
        trainable_parameters=trainable,
        total_parameters=total,
        born_random=sorted(loaded.fresh),
        steps=trainer.state.global_step,
        log=trainer.state.log_history,
        phases=reporter.phases,
        arguments=public_arguments(trainer.args),
        environment=results.environment(),
        notes=notes,
        resumed_from=Path(checkpoint).name if checkpoint else None,
        started=started,
        directory=str(output),
    )
    result.save(output)
    plan.plugins.manager.hook.after_run(result=result, directory=output)
    return result


def prepare(plan: Plan, *, rows: Mapping[str, Any] | None = None, reporter: Reporter | None = None) -> Prepared:
    """Read, check and split the data, and make features: all of a run that needs no weights.

    Raises:
        BadData: With every finding, by place.
    """
    reporter = reporter or Reporter()
    source, seed = plan.recipe.dataset, plan.recipe.seed
    with reporter.phase("read and check the data"):
        if rows is None:
            examples = data.load(source, plan.preprocessor, plugins=plan.plugins, seed=seed)
        else:
            examples = data.from_rows(
                rows,
                plan.preprocessor,
                seed=seed,
                validation_size=source.validation_size,
                columns=source.columns,
                on_bad=source.on_bad,
            )
    plan = replace(plan, preprocessor=examples.preprocessor)
    with reporter.phase("make features"):
        tokenizer = models.tokenizer(plan.recipe.model)
        made = {
            split: features.make(
                part,
                preprocessor=plan.preprocessor,
                tokenizer=tokenizer,
                task=plan.task,
                split=split,
                reporter=reporter,
            )
            for split, part in examples.splits.items()
        }
    return Prepared(plan=plan, examples=examples, tokenizer=tokenizer, features=made)


def load_model(plan: Plan, prepared: Prepared) -> Loaded:
    """Load the pretrained model and check that it fits the data."""
    model_class = getattr(transformers, plan.task.model_class)
    options = {**plan.preprocessor.model_options(), **plan.strategy.load_options()}
    loaded = models.load(plan.recipe.model, model_class, options)
    longest = max(part.longest for part in prepared.features.values())
    checks.model_takes_features(loaded.model, prepared.tokenizer, longest=longest)
    checks.labels_mean_the_same(models.labels_of(plan.recipe.model), loaded.model, loaded.fresh)
    return loaded


def make_job(plan: Plan, prepared: Prepared, loaded: Loaded, reporter: Reporter) -> Job:
    """Let the strategy prepare the model, and gather what the trainer needs."""
    validation = prepared.features.get("validation")
    arguments = {
        **training.arguments(plan.recipe, evaluator=plan.evaluator, validation=validation is not None),
        "output_dir": plan.recipe.output,
        "seed": plan.recipe.seed,
    }
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
        arguments=arguments,
        callbacks=[
            *plan.strategy.callbacks(),
            training.Guard(),
            training.KeepLog(Path(plan.recipe.output) / results.LOG, reporter),
            training.ShowPredicting(reporter),
            training.StopOnSignal(),
        ],
    )


def identify(plan: Plan, prepared: Prepared, job: Job) -> checkpoints.Identity:
    """Gather what must not change between a run and its continuation."""
    recipe = plan.resolved({k: v for k, v in job.arguments.items() if k not in checkpoints.HARMLESS | {"output_dir"}})
    environment = results.environment()
    facts = {
        **{section: recipe[section] for section in ("task", "model", "strategy", "preprocessor", "seed")},
        **{f"training.{name}": value for name, value in recipe["training"].items()},
        **{f"data.{split}": digest for split, digest in prepared.examples.fingerprints.items()},
        "processes": environment["processes"],
    }
    circumstances = {**environment["versions"], "threads": environment["threads"]}
    return checkpoints.Identity(facts, circumstances)


def score(prepared: Prepared, job: Job, trainer: Any, *, held_out: bool = False) -> Scored:
    """Predict and score every split; thresholds are chosen on validation alone.

    Args:
        prepared: Data and features.
        job: What was trained.
        trainer: What predicts.
        held_out: Whether to leave out the training examples.
    """
    seed, evaluator = prepared.plan.recipe.seed, job.evaluator
    parts = {split: part for split, part in prepared.features.items() if split != "train"}
    if not held_out:
        parts["train"] = prepared.features["train"].sample(SAMPLE, seed=seed)
    predictions = {
        split: training.predict(trainer, examples=part.examples, features=part.features, job=job)
        for split, part in parts.items()
    }
    if "validation" in predictions:
        evaluator = evaluator.fit(evaluator.records(predictions["validation"]))
    records = {split: evaluator.records(predicted) for split, predicted in predictions.items()}
    scores = {split: all_scores(evaluator, prepared.plan, part) for split, part in records.items()}
    return Scored(evaluator=evaluator, records=records, scores=scores)


def all_scores(evaluator: Evaluator, plan: Plan, records: list[Record]) -> dict[str, float]:
    """Return the evaluator's scores and those of the recipe's further metrics.

    Raises:
        BadOptions: A metric brings a score of a name that is taken.
    """
    scores = evaluator.scores(records)
    for name, metric in plan.metrics.items():
        more = metric(records)
        if taken := set(more) & set(scores):
            raise BadOptions(f"metrics: {name!r} brings {', '.join(sorted(taken))}, which the evaluator brings.")
        scores = {**scores, **more}
    return scores


def save(plan: Plan, job: Job, output: Path, prepared: Prepared) -> None:
    """Write model and tokenizer, load them as a user would, and compare outputs to the bit."""
    plan.strategy.save(job.model, output)
    job.tokenizer.save_pretrained(output)
    folder.readable(output)
    reloaded = reload(plan, output).to(job.model.device)
    few = job.train.select(range(min(4, len(job.train))))
    kept = [name for name in few.column_names if name in plan.task.features - plan.task.labels]
    batch = job.tokenizer.pad(few.select_columns(kept)[:], return_tensors="pt").to(job.model.device)
    checks.reloads_equal(checks.outputs(job.model, batch), checks.outputs(reloaded, batch))


def reload(plan: Plan, directory: Path) -> Any:
    """Load the model that a run saved."""
    model = plan.recipe.model
    return plan.strategy.load(
        directory,
        model_class=getattr(transformers, plan.task.model_class),
        base=models.locate(model),
        options=models.from_pretrained_options(
            model, {**plan.preprocessor.model_options(), **plan.strategy.load_options()}
        ),
    )


def write_predictions(output: Path, prepared: Prepared, scored: Scored) -> None:
    """Write the records of the held-out splits, and the files that a benchmark wants."""
    held_out = {split: records for split, records in scored.records.items() if split != "train"}
    lines = (
        line
        for split, records in held_out.items()
        for line in folder.lines_of(split, prepared.features[split].examples, records)
    )
    folder.write_lines(output / results.PREDICTIONS, lines)
    for split, records in held_out.items():
        folder.write_files(output / split, scored.evaluator.files(records))


def chosen_on(plan: Plan, trainer: Any, scored: Scored) -> str | None:
    """Return the split by which something was chosen, or None."""
    chose = trainer.args.load_best_model_at_end or scored.evaluator != plan.evaluator
    return "validation" if chose else None


def described(built: Any) -> dict[str, Any]:
    """Return a preprocessor or evaluator as data: its class and its options."""
    cls = type(built)
    return {"class": f"{cls.__module__}:{cls.__qualname__}", "options": as_options(built)}


def public_arguments(arguments: Any) -> dict[str, Any]:
    """Return every training argument as JSON can hold it, tokens left out."""
    return {name: value for name, value in arguments.to_dict().items() if not name.endswith("_token")}


@contextmanager
def stopping_cleanly(trainer: Any) -> Iterator[None]:
    """Give signal handlers back, however training ends."""
    try:
        yield
    finally:
        for callback in trainer.callback_handler.callbacks:
            if isinstance(callback, training.StopOnSignal):
                callback.restore()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
