"""The interfaces that plugins implement, and the values that are passed between them.

Three interfaces are stable: `Preprocessor` (from examples to features), `Strategy` (which
parameters are trained, and how) and `Evaluator` (from predictions to records to scores). A `Task`
connects them to a model class. An *example* is a row of the data, a *feature* is an input of the
model, a *window* is one part of a long text, a *record* is the prediction for one example, and a
*score* is a number.

The constructor of a preprocessor, strategy or evaluator is the schema of its options. Write it as a
frozen, keyword-only dataclass with a docstring under each field.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from finetune.errors import Incompatible

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

    from finetune.conversion import Conversion, Key
    from finetune.recipe import Recipe
    from finetune.training.distillation import Distillation

IGNORE_INDEX = -100
"""The label that `torch.nn.CrossEntropyLoss` skips."""

LEARNED: Mapping[str, bool] = {"learned": True}
"""Metadata of a field of a preprocessor that `Preprocessor.fit` always sets, so that no recipe gives it:
``field(default=None, metadata=LEARNED)``."""

Row = Mapping[str, Any]
"""One example: column → value. The values of a csv or tsv file are text until a preprocessor
converts them."""

ReadRow = tuple[int, Row] | tuple[int, Row, str]
"""A row as a reader yields it: its line, the row, and its path in the file if rows share lines."""

Batch = Mapping[str, Sequence[Any]]
"""Several examples or features: column → one value each."""

Record = dict[str, Any]
"""The prediction for one example, as JSON can hold it. Inside it, a mapping can be of any class."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One problem in the data, with its place."""

    code: str
    """The kind of problem, stable and in kebab-case: ``answer-not-at-offset``."""
    message: str
    """What is wrong, as a sentence that ends with a period."""
    fix: str = ""
    """What to do, as a sentence."""
    level: Literal["error", "row", "warning"] = "row"
    """``error`` always stops the run; ``row`` stops it unless the recipe drops bad rows;
    ``warning`` is only shown."""
    row: int | None = None
    """Position in the examples that `Preprocessor.check` got, from 0. The core adds file and
    line."""
    other: int | None = None
    """Position of another row that the message mentions, counted like `row`. The core adds the place of
    that row to the message."""
    column: str | None = None
    """The column, or a place inside a nested one: ``answers.answer_start``."""
    value: str | None = None
    """The wrong value; the core cuts it to 80 characters."""
    file: str | None = None
    """Path of the file, as the recipe named it."""
    line: int | None = None
    """Line of the file, from 1."""
    path: str | None = None
    """Where the row is in a file whose rows share lines: ``data[3].paragraphs[0].qas[5]``."""
    split: str | None = None
    """The split of the row."""


class Reader(ABC):
    """Reads a file format row by row, in bounded memory.

    A reader with options is a frozen, keyword-only dataclass whose fields all have defaults; a recipe
    gives them as ``dataset.options``.
    """

    suffixes: ClassVar[tuple[str, ...]] = ()
    """Suffixes of files in this format: ``(".csv",)``. The core handles ``.gz`` after them."""

    def recognises(self, head: str) -> bool:
        """Return whether a file with one of `suffixes` is in this format.

        Args:
            head: The first characters of the file, at most 4,096.
        """
        return False

    @abstractmethod
    def rows(self, text: Iterable[str], *, file: str) -> Iterator[ReadRow | Finding]:
        """Yield ``(line, row)`` for every good row, and a `Finding` with its line for every bad one.

        If rows share lines, yield ``(line, row, path)``; findings of the row then name the path.

        Args:
            text: The decoded text of the file in pieces of any size, with its line ends (``\\r\\n``
                stays).
            file: Name of the file, for messages.
        """


