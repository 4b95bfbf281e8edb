"""A fine-tuned model with all that is needed to use it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, overload

from datasets import Dataset
from transformers import TrainingArguments

from finetune import base as bases
from finetune import data, front_door, prediction, trust
from finetune import plan as plans
from finetune import recipe as recipes
from finetune import run as runs
from finetune.data import Examples, storage
from finetune.data.feature_cache import FeatureCache
from finetune.errors import BadData, BadOptions, BadRecipe, Incompatible
from finetune.evaluation import scoring
from finetune.evaluation.answering import Answering
from finetune.evaluation.summary import Evaluation, intervals_and_units
from finetune.evaluation.units import units_of_examples
from finetune.interfaces import Job, Record, Row, Task
from finetune.plan import Plan
from finetune.plugins import resolve
from finetune.prediction import BLOCK_ROWS, Asked, Blocks, Inference, Predict, Predictor
from finetune.progress import Reporter
from finetune.python_objects import ROWS
from finetune.recipe import Model, Source
from finetune.result import Result, as_plain
from finetune.training import callbacks
from finetune.training.arguments import LIMITS, check_generation, device_arguments

IN_MEMORY = 10_000
"""Most rows given in Python that are predicted without a file."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """How a model is opened: the options of `load`, and what replaces those of the run."""

    task: str | None = None
    """What a model of another program does; a run knows it."""
    base: str | None = None
    """Folder or Hub id of the base model, if it has moved since the run was trained."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Column of the data → column of the task, for a model of another program."""
    preprocessor: Mapping[str, Any] = field(default_factory=dict)
    """Options of the preprocessor, for a model of another program."""
    evaluator: Mapping[str, Any] = field(default_factory=dict)
    """Options of the evaluator, for a model of another program."""
    accept_changes: bool = False
    """Whether to use a run whose base model or tokenizer has changed."""
    trust_code: bool = False
    """Whether to run the Python code that the folder names."""
    generation: Mapping[str, Any] = field(default_factory=dict)
    """What `FineTuned.with_generation` was given."""
    answering: Answering = field(default_factory=Answering)
    """What `FineTuned.with_answering` was given."""

    def refuse_for_runs(self, run: Path) -> None:
        """Check that no option is given that is for models of other programs, because a run knows the answer.

        Raises:
            BadOptions: One is given.
        """
        for name in ("task", "columns", "preprocessor", "evaluator"):
            if getattr(self, name):
                raise BadOptions(
                    f"{name}: {str(run)!r} is a run, which has its own {name}. The option is for models of other "
                    "programs."
                )


