"""`finetune job`."""

from __future__ import annotations

from collections.abc import Sequence

import click

from finetune.cli.parameters import RecipePath, not_empty

SCHEDULERS = ("slurm", "kubernetes", "skypilot")
"""Each has a template in `finetune.jobs`."""


@click.command("job")
@click.argument("recipe", type=RecipePath(dir_okay=False))
@click.argument("overrides", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "--for",
    "scheduler",
    type=click.Choice(SCHEDULERS),
    help="What starts the job; it must be given.",
)
@click.option("--nodes", type=click.IntRange(min=1), default=1, show_default=True, help="How many machines.")
@click.option("--gpus", default="1", show_default=True, help="GPUs of each machine: 4, or h100:4; 0 for CPUs.")
@click.option("--time", help="Time limit of one start, for Slurm: 24:00:00, or 2-00:00:00.  [default: 24:00:00]")
@click.option("--output", callback=not_empty, help="Write the file here. Default: print it.")
def command(
    recipe: str,
    overrides: tuple[str, ...],
    scheduler: str | None,
    nodes: int,
    gpus: str,
    time: str | None,
    output: str | None,
) -> None:
    """Print a job file that trains RECIPE on a cluster.

    The job continues after each interruption. The file is complete, and says in comments how to submit it. Relative
    paths are those of the current folder. KEY=VALUE replaces one key of the recipe. The recipe is checked first; its
    data are not read: `finetune check` reads them.

    Example: finetune job recipe.yaml --for slurm > train.sbatch
    """
    from pathlib import Path

    from finetune import jobs
    from finetune import recipe as recipes
    from finetune.cli import output as shown
    from finetune.errors import OutputExists
    from finetune.plugins import add_recipe_folder, discover

    if scheduler is None:
        raise click.UsageError(f"--for is missing. Write what starts the job: {', '.join(SCHEDULERS)}.")
    if time is not None and scheduler != "slurm":
        raise click.UsageError("--time has an effect with --for slurm only.")
    read = recipes.read(recipe, overrides)
    add_recipe_folder(Path(recipe))
    plugins = discover()
    with shown.loading():
        from finetune import plan as plans
    plans.make(read, plugins)  # a mistake in the recipe would show after hours in a queue
    job = jobs.describe(
        read,
        plugins,
        path=recipe,
        content=Path(recipe).read_text(encoding="utf-8"),
        overrides=overrides,
        nodes=nodes,
        gpus=jobs.parse_gpus(gpus),
        time=jobs.parse_time(time or jobs.DAY),
    )
    text = jobs.write(job, scheduler=scheduler)
    missing = [f"not found here, and the job needs it: {name}" for name in jobs.missing_files(read, plugins)]
    if scheduler != "slurm":
        missing += _not_on_an_index(job.packages)
    for note in [*missing, *_notes(scheduler, jobs.away_from(read, Path(recipe).parent), read.training)]:
        click.echo(f"note: {note}", err=True)
    if output is None:
        click.echo(text, nl=False)
        return
    if Path(output).exists():
        raise OutputExists(f"--output: {output!r} exists. Name another file, or remove it.")
    shown.page(Path(output), text)


def _not_on_an_index(packages: Sequence[str]) -> list[str]:
    """Return a note on each package that the machines of a cluster cannot install by its name."""
    from finetune.wheels import is_local

    return [
        f"{package} was installed from a folder or a file. The machines of the job install it by its name: put a wheel "
        "of it on an index that they reach, or name the wheel's address in the file."
        for package in packages
        if is_local(package.partition("==")[0].partition("[")[0])
    ]


def _notes(scheduler: str, files: list[str], training: object) -> list[str]:
    """Return what the user must know or do before the job can run."""
    from pathlib import Path

    from finetune.errors import listed

    notes = []
    if isinstance(training, dict) and training.get("save_strategy") == "no":
        notes.append(
            "training.save_strategy is 'no', so a job that ends without a warning starts from the beginning. Remove it."
        )
    if scheduler == "slurm":
        return notes
    inside = [name for name in files if not Path(name).is_absolute() and ".." not in Path(name).parts]
    outside = [name for name in files if name not in inside]
    if inside and scheduler == "kubernetes":
        notes.append(f"copy into the volume, under the same paths: {listed(inside)}")
    if outside:
        notes.append(
            f"the job has the current folder only; these are elsewhere, or have other paths: {listed(outside)}"
        )
    return notes
