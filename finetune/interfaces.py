"""What exists: the nouns that plugins write and the values that flow between them.

Three interfaces are stable: `Preprocessor` (examples → features), `Strategy` (how parameters move) and `Evaluator`
(predictions → records → scores). A `Task` ties them to a model class. Words: an *example* is a raw row, a *feature* is
what the model takes, a *window* is one slice of a long text, a *record* is what was predicted for one example, a
*score* is a number.

The constructor of a preprocessor, strategy or evaluator is the schema of its options: write frozen, keyword-only
dataclasses and a docstring under each field.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

    from finetune.recipe import Recipe

IGNORE_INDEX = -100
"""The label that `torch.nn.CrossEntropyLoss` skips."""

Row = Mapping[str, Any]
"""One example: column → value. Columns of a text file hold text until a preprocessor converts them."""

Batch = Mapping[str, Sequence[Any]]
"""Several examples or features: column → one value each."""

Record = dict[str, Any]
"""What was predicted for one example, as JSON can hold it."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong with the data, and where."""

    code: str
    """What kind of thing, stable and in kebab-case: ``answer-not-at-offset``."""
    message: str
    """What was given and what was wanted."""
    fix: str = ""
    """What to do about it."""
    level: Literal["error", "row", "warning"] = "row"
    """``error`` always stops; ``row`` stops, unless the recipe drops bad rows; ``warning`` is counted and shown."""
    row: int | None = None
    """Position in the examples given to `Preprocessor.check`, from 0. The core adds file and line."""
    column: str | None = None
    """Which column, or which place in a nested one: ``answers.answer_start``."""
    value: str | None = None
    """What stood there; the core cuts it to 80 characters."""
    file: str | None = None
    """Path of the file, as the recipe named it."""
    line: int | None = None
    """Line of the file, from 1."""
    split: str | None = None
    """Which split the row belongs to."""


class Reader(ABC):
    """Reads one file format, row by row, in bounded memory."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    """File names that may hold this format: ``(".csv",)``. A further ``.gz`` is the core's business."""

    def recognises(self, head: str) -> bool:
        """Say whether a file of one of `suffixes` that begins with ``head`` (4,096 characters) is of this format."""
        return False

    @abstractmethod
    def rows(self, text: Iterable[str], *, file: str) -> Iterator[tuple[int, Row] | Finding]:
        """Yield ``(line, row)`` for every good row and a `Finding` with its line for every bad one.

        ``text`` is the file's decoded text in pieces of any size, line ends untouched (``\\r\\n`` stays).
        """


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Examples, their features, and what the model made of them."""

    examples: Sequence[Row]
    """The examples, in order."""
    features: Sequence[Row]
    """The features, in order; ``example`` holds the index of the example that each was made from."""
    outputs: Any
    """The model's outputs for every feature: an array or a tuple of arrays whose first axis is the feature."""
    tokenizer: PreTrainedTokenizerBase
    """The one that made the features."""
    preprocessor: Preprocessor
    """The one that made the features, fitted: its `model_options` know the label names."""


@dataclass(frozen=True, kw_only=True)
class Tallies:
    """What scores are made of: numbers that add up over examples, and what becomes of their sums.

    Accuracy is made of ``right`` and ``one``: ``values`` is ``[[1, 1], [0, 1], [1, 1]]``, and ``scores`` divides the
    first sum by the second. Whoever draws the examples anew a thousand times needs only the sums.
    """

    values: Any
    """An array (examples, K)."""
    scores: Callable[[Any], dict[str, Any]]
    """Sums (…, K) → score → array (…); NaN where a score has nothing to divide by."""
    most: Mapping[str, float] = field(default_factory=dict)
    """Score → greatest possible value, for scores that are means of values from 0 to that."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of the data that a preprocessor reads."""

    required: tuple[str, ...] = ()
    """Columns that every example must have, for training and for prediction."""
    optional: tuple[str, ...] = ()
    """Columns that are used if they are there."""
    answers: tuple[str, ...] = ()
    """Columns that training and evaluation need and prediction does not."""
    group: str | None = None
    """Column whose equal values make one independent unit, such as a context that many questions share: a random split
    keeps them together, and intervals resample them together."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns that prediction reads."""
        return (*self.required, *self.optional)


