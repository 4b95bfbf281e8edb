"""What `import finetune` offers: train, load, evaluate."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from finetune import data, models
from finetune import plan as plans
from finetune import recipe as recipes
from finetune import run as runs
from finetune.data import features
from finetune.errors import BadData, BadRecipe
from finetune.evaluation import scoring
from finetune.interfaces import Job, Record, Row, Task
from finetune.plan import Plan
from finetune.plugins import Plugins, discover, resolve
from finetune.progress import Console, Reporter
from finetune.recipe import Recipe, Source, options
from finetune.result import RECIPE, Result
from finetune.training import callbacks
from finetune.training import trainer as training
from finetune.training.arguments import LIMITS, check_generation, device_arguments

ROWS = "rows:"
"""Path of a recipe whose examples were given in Python."""


def train(
    recipe: str | Path | Recipe | None = None,
    *,
    resume: bool = False,
    accept_changes: bool = False,
    overwrite: bool = False,
    plugins: Plugins | None = None,
    reporter: Reporter | None = None,
    **keywords: Any,
) -> Result:
    """Fine-tune a model.

    Examples:
        >>> result = finetune.train("recipe.yaml")  # doctest: +SKIP
        >>> result = finetune.train(  # doctest: +SKIP
        ...     task="text-classification", model="distilbert-base-uncased", strategy="lora",
        ...     dataset="reviews.csv", output="runs/reviews", training={"num_train_epochs": 1},
        ... )

    Args:
        recipe: Path of a YAML file, or a `Recipe`; None when everything is given by keywords.
        resume: Go on from the newest valid checkpoint of the output folder.
        accept_changes: Resume although the recipe or the data changed.
        overwrite: Replace an earlier run in the output folder.
        plugins: Where names are looked up; None to discover them.
        reporter: Told what happens; None for bars on a terminal and silence elsewhere.
        **keywords: Keys of a recipe; they override those of the file. `dataset` may hold examples:
            ``{"train": rows, "validation": rows}``, each a `datasets.Dataset` or an iterable of mappings.

    Raises:
        FinetuneError: With what went wrong, where, and what to do.
    """
    rows = None
    given = keywords.get("dataset")
    if _holds_examples(given):
        rows = given
        keywords["dataset"] = {"path": ROWS}
    plan = plans.make(_recipe(recipe, keywords), plugins or discover())
    if reporter is None and sys.stderr.isatty():
        reporter = Console()
    return runs.run(
        plan, resume=resume, accept_changes=accept_changes, overwrite=overwrite, rows=rows, reporter=reporter
    )


def load(run: str | Path, *, plugins: Plugins | None = None) -> FineTuned:
    """Load the model of a finished run, ready to predict.

    Examples:
        >>> model = finetune.load("runs/reviews")  # doctest: +SKIP
        >>> model.predict(text="A fine inn.")["prediction"]  # doctest: +SKIP
        'positive'

    Raises:
        BadRecipe: The folder holds no finished run.
    """
    plugins = plugins or discover()
    result = Result.load(run)
    recipe = recipes.from_mapping(result.recipe, name=str(Path(run) / RECIPE))
    # The run's own classes and options, fitted; a recipe's default may mean another class in a later version.
    plan = plans.make(replace(recipe, preprocessor=None, evaluator=None, metrics=()), plugins)
    plan = replace(
        plan,
        # Further metrics may be code from elsewhere: they are loaded when something is scored, and not before.
        recipe=replace(plan.recipe, metrics=recipe.metrics),
        preprocessor=options.rebuild(result.preprocessor, where="preprocessor"),
        evaluator=options.rebuild(result.evaluator, where="evaluator"),
    )
    from transformers import AutoTokenizer

    with models.suppress_output():
        tokenizer = AutoTokenizer.from_pretrained(run, trust_remote_code=False)
        model = runs.reload(plan, Path(run), tokenizer)
    return FineTuned(plan=plan, result=result, tokenizer=tokenizer, model=model)


def evaluate(
    run: str | Path,
    dataset: str | Mapping[str, Any] | None = None,
    *,
    split: str = "test",
    plugins: Plugins | None = None,
    reporter: Reporter | None = None,
) -> dict[str, float]:
    """Score the model of a finished run on examples with answers.

    Args:
        run: The run folder.
        dataset: A path, or the ``dataset`` section of a recipe; None for the run's own.
        split: Which split to score; a single file is taken whole.
        plugins: Where names are looked up; None to discover them.
        reporter: Told what happens.

    Returns:
        Score → number.
    """
    return load(run, plugins=plugins).evaluate(dataset, split=split, reporter=reporter)


@dataclass(frozen=True, kw_only=True)
class FineTuned:
    """A fine-tuned model with all that it takes to use it."""

    plan: Plan
    result: Result
    tokenizer: Any
    model: Any

    def with_generation(self, **generation: Any) -> FineTuned:
        """Return the same model with other generation options: ``model.with_generation(num_beams=4).predict(…)``.

        Raises:
            BadOptions: The task writes no text, or an option is unknown or contradicts another.
        """
        given = dict(self.plan.recipe.generation)
        if generation.keys() & LIMITS:
            given = {name: value for name, value in given.items() if name not in LIMITS}
        recipe = replace(self.plan.recipe, generation={**given, **generation})
        check_generation(self.plan.task, recipe)
        return replace(self, plan=replace(self.plan, recipe=recipe))

    def predict(self, examples: Row | Iterable[Row] | None = None, **columns: Any) -> Any:
        """Predict one example or many.

        Args:
            examples: A mapping, or several.
            **columns: One example, by column: ``question="Who?", context="…"``.

        Returns:
            The record of one example, or a list of records.

        Raises:
            BadData: A column is missing or cannot be used.
        """
        one = examples is None or isinstance(examples, Mapping)
        rows: list[Row] = [dict(columns if examples is None else examples)] if one else list(examples)  # type: ignore[arg-type]
        if not rows:
            return []
        constants = self._constants()
        rows = [{**constants, **row} for row in rows]
        found = data.from_rows({"test": rows}, self.plan.preprocessor, fit=False, answers=False)
        records = self._alone()._records(found.splits["test"], answers=False)
        return records[0] if one else records

    def _alone(self) -> FineTuned:
        """Return the same model, which predicts each example by itself."""
        return replace(self, plan=replace(self.plan, preprocessor=self.plan.preprocessor.for_inference()))

    def _constants(self) -> dict[str, str]:
        """Return the run's constants that the task reads when it predicts."""
        inputs = self.plan.preprocessor.needs().inputs
        return {name: text for name, text in self.plan.recipe.dataset.constants.items() if name in inputs}

    def predict_source(self, source: Source) -> tuple[Sequence[Row], list[Record]]:
        """Predict every example of a source, whatever its splits; return the examples and their records."""
        found = data.load(source, self.plan.preprocessor, plugins=self.plan.plugins, seed=0, fit=False, answers=False)
        alone = self._alone()
        rows: list[Row] = []
        records: list[Record] = []
        for part in found.splits.values():
            rows += list(part)
            records += alone._records(part, answers=False)
        return rows, records

    def source_like(self, path: str, **changes: Any) -> Source:
        """Return another file as a data set with the columns and constants of the run's.

        Raises:
            BadRecipe: The run mixes data sets whose columns or constants differ, so that nobody can tell which it is.
        """
        source = self.plan.recipe.dataset
        if source.mixture:
            parts = [part for part, _ in recipes.parts(source).values()]
            if any((part.columns, part.constants) != (parts[0].columns, parts[0].constants) for part in parts):
                raise BadRecipe(
                    f"the run mixes data sets with other columns or constants: say which {path} has, by a section: "
                    "{path: …, columns: …, constants: …}."
                )
            source = parts[0]
        same = {name: getattr(source, name) for name in ("columns", "constants", "encoding", "on_bad")}
        return Source(path=path, validation_size=0, **{**same, **changes})

    def evaluate(
        self,
        dataset: str | Mapping[str, Any] | None = None,
        *,
        split: str = "test",
        reporter: Reporter | None = None,
    ) -> dict[str, float]:
        """Score the model on examples with answers; see `finetune.evaluate`."""
        recipe = self.plan.recipe
        plan = replace(self.plan, metrics=plans.find_metrics(recipe, self.plan.plugins))
        if dataset is not None:
            content = {**recipes.to_mapping(recipe), "dataset": dataset}
            if not isinstance(dataset, Mapping):  # another file with the same columns
                content["dataset"] = asdict(self.source_like(str(dataset)))
            recipe = recipes.from_mapping(content)
        elif recipe.dataset.path == ROWS:
            raise BadRecipe("the run was trained on examples given in Python; name a data set to score.")
        # The run's own data is fitted and parted once more, as it was then; other data is taken as it is.
        found = data.load(
            recipe.dataset,
            self.plan.preprocessor,
            plugins=self.plan.plugins,
            seed=recipe.seed,
            fit=dataset is None,
        )
        parts = dict(found.splits)
        chosen = next(iter(parts.values())) if dataset is not None and len(parts) == 1 else parts.get(split)
        if chosen is None:
            raise BadData(f"there is no split {split!r}; there are: {', '.join(parts)}.")
        return scoring.all_scores(plan.evaluator, plan, self._records(chosen, reporter=reporter), examples=chosen)

    def _records(self, examples: Any, *, answers: bool = True, reporter: Reporter | None = None) -> list[Record]:
        """Predict examples, by the task's own trainer."""
        made = features.make(
            examples,
            preprocessor=self.plan.preprocessor,
            tokenizer=self.tokenizer,
            task=self.plan.task,
            split="test",
            answers=answers,
            reporter=reporter,
        )
        known = predicting(self.plan.task)
        given = {name: value for name, value in self.plan.recipe.training.items() if name in known}
        with tempfile.TemporaryDirectory() as scratch:
            job = Job(
                task=self.plan.task,
                recipe=self.plan.recipe,
                output=Path(scratch),
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
                    "output_dir": scratch,
                    "seed": self.plan.recipe.seed,
                    "report_to": "none",
                    "disable_tqdm": True,
                },
                generation=self.plan.recipe.generation,
                base=lambda: runs.load_base(self.plan).model,
                callbacks=[callbacks.ShowPredictionProgress(reporter or Reporter())],
            )
            trainer = resolve(self.plan.task.trainer)(job)
            predictions = training.predict(trainer, examples=made.examples, features=made.features, job=job)
        return self.plan.evaluator.records(predictions)


