"""`result.json` → `README.md`: a model card in which every figure is one that was measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from finetune.errors import BadData
from finetune.interfaces import Preprocessor
from finetune.kit import (
    PREDICTIONS,
    RECIPE,
    Result,
    discover,
    dump_yaml,
    from_rows,
    rebuild,
    resolve,
    verdicts,
    write_atomically,
)
from finetune_hub.facts import Facts, facts_of
from finetune_hub.markdown import bullets, fenced, plain, table

CARD = "README.md"
LICENSE_UNKNOWN = "**Unknown.** The base model's card does not say it. Say it: `finetune card RUN license=…`."


def write(result: Result, directory: Path, *, repo: str | None = None) -> Path:
    """Write the card of a run into its folder, and return where it is.

    Raises:
        BadOptions: The recipe's `card` section has an unknown word.
    """
    path = directory / CARD
    write_atomically(path, card(result, directory, repo=repo))
    return path


def card(result: Result, directory: Path, *, repo: str | None = None) -> str:
    """Return the card of a run: metadata for the Hub, then what a person should know before using the model.

    Args:
        result: What happened.
        directory: The run folder.
        repo: Where it is pushed to, ``user/name``; None where it stays here.
    """
    facts = facts_of(result, directory)
    name = repo.split("/")[-1] if repo else Path(result.directory or directory).name
    sections: dict[str, Callable[[], str]] = {
        "Scores": lambda: _scores(result),
        "Data": lambda: _data(result, facts),
        "Training": lambda: _training(result),
        "Intended use and limits": lambda: _limits(result, facts),
        "How to use": lambda: _usage(result, directory, repo),
        "How to reproduce": lambda: _reproduce(result),
        "Licence": lambda: _license(facts),
    }
    parts = [f"---\n{metadata(result, facts, name=name).to_yaml()}\n---", f"# {plain(name)}", _opening(result, facts)]
    parts += [f"## {title}\n\n{text}" for title, make in sections.items() if (text := make())]
    parts += [f"## {plain(title)}\n\n{text}" for title, text in _more(result, directory) if text]
    return "\n\n".join(parts) + "\n"


def say(directory: Path, words: Mapping[str, str]) -> None:
    """Put what only an author can say into the record of a run: its `result.json` and its `recipe.yaml`.

    Raises:
        BadOptions: A word is unknown.
    """
    result = Result.load(directory)
    told = replace(result, recipe={**result.recipe, "card": {**(result.recipe.get("card") or {}), **words}})
    facts_of(told, directory)  # refuses unknown words before anything is written
    told.save(directory)
    write_atomically(directory / RECIPE, dump_yaml(told.recipe))


def metadata(result: Result, facts: Facts, *, name: str) -> ModelCardData:
    """Return the card's metadata; what is unknown is left out."""
    results = list(eval_results(result))
    path = result.recipe["dataset"].get("path")
    data_set = facts.said.get("dataset_name") or (path if isinstance(path, str) and _is_id(path) else None)
    base: dict[str, Any] = (
        {"base_model": facts.base_model, "base_model_relation": facts.relation} if facts.base_model else {}
    )
    return ModelCardData(
        **(base if facts.base_model else {}),
        language=facts.said.get("language"),
        license=facts.license,
        library_name=facts.library,
        pipeline_tag=facts.pipeline_tag,
        datasets=[data_set] if data_set else None,
        metrics=[result.primary],
        tags=["finetune-kit", str(result.recipe["task"]), str(result.recipe["strategy"]["name"])],
        model_name=name if results else None,
        eval_results=results or None,
    )


def eval_results(result: Result) -> Iterator[EvalResult]:
    """Yield the scores of the split that stands for the run, with their intervals, as a model index has them."""
    split = verdicts.report_split(result)
    if split is None:
        return
    path = result.recipe["dataset"].get("path") or "a mixture"
    for name, value in result.scores[split].items():
        bounds = result.intervals.get(split, {}).get(name)
        yield EvalResult(
            task_type=str(result.recipe["task"]),
            dataset_type=path if isinstance(path, str) and _is_id(path) else "local",
            dataset_name=path if isinstance(path, str) else "files of its own",
            dataset_split=split,
            dataset_revision=result.fingerprints.get(split),
            metric_type=name,
            metric_name=name,
            metric_value=value,
            metric_args={"low": bounds["low"], "high": bounds["high"], "confidence": 0.95} if bounds else None,
        )