class Preprocessor(ABC):
    """Turns raw examples into features.

    One `features` serves training, evaluation and prediction: labels appear when answers do.
    """

    is_packed: ClassVar[bool] = False
    """Whether one feature may hold several examples, so that features depend on how examples are batched."""

    @abstractmethod
    def needs(self) -> Columns:
        """Return the columns of the data that this preprocessor reads; they may depend on its options."""

    def fit(self, train: Sequence[Row]) -> Self:
        """Return a copy that knows what only the training examples can tell, such as the label names.

        Must cope with bad rows, which `check` reports later. The copy's fields are recorded in the result, so that
        prediction needs no data.
        """
        return self

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield what is wrong with the examples of one split; called after `fit`, on rows of every kind."""
        yield from ()

    @abstractmethod
    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return the features of a batch of examples.

        Where an example makes several features, the column ``overflow_to_sample_mapping`` says which example of the
        batch each came from. Columns that the model does not take may be kept for `counts` and the evaluator.
        """

    def for_inference(self) -> Preprocessor:
        """Return what makes the features of examples that a person wants predictions of, each by itself.

        Where examples are packed, this one does not pack: what is predicted for one must not depend on the others. And
        where the model can do more than is scored, such as go on with a text, its features may say so.
        """
        return self

    def canonical(self, example: Row) -> Row:
        """Return an example under the names that the task's evaluator reads, whatever form the data has.

        Examples:
            >>> preprocessor.canonical({"dialogue": "A: Tea? B: Yes.", "summary": "B wants tea."})  # doctest: +SKIP
            {'source': 'A: Tea? B: Yes.', 'target': 'B wants tea.'}
        """
        return example

    def trainer_options(self) -> Mapping[str, Any]:
        """Return what the task's trainer needs to know beside the features: ``{"packing": True, "max_length": 1024}``.

        Which names a trainer reads is documented with the trainer; it ignores the others.
        """
        return {}

    def lengths(self, features: Batch) -> Sequence[int]:
        """Return how many tokens each of a batch of features holds, in all.

        Nested ``input_ids``, such as the choices of a multiple-choice question, count together. Override it where
        ``input_ids`` is not the column that holds the tokens.
        """
        return [_count(ids) for ids in features["input_ids"]]

    def longest(self, features: Batch) -> int:
        """Return the length in tokens of the longest sequence in a batch of features.

        The model must have a position for each of its tokens. Of nested ``input_ids`` this is the longest inner list;
        of others, the greatest of `lengths`.
        """
        nested = [ids for ids in features["input_ids"] if _is_nested(ids)] if "input_ids" in features else []
        if nested:
            return max(_longest(ids) for ids in nested)
        return max(self.lengths(features), default=0)

    def counts(self, features: Batch) -> Mapping[str, int]:
        """Return counts of what was done to a batch of features (``truncated``, ``tokens_lost``); the core adds up."""
        return {}

    def validate_counts(self, counts: Mapping[str, int], *, split: str) -> None:  # noqa: B027, most accept everything
        """Look at what became of a split, ``features`` and ``tokens`` among the counts, before any model is loaded.

        Raises:
            BadData: Too much was lost for a model to learn from it.
        """

    def show(self, feature: Row, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return one feature as a person reads it, with ``⟦…⟧`` round what the loss sees."""
        sequences = _sequences(feature["input_ids"])
        return "\n".join(tokenizer.decode(ids) for ids in sequences)

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Any:
        """Return what makes a padded batch of features; None for `transformers.DataCollatorWithPadding`."""
        return None

    def loss(self) -> Callable[..., Any] | None:
        """Return a loss for `transformers.Trainer` (``compute_loss_func``), or None for the model's own."""
        return None

    def model_options(self) -> dict[str, Any]:
        """Return what the model must be loaded with: ``num_labels``, ``id2label``."""
        return {}


class Strategy(ABC):
    """Says how parameters move: which ones, how fast, in what guise."""

    def load_options(self) -> dict[str, Any]:
        """Return what the model must be loaded with, such as a quantisation."""
        return {}

    def loading(self) -> AbstractContextManager[None]:
        """Return a context that surrounds each `from_pretrained` of the base model; advanced, for `qlora`."""
        return nullcontext()

    @abstractmethod
    def prepare(self, model: PreTrainedModel, task: Task, *, newly_initialized: Collection[str] = ()) -> Any:
        """Return the model with the right parameters trainable, wrapped if need be.

        Args:
            model: As loaded; every parameter trainable.
            task: What is learned; tells the type of head.
            newly_initialized: Names of modules whose weights were newly initialized, because the base has none. They must train, and
                must be saved.

        Raises:
            Incompatible: The model cannot be trained in this way.
        """

    def parameter_groups(self, model: Any, *, learning_rate: float, weight_decay: float) -> list[dict[str, Any]] | None:
        """Return the optimizer's parameter groups, or None for the trainer's usual two."""
        return None

    def callbacks(self) -> Sequence[TrainerCallback]:
        """Return what must happen while training.

        Freezing on a schedule belongs here, in ``on_train_begin``: what is frozen before the optimizer exists is
        never trained.
        """
        return ()

    def notes(self, model: Any) -> Sequence[str]:
        """Return what a person should know of how this model, as `prepare` made it, will be trained.

        A sentence each: they are shown before the first step, and stand in the result.
        """
        return ()

    def write_checkpoint(self, model: Any, directory: Path) -> None:  # noqa: B027, most have nothing to add
        """Write into a checkpoint what the trainer does not, which knows nothing but `save_pretrained`."""

    def read_checkpoint(self, model: Any, directory: Path) -> bool:
        """Put a checkpoint's weights into the model, to go on from or as the best; False leaves that to the trainer."""
        return False

    def save(self, model: Any, directory: Path) -> None:
        """Write the trained model to a folder, as safetensors."""
        model.save_pretrained(directory)

    def load(self, directory: Path, *, model_class: Any, base: str, options: Mapping[str, Any]) -> Any:
        """Return the model that `save` wrote.

        Args:
            directory: The folder.
            model_class: An ``AutoModelFor…`` of transformers.
            base: Path or Hub id of the model that was fine-tuned.
            options: What `from_pretrained` of the base took, labels and all.
        """
        # The folder's configuration knows all but how to compute (``attn_implementation``), which changes last digits;
        # a revision is the base's, and weights of another size must not be let pass.
        chosen = {key: value for key, value in options.items() if key not in {"revision", "ignore_mismatched_sizes"}}
        return model_class.from_pretrained(directory, **chosen)


class Evaluator(ABC):
    """Turns predictions into records that a person can read, and records into scores."""

    primary: str
    """The score that stands for the others. A class attribute or an option."""

    @property
    def greater_is_better(self) -> bool:
        """Whether a greater primary score is a better one."""
        return True

    def trainer_options(self) -> Mapping[str, Any]:
        """Return what the task's trainer must know to predict what this evaluator scores: ``{"generate": False}``."""
        return {}

    def fit(self, records: Sequence[Record]) -> Self:
        """Return a copy that knows what only the validation records can tell, such as a threshold."""
        return self

    @abstractmethod
    def records(self, predictions: Predictions) -> list[Record]:
        """Return one record for every example, in order.

        A record holds the prediction under ``prediction`` and, where the example has answers, the truth under
        ``reference``; everything else that the scores need stands beside them.
        """

    @abstractmethod
    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return the scores of records that hold a reference: name → number, flat (``f1/positive``)."""

    def tallies(self, records: Sequence[Record]) -> Tallies | None:
        """Return what scores of these records are made of, for the scores that are made of sums.

        Intervals of these are computed in a moment; without them, the primary score has to be computed anew for each
        resample.
        """
        return None

    def baselines(self, predictions: Predictions, *, train: Predictions) -> Mapping[str, list[Record]]:
        """Return the records of predictors that no one would need a model for: name → one record an example.

        Args:
            predictions: Examples with answers, as for `records`.
            train: Training examples and their features, from which the most frequent answer can be taken; its outputs
                are None.
        """
        return {}

    def losses(self, records: Sequence[Record]) -> Sequence[float]:
        """Return how wrong each record is: the greater the worse, 0 where nothing is; the worst are shown first."""
        return [float(record["prediction"] != record["reference"]) for record in records]

    def slices(self, records: Sequence[Record], examples: Sequence[Row]) -> Mapping[str, Sequence[str]]:
        """Return by what the scores are told apart: name → a value for each example (``question word`` → ``who``)."""
        return {}

    def highlights(self, record: Record, example: Row) -> Mapping[str, Sequence[tuple[int, int, str]]]:
        """Return what is to be marked in an example's texts: column → first character, end, what it is.

        What it is says ``prediction`` or ``reference``. Characters are half-open.
        """
        return {}

    def details(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return what is not a single number, such as a confusion matrix, as JSON can hold it."""
        return {}

    def files(self, records: Sequence[Record]) -> Mapping[str, Any]:
        """Return the files that a benchmark wants: name → what JSON can hold."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is learned: the value that ties a model class to its nouns.

    Strings with a colon are ``"module:attribute"``, so that a task can be listed without loading anything.
    """

    summary: str
    """One line for `finetune list`."""
    model_class: str
    """Class of transformers that has the head: ``AutoModelForQuestionAnswering``."""
    peft_type: str | None
    """PEFT's ``TaskType``, where it has one."""
    features: frozenset[str]
    """Feature columns that the model takes, labels included."""
    labels: frozenset[str]
    """The ones of them that exist only where answers do."""
    preprocessor: str
    """Default preprocessor."""
    evaluator: str
    """Default evaluator."""
    trainer: str = "finetune.training.trainer:trainer"
    """Function from a `Job` to a `transformers.Trainer`."""
    arguments: str = "transformers:TrainingArguments"
    """Class that the recipe's ``training`` section is for."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Training options whose default is another for this task than upstream's: ``{"bf16": False}``."""
    generates: bool = False
    """Whether the model writes text, so that the recipe's ``generation`` section means something."""
    starter: Mapping[str, Any] = field(default_factory=dict)
    """Sections of the recipe that `finetune init` writes: a sample data set, a model, sensible training options."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a trainer needs."""

    task: Task
    """What is learned."""
    model: Any
    """As the strategy prepared it."""
    tokenizer: PreTrainedTokenizerBase
    """The one that made the features."""
    recipe: Recipe | None = None
    """What the user wrote; None in a job that was built by hand."""
    output: Path
    """The run folder; when predicting, an empty scratch folder."""
    seed: int
    """Seed of everything that is random."""
    preprocessor: Preprocessor
    """Fitted; brings the collator and, where it has one, the loss."""
    strategy: Strategy
    """Brings the optimizer's groups; its callbacks are among `callbacks`."""
    evaluator: Evaluator
    """Scores the validation features while training."""
    train: Dataset | None
    """Features to train on; None where the job is to predict."""
    validation: Dataset | None
    """Features to choose by, where there are any."""
    validation_examples: Dataset | None
    """The examples that they were made from."""
    arguments: Mapping[str, Any]
    """The recipe's ``training`` section with our defaults and the run's own values: arguments of `Task.arguments`."""
    generation: Mapping[str, Any] = field(default_factory=dict)
    """The recipe's ``generation`` section: arguments of ``generate``, upstream's names."""
    base: Callable[[], Any] | None = None
    """Loads the pretrained model anew, as no strategy has touched it: what preference learning measures against."""
    callbacks: Sequence[TrainerCallback] = ()
    """The strategy's and the run's own."""


def _is_nested(ids: Any) -> bool:
    return len(ids) > 0 and hasattr(ids[0], "__len__")


def _sequences(ids: Any) -> Iterator[Any]:
    """Yield the sequences of token ids in one feature, however deep they are nested."""
    if not _is_nested(ids):
        yield ids
        return
    for inner in ids:
        yield from _sequences(inner)


def _count(ids: Any) -> int:
    return sum(len(sequence) for sequence in _sequences(ids))


def _longest(ids: Any) -> int:
    return max(len(sequence) for sequence in _sequences(ids))