def predicting(task: Task) -> set[str]:
    """Return the training options that change how a model predicts.

    What TRL's classes add is among them: DPO's ``beta`` scales the rewards, GRPO's ``max_completion_length`` cuts what
    is rewarded.
    """
    arguments = resolve(task.arguments)
    own = {f.name for f in fields(arguments)} - {f.name for f in fields(TrainingArguments)}
    return {*own, "per_device_eval_batch_size", "bf16", "bf16_full_eval", "fp16"}


def _recipe(recipe: str | Path | Recipe | None, keywords: Mapping[str, Any]) -> Recipe:
    if isinstance(recipe, Recipe):
        return recipes.from_mapping({**recipes.to_mapping(recipe), **keywords})
    content: dict[str, Any] = {}
    if recipe is not None:
        content = recipes.to_mapping(recipes.read(recipe))
    return recipes.parse({**content, **keywords})


def _holds_examples(dataset: Any) -> bool:
    """Tell splits of examples from a section of a recipe, and from splits of files."""
    if not isinstance(dataset, Mapping) or not dataset or set(dataset) - {"train", "validation", "test"}:
        return False
    part = next(iter(dataset.values()))
    return not isinstance(part, str | Path) and not (isinstance(part, list) and part and isinstance(part[0], str))


__all__ = ["FineTuned", "evaluate", "load", "train"]
