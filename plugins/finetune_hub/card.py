"""The model card of a run: `README.md`, whose every figure was measured and stands in `result.json`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import EvalResult, ModelCardData

from finetune.errors import BadData
from finetune.interfaces import Preprocessor
from finetune.kit import (
    PREDICTIONS,
    RECIPE,
    Result,
    SeedsResult,
    as_trained,
    discover,
    dump_yaml,
    rebuild,
    refuse_credentials,
    resolve,
    verdicts,
    write_atomically,
)
from finetune_hub import usage
from finetune_hub.facts import Facts, facts_of
from finetune_hub.hub_rules import is_hub_id, languages
from finetune_hub.markdown import bullets, fenced, plain, plain_paragraphs, plain_sentence, table
from finetune_hub.portable import without_paths

R = TypeVar("R", Result, SeedsResult)

CARD = "README.md"
LICENSE_UNKNOWN = "**Unknown.** The base model's card does not state one. State it: `finetune card RUN license=…`."
_ARGUMENTS = (
    "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps",
    "lr_scheduler_type", "warmup_steps", "weight_decay", "optim", "bf16", "fp16", "seed",
)  # fmt: skip
"""Training arguments that the card shows."""


def write(result: Result, directory: Path, *, repo: str | None = None) -> Path:
    """Write the card of a run into its folder, and return its path.

    Args:
        result: The run's result.
        directory: The run folder.
        repo: The repository that it is pushed to, ``user/name``; None if it stays on this machine.

    Raises:
        BadOptions: The recipe's `card` section has an unknown field.
    """
    path = directory / CARD
    write_atomically(path, card(result, directory, repo=repo))
    return path


def card(result: Result, directory: Path, *, repo: str | None = None) -> str:
    """Return the card of a run: metadata for the Hub, then what a person must know before using the model.

    Args:
        result: The run's result.
        directory: The run folder.
        repo: The repository that it is pushed to, ``user/name``; None if it stays on this machine.

    Raises:
        BadOptions: The recipe's `card` section has an unknown field.
    """
    facts = facts_of(result, directory)
    name = repo.split("/")[-1] if repo else Path(result.directory or directory).name
    if repo:
        result = without_paths(result)
    sections = [
        ("Scores", _scores(result)),
        ("Data", data(result, facts)),
        ("Training", _training(result)),
        ("Intended use and limits", _limits(result, facts)),
        ("How to use", _usage(result, facts, directory, repo)),
        ("How to reproduce", reproduction(result, facts)),
        ("Licence", license_text(facts)),
    ]
    for title, text in _plugin_sections(result, directory):
        sections.append((plain(title), text))
    header = f"---\n{metadata(result, facts, name=name).to_yaml()}\n---"
    return document([header, f"# {plain(name)}", *_opening(result, facts)], sections)


def document(blocks: Sequence[str], sections: Sequence[tuple[str, str]]) -> str:
    """Return a card: its first blocks, then the sections (title, text) that have a text."""
    parts = [*blocks]
    for title, text in sections:
        if text:
            parts.append(f"## {title}\n\n{text}")
    return "\n\n".join(parts) + "\n"


def write_again(directory: Path) -> Path:
    """Write the card of a finished run from its result, and return its path."""
    return write(Result.load(directory), directory)


def set_fields(directory: Path, fields: Mapping[str, str]) -> None:
    """Set fields of a run's `card` section, in its `result.json` and its `recipe.yaml`.

    Raises:
        BadOptions: A field is unknown.
        BadRecipe: A field holds a credential.
    """
    save_with_recipe(with_fields(Result.load(directory), directory, fields), directory)


def with_fields(result: R, run: Path, fields: Mapping[str, str]) -> R:
    """Return a result with fields of the `card` section set; write nothing.

    Args:
        result: The result of a run, or of several seeds.
        run: The run folder, or that of the first seed.
        fields: The fields.

    Raises:
        BadOptions: A field is unknown.
        BadRecipe: A field holds a credential.
    """
    refuse_credentials({"card": fields})
    section = {**(result.recipe.get("card") or {}), **fields}
    changed = replace(result, recipe={**result.recipe, "card": section})
    facts_of(changed, run)  # refuses unknown fields
    return changed


def save_with_recipe(result: Result | SeedsResult, directory: Path) -> None:
    """Write `result.json` and `recipe.yaml` of a result whose recipe has changed."""
    result.save(directory)
    write_atomically(directory / RECIPE, dump_yaml(dict(result.recipe)))


def metadata(result: Result, facts: Facts, *, name: str) -> ModelCardData:
    """Return the card's metadata, without the facts that are unknown."""
    scores = list(eval_results(result))
    path = result.recipe["dataset"].get("path")
    data_set = facts.fields.get("dataset_name") or (path if isinstance(path, str) and is_hub_id(path) else None)
    stated = languages(facts.fields)
    base: dict[str, Any] = {}
    if facts.base_model:
        base = {"base_model": facts.base_model, "base_model_relation": facts.relation}
    return ModelCardData(
        **base,
        language=stated[0] if len(stated) == 1 else stated or None,
        license=facts.license,
        license_name=facts.fields.get("license_name"),
        license_link=facts.fields.get("license_link"),
        library_name=facts.library,
        pipeline_tag=facts.pipeline_tag,
        datasets=[data_set] if data_set else None,
        metrics=[result.primary],
        tags=tags(result),
        model_name=name if scores else None,
        eval_results=scores or None,
    )


