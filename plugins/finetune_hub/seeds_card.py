"""The card of several seeds: the `README.md` of the folder that holds a run for each of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from finetune.kit import SeedsResult, seed_verdicts, verdicts, write_atomically
from finetune_hub import card
from finetune_hub.card import CARD
from finetune_hub.facts import facts_of
from finetune_hub.markdown import bullets, fenced, plain, plain_sentence, table


def write(result: SeedsResult, directory: Path) -> Path:
    """Write the card of several seeds into their folder, and return its path.

    Raises:
        BadOptions: The recipe's `card` section has an unknown field.
    """
    path = directory / CARD
    write_atomically(path, text(result, directory))
    return path


def text(result: SeedsResult, directory: Path) -> str:
    """Return the card of several seeds: what they say together, and where the run of each is.

    Raises:
        BadOptions: The recipe's `card` section has an unknown field.
    """
    facts = facts_of(result, directory / result.runs[0])
    sections = [
        ("Scores", _scores(result)),
        ("Between the seeds", bullets(map(plain_sentence, seed_verdicts.between_seeds(result)))),
        ("Runs", _runs(result)),
        ("Data", card.data(result, facts)),
        ("How to use", _usage(result, directory)),
        ("How to reproduce", card.reproduction(result, facts)),
        ("Licence", card.license_text(facts)),
    ]
    how = f", with {len(result.seeds)} seeds: {', '.join(map(str, result.seeds))}"
    opening = card.opening(result, facts, seed_verdicts.headline(result), how=how)
    return card.document([f"# {plain(directory.absolute().name)}", *opening], sections)


def set_fields(result: SeedsResult, directory: Path, fields: Mapping[str, str]) -> SeedsResult:
    """Set fields of the `card` section, in each run and in the folder of all; return the changed result.

    Raises:
        BadOptions: A field is unknown.
        BadRecipe: A field holds a credential, or a run is damaged.
    """
    changed = card.with_fields(result, directory / result.runs[0], fields)
    for run in result.runs:
        card.set_fields(directory / run, fields)
        card.write_again(directory / run)
    card.save_with_recipe(changed, directory)
    return changed


def _scores(result: SeedsResult) -> str:
    split = verdicts.report_split(result)
    if split is None:
        return "No rows were held out, so there is no score."
    rows = []
    for name, value in verdicts.shown(result.scores[split], primary=result.primary).items():
        numbers = [result.deviations[split][name], *result.seed_scores[split][name]]
        first = [plain(name), verdicts.format_score(value), card.interval_of(result, split, name)]
        rows.append([*first, *map(verdicts.format_score, numbers)])
    headers = [split, "mean", "95% interval", "between seeds", *(f"seed {seed}" for seed in result.seeds)]
    return (
        f"On {plain_sentence(verdicts.describe_split(result, split))}.\n\n{table(headers, rows)}\n\n"
        "“Between seeds” is the standard deviation. The intervals are for other rows and other seeds."
    )


def _runs(result: SeedsResult) -> str:
    lines = []
    for seed, run, steps, seconds in zip(result.seeds, result.runs, result.steps, result.training_seconds, strict=True):
        lines.append(f"seed {seed}: [{run}]({run}/{CARD}), {steps:,} steps in {seconds:,.0f} s")
    trained, total = result.trainable_parameters, result.total_parameters
    share = verdicts.format_percent(trained, total)
    return (
        f"{bullets(lines)}\n\nEach run trains {trained:,} of {total:,} parameters ({share}). All have the same rows. "
        "The best of them is not a better model: its score is the greatest of several that vary by chance."
    )


def _usage(result: SeedsResult, directory: Path) -> str:
    folder = str(Path(result.directory or directory) / result.runs[0])
    code = f"import finetune\n\nmodel = finetune.load({folder!r})"
    return f"Each run is a model. To use the first:\n\n{fenced(code, 'python')}"
