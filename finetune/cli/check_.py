"""`finetune check`."""

from __future__ import annotations

from pathlib import Path

import click

from finetune.cli import parameters


@click.command("check")
@click.argument("recipe", type=click.Path(dir_okay=False))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--samples", type=click.IntRange(min=0), default=3, show_default=True, help="How many features to show as text."
)
@parameters.cache
@parameters.trust_code
@click.option("--json", "as_json", is_flag=True, help="Print the data report as JSON.")
@parameters.loudness
def command(
    recipe: str, overrides: tuple[str, ...], samples: int, cache: Path | None, as_json: bool, quiet: bool
) -> None:
    """Check the data of RECIPE as `train` does, without loading a model.

    Prints the number of rows and tokens, the findings, and some features; the loss is computed on
    the text between ⟦ and ⟧.
    """
    from dataclasses import asdict

    from finetune import recipe as recipes
    from finetune.cli import output
    from finetune.errors import BadData
    from finetune.plugins import add_recipe_folder, discover

    read = recipes.read(recipe, overrides)
    add_recipe_folder(Path(recipe))
    quiet = quiet or as_json
    with output.loading(quiet=quiet):
        from finetune import plan as plans
        from finetune.data import feature_stream, preparation
        from finetune.evaluation import verdicts
        from finetune.evaluation.forgetting import require_general_text
        from finetune.recipe.options import describe

    try:
        plan = plans.make(read, discover())
        require_general_text(read.general_text)
        prepared = preparation.prepare(plan, reporter=output.reporter(quiet=quiet), cache=cache)
    except BadData as error:
        if as_json:
            findings = [asdict(finding) for finding in error.findings]
            output.as_json({"error": str(error), "findings": findings, "counts": error.counts})
        raise
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