def tags(result: Result) -> list[str]:
    """Return the tags of a run: task and strategy, unless they are the path of a Python class."""
    names = ["finetune-kit", str(result.recipe["task"]), strategy_of(result)]
    return [name for name in names if ":" not in name]


def strategy_of(result: Result | SeedsResult) -> str:
    """Return the name of the strategy that trained a run, or the model of a merged or exported folder."""
    return str(as_trained(result.recipe).recipe["strategy"]["name"])


def eval_results(result: Result) -> Iterator[EvalResult]:
    """Yield the scores of the split that represents the run, with their intervals, for the Hub's model index."""
    split = verdicts.report_split(result)
    if split is None:
        return
    path = result.recipe["dataset"].get("path") or "a mixture"
    is_named = isinstance(path, str)
    for name, value in verdicts.shown(result.scores[split], primary=result.primary).items():
        bounds = result.intervals.get(split, {}).get(name)
        yield EvalResult(
            task_type=str(result.recipe["task"]),
            dataset_type=path if is_named and is_hub_id(path) else "local",
            dataset_name=path if is_named else "local files",
            dataset_split=split,
            dataset_revision=result.fingerprints.get(split),
            metric_type=name,
            metric_name=name,
            metric_value=value,
            metric_args={"low": bounds["low"], "high": bounds["high"], "confidence": 0.95} if bounds else None,
        )


def _opening(result: Result, facts: Facts) -> list[str]:
    return opening(result, facts, verdicts.headline(result))


def opening(result: Result | SeedsResult, facts: Facts, sentences: Iterable[str], *, how: str = "") -> list[str]:
    """Return what a card begins with: what was trained, and what came of it.

    Args:
        result: The result of a run, or of several seeds.
        facts: What is known beyond the result.
        sentences: What came of it.
        how: What the sentence on the training ends with.
    """
    base = plain(facts.base_model or result.recipe["model"]["path"])
    task, strategy = plain(result.recipe["task"]), plain(strategy_of(result))
    blocks = []
    if facts.fields.get("description"):
        blocks.append(plain_paragraphs(facts.fields["description"]))
    if isinstance(result, Result) and result.adopted_from is not None:
        blocks.append(f"A model for {task} that another program trained.")
    else:
        blocks.append(f"{base}, fine-tuned for {task} with the strategy {strategy}{how}.")
    blocks.append(bullets(map(plain_sentence, sentences)))
    return blocks


def _scores(result: Result) -> str:
    split = verdicts.report_split(result)
    if split is None:
        return "No rows were held out, so there is no score."
    others = {"base model": result.base_model_scores.get(split, {}), **result.baselines.get(split, {})}
    others = {name: scores for name, scores in others.items() if scores}
    rows = []
    for name, value in verdicts.shown(result.scores[split], primary=result.primary).items():
        row = [plain(name), verdicts.format_score(value), interval_of(result, split, name)]
        for scores in others.values():
            row.append(verdicts.format_score(scores[name]) if name in scores else "")
        rows.append(row)
    headers = [split, "fine-tuned", "95% interval", *map(plain, others)]
    return (
        f"On {plain_sentence(verdicts.describe_split(result, split))}.\n\n{table(headers, rows)}\n\n"
        "Intervals are bootstrap intervals over independent units. The columns after the interval are the same scores "
        "of the base model before training, and of baselines that need no model."
        f"{_signatures(result, split)}"
    )