class Importer(ABC):
    """Makes a recipe of the file with which another tool describes a run."""

    title: ClassVar[str]
    """Name of the tool, for messages."""
    keys: ClassVar[Mapping[str, Key]]
    """Key at the top of the file → what becomes of it, also of one that `convert` handles itself. A key that is neither
    here nor in an outcome of `convert` is reported as unknown."""

    @abstractmethod
    def recognises(self, content: Mapping[str, Any]) -> bool:
        """Return whether settings are those of this tool."""

    @abstractmethod
    def convert(self, conversion: Conversion) -> None:
        """Write the recipe of the settings, and say what happened to each key.

        Defaults of the tool that differ from those of a recipe are written too. When it is done, the core removes
        training options that a recipe cannot have, and reports them.

        Args:
            conversion: The settings, and the recipe to fill.

        Raises:
            BadRecipe: No recipe can be made: no task does what the settings ask for.
        """


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Examples, their features, and the outputs of the model."""

    examples: Sequence[Row]
    """The examples, in order."""
    features: Sequence[Row]
    """The features, in order; ``example`` holds the position of the example that each was made
    from."""
    outputs: Any
    """The outputs for every feature: an array or a tuple of arrays whose first axis is the
    feature."""
    tokenizer: PreTrainedTokenizerBase
    """The tokenizer that made the features."""
    preprocessor: Preprocessor
    """The fitted preprocessor that made the features; its `model_options` hold the label names."""
    label_ids: Any = None
    """The labels of the features as the trainer collects them, for a `compute_metrics` of the user; else None."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """An option that limits how long a prediction or a training row can be, and how long those of the data are."""

    option: str
    """The option as a recipe names it: ``evaluator.max_answer_length``."""
    value: int
    """The longest prediction, or row, that the option allows."""
    lengths: Sequence[int]
    """Length of each right answer, or row, in the unit of the option; examples without one are left out."""
    what: Literal["answers", "rows"] = "answers"
    """Whether the option limits what the model can answer, or what training reads of a row."""


@dataclass(frozen=True, kw_only=True)
class Tallies:
    """Numbers for each example whose sums give the scores.

    For accuracy, an example has the numbers 1 or 0 (is it right?) and 1 (it is one example):
    ``values`` is ``[[1, 1], [0, 1], [1, 1]]``, and ``scores`` divides the first sum by the second.
    A bootstrap of a thousand resamples then needs only sums.
    """

    values: Any
    """The numbers, an array (examples, K)."""
    scores: Callable[[Any], dict[str, Any]]
    """Function from sums (…, K) to score → array (…); NaN if the score is not defined, such as 0 /
    0."""
    most: Mapping[str, float] = field(default_factory=dict)
    """Score → greatest possible value, for scores that are means of values between 0 and this
    value."""


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """What a model decided for examples with answers, with the scores of all options; see `Evaluator.decisions`.

    A decision is one choice among options: the label of a text, the tag of a word, whether a text has one of several
    labels. ``softmax(scores / temperature)`` is the probability of each option.
    """

    scores: Any
    """The score of each option, such as its logit or the logarithm of its probability; −∞ where a decision has fewer
    options than others: an array (N, K)."""
    predicted: Any
    """Which options are the prediction; several can be, such as one answer that two windows found: an array of bool
    (N, K)."""
    true: Any
    """Which options can be true: the right one, or, if that is not among the options, all that are not the
    prediction: an array of bool (N, K)."""
    rows: Any = None
    """The position of the example of each decision, an array (N,); None if each example has one decision."""
    one_is_true: bool = True
    """Whether the options are all there are, so that one of them is true. Else it is only known whether the prediction
    is right."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of the data that a preprocessor reads."""

    required: tuple[str, ...] = ()
    """Columns that every example must have, for training and for prediction."""
    optional: tuple[str, ...] = ()
    """Columns that are used if they exist."""
    consistent: tuple[str, ...] = ()
    """Those of the optional columns that change what the model reads, such as the second text of a
    pair: if all rows of train have a value, or none has, then so must the rows of the other splits
    and the rows to predict."""
    answers: tuple[str, ...] = ()
    """Columns that training and evaluation need, but prediction does not. Prediction removes them,
    unless they are also among the required or optional columns."""
    optional_answers: tuple[str, ...] = ()
    """Columns with answers that training can do without; prediction removes them too."""
    group: str | None = None
    """Column whose equal values form one independent unit, such as a context that many questions
    share: a random split keeps these rows together, and intervals resample them together."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Columns that prediction reads."""
        return (*self.required, *self.optional)

    @property
    def hidden(self) -> frozenset[str]:
        """Columns that prediction removes, so that a wrong answer in them cannot stop it."""
        return frozenset((*self.answers, *self.optional_answers)) - frozenset(self.inputs)


