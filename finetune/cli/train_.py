"""`finetune train`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from finetune.cli import parameters, recipes

if TYPE_CHECKING:
    from finetune.result import Result
    from finetune.seeds_result import SeedsResult


@click.command("train", context_settings=recipes.SETTINGS)
@recipes.arguments
@click.option("--resume", is_flag=True, help="Continue from the newest valid checkpoint in the output folder.")
@click.option(
    "--auto-resume",
    is_flag=True,
    help="Start, or continue if there is a checkpoint: one call for a scheduler that starts a job again.",
)
@click.option("--accept-changes", is_flag=True, help="With --resume: continue even if the recipe or the data changed.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier run in the output folder.")
@click.option("--processes", type=click.IntRange(min=1), help="Train in this many processes, one for each GPU.")
@parameters.cache
@parameters.trust_code
@parameters.as_json("Print the whole result as JSON.")
@parameters.loudness
def command(
    call: recipes.Call,
    resume: bool,
    auto_resume: bool,
    accept_changes: bool,
    overwrite: bool,
    processes: int | None,
    cache: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Fine-tune a model as RECIPE describes.

    It writes the run folder; if the recipe has `seeds`, a folder with a run for each of them. To
    continue a run, its folder can take the place of RECIPE: `finetune train RUN --resume` has the
    options with which it was started.

    KEY=VALUE replaces one key of the recipe: training.learning_rate=3e-5.

    Without a recipe, name your data and, if they are not clear, the task and its columns:
    `finetune train --data reviews.csv --task text-classification --text review --label stars`.
    """
    if auto_resume and (resume or overwrite):
        raise click.UsageError("--auto-resume decides between a start and --resume. Leave the other option out.")
    if accept_changes and not (resume or auto_resume):
        raise click.UsageError("--accept-changes has an effect with --resume only.")
    from dataclasses import asdict

    from finetune import early
    from finetune import processes as together
    from finetune.cli import output
    from finetune.plugins import add_recipe_folder, discover
    from finetune.progress import Console, Reporter
    from finetune.seeds_result import SeedsResult

    given = call.read(ask=processes in (None, 1) and together.count() == 1, runs=True)
    read = given.recipe
    add_recipe_folder(given.path)
    if together.count() == 1:  # else each process would show the error
        early.check(read, discover())
    if processes is not None and processes > 1:
        from finetune import failures
        from finetune.cli import launch

        arguments = launch.without_option(sys.argv[1:], "--processes")
        code = launch.again(arguments, count=processes, go_on=lambda: failures.go_on(Path(read.output)))
        click.get_current_context().exit(code)
    given.say_where("train")
    if read.search and together.is_main():
        click.echo("The recipe is trained as it is written: `search` is for `finetune tune`.", err=True)

    with output.loading(quiet=quiet):
        from finetune import plan as plans
        from finetune import run as runs
        from finetune import run_seeds

    result = (run_seeds if read.seeds else runs).run(
        plans.make(read, discover()),
        resume=resume,
        auto_resume=auto_resume,
        accept_changes=accept_changes,
        overwrite=overwrite,
        reporter=Reporter() if quiet else Console(),
        cache=cache,
    )
    if not together.is_main():
        return
    if as_json:
        output.as_json(asdict(result))
    elif isinstance(result, SeedsResult):
        _show_seeds(result)
    else:
        _show(result)


def _show(result: Result) -> None:
    """Print the scores of a run, its cost, its verdicts, and how to go on."""
    from finetune.cli import output
    from finetune.evaluation import verdicts
    from finetune.report.page import REPORT

    output.scores(result.scores, result.base_model_scores, result.details, primary=result.primary)
    share = verdicts.format_percent(result.trainable_parameters, result.total_parameters)
    click.echo(
        f"\n{result.trainable_parameters:,} of {result.total_parameters:,} parameters trained ({share}), "
        f"{result.saved_bytes / 1e6:.3g} MB saved, {result.peak_memory_mb:,.0f} MiB peak memory, "
        f"{result.steps} steps, {sum(phase.seconds for phase in result.phases):.0f} s."
    )
    for sentence in verdicts.all_verdicts(result):
        output.say(sentence)
    click.echo(f"Report: {Path(result.directory) / REPORT}")
    click.echo(f"Predict: finetune predict {shlex.quote(str(result.directory))} FILE")
    click.echo(f"Run folder: {result.directory}")


def _show_seeds(result: SeedsResult) -> None:
    """Print the scores of several seeds, what they say together, and how to go on."""
    from finetune.cli import output
    from finetune.evaluation import seed_verdicts, verdicts
    from finetune.report.page import REPORT

    split, name = verdicts.report_split(result), result.primary
    if split is not None and name in result.scores[split]:
        rows: list[list[object]] = []
        for seed, value in zip(result.seeds, result.seed_scores[split][name], strict=True):
            rows.append([f"seed {seed}", verdicts.format_score(value)])
        rows.append(["mean", verdicts.format_score(result.scores[split][name])])
        rows.append(["standard deviation", verdicts.format_score(result.deviations[split][name])])
        output.table(["", f"{split} {name}"], rows)
        click.echo()
    for sentence in seed_verdicts.all_verdicts(result):
        output.say(sentence)
    one = f"{result.directory}/{result.runs[0]}"
    click.echo(f"Report: {Path(result.directory) / REPORT}")
    click.echo(f"Predict with one of the runs: finetune predict {shlex.quote(one)} FILE")
    click.echo(f"Folder: {result.directory}")