def interval_of(result: Result | SeedsResult, split: str, name: str) -> str:
    """Return the interval of a score as text; empty if it has none."""
    bounds = result.intervals.get(split, {}).get(name)
    if not bounds:
        return ""
    return f"{verdicts.format_score(bounds['low'])} to {verdicts.format_score(bounds['high'])}"


def _signatures(result: Result, split: str) -> str:
    """Return how scores were computed that other tools compute in another way; an empty text if nothing is recorded."""
    signatures = result.details.get(split, {}).get("signature") or {}
    lines = [f"{plain(name)}: {plain(signature)}" for name, signature in signatures.items()]
    return f"\n\nHow they were computed:\n\n{bullets(lines)}" if lines else ""


def data(result: Result | SeedsResult, facts: Facts) -> str:
    """Return the section about the data."""
    path = result.recipe["dataset"].get("path")
    source = path if isinstance(path, str) and path else "local files or rows"
    license_name = facts.fields.get("dataset_license") or "not stated"
    lines = [f"Source: {plain(source)}. Licence: {plain(license_name)}."]
    for split, counts in result.data_report.items():
        fingerprint = result.fingerprints.get(split, "")[:16]
        lines.append(
            f"{split}: {counts.get('kept', 0):,} rows, {counts.get('dropped', 0):,} dropped; "
            f"{counts.get('tokens', 0):,} tokens, {counts.get('tokens_lost', 0):,} lost by truncation; fingerprint "
            f"`{fingerprint}`."
        )
    lines.extend(map(plain_sentence, verdicts.leaks(result.leakage)))
    if isinstance(result, Result):
        lines.extend(map(plain_sentence, verdicts.beyond_limits(result)))
    return bullets(lines)


def _training(result: Result) -> str:
    rows = [[f"`{name}`", plain(result.arguments[name])] for name in _ARGUMENTS if name in result.arguments]
    if result.adopted_from is not None:
        facts = [*map(plain_sentence, verdicts.fit(result)), *(plain_paragraphs(f"{note}.") for note in result.notes)]
        steps = f"\n\nThe log of the training has {result.steps:,} steps." if result.steps else ""
        known = f"{bullets(facts)}{steps}"
        return f"{known}\n\n{table(['option', 'value'], rows)}" if rows else known
    share = verdicts.format_percent(result.trainable_parameters, result.total_parameters)
    facts = [
        f"{result.trainable_parameters:,} of {result.total_parameters:,} parameters trained ({share}).",
        f"{result.steps:,} optimizer steps in {result.training_seconds:,.0f} s; peak memory "
        f"{result.peak_memory_mb:,.0f} MiB.",
        *map(plain_sentence, verdicts.origin(result)),
        *map(plain_sentence, verdicts.fit(result)),
        *map(plain_sentence, verdicts.forgetting(result)),
    ]
    return f"{bullets(facts)}\n\n{table(['option', 'value'], rows)}"


def _limits(result: Result, facts: Facts) -> str:
    stated = [plain_paragraphs(facts.fields[name]) for name in ("intended_use", "limits") if facts.fields.get(name)]
    measured = []
    if not facts.fields.get("language"):
        measured.append("The language of the data is not stated. The scores hold for text like that of the test set.")
    max_length = result.preprocessor["options"].get("max_length")
    if max_length:
        measured.append(f"Texts longer than {max_length:,} tokens are truncated or split, as in training.")
    measured += map(plain_sentence, verdicts.calibration(result))
    for sentence in verdicts.weak_slices(result):
        measured.append(f"Weak slice: {plain_sentence(sentence)}")
    if not stated:
        stated = ["The author has not stated the intended use. What was measured:"]
    return "\n\n".join([*stated, bullets(measured)] if measured else stated)