@dataclass(frozen=True, kw_only=True)
class Values:
    """What a column of a task holds, and how data sets call it."""

    what: str
    """The values in a few words: ``"a text"``."""
    kind: str = "any"
    """What `finetune init` looks for in the values of a file: ``text``, ``phrase`` (a short text), ``summary`` (one
    text or several), ``label``, ``labels`` (several in one cell), ``number``, ``boolean``, ``offset``, ``words``,
    ``tags``, ``messages``, ``turns`` (messages in the form of ShareGPT), ``texts`` (a list, or one under ``text`` of a
    mapping), ``answers`` (as in SQuAD), ``index`` (a position, from 0), ``ordinal`` (from 1), ``letter``, ``bit`` (0 or
    1), or ``pair`` (a mapping with two texts). With ``any``, a column is found by its name only."""
    names: tuple[str, ...] = ()
    """Other names that data sets give the column, the most usual first."""


@dataclass(frozen=True, kw_only=True)
class DataForm:
    """One form of data that a preprocessor reads: its columns, and the options that it needs for them."""

    columns: Mapping[str, Values]
    """The columns that training needs."""
    optional: Mapping[str, Values] = field(default_factory=dict)
    """Columns that are read if they exist."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the preprocessor: ``{"flat": True}``."""
    groups: Mapping[str, Values] = field(default_factory=dict)
    """Options that name several columns, and what each of these columns holds. ``names`` are then the beginnings of a
    series such as `choice1`, `choice2` or `A`, `B`; without ``names``, all columns with such values are taken."""
    learned: Mapping[str, str] = field(default_factory=dict)
    """Options whose value depends on the file: name → what `finetune init` finds out, such as ``separator``."""
    weight: float = 1.0
    """How likely the task is for such data, between 0 and 1: other tasks may read the same form."""


