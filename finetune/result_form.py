"""The form of `result.json`: which keys and types the pages that are made of it read."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, NotRequired

from typing_extensions import TypedDict  # pydantic cannot read that of Python 3.11

from finetune.recipe.options import adapter


class Bounds(TypedDict):
    """An interval."""

    low: float
    high: float


class Difference(Bounds):
    """A difference, with its interval."""

    value: float


class Unit(TypedDict):
    """The independent units of a split."""

    size: int
    column: str | None


class Slice(TypedDict):
    """The rows of a split with one value."""

    value: Any
    size: int
    score: float
    low: NotRequired[float]
    high: NotRequired[float]


class Mistake(TypedDict):
    """One of the worst errors."""

    index: int
    place: NotRequired[Mapping[str, Any]]
    """Where its row is in the data; results of earlier versions lack it."""
    loss: float
    example: Mapping[str, Any]
    record: Mapping[str, Any]
    highlights: Mapping[str, Sequence[tuple[int, int, str] | list[Any]]]


class Pair(TypedDict):
    """Near duplicates."""

    similarity: float
    text: str
    train: str


class Leak(TypedDict):
    """How many rows of a split are also in train."""

    rows: int
    exact: int
    normalized: int
    near: int | None
    columns: Sequence[str]
    pairs: Sequence[Pair]


class NotMeasured(TypedDict):
    """Why forgetting was not measured."""

    not_measured: str


class Forgetting(TypedDict):
    """How training changed the perplexity on general text."""

    objective: str
    before: float
    after: float
    increase: Difference
    forgot: bool
    chance: NotRequired[float]


class Bin(TypedDict):
    """Predictions of about the same probability."""

    confidence: float
    accuracy: float


class Calibration(TypedDict):
    """How often predictions of a probability are right."""

    bins: Sequence[Bin]
    ece: float


class Measure(TypedDict):
    """A score of probabilities, with its interval if it has one."""

    value: float
    low: NotRequired[float]
    high: NotRequired[float]


class Probabilities(TypedDict):
    """How good probabilities are."""

    nll: Measure
    ece: Measure
    brier: Measure
    bins: Sequence[Bin]


class Answered(TypedDict):
    """The surest predictions, and the share of them that is right."""

    coverage: float
    probability: float
    right: float
    low: NotRequired[float]
    high: NotRequired[float]


class CalibratedSplit(TypedDict):
    """The probabilities of a split, without the temperature and with it."""

    decisions: int
    before: Probabilities
    after: Probabilities
    answered: NotRequired[Sequence[Answered]]


class Sets(TypedDict, total=False):
    """What sets of labels are made from."""

    method: str
    rows: int
    ranks: Sequence[int]
    scores: Sequence[float]


class Temperature(TypedDict, total=False):
    """The temperature of a run."""

    temperature: float
    fitted: float | None
    reason: str
    rows: int
    improvement: Difference | None
    splits: Mapping[str, CalibratedSplit]
    sets: Sets


class Details(TypedDict, total=False):
    """What an evaluator computes besides scores; it can hold more."""

    calibration: Calibration | None
    undefined: Mapping[str, str]
    signature: Mapping[str, str] | None


class Described(TypedDict):
    """A class and its options; the key ``class`` is a keyword of Python."""

    options: Mapping[str, Any]


class Environment(TypedDict):
    """Versions."""

    python: str
    versions: Mapping[str, str]


class ModelSection(TypedDict):
    """The base model."""

    path: str


class StrategySection(TypedDict):
    """The strategy."""

    name: str


class Recipe(TypedDict):
    """The recipe, with every option written out."""

    task: str
    model: ModelSection
    strategy: StrategySection
    dataset: Mapping[str, Any]
    training: Mapping[str, Any]
    seed: int
    output: str
    card: NotRequired[Mapping[str, Any] | None]


class LogEntry(TypedDict, total=False):
    """What the trainer logged at a step."""

    step: int
    epoch: float
    loss: float
    eval_loss: float


class PhaseEntry(TypedDict):
    """A phase of the run."""

    name: str
    seconds: float
    peak_memory_mb: float
    peak_gpu_memory_mb: NotRequired[float | None]


class Limit(TypedDict):
    """An option that limits how long an answer can be, and how many answers are too long."""

    option: str
    value: int
    answers: int
    too_long: int
    enough: int
    enough_for_99: int
    what: NotRequired[str]


class EarlyStop(TypedDict, total=False):
    """What early stopping did."""

    patience: int
    threshold: float
    score: str
    stopped: bool
    step: int
    max_steps: int
    best_step: int | None
    best: float | None


class SavedFile(TypedDict):
    """A file whose content a run recorded."""

    sha256: str
    state: str


class KeptLayers(TypedDict):
    """Which layers of a base model a smaller one has."""

    kept: Sequence[int]
    of: int


class Taught(TypedDict, total=False):
    """The teacher."""

    path: str
    task: str
    parameters: int
    temperature: float
    alpha: float
    seen: Mapping[str, Any]


class Tried(TypedDict):
    """A checkpoint that was tried for an average."""

    step: int
    score: float
    with_it: float
    kept: bool


class Average(TypedDict, total=False):
    """Which checkpoints were averaged."""

    score: str
    best_step: int
    best: float
    tried: Sequence[Tried]
    steps: Sequence[int]
    value: float


class GgufFile(TypedDict, total=False):
    """The GGUF file that a base model was dequantized from."""

    file: str
    sha256: str
    architecture: str
    name: str
    quantization: str
    dtype: str
    parameters: int
    pre_tokenizer: str
    lost_position_scaling: str
    seconds: float


class Base(TypedDict, total=False):
    """The base model as it was, and what the run saved."""

    path: str
    files: Mapping[str, SavedFile]
    tokenizer: Mapping[str, SavedFile]
    gguf: GgufFile
    saved_model: Mapping[str, SavedFile]
    saved_tokenizer: Mapping[str, SavedFile]


FORMS: Mapping[str, Any] = {
    "recipe": Recipe,
    "units": Mapping[str, Unit],
    "intervals": Mapping[str, Mapping[str, Bounds]],
    "differences": Mapping[str, Mapping[str, Mapping[str, Difference]]],
    "slices": Mapping[str, Mapping[str, Sequence[Slice]]],
    "worst": Mapping[str, Sequence[Mistake]],
    "forgetting": NotMeasured | Forgetting,
    "details": Mapping[str, Details],
    "calibration": Temperature,
    "leakage": Mapping[str, Leak],
    "data_report": Mapping[str, Mapping[str, float]],
    "limits": Mapping[str, Sequence[Limit]],
    "early_stopping": EarlyStop,
    "kept_layers": Mapping[str, KeptLayers],
    "teacher": Taught,
    "average": Average,
    "preprocessor": Described,
    "evaluator": Described,
    "environment": Environment,
    "log": Sequence[LogEntry],
    "phases": Sequence[PhaseEntry],
    "base": Base,
}
"""Field of `Result` → the form of its content, where the annotation of the field does not say it."""

OF_EACH_SPLIT = ("units", "intervals", "differences", "slices", "worst", "fingerprints")
"""Fields that have an entry for each split that was held out."""


def problem(content: Mapping[str, Any], result: type) -> str:
    """Return where content is not as a run writes it, and what is wrong there; an empty text if nothing is.

    >>> from finetune.result import Result
    >>> problem({"steps": "three"}, Result).partition(": ")[0]
    'recipe'

    Args:
        content: The content of `result.json`.
        result: The class `Result`.
    """
    try:
        form(result).validate_python(content, strict=True)
    except ValueError as error:
        return _first(error)
    for section in ("preprocessor", "evaluator"):
        if not isinstance(content[section].get("class"), str):
            return f"{section}.class: Input should be a valid string"
    for name in OF_EACH_SPLIT:
        missing = sorted(set(content["scores"]) - {"train"} - set(content[name]))
        if missing:
            return f"{name}.{missing[0]}: Field required"
    for split, columns in content["slices"].items():
        for column, parts in columns.items():
            for number, part in enumerate(parts):
                if ("low" in part) != ("high" in part):
                    return f"slices.{split}.{column}.{number}.{'high' if 'low' in part else 'low'}: Field required"
    return ""


class SeedsRecipe(TypedDict):
    """The recipe of several seeds."""

    task: str
    model: ModelSection
    strategy: Mapping[str, Any]
    dataset: Mapping[str, Any]
    training: Mapping[str, Any]
    seeds: Sequence[int]
    output: str
    card: NotRequired[Mapping[str, Any] | None]


def seeds_problem(content: Mapping[str, Any], result: type) -> str:
    """Return where the result of several seeds is not as it is written, and what is wrong there; empty if nothing is.

    Args:
        content: The content of `result.json`.
        result: The class `SeedsResult`.
    """
    try:
        form(result, SeedsRecipe).validate_python(content, strict=True)
    except ValueError as error:
        return _first(error)
    seeds = content["seeds"]
    if len(seeds) < 2 or any(len(content[name]) != len(seeds) for name in ("runs", "steps", "training_seconds")):
        return "seeds: Input should have an entry for each run"
    return ""


def _first(error: ValueError) -> str:
    """Return the first problem that pydantic found, and its place."""
    first = error.errors()[0]  # type: ignore[attr-defined]  # it is pydantic's
    place = ".".join(str(part) for part in first["loc"] if not str(part)[:1].isupper())
    return f"{place}: {first['msg']}"


@cache
def form(result: type, recipe: Any = Recipe) -> Any:
    """Return pydantic's adapter of the form of a result.

    Args:
        result: The class `Result` or `SeedsResult`.
        recipe: The form of its recipe: `Recipe`, or `SeedsRecipe` for several seeds.
    """
    hints = typing.get_type_hints(result)
    form: dict[str, Any] = {}
    for each in fields(result):
        hint = {**FORMS, "recipe": recipe}.get(each.name, hints[each.name])
        required = each.name == "phases" or (each.default is MISSING and each.default_factory is MISSING)
        form[each.name] = hint if required else NotRequired[hint]
    return adapter(TypedDict("Form", form))  # type: ignore[operator]  # of fields that are known at run time