def _usage(result: Result, facts: Facts, directory: Path, repo: str | None) -> str:
    example = _first_example(directory)
    columns = input_columns(rebuild(result.preprocessor, where="preprocessor"), example)
    arguments = ", ".join(f"{name}={_placeholder(example.get(name))!r}" for name in columns)
    if repo:
        imports = "import finetune\nfrom huggingface_hub import snapshot_download"
        folder = f"snapshot_download({repo!r})"
    else:
        imports = "import finetune"
        folder = repr(str(Path(result.directory or directory)))
    code = f"{imports}\n\nfolder = {folder}\nmodel = finetune.load(folder)\nprint(model.predict({arguments}))"
    blocks = [f"With `finetune-kit`:\n\n{fenced(code, 'python')}"]
    plain_code = usage.plain_code(result, directory, place=repo or str(Path(result.directory or directory)))
    if plain_code is not None:
        libraries = "transformers and PEFT" if facts.relation == "adapter" else "transformers"
        blocks.append(f"With {libraries} alone:\n\n{fenced(plain_code, 'python')}")
        temperature = result.evaluator["options"].get("temperature")
        if temperature not in (None, 1.0):
            blocks.append(f"Its probabilities are not divided by the temperature of the run, {temperature:.2f}.")
    if facts.relation == "adapter" and facts.base_model is None:
        path = plain(result.recipe["model"]["path"])
        blocks.append(
            f"The adapter needs its base model: {path}, a folder of the machine on which it was trained. "
            "State its id on the Hub: `finetune card RUN base_model=user/name`."
        )
    return "\n\n".join(blocks)


def input_columns(preprocessor: Preprocessor, example: Mapping[str, Any]) -> list[str]:
    """Return the columns that a prediction needs.

    If a preprocessor requires no column, rows may have several forms; the smallest form that passes its check is
    returned.

    Args:
        preprocessor: The run's preprocessor, fitted.
        example: An example of the run, whose columns are tried first.
    """
    needs = preprocessor.needs()
    if needs.required:
        return [name for name in needs.required if name not in needs.answers]
    columns = [name for name in needs.optional if name not in needs.answers]
    present = [name for name in columns if example.get(name) is not None]
    forms = [[name] for name in present]
    forms.append(present)
    for name in columns:
        if name not in present:
            forms.append([*present, name])
    for form in forms:
        if _passes_check(preprocessor, form, example):
            return form
    return present


def _passes_check(preprocessor: Preprocessor, columns: Sequence[str], example: Mapping[str, Any]) -> bool:
    row = {name: _placeholder(example.get(name)) for name in columns}
    return all(finding.level == "warning" for finding in preprocessor.check([row]))


def reproduction(result: Result | SeedsResult, facts: Facts) -> str:
    """Return the section with the recipe and the versions; empty for a model that another program trained."""
    if isinstance(result, Result) and result.adopted_from is not None:
        return ""
    versions = ", ".join(f"{name} {version}" for name, version in result.environment["versions"].items())
    trained = as_trained(result.recipe)
    model, command = dict(trained.recipe["model"]), "`finetune train recipe.yaml` with this recipe"
    for done in trained.afterwards:
        _, is_exported, form = done.partition("exported as ")
        then = f"finetune export run exported --format {form}" if is_exported else "finetune merge run"
        command = f"{command}, and then `{then}`"
    stated = facts.fields.get("base_model")
    if stated and model["path"].startswith(("/", "./", "~")):
        model["path"] = stated  # a folder of this machine does not help a reader
    recipe = dump_yaml({**trained.recipe, "model": model, "output": "run"})
    return (
        f"Run {command}, on Python {plain(result.environment['python'])} with "
        f"{plain_paragraphs(versions)}.\n\n{fenced(recipe, 'yaml')}"
    )


def license_text(facts: Facts) -> str:
    """Return the section about the licence."""
    if facts.license is None:
        return LICENSE_UNKNOWN
    return f"{plain(facts.license)}, stated by {facts.license_source}."


def _plugin_sections(result: Result, directory: Path) -> Iterator[tuple[str, str]]:
    """Yield title and text of the sections that plugins add."""
    for title, target in discover().catalogues["card_sections"].available.items():
        section: Callable[[Result, Path], str] = resolve(target)
        yield title, section(result, directory)


def _first_example(directory: Path) -> Mapping[str, Any]:
    path = directory / PREDICTIONS
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8") as file:
            line = file.readline()
        return dict(json.loads(line)["example"]) if line else {}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadData(f"{path}:1: the line is damaged: {error}. Restore the file as the run wrote it.") from error


def _placeholder(value: Any) -> Any:
    """Return a made-up value of the same form: a card must not show a row of the data."""
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return [{"role": "user", "content": "Where does the ferry land?"}]
    if isinstance(value, list):
        return ["The", "ferry", "lands", "at", "noon", "."]
    if isinstance(value, Mapping):
        return dict.fromkeys(value, "The ferry lands at noon.")
    return "The ferry lands at noon."