def _opening(result: Result, facts: Facts) -> str:
    base = plain(facts.base_model or result.recipe["model"]["path"])
    task, strategy = plain(result.recipe["task"]), plain(result.recipe["strategy"]["name"])
    told = f"{base}, fine-tuned for {task} by the strategy {strategy}."
    described = facts.said.get("description")
    lines = [plain_paragraph(described)] if described else []
    return "\n\n".join([*lines, told, bullets(map(plain_sentence, verdicts.headline(result)))])


def _scores(result: Result) -> str:
    split = verdicts.report_split(result)
    if split is None:
        return "Nothing was held out, so no score is stated."
    others = {"base_model": result.base_model_scores.get(split, {}), **result.baselines.get(split, {})}
    others = {name: scores for name, scores in others.items() if scores}
    rows = []
    for name, value in result.scores[split].items():
        bounds = result.intervals.get(split, {}).get(name)
        span = f"{verdicts.format_score(bounds['low'])} to {verdicts.format_score(bounds['high'])}" if bounds else ""
        rows.append(
            [
                plain(name),
                verdicts.format_score(value),
                span,
                *(verdicts.format_score(s[name]) if name in s else "" for s in others.values()),
            ]
        )
    headers = [split, "trained", "95 % interval", *map(plain, others)]
    return f"On {plain_sentence(verdicts.describe_split(result, split))}.\n\n{table(headers, rows)}\n\n" + (
        "Intervals are bootstrap intervals over independent units. The other columns are the same scores of the model "
        "before training, and of predictors that need no model."
    )


def _data(result: Result, facts: Facts) -> str:
    path = result.recipe["dataset"].get("path")
    where = path if isinstance(path, str) and path else "files or rows of its own"
    lines = [f"Read from {plain(where)}. Licence: {plain(facts.said.get('dataset_license') or 'not stated')}."]
    for split, counts in result.data_report.items():
        kept, dropped, lost = counts.get("kept", 0), counts.get("dropped", 0), counts.get("tokens_lost", 0)
        digest = result.fingerprints.get(split, "")[:16]
        lines.append(
            f"{split}: {kept:,} rows, {dropped:,} dropped, {counts.get('tokens', 0):,} tokens, {lost:,} lost by "
            f"truncation; fingerprint `{digest}`."
        )
    return bullets([*lines, *map(plain_sentence, verdicts.leaks(result.leakage))])


def _training(result: Result) -> str:
    share = verdicts.format_percent(result.trainable_parameters, result.total_parameters)
    seconds = sum(phase.seconds for phase in result.phases if phase.name == "train")
    peak = max(phase.peak_memory_mb for phase in result.phases)
    given = {name: result.arguments.get(name) for name in _ARGUMENTS if name in result.arguments}
    facts = [
        f"{result.trainable_parameters:,} of {result.total_parameters:,} parameters trained ({share}).",
        f"{result.steps:,} optimizer updates in {seconds:,.0f} s; at most {peak:,.0f} MiB of memory.",
        *map(plain_sentence, verdicts.fit(result)),
        *map(plain_sentence, verdicts.forgetting(result)),
    ]
    chosen = table(["option", "value"], [[f"`{name}`", plain(value)] for name, value in given.items()])
    return f"{bullets(facts)}\n\n{chosen}"


_ARGUMENTS = (
    "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps",
    "lr_scheduler_type", "warmup_steps", "weight_decay", "optim", "bf16", "fp16", "seed",
)  # fmt: skip


