"""Everything that happened in a run, as data: `result.json`. Reports, cards and comparisons are derived from it."""

from __future__ import annotations

import json
import math
import os
import platform
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from finetune import trust
from finetune.errors import BadRecipe
from finetune.files import require_files
from finetune.progress import Phase
from finetune.user_code import first_line

RESULT = "result.json"
RECIPE = "recipe.yaml"
PREDICTIONS = "predictions.jsonl"
DROPPED = "dropped.jsonl"
LOG = "log.jsonl"
TRACKERS = "trackers.json"
"""Where the trackers of ``training.report_to`` log the run, so that a run that continues goes on there."""
NON_FINITE = "non_finite"
"""Key of a line of `predictions.jsonl` that holds the places of numbers which JSON does not have."""

FORMAT = 3
"""Number of the format of `result.json` and `predictions.jsonl`; it grows when the meaning of a
field changes."""

_EVERYWHERE = None
NUMBERS: Mapping[str, frozenset[str] | None] = {
    **dict.fromkeys(("scores", "base_model_scores", "intervals", "baselines", "differences", "log"), _EVERYWHERE),
    "slices": frozenset({"score", "low", "high"}),
    "worst": frozenset({"loss"}),
    "forgetting": frozenset({"before", "after", "increase", "chance"}),
}
"""Fields of a result that hold numbers → the keys of these numbers, or None for every value.

JSON has no NaN, so a number that is not finite is written as null (see `to_json`), and read back as NaN."""

BASE_MODEL = "base_model"
"""Name of the base model among the predictors that a run is compared with."""

DISTRIBUTION = "finetune-kit"

NOT_FOR_RUNS = frozenset({"dev", "docs", "demo", "report", "ray"})
"""Extras whose packages no run computes with."""

_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:.*extra == ['\"]([^'\"]+)['\"])?")