class Preprocessor(ABC):
    """Makes features from examples.

    The same method `features` serves training, evaluation and prediction: features have labels if
    examples have answers.
    """

    is_packed: ClassVar[bool] = False
    """Whether a feature can hold several examples, so that features depend on how examples are
    batched."""

    @abstractmethod
    def needs(self) -> Columns:
        """Return the columns of the data that this preprocessor reads; they can depend on its options."""

    def forms(self) -> Sequence[DataForm]:
        """Return the forms of data that this preprocessor reads, the most usual first.

        `finetune show` lists them, and `finetune init` looks for them in a file. By default it is the one form that
        `needs` describes, whose columns are found by their names.
        """
        needs = self.needs()
        required = dict.fromkeys((*needs.required, *needs.answers))
        optional = dict.fromkeys(name for name in (*needs.optional, *needs.optional_answers) if name not in required)
        return (
            DataForm(
                columns={name: Values(what="see the documentation") for name in required},
                optional={name: Values(what="see the documentation") for name in optional},
            ),
        )

    def fit(self, train: Sequence[Row]) -> Self:
        """Return a copy with what is learned from the training examples, such as the label names.

        It must accept bad rows, because `check` reports them later. The fields of the copy are
        stored in the result, so that prediction needs no data.

        Args:
            train: The training examples, bad ones included.
        """
        return self

    def for_model(self, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> Self:
        """Return a copy with what the configuration of a trained model says, in place of what `fit` learns.

        It is called for models that no run of finetune made. Set the label names, and a length that the model takes.

        Args:
            config: The configuration of the model.
            tokenizer: The tokenizer of the model.

        Raises:
            Incompatible: The configuration does not say enough, or the model was trained for something else.
        """
        return self

    def learn_form(self, examples: Sequence[Row]) -> Self:
        """Return a copy that knows how examples write the labels that `for_model` set: as names, or as ids.

        It is called before `check`, with rows to score. It must accept bad rows.

        Args:
            examples: The rows to score.
        """
        return self

    def strata(self, example: Row) -> Collection[str]:
        """Return the labels of an example, which a random split and a limit spread evenly; none if no label is sound.

        Each label keeps a row in train. It is called before `fit`, and must accept any row.

        Args:
            example: The columns of the answers.
        """
        return ()

    def check(self, examples: Sequence[Row]) -> Iterator[Finding]:
        """Yield the problems of the examples of one split; it is called after `fit`, and must accept any row."""
        yield from ()

    def check_with_tokenizer(self, examples: Sequence[Row], tokenizer: PreTrainedTokenizerBase) -> Iterator[Finding]:
        """Yield the problems of examples that only the tokenizer shows, such as messages that its template refuses.

        Args:
            examples: Examples of one split in which `check` found nothing but warnings.
            tokenizer: The tokenizer of the model.
        """
        yield from ()

    @abstractmethod
    def features(self, examples: Batch, tokenizer: PreTrainedTokenizerBase) -> Batch:
        """Return the features of a batch of examples.

        If an example makes several features, the column ``overflow_to_sample_mapping`` holds, for
        each feature, the position of its example in the batch. Columns that the model does not take
        are kept for `counts` and the evaluator.

        Args:
            examples: Column → values; answers can be missing.
            tokenizer: The tokenizer of the model.
        """

    def for_inference(self) -> Preprocessor:
        """Return the preprocessor for prediction.

        It must not pack examples, because the prediction for one must not depend on the others. Its
        features can also ask for more than is scored, such as the continuation of a text.
        """
        return self

    def canonical(self, example: Row) -> Row:
        """Return an example with the column names that the task's evaluator reads.

        Examples:
            >>> preprocessor.canonical({"dialogue": "A: Tea? B: Yes.", "summary": "B wants tea."})  # doctest: +SKIP
            {'source': 'A: Tea? B: Yes.', 'target': 'B wants tea.'}
        """
        return example

    def trainer_options(self) -> Mapping[str, Any]:
        """Return options that the task's trainer needs: ``{"packing": True, "max_length": 1024}``.

        The documentation of a trainer names the options that it reads; it ignores the others.
        """
        return {}

    def lengths(self, features: Batch) -> Sequence[int]:
        """Return the number of tokens of each feature in a batch.

        Nested ``input_ids``, such as the choices of a multiple-choice question, are added up.
        Override it if the tokens are not in ``input_ids``.
        """
        return [_count(ids) for ids in features["input_ids"]]

    def longest(self, features: Batch) -> int:
        """Return the length in tokens of the longest sequence in a batch of features.

        The model must have a position for each of its tokens. It is the longest inner list of
        nested ``input_ids``, else the maximum of `lengths`.
        """
        nested = [ids for ids in features["input_ids"] if _is_nested(ids)] if "input_ids" in features else []
        if nested:
            return max(_longest(ids) for ids in nested)
        return max(self.lengths(features), default=0)

    def counts(self, features: Batch) -> Mapping[str, int]:
        """Return counts for a batch of features, such as ``truncated`` and ``tokens_lost``; the core adds them up."""
        return {}

    def validate_counts(self, counts: Mapping[str, int], *, split: str) -> None:  # noqa: B027, most accept everything
        """Check the counts of a split before a model is loaded.

        Args:
            counts: What `counts` counted, with ``features`` and ``tokens``.
            split: Name of the split.

        Raises:
            BadData: Too much is lost for a model to learn from the rest.
        """

    def validate_features(
        self,
        features: Sequence[Row],
        examples: Sequence[Row],
        tokenizer: PreTrainedTokenizerBase,
        *,
        counts: Mapping[str, int],
        split: str,
    ) -> None:
        """Check the features of a split before a model is loaded; by default, only their counts are checked.

        Override it instead of `validate_counts` to show in a message what is wrong with a row.

        Args:
            features: As `features` made them.
            examples: The examples that they were made from.
            tokenizer: The tokenizer of the model.
            counts: What `validate_counts` gets.
            split: Name of the split.

        Raises:
            BadData: Too much is lost for a model to learn from the rest.
        """
        self.validate_counts(counts, split=split)

    def show(self, feature: Row, tokenizer: PreTrainedTokenizerBase) -> str:
        """Return a feature as text for people, with ``⟦…⟧`` around the part on which the loss is computed."""
        sequences = _sequences(feature["input_ids"])
        return "\n".join(str(tokenizer.decode(ids)) for ids in sequences)

    def collator(self, tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel) -> Any:
        """Return a function that makes a padded batch of features; None for `transformers.DataCollatorWithPadding`.

        The latter pads on the right, regardless of the tokenizer's side (XLNet: on the left), so that predictions do
        not depend on the batch.

        Args:
            tokenizer: The tokenizer of the model.
            model: As loaded, before the strategy prepares it.
        """
        return None

    def loss(self) -> Callable[..., Any] | None:
        """Return a loss function for `transformers.Trainer` (``compute_loss_func``); None for the loss of the model.

        Many models return the mean over each batch. With ``gradient_accumulation_steps``, the rows of a last batch that
        is smaller then count more. A loss function that divides by ``num_items_in_batch`` has the mean of the step.
        """
        return None

    def model_options(self) -> dict[str, Any]:
        """Return arguments of `from_pretrained` that the model needs: ``num_labels``, ``id2label``."""
        return {}

    def check_streaming(self) -> None:  # noqa: B027, most accept it
        """Check that the features of train can be made while it is read, some rows at a time.

        Raises:
            BadOptions: An option needs the features of all rows. The message says what to do.
        """


@dataclass(frozen=True, kw_only=True)
class Base:
    """What is known of a base model before its weights are loaded."""

    kind: Literal["encoder", "encoder-decoder", "decoder"]
    """What the model does: BERT encodes, T5 encodes and decodes, Llama decodes."""
    parameters: int
    """How many parameters the model has, without a head."""
    learning_rate: float
    """The learning rate at which all parameters train well on labelled rows, with AdamW."""
    source: str
    """Where that rate comes from: a measurement or a publication."""


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """Training options that suit a strategy."""

    training: Mapping[str, Any]
    """Options of the recipe's ``training`` section: ``{"learning_rate": 1e-3}``."""
    source: str
    """Where they come from, as a phrase: ``"ten times that of full fine-tuning: measured on MiniLM"``."""


class Strategy(ABC):
    """Defines which parameters are trained, and how."""

    memory_rank: ClassVar[int] = 0
    """When `finetune plan` offers the strategy for a run that needs too much memory: 1 before 2; 0 for never."""
    trains_sharded: ClassVar[bool] = False
    """Whether it can train weights that are divided among the processes (``training.fsdp``). Its parameters must not
    change after `prepare`, and it must write no checkpoints of its own."""
    trains_with_activation_checkpointing: ClassVar[bool] = True
    """Whether it can train with activation checkpointing. If not, it stays off where a task has it on by default."""

    def suggest(self, task: Task, base: Base) -> Suggestion:
        """Return training options that suit the strategy, the learning rate above all.

        `finetune init` prints them. A recipe without a learning rate gets this one. By default, it is that of full
        fine-tuning.

        Args:
            task: The task to learn.
            base: The base model. Its learning rate is that of full fine-tuning with labelled rows. The core then
                multiplies the rate that this method returns by the task's `learning_rate_factor`.
        """
        return Suggestion(training={"learning_rate": base.learning_rate}, source=base.source)

    def search_space(self) -> Mapping[str, Any]:
        """Return the options of the strategy that are worth a search: option → its space.

        `finetune tune` searches them, and the learning rate, if the recipe has no ``search`` section. A space has the
        form of that section: ``{"r": [4, 8, 16]}``. By default there are none.
        """
        return {}

    def load_options(self) -> dict[str, Any]:
        """Return arguments of `from_pretrained` that the strategy needs, such as a quantization."""
        return {}

    def loading(self) -> AbstractContextManager[None]:
        """Return a context that surrounds each `from_pretrained` of the base model; advanced, for `qlora`."""
        return nullcontext()

    @abstractmethod
    def prepare(self, model: PreTrainedModel, task: Task, *, newly_initialized: Collection[str] = ()) -> Any:
        """Return the model with the right parameters trainable; it can be wrapped.

        Args:
            model: As loaded, with every parameter trainable.
            task: The task to learn.
            newly_initialized: Names of modules that the base model does not have. They must be
                trained and saved.

        Raises:
            Incompatible: The strategy cannot train this model.
        """

    def parameter_groups(self, model: Any, *, learning_rate: float, weight_decay: float) -> list[dict[str, Any]] | None:
        """Return the parameter groups of the optimizer; None for the two of the trainer."""
        return None

    def callbacks(self) -> Sequence[TrainerCallback]:
        """Return callbacks for the trainer.

        A schedule that unfreezes parameters must freeze them in ``on_train_begin``: the optimizer
        leaves out parameters that are already frozen when it is created.
        """
        return ()

    def check_streaming(self) -> None:  # noqa: B027, most accept it
        """Check that the strategy can train on rows that are read only while it trains.

        Raises:
            BadOptions: An option needs the features of all rows. The message says what to do.
        """

    def notes(self, model: Any) -> Sequence[str]:
        """Return sentences that the user must read about the training of this model.

        They are shown before the first step, and stored in the result.

        Args:
            model: As `prepare` returned it.
        """
        return ()

    def write_checkpoint(self, model: Any, directory: Path) -> None:  # noqa: B027, most have nothing to add
        """Write the files of a checkpoint that the trainer does not write with `save_pretrained`."""

    def read_checkpoint(self, model: Any, directory: Path) -> bool:
        """Load the weights of a checkpoint into the model, and return True; False leaves it to the trainer."""
        return False

    @classmethod
    def for_adapter(cls, settings: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Return the options with which the strategy loads an adapter of another program; None if it loads no such.

        Args:
            settings: The content of the adapter's ``adapter_config.json``.
        """
        return None

    def loads_base(self) -> bool:
        """Return whether `load` reads the base model; by default, whether `load` is overridden.

        If it does, the base model is checked before: it must be there, and have the content that it had when the run
        was trained.
        """
        return type(self).load is not Strategy.load

    def whole(self, model: Any) -> PreTrainedModel:
        """Return the trained model as a plain model of transformers, which computes the same.

        `finetune export` needs it. By default, it is the model itself. A strategy that wraps the model puts what it
        trained into the weights; the model that is given may be changed.

        Raises:
            Incompatible: No weights can hold what the strategy trained. The message says what to do.
        """
        if hasattr(model, "get_base_model"):
            raise Incompatible(
                f"strategy: {type(self).__name__} wraps the model, and does not say how it becomes a plain model of "
                "transformers. Use the run as it is."
            )
        plain: PreTrainedModel = model
        return plain

    def save(self, model: Any, directory: Path) -> None:
        """Write the trained model to a folder, as safetensors."""
        model.save_pretrained(directory)

    def load(self, directory: Path, *, model_class: Any, base: str, options: Mapping[str, Any]) -> Any:
        """Return the model that `save` wrote.

        Args:
            directory: The folder.
            model_class: The ``AutoModelFor…`` class of transformers.
            base: Path or Hub id of the base model.
            options: Arguments of `from_pretrained` with which the base model was loaded.
        """
        # The configuration in the folder holds everything but the way to compute
        # (``attn_implementation``), which changes the last digits. A revision belongs to the base
        # model, and weights of another size must be an error.
        chosen = {key: value for key, value in options.items() if key not in {"revision", "ignore_mismatched_sizes"}}
        return model_class.from_pretrained(directory, **chosen)


class Evaluator(ABC):
    """Makes records from predictions, and scores from records."""

    primary: str
    """The score that represents the others: a class attribute or an option."""
    temperature: float | None = None
    """What the scores of options are divided by before they become probabilities. An evaluator that gives
    `decisions` has a field with this name; None in it lets a run fit the temperature on validation. A temperature must
    not change a prediction."""

    @property
    def greater_is_better(self) -> bool:
        """Whether a greater primary score is better."""
        return True

    def scales(self) -> Mapping[str, str]:
        """Return the scales of scores in words, for people: ``{"f1": "0 to 100", "kl": "nats per token"}``.

        The scale of ``f1`` is also that of ``f1/cat``. A number with the scale ``rows``, ``tokens``
        or ``threshold`` is no score: it explains the others, and the report lists it separately.
        """
        return {}

    def trainer_options(self) -> Mapping[str, Any]:
        """Return options that the task's trainer needs for this evaluator: ``{"generate": False}``."""
        return {}

    def fit(self, records: Sequence[Record]) -> Self:
        """Return a copy with what is learned from the validation records, such as a threshold."""
        return self

    @abstractmethod
    def records(self, predictions: Predictions) -> list[Record]:
        """Return one record for each example, in order.

        A record holds the prediction as ``prediction`` and, if the example has answers, the right
        answer as ``reference``. It also holds everything else that the scores need.
        """

    @abstractmethod
    def scores(self, records: Sequence[Record]) -> dict[str, float]:
        """Return the scores of records that hold a reference: name → number, flat (``f1/positive``)."""

    def tallies(self, records: Sequence[Record]) -> Tallies | None:
        """Return the tallies of records, for the scores that can be computed from sums.

        Intervals of these scores are fast. Without tallies, only the primary score has an interval,
        and it is computed for each resample.
        """
        return None

    def baselines(self, predictions: Predictions, *, train: Predictions) -> Mapping[str, list[Record]]:
        """Return the records of baselines, predictors that need no model: name → one record for each example.

        Args:
            predictions: Examples with answers, as for `records`.
            train: Training examples and their features, for example to find the most frequent
                answer. Its outputs are None.
        """
        return {}

    def limits(self, predictions: Predictions, *, generation: Mapping[str, Any]) -> Sequence[Limit]:
        """Return the options that limit how long a prediction can be, each with the lengths of the right answers.

        `finetune check` and the report count the answers that are too long, and name the value that is enough.

        Args:
            predictions: Examples with answers, and their features as a `datasets.Dataset`. The
                outputs are None.
            generation: The recipe's ``generation`` section.
        """
        return ()

    def losses(self, records: Sequence[Record]) -> Sequence[float]:
        """Return the loss of each record: 0 if nothing is wrong, and greater if more is. The worst are shown first."""
        return [float(record["prediction"] != record["reference"]) for record in records]

    def slices(self, records: Sequence[Record], examples: Sequence[Row]) -> Mapping[str, Sequence[str]]:
        """Return slices, for which scores are computed: name → the value of each example.

        For example, a slice ``question word`` has values such as ``who``.
        """
        return {}

    def highlights(self, record: Record, example: Row) -> Mapping[str, Sequence[tuple[int, int, str]]]:
        """Return the spans to highlight in the texts of an example: column → (start, end, kind).

        A span holds the characters from start up to, but not including, end; in a column that is a
        list of words, it holds words. The kind is ``prediction`` or ``reference``, and can have a
        label: ``prediction:PLACE``.
        """
        return {}

    def details(self, records: Sequence[Record]) -> dict[str, Any]:
        """Return results that are not a single number, such as a confusion matrix, as JSON can hold them."""
        return {}

    def decisions(self, predictions: Predictions) -> Decisions | None:
        """Return what the model decided for the examples with answers, with scores that no temperature has divided.

        A run fits the temperature of the evaluator to the decisions on validation. By default there are none, because
        the task gives no probabilities.

        Args:
            predictions: As for `records`.
        """
        return None

    def confidence(self, record: Record) -> float | None:
        """Return the probability that the prediction of a record is right; None if there is none for a whole record.

        A prediction that is less probable than ``--abstain-below`` is withheld.
        """
        return None

    def label_probabilities(self, record: Record) -> Mapping[Any, float] | None:
        """Return the probability of each label that a record could have; None if the task has no fixed set of them.

        ``--coverage`` makes sets of these labels.
        """
        return None

    def true_label(self, record: Record) -> Any:
        """Return the right one of `label_probabilities`; by default, the reference of the record."""
        return record["reference"]

    def files(self, records: Sequence[Record]) -> Mapping[str, Any]:
        """Return files to write, such as the one that a benchmark's own script reads: name → content for JSON."""
        return {}


class Api(ABC):
    """An HTTP API that others have published, which `finetune serve` answers with a model of a task.

    The server reads the body, checks it against its limits, and predicts the rows together with those of other
    requests.
    """

    schema: ClassVar[Mapping[str, Any]]
    """JSON schema of the body, for the page of the server."""

    def __init__(self, preprocessor: Preprocessor) -> None:
        """Make it for a model.

        Args:
            preprocessor: The fitted preprocessor of the model.
        """
        self.preprocessor = preprocessor

    @abstractmethod
    def rows(self, content: Any) -> Sequence[Row]:
        """Return the rows that a body asks about.

        Args:
            content: The body, parsed.

        Raises:
            BadData: The body is not what the API describes. The message says where.
        """

    @abstractmethod
    def answer(self, content: Any, records: Sequence[Record], *, model: str, tokens: int) -> Mapping[str, Any]:
        """Return the body of the answer.

        Args:
            content: The body, parsed.
            records: One record for each row.
            model: The name of the model.
            tokens: Tokens that the model read for all rows.
        """


@dataclass(frozen=True, kw_only=True)
class Task:
    """What a model learns: a model class with its preprocessor, evaluator and trainer.

    Strings with a colon are ``"module:attribute"``, so that `finetune list` needs to import
    nothing.
    """

    summary: str
    """One line for `finetune list`."""
    model_class: str
    """Name of the class of transformers: ``AutoModelForQuestionAnswering``."""
    peft_type: str | None
    """PEFT's ``TaskType``, or None."""
    problem_type: str | None = None
    """What ``problem_type`` is in the configuration of a model for this task, if other tasks have the same model
    class."""
    features: frozenset[str]
    """Feature columns that the model takes, labels included."""
    labels: frozenset[str]
    """Those of the columns that exist only if there are answers."""
    preprocessor: str
    """Default preprocessor."""
    evaluator: str
    """Default evaluator."""
    trainer: str = "finetune.training.trainer:trainer"
    """Function from a `Job` to a `transformers.Trainer`."""
    arguments: str = "transformers:TrainingArguments"
    """Class of the options in the recipe's ``training`` section."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Training options with another default than upstream's: ``{"bf16": False}``."""
    training_on_accelerator: Mapping[str, Any] = field(default_factory=dict)
    """Those that have yet another default on a GPU or the like: ``{"bf16": True}``. `finetune init` writes none of
    them, so that they follow the device; the run's recipe states them."""
    learning_rate_factor: float = 1.0
    """The learning rate of this task as a multiple of that for labelled rows. Preference and reinforcement learning
    need a small part of it."""
    check_training: str | None = None
    """Function that checks the recipe's ``training`` section before data is read, after names and types are checked.
    It takes the task and the section, and raises `BadOptions`."""
    streams: bool = False
    """Whether `trainer` can train on a stream: it takes the batches that its `get_train_dataloader` gives, and needs
    nothing else of the training rows."""
    compares_with_base: bool = False
    """Whether its trainer asks for the base model, `Job.base`, to compare the model with."""
    generates: bool = False
    """Whether the model generates text, so that the recipe can have a ``generation`` section."""
    apis: Mapping[str, str] = field(default_factory=dict)
    """Published HTTP APIs that `finetune serve` answers besides its own: path → subclass of `Api`. A model of such a
    task answers no chats."""
    plain_code: str | None = None
    """Function that returns the code with which transformers alone uses a model of the task, for its card. It takes the
    folder or the id of the model, and whether the folder holds an adapter as the keyword ``adapter``. By default the
    code depends on `model_class`."""
    starter: Mapping[str, Any] = field(default_factory=dict)
    """Sections of the recipe that `finetune init` writes: a sample data set, a model, training
    options. A learning rate is that of full fine-tuning with this model; leave it out to get the usual one of the
    model."""
    base_models: Mapping[str, str] = field(default_factory=dict)
    """Models of the Hub that `finetune init` writes for the user's own data: ``en`` for English texts, ``any`` for
    texts of other languages too. By default the model of `starter`."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that a trainer needs."""

    task: Task
    """The task to learn."""
    model: Any
    """The model, as the strategy prepared it."""
    tokenizer: PreTrainedTokenizerBase
    """The tokenizer that made the features."""
    recipe: Recipe | None = None
    """What the user wrote; None in a job that was built by hand."""
    output: Path
    """The run folder; for prediction, an empty temporary folder."""
    seed: int
    """Seed of everything that is random."""
    preprocessor: Preprocessor
    """The fitted preprocessor; it gives the collator and the loss."""
    strategy: Strategy
    """It gives the parameter groups of the optimizer."""
    evaluator: Evaluator
    """It scores the validation features during training."""
    train: Dataset | None
    """Features to train on; None for prediction. If train is streamed, those of a sample of its rows."""
    validation: Dataset | None
    """Features of the validation split, if there is one."""
    validation_examples: Dataset | None
    """The examples of the validation features."""
    arguments: Mapping[str, Any]
    """Arguments of `Task.arguments`: the recipe's ``training`` section with the defaults of the
    task and of the run."""
    generation: Mapping[str, Any] = field(default_factory=dict)
    """The recipe's ``generation`` section: arguments of ``generate``."""
    base: Callable[[], Any] | None = None
    """Loads the base model again, without the strategy: the reference model of preference
    learning."""
    distillation: Distillation | None = None
    """The teacher from which the model learns besides the labels, for `finetune.kit.PatchedTrainer`."""
    callbacks: Sequence[TrainerCallback] = ()
    """Callbacks of the strategy and of the run."""
    stream: Any = None
    """The features to train on if train is streamed, for `finetune.kit.PatchedTrainer`."""
    data_collator: Callable[..., Any] | None = None
    """Makes the batches, instead of the preprocessor's collator."""
    compute_metrics: Callable[..., Any] | None = None
    """A function of the user from `transformers.EvalPrediction` to scores, added to those of the evaluator."""


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
    if not _is_nested(ids):
        return len(ids)
    return sum(len(sequence) for sequence in _sequences(ids))


def _longest(ids: Any) -> int:
    return max(len(sequence) for sequence in _sequences(ids))