def _limits(result: Result, facts: Facts) -> str:
    lines = [plain_paragraph(facts.said[word]) for word in ("intended_use", "limits") if facts.said.get(word)]
    language = facts.said.get("language")
    measured = [] if language else ["The language of the data is not stated; scores hold for text like the test set's."]
    longest = result.preprocessor["options"].get("max_length")
    if longest:
        measured.append(f"Longer texts than {longest:,} tokens are cut or parted, as in training.")
    measured += [f"It does badly here: {plain_sentence(sentence)}" for sentence in verdicts.weak_slices(result)]
    if not lines:
        lines = ["What it is for, its author has not said. What was measured:"]
    return "\n\n".join([*lines, bullets(measured)] if measured else lines)


def _usage(result: Result, directory: Path, repo: str | None) -> str:
    example = _first_example(directory)
    columns = _asked(result, example)
    given = {name: _placeholder(example.get(name)) for name in columns}
    call = ", ".join(f"{name}={value!r}" for name, value in given.items())
    head = "import finetune\n"
    folder = repr(str(Path(result.directory or directory)))
    if repo:
        head += f"from huggingface_hub import snapshot_download\n\nfolder = snapshot_download({repo!r})\n"
    else:
        head += f"\nfolder = {folder}\n"
    code = f"{head}model = finetune.load(folder)\nprint(model.predict({call}))"
    return f"With `finetune-kit`:\n\n{fenced(code, 'python')}"


def _asked(result: Result, example: Mapping[str, Any]) -> list[str]:
    """Return the columns that a prediction needs: where rows may have several forms, the least that is taken."""
    made = rebuild(result.preprocessor, where="preprocessor")
    needs = made.needs()
    if needs.required:
        return [name for name in needs.required if name not in needs.answers]
    known = [name for name in needs.optional if name not in needs.answers]
    own = [name for name in known if example.get(name) is not None]
    forms = [*([name] for name in own), own, *([*own, name] for name in known if name not in own)]
    return next((form for form in forms if _is_taken(made, form, example)), own)


def _is_taken(preprocessor: Preprocessor, columns: Sequence[str], example: Mapping[str, Any]) -> bool:
    row = {name: _placeholder(example.get(name)) for name in columns}
    try:
        from_rows({"test": [row]}, preprocessor, fit=False, answers=False)
    except BadData:
        return False
    return True


def _reproduce(result: Result) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in result.environment["versions"].items())
    text = dump_yaml({**dict(result.recipe), "output": "run"})
    return (
        f"`finetune train recipe.yaml` with this recipe, on Python {plain(result.environment['python'])} with "
        f"{plain_paragraph(versions)}.\n\n{fenced(text, 'yaml')}"
    )


def _license(facts: Facts) -> str:
    if facts.license is None:
        return LICENSE_UNKNOWN
    return f"{plain(facts.license)}, as {facts.license_from} says."


def _more(result: Result, directory: Path) -> Iterator[tuple[str, str]]:
    """Yield the sections that other plugins add."""
    for name, target in discover().catalogues["card_sections"].available.items():
        yield name, resolve(target)(result, directory)


def plain_sentence(text: str) -> str:
    """Return a sentence of ours, in which names from the data may stand."""
    return plain(text, longest=None).replace("\\(", "(").replace("\\)", ")")


def plain_paragraph(text: object) -> str:
    """Return what an author wrote, its paragraphs kept and nothing else."""
    return "\n\n".join(plain_sentence(part) for part in str(text).split("\n\n") if part.strip())


def _first_example(directory: Path) -> Mapping[str, Any]:
    path = directory / PREDICTIONS
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8") as file:
        line = file.readline()
    return dict(json.loads(line)["example"]) if line else {}


def _placeholder(value: Any) -> Any:
    """Return something of the same form; what stands in the data is its owner's."""
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return [{"role": "user", "content": "Where does the ferry land?"}]
    if isinstance(value, list):
        return ["The", "ferry", "lands", "at", "noon", "."]
    if isinstance(value, Mapping):
        return dict.fromkeys(value, "The ferry lands at noon.")
    return "The ferry lands at noon."


def _is_id(path: str) -> bool:
    return path.count("/") == 1 and ":" not in path and not Path(path).exists() and not path.startswith(".")