@dataclass(frozen=True, kw_only=True)
class Result:
    """Everything that happened in a run."""

    recipe: Mapping[str, Any]
    """The recipe, with every option written out."""
    scores: Mapping[str, Mapping[str, float]]
    """Split → score → number, after training."""
    base_model_scores: Mapping[str, Mapping[str, float]]
    """Split → score → number, before the first step; empty if the recipe has ``score_base_model:
    false``."""
    units: Mapping[str, Mapping[str, Any]]
    """Held-out split → its number of independent units (``size``), which the intervals resample,
    and the ``column`` whose equal values form one unit; None if each row is a unit."""
    intervals: Mapping[str, Mapping[str, Mapping[str, float]]]
    """Held-out split → score → ``low`` and ``high`` of its 95% interval."""
    baselines: Mapping[str, Mapping[str, Mapping[str, float]]]
    """Held-out split → baseline, a predictor that needs no model → score → number."""
    differences: Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]
    """Held-out split → ``base_model`` or a baseline → score → ``value`` of fine-tuned − other, and
    the ``low`` and ``high`` of its 95% interval."""
    slices: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]
    """Held-out split → name of the slicing → for each value its ``size``, primary ``score``, and
    the ``low`` and ``high`` of its interval."""
    worst: Mapping[str, Sequence[Mapping[str, Any]]]
    """Held-out split → its worst errors, each with ``index``, ``place`` (see `finetune.data.places`), ``loss``,
    ``example``, ``record`` and ``highlights``."""
    forgetting: Mapping[str, Any]
    """NLL on general text in nats per token: ``before`` and ``after`` training, its ``increase``,
    and ``chance``, that of guessing all tokens with the same probability; or ``not_measured``, with
    the reason."""
    details: Mapping[str, Mapping[str, Any]]
    """Split → what is not a single number, such as a confusion matrix."""
    primary: str
    """Name of the score that represents the others."""
    greater_is_better: bool
    """Whether a greater primary score is better."""
    selection_split: str | None
    """Split that selected a checkpoint or a threshold; its scores are optimistic. None if nothing
    was selected."""
    data_report: Mapping[str, Mapping[str, int]]
    """Split → counts of rows (read, bad, dropped, left out, kept), features, tokens and lost
    tokens."""
    findings: Mapping[str, int]
    """Code of a finding → how many there were."""
    fingerprints: Mapping[str, str]
    """Split → SHA-256 of the content of its kept rows."""
    leakage: Mapping[str, Mapping[str, Any]]
    """Split → its ``rows`` and how many of them are also in train: ``exact``, ``normalized`` (equal
    except for case, punctuation and space) and ``near`` (None if there was too much text to
    search); the ``columns`` compared; and some near ``pairs``."""
    preprocessor: Mapping[str, Any]
    """The fitted preprocessor: its class and its options."""
    evaluator: Mapping[str, Any]
    """The fitted evaluator: its class and its options."""
    trainable_parameters: int
    """Number of parameters that were trained."""
    total_parameters: int
    """Number of all parameters, those of adapters included."""
    newly_initialized: Sequence[str]
    """Modules that the base model does not have, such as a new head."""
    steps: int
    """Number of optimizer updates, including those before a resume."""
    log: Sequence[Mapping[str, Any]]
    """What the trainer logged, one entry per logging step."""
    phases: Sequence[Phase]
    """Time and memory of each phase."""
    arguments: Mapping[str, Any]
    """Every training argument, including upstream's defaults."""
    environment: Mapping[str, Any]
    """Versions, hardware, threads."""
    base: Mapping[str, Any] = field(default_factory=dict)
    """The base model as it was when the run was trained: its ``path``, and of each of its ``files`` and those of its
    ``tokenizer`` the ``sha256`` and the ``state`` in the file system; and the same of the ``saved_tokenizer`` and the
    ``saved_model`` in the run folder. Empty in results of older versions."""
    scales: Mapping[str, str] = field(default_factory=dict)
    """Score → its scale in words, such as `0 to 1`; see `Evaluator.scales`."""
    column_use: Mapping[str, str] = field(default_factory=dict)
    """Column that changes what the model reads → how many rows of train have a value in it: `all`,
    `some` or `none`. Rows to predict must be alike."""
    limits: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    """Split → for each ``option`` that limits how long an answer can be: its ``value``, how many ``answers`` there are
    and how many are ``too_long``, and which value is ``enough`` for all and ``enough_for_99`` percent."""
    calibration: Mapping[str, Any] = field(default_factory=dict)
    """The temperature of the probabilities, and how good they are with and without it; see
    `finetune.evaluation.calibration.Calibration`. Empty if the task gives no probabilities."""
    early_stopping: Mapping[str, Any] = field(default_factory=dict)
    """What early stopping did: ``patience`` and ``threshold``, the ``score`` that it read, whether the run ``stopped``
    at ``step`` of ``max_steps``, and the ``best_step`` with its ``best`` score; empty if the run had none."""
    kept_layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Which layers of the base model the model has, if the recipe has ``model.layers``: side (``model``, ``encoder`` or
    ``decoder``) → ``kept``, their numbers, and ``of``, how many there were. Empty for all layers."""
    teacher: Mapping[str, Any] = field(default_factory=dict)
    """The teacher, if the recipe has one: its ``path``, ``task``, ``parameters`` and ``files``, the ``temperature`` and
    ``alpha`` of the loss, and how many held-out rows it was trained on (``seen``: split → counts as in `leakage`, or
    ``not_known`` with the reason)."""
    average: Mapping[str, Any] = field(default_factory=dict)
    """What ``training.average`` did: the ``score`` that it read; the ``best_step`` with its ``best`` score; for each
    other checkpoint that was ``tried`` its ``step`` and ``score``, the score of the mean ``with_it``, and whether it
    was ``kept``; the ``steps`` whose mean the weights are, the best alone if no mean was better, and its ``value``; and
    why checkpoints were ``left_out``. Empty if the run had none."""
    saved_bytes: int = 0
    """Size of the saved weights: those of the whole model, or of an adapter alone."""
    notes: Sequence[str] = ()
    """What a reader of the result must know, such as skipped checkpoints."""
    adopted_from: str | None = None
    """Folder of the other program that trained the model, for a run made by `finetune adopt`: its training data are not
    known."""
    resumed_from: str | None = None
    """Checkpoint from which the run resumed."""
    started: str = ""
    """When the run started, in UTC."""
    directory: str = ""
    """Path of the run folder."""
    format: int = field(default=FORMAT)
    """See `FORMAT`."""

    def save(self, directory: Path) -> None:
        """Write `result.json`."""
        write_atomically(directory / RESULT, self.text())

    def text(self) -> str:
        """Return the content of `result.json`."""
        return to_json(asdict(self), indent=1) + "\n"

    @classmethod
    def load(cls, directory: str | Path, *, trust_code: bool = False) -> Result:
        """Read the `result.json` of a run folder.

        Args:
            directory: The run folder.
            trust_code: Trust the Python code that it names; see `finetune.trust`.

        Raises:
            BadRecipe: The folder holds no finished run, or the run of another version of this
                package.
        """
        path = Path(directory) / RESULT
        require_files(Path(directory))
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError) as error:
            why = "it is not a run folder"
            _refuse_seeds(Path(directory))
            if any((Path(directory) / name).is_file() for name in ("config.json", "adapter_config.json")):
                why = "another program made this model. Make a run of it: finetune adopt FOLDER --output RUN"
            if (Path(directory) / RECIPE).is_file():
                why = "the run did not finish. Wait until it ends, or continue it with `finetune train --resume`"
            raise BadRecipe(f"{str(directory)!r} has no {RESULT}: {why}.") from error
        except OSError as error:
            raise BadRecipe(f"{path} cannot be read: {error.strerror}.") from error
        except (ValueError, RecursionError) as error:
            raise BadRecipe(f"{path} is damaged: {first_line(error)}. Restore the file as the run wrote it.") from error
        if isinstance(content, dict) and "kind" in content:
            _refuse_seeds(Path(directory))
        _require_format(content, path)
        for name in NUMBERS:
            content[name] = _with_nan(content[name], NUMBERS[name])
        from finetune import result_form  # it imports pydantic, and every command imports this module

        if problem := result_form.problem(content, cls):
            raise BadRecipe(f"{path} is damaged: {problem}. Restore the file as the run wrote it.")
        content["phases"] = [Phase(**phase) for phase in content["phases"]]
        content["directory"] = str(directory)
        names = [content["recipe"], content["preprocessor"], content["evaluator"]]
        if trust_code:
            trust.allow(names)
        else:
            trust.note_foreign(names)
        return cls(**content)

    @property
    def peak_memory_mb(self) -> float:
        """Peak memory of the process over all phases, in MiB."""
        return max((phase.peak_memory_mb for phase in self.phases), default=0.0)

    @property
    def training_seconds(self) -> float:
        """Seconds that the run trained."""
        return sum(phase.seconds for phase in self.phases if phase.name == "train")

    def score(self, split: str) -> float:
        """Return the primary score of a split."""
        return self.scores[split][self.primary]


def bare(**known: Any) -> Result:
    """Return a result of which little is known, such as that of a checkpoint: it has no scores.

    Args:
        **known: Fields of the result.
    """
    facts: dict[str, Any] = {"selection_split": None, "trainable_parameters": 0, "total_parameters": 0, "steps": 0}
    facts |= dict.fromkeys(("newly_initialized", "log", "phases"), ())
    for each in fields(Result):
        if each.default is MISSING and each.default_factory is MISSING:
            facts.setdefault(each.name, {})
    return Result(**{**facts, **known})


def to_json(content: Any, *, indent: int | None = None, default: Callable[[Any], Any] | None = None) -> str:
    """Return JSON that every program can read: numbers that are not finite, which JSON does not have, become null.

    Every file that finetune writes as JSON is made here.

    Args:
        content: What to write. A mapping of any class is written as a `dict` is.
        indent: Spaces for each level; None for one line.
        default: What becomes of a value that JSON cannot hold; None for an error.

    >>> to_json({"loss": float("nan"), "scores": (1.5, float("-inf"))})
    '{"loss": null, "scores": [1.5, null]}'
    """
    known = partial(_or_mapping, default=default)
    try:
        return json.dumps(content, indent=indent, ensure_ascii=False, default=known, allow_nan=False)
    except ValueError:  # the rare case; or a circle, which fails again
        finite = json.loads(json.dumps(content, ensure_ascii=False, default=known), parse_constant=lambda _: None)
        return json.dumps(finite, indent=indent, ensure_ascii=False, allow_nan=False)


def _or_mapping(value: Any, default: Callable[[Any], Any] | None) -> Any:
    """Return what JSON holds in place of a value of a class that it does not know.

    Raises:
        TypeError: The value is no mapping, and nothing says what becomes of it.
    """
    if isinstance(value, Mapping):
        return dict(value.items())
    if default is None:
        raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
    return default(value)


def as_plain(content: Any) -> Any:
    """Return content in which every mapping is a `dict`.

    >>> from types import MappingProxyType
    >>> as_plain({"shares": MappingProxyType({"sea": 0.5})})
    {'shares': {'sea': 0.5}}
    """
    if isinstance(content, Mapping):
        return {key: as_plain(value) for key, value in content.items()}
    if isinstance(content, list):
        return [as_plain(value) for value in content]
    return tuple(as_plain(value) for value in content) if isinstance(content, tuple) else content


def find_non_finite(content: Any) -> list[list[Any]]:
    """Return the places of the numbers that `to_json` would write as null: keys and positions, then the number as text.

    >>> find_non_finite({"label": "sea", "margins": [0.5, float("-inf")]})
    [['margins', 1, '-inf']]
    """
    if isinstance(content, float) and not math.isfinite(content):
        return [[str(content)]]
    parts: Iterable[tuple[Any, Any]] = ()
    if isinstance(content, Mapping):
        parts = content.items()
    elif isinstance(content, list | tuple):
        parts = enumerate(content)
    found = []
    for key, value in parts:
        if isinstance(value, str) or (isinstance(value, float) and math.isfinite(value)):
            continue  # most values are
        found += [[key, *place] for place in find_non_finite(value)]
    return found


def restore_non_finite(content: Any, places: Iterable[Sequence[Any]]) -> None:
    """Put the numbers that `find_non_finite` found into content that was read from JSON."""
    for *path, last, number in places:
        holder = content
        for key in path:
            holder = holder[key]
        holder[last] = float(number)


def _with_nan(content: Any, keys: frozenset[str] | None) -> Any:
    """Return content in which null is NaN again.

    Args:
        content: What JSON held.
        keys: Where a number is wanted; None for everywhere.
    """
    if isinstance(content, list):
        return [_with_nan(each, keys) for each in content]
    if not isinstance(content, dict):
        return content
    read = {}
    for key, value in content.items():
        is_number = keys is None or key in keys
        read[key] = math.nan if value is None and is_number else _with_nan(value, keys)
    return read


def json_problem(content: Any, *, place: str = "") -> str:
    """Return where content holds a value that JSON cannot hold, and its type; an empty text if there is none.

    >>> json_problem({"loss": [0.5, None]}), json_problem({"loss": [0.5, {1, 2}]})
    ('', "'loss[1]' is of the type set")
    """
    try:
        json.dumps(content, default=partial(_or_mapping, default=None))
    except (TypeError, ValueError, RecursionError):
        return _json_problem(content, place) or f"{place!r} cannot be written"
    return ""


def _json_problem(content: Any, place: str) -> str:
    parts: Iterable[tuple[str, Any]]
    if isinstance(content, Mapping):
        for key in content:
            if not isinstance(key, str | int | float | None):
                return f"a key of {place!r} is of the type {type(key).__name__}"
        parts = ((f"{place}.{key}" if place else str(key), value) for key, value in content.items())
    elif isinstance(content, list | tuple):
        parts = ((f"{place}[{number}]", value) for number, value in enumerate(content))
    elif content is None or isinstance(content, str | int | float):
        return ""
    else:
        return f"{place!r} is of the type {type(content).__name__}"
    for inside, value in parts:
        if problem := _json_problem(value, inside):
            return problem
    return ""


def _refuse_seeds(directory: Path) -> None:
    """Check that a folder is not that of several seeds.

    Raises:
        BadRecipe: It is.
    """
    from finetune import seed_folders  # it imports this module

    if seeds := seed_folders.seeds_of(directory):
        raise BadRecipe(seed_folders.name_one(directory, seeds))


def _require_format(content: Mapping[str, Any], path: Path) -> None:
    if not isinstance(content, dict):
        raise BadRecipe(f"{path} is damaged: it holds no JSON object. Restore the file as the run wrote it.")
    found = content.get("format")
    if not isinstance(found, int) or found > FORMAT:
        raise BadRecipe(
            f"{path} has format {found!r}; this version reads format {FORMAT}. "
            "Install the version of finetune-kit that wrote it, or a newer one."
        )
    if found < FORMAT:
        raise BadRecipe(
            f"{path} has format {found}, which an older version wrote; this version reads format {FORMAT}. "
            f"Run the recipe again: `finetune train {path.with_name(RECIPE)} --overwrite`."
        )
    unknown = sorted(set(content) - {f.name for f in fields(Result)})
    if unknown:
        raise BadRecipe(f"{path} holds unknown fields: {', '.join(unknown)}. Restore the file as the run wrote it.")
    missing = []
    for each in fields(Result):
        required = each.name == "phases" or (each.default is MISSING and each.default_factory is MISSING)
        if required and each.name not in content:
            missing.append(each.name)
    if missing:
        raise BadRecipe(f"{path} lacks fields: {', '.join(missing)}. Restore the file as the run wrote it.")


def environment() -> dict[str, Any]:
    """Return versions, hardware and threads."""
    import torch

    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions(),
        "processor": platform.processor() or platform.machine(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": devices,
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
    }


def versions() -> dict[str, str]:
    """Return the versions of this package, of what it requires, and of its optional libraries that are installed."""
    found: dict[str, str] = {}
    for line in (DISTRIBUTION, *(requires(DISTRIBUTION) or ())):
        name, extra = _REQUIREMENT.match(line).groups()  # type: ignore[union-attr]  # both metadata and we write it so
        if extra in NOT_FOR_RUNS or name in found:
            continue
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # an optional library that is not installed
    return found


SCRATCH = ".*.*.scratch"
"""Names of the files that `write_atomically` leaves if the process is killed."""


def write_atomically(path: Path, content: str | bytes | Iterable[str]) -> None:
    r"""Write a file so that, after a crash, it is either complete or unchanged.

    Half of a surrogate pair, which UTF-8 cannot hold, is written as in JSON: ``\ud83d``.

    Args:
        path: The file.
        content: What it holds, or its text in parts, one after another.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}.scratch")
    scratch.unlink(missing_ok=True)  # a link that somebody laid there would lead the text to another file
    try:
        with scratch.open("xb") as file:
            for part in [content] if isinstance(content, str | bytes) else content:
                file.write(part if isinstance(part, bytes) else part.encode("utf-8", errors="backslashreplace"))
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