@dataclass(frozen=True, kw_only=True)
class ToScore:
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
    """The model of transformers, or PEFT's wrapper; None before the weights are loaded."""
    place: str
    """The folder or the name that it was opened by; a folder as an absolute path."""
    opening: Opening
    """How it was opened, so that another process can open it, too."""
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
        recipe = replace(self.plan.recipe, generation=_replaced(self.plan.recipe.generation, generation))
        check_generation(self.plan.task, recipe)
        opening = replace(self.opening, generation=_replaced(self.opening.generation, generation))
        return replace(self, plan=replace(self.plan, recipe=recipe), opening=opening)

    def with_answering(self, *, abstain_below: float | None = None, coverage: float | None = None) -> FineTuned:
        """Return the same model, which withholds unsure predictions, or adds sets of labels to them.

        It changes what `predict` returns, and what an evaluation says; the scores of all rows stay.

        Args:
            abstain_below: A prediction with a smaller probability is withheld: ``prediction`` is None, ``abstained`` is
                true, and ``withheld`` is what it would have been. None to answer all.
            coverage: Add a ``set`` of labels to each record that holds the right one in at least this share of all
                cases. None for no sets.

        Raises:
            BadOptions: The task gives no probabilities, a value is not between 0 and 1, or the run stored nothing that
                sets can be made from.
            BadData: The run had too few rows of validation for the coverage.
        """
        answering = Answering(abstain_below=abstain_below, coverage=coverage)
        answering.least(self.plan.evaluator, self.result.calibration)
        return replace(self, opening=replace(self.opening, answering=answering))

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
        blocks = self.blocks(prediction.Asked(source=source))
        return list(self.each_record(blocks)), blocks.dropped

    def each_record(self, blocks: Blocks, reporter: Reporter | None = None) -> Iterator[Record]:
        """Yield the record of each row, block by block."""
        predict = self._for_inference()._predict_function(
            answers=False, reporter=reporter if len(blocks) == 1 else None
        )
        for block in blocks:
            for record in block.records(predict):
                yield as_plain(record)
            if reporter is not None and len(blocks) > 1:
                reporter.step(block.number + 1, len(blocks))

    def blocks(self, asked: Asked, *, rows: int = BLOCK_ROWS) -> Blocks:
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
        to_score = self.to_score(dataset, split=split, reporter=reporter or Reporter())
        records = self.records_to_score(to_score, reporter=reporter, cache=cache)
        (rows,) = to_score.examples.splits.values()
        return scoring.all_scores(to_score.plan.evaluator, to_score.plan, records, examples=rows)

    def evaluation(
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
            to_score = self.to_score(dataset, split=split, on_bad=on_bad, reporter=reporter)
        with reporter.phase("predict"):
            records = self.records_to_score(to_score, reporter=reporter, cache=cache)
        return self.scored(to_score, records)

    def records_to_score(
        self, to_score: ToScore, *, reporter: Reporter | None, cache: str | Path | None
    ) -> list[Record]:
        """Predict the rows to score, with their answers."""
        kept = None
        if cache is not None:
            kept = FeatureCache(Path(cache), plugins=self.plan.plugins, note=(reporter or Reporter()).note)
        (rows,) = to_score.examples.splits.values()
        (fingerprint,) = (to_score.examples.fingerprints[name] for name in to_score.examples.splits)
        scoring_model = replace(self, plan=replace(self.plan, preprocessor=to_score.plan.preprocessor))
        return scoring_model._predict_function(answers=True, reporter=reporter, cache=kept, fingerprint=fingerprint)(
            rows, 0
        )

    def scored(self, to_score: ToScore, records: list[Record]) -> Evaluation:
        """Return the scores of records, and how far they can be trusted."""
        ((split, rows),) = to_score.examples.splits.items()
        evaluator = to_score.plan.evaluator
        scores = scoring.all_scores(evaluator, to_score.plan, records, examples=rows)
        column = self.plan.preprocessor.needs().group
        seed = self.plan.recipe.seed
        intervals, units = intervals_and_units(evaluator, records, examples=rows, column=column, seed=seed)
        answers = self.opening.answering.measure(
            evaluator,
            records,
            self.result.calibration,
            units=units_of_examples(self.plan.preprocessor, rows),
            seed=seed,
        )
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
            **answers,
        )

    def to_score(
        self,
        dataset: Any,
        *,
        split: str | None,
        on_bad: Literal["error", "drop"] | None = None,
        reporter: Reporter,
    ) -> ToScore:
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
            trust.allow(front_door.without_paths(dataset))
            # A path is another file with the same columns.
            section = (
                front_door.without_paths(dataset)
                if isinstance(dataset, Mapping)
                else asdict(self.source_like(str(dataset)))
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
        return ToScore(
            plan=plan,
            examples=examples,
            dropped=len(dropped),
            data=None if named is None else str(named),
            is_whole=named is not None and len(splits) == 1,
        )

    def _load_base(self) -> Any:
        """Load the base model, which preference tasks compare with, after a check of its content.

        Raises:
            Incompatible: Another program trained the model, which does not say from what.
        """
        if not self.was_trained_here and not self.plan.strategy.loads_base():
            if self.opening.base is None:
                raise Incompatible(
                    f"model: the task {self.plan.recipe.task} compares the model with the one that its training began "
                    f"with, and {self.place!r}, which another program wrote, does not name it. Name its folder or id "
                    "with --base (in Python: base=…)."
                )
            return runs.load_base(replace(self.plan, model=Model(path=self.opening.base))).model
        bases.check_place(self.plan.model)
        bases.check_content(self.result.base, self.plan.model)
        return runs.load_base(self.plan).model

    def _records(self, examples: Any, *, answers: bool = True, reporter: Reporter | None = None) -> list[Record]:
        """Predict examples with the task's trainer."""
        return self._predict_function(answers=answers, reporter=reporter)(examples, 0)

    def block_function(self, *, answers: bool) -> Predict:
        """Return a function that predicts the rows of a block; see `prediction.predicted`.

        Args:
            answers: Whether the rows have answers, which become part of the records.
        """
        return (
            self._predict_function(answers=True) if answers else self._for_inference()._predict_function(answers=False)
        )

    def _predict_function(
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
            return inference.records(made, number=number) if answers else inference.answers(made, number=number)

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
        answering = self.opening.answering
        if answering.is_plain:
            return Inference(job)
        return Inference(job, answering.answer(self.plan.evaluator, self.result.calibration))

    def fingerprint(self) -> str:
        """Return the SHA-256 of everything that a prediction depends on, except the rows: model, tokenizer, options."""
        recipe = self.plan.recipe
        saved = self.result.base if self.result.base.get("saved_model") else bases.describe_saved(Path(self.place))
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
        if not self.opening.answering.is_plain:
            content["answering"] = {**asdict(self.opening.answering), "calibration": self.result.calibration}
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()

    def predictor(self) -> Predictor:
        """Return an object that predicts rows which arrive one by one, as a server gets them.

        It gives the same records as `predict`, builds its trainer once, keeps everything in memory, and has an error
        for each bad row where `predict` raises one for all rows.
        """
        return Predictor(self.inference(), self._checked)

    def inference(self) -> Inference:
        """Return what makes features, batches and records of checked examples without answers."""
        return self._for_inference()._inference()


def _replaced(given: Mapping[str, Any], generation: Mapping[str, Any]) -> dict[str, Any]:
    """Return generation options with new ones; a new limit replaces all limits."""
    kept = {name: value for name, value in given.items() if not (generation.keys() & LIMITS and name in LIMITS)}
    return {**kept, **generation}


def prediction_options(task: Task) -> set[str]:
    """Return the names of the training options that change predictions.

    They include the options that TRL's classes add: DPO's ``beta`` scales the rewards, and GRPO's
    ``max_completion_length`` limits the answers that are rewarded.
    """
    arguments = resolve(task.arguments)
    own = {f.name for f in fields(arguments)} - {f.name for f in fields(TrainingArguments)}
    return {*own, "per_device_eval_batch_size", "bf16", "bf16_full_eval", "fp16"}


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
