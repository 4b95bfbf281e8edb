"""`finetune check`."""

from __future__ import annotations

from pathlib import Path

import click

from finetune.cli import parameters, recipes


@click.command("check", context_settings=recipes.SETTINGS)
@recipes.arguments
@click.option(
    "--samples", type=click.IntRange(min=0), default=3, show_default=True, help="How many features to show as text."
)
@parameters.cache
@parameters.trust_code
@parameters.as_json("Print the data report as JSON.")
@parameters.loudness
def command(call: recipes.Call, samples: int, cache: Path | None, as_json: bool, quiet: bool) -> None:
    """Check the data of RECIPE as `train` does, without loading a model.

    Prints the number of rows and tokens, the findings, and some features; the loss is computed on
    the text between ⟦ and ⟧.
    """
    from dataclasses import asdict

    from finetune import early
    from finetune.cli import output
    from finetune.plugins import add_recipe_folder, discover

    given = call.read()
    read = given.recipe
    given.say_where("check")
    add_recipe_folder(given.path)
    quiet = quiet or as_json
    early.check(read, discover())
    with output.loading(quiet=quiet):
        from finetune import plan as plans
        from finetune.data import feature_stream, preparation
        from finetune.evaluation import verdicts
        from finetune.evaluation.forgetting import require_general_text
        from finetune.recipe.options import describe

    plan = plans.make(read, discover())
    require_general_text(read.general_text)
    prepared = preparation.prepare(plan, reporter=output.reporter(quiet=quiet), cache=cache)
    found = prepared.examples
    notes = feature_stream.notes(found, read.dataset)
    features = prepared.features["train"].features
    shown = []
    for feature in features.select(range(min(samples, len(features)))):
        shown.append(prepared.plan.preprocessor.show(feature, prepared.tokenizer))
    if as_json:
        output.as_json(
            {
                "data_report": prepared.data_report,
                "findings": [asdict(finding) for finding in found.findings],
                "counts": found.counts,
                "fingerprints": found.fingerprints,
                "leakage": prepared.leakage,
                "limits": prepared.limits,
                "notes": notes,
                "samples": shown,
                "preprocessor": describe(prepared.plan.preprocessor),
            }
        )
        return
    report = prepared.data_report
    rows: dict[str, list[object]] = {}
    for counts in report.values():
        for kind in counts:
            rows[kind] = [kind, *(each.get(kind, 0) for each in report.values())]
    output.table(["", *report], rows.values())
    for sentence in (*notes, *verdicts.leaks(prepared.leakage)):
        output.say(sentence)
    output.findings(found.findings, found.counts)
    for number, text in enumerate(shown, 1):
        click.echo(f"\nsample {number}: {text}")
