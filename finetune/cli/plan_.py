"""`finetune plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from finetune.cli import parameters, recipes

if TYPE_CHECKING:
    from finetune.planning import Measured
    from finetune.planning.computed import Computed


@click.command("plan", context_settings=recipes.SETTINGS)
@recipes.arguments
@click.option("--gpu", help="Compute the memory on this GPU instead: h100-80gb. An unknown name lists all.")
@click.option("--gpus", type=click.IntRange(min=1), help="How many of them.  [default: 1]")
@parameters.trust_code
@parameters.as_json("Print the plan as JSON.")
@parameters.loudness
def command(call: recipes.Call, gpu: str | None, gpus: int | None, as_json: bool, quiet: bool) -> None:
    """Say how long RECIPE trains and how much memory it needs, before it trains.

    Without --gpu, a few real steps are measured on this machine. With --gpu, the memory on such a
    GPU is computed, and no weights are loaded. No run folder is written.
    """
    if gpus is not None and gpu is None:
        raise click.UsageError("--gpus has an effect with --gpu only.")

    from finetune import early
    from finetune.cli import output
    from finetune.plugins import add_recipe_folder, discover

    quiet = quiet or as_json

    given = call.read()
    read = given.recipe
    given.say_where("plan")
    add_recipe_folder(given.path)
    early.check(read, discover())
    with output.loading(quiet=quiet):
        from finetune import planning
        from finetune.data import preparation  # noqa: F401, what takes seconds to import
    planned = planning.plan(read, gpu=gpu, gpus=gpus or 1, quiet=quiet)
    if as_json:
        output.as_json({**planning.as_json(planned), "runs": max(len(read.seeds), 1)})
        return
    if planned.measured is not None:
        _show_measured(planned.measured, seeds=len(read.seeds))
    if planned.computed is not None:
        _show_computed(planned.computed)


def _show_measured(found: Measured, *, seeds: int) -> None:
    from finetune.cli import output

    rows = [
        [bucket.name, round(bucket.tokens), bucket.longest, bucket.steps, f"{bucket.times.seconds:.3g}"]
        for bucket in found.buckets
    ]
    output.table(["steps", "tokens", "longest row", "measured", "seconds"], rows)
    click.echo()
    share = found.trainable_parameters / found.total_parameters
    facts: list[list[object]] = [
        ["device", found.device],
        ["parameters that train", f"{found.trainable_parameters:,} of {found.total_parameters:,} ({share:.2%})"],
        ["a step, on average", duration(found.step.seconds)],
        [f"an epoch of {found.steps_per_epoch:,} steps", duration(found.epoch.seconds)],
        [f"an evaluation, of {found.evaluations}", duration(found.evaluation.seconds)],
        [f"a checkpoint, of {found.checkpoints}", duration(found.checkpoint.seconds)],
        [f"the training of {found.steps:,} steps", duration(found.training.seconds)],
        ["the run, without intervals and report", duration(found.run.seconds)],
        ["peak memory", size(found.peak_memory)],
    ]
    if seeds:
        facts.insert(-1, [f"the runs of {seeds} seeds, one after another", duration(seeds * found.run.seconds)])
    if found.peak_gpu_memory is not None:
        facts.append(["peak memory of the GPU", size(found.peak_gpu_memory)])
    computed = "" if found.checkpoint_is_measured else " (computed)"
    facts += [
        ["a checkpoint on the disk", size(found.checkpoint_bytes) + computed],
        ["the saved model", size(found.model_bytes)],
    ]
    output.table(["what", "needs"], facts)
    for note in found.notes:
        click.echo(f"note: {note}")


def _show_computed(found: Computed) -> None:
    from finetune.cli import output

    needs = found.needs
    parts = [
        ["weights", size(needs.weights)],
        ["gradients", size(needs.gradients)],
        ["state of the optimizer", size(needs.optimizer)],
        ["exchange between GPUs", size(needs.exchange)],
        ["activations", size(needs.activations)],
        ["most at one time", size(needs.total)],
    ]
    output.table([f"memory of each {found.gpu}", "computed"], parts)
    room = size(found.memory - found.reserved)
    verdict = "It fits" if found.fits else "It does not fit"
    click.echo(
        f"\n{verdict}: {size(needs.total)} of {room}, for batches of {found.rows} rows of up to {found.longest} tokens "
        f"with {found.precision}. {found.trained:,} of {found.parameters:,} parameters train."
    )
    click.echo(f"A checkpoint takes {size(found.checkpoint_bytes)} on the disk.")
    if found.changes:
        click.echo("\nWhat to change, each on top of those above it:\n")
        rows = []
        for change in found.changes:
            total = size(change.total) if change.total is not None else "cannot be used"
            rows.append([change.what, total, "yes" if change.fits else "no", change.costs])
        output.table(["change", "needs", "fits", "costs"], rows)
        if not found.changes[-1].fits:
            click.echo("\nNothing of this is enough. Use a smaller model, shorter texts or GPUs with more memory.")
    for note in found.notes:
        click.echo(f"note: {note}")


def size(count: int) -> str:
    """Return bytes as text.

    >>> size(2**30 * 3 // 2), size(2**20 * 300), size(2000)
    ('1.50 GiB', '300 MiB', '0.00191 MiB')
    """
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.3g} MiB"


def duration(seconds: float) -> str:
    """Return a time as text.

    >>> duration(0.0123), duration(45.2), duration(300), duration(9000)
    ('0.0123 s', '45 s', '5.0 min', '2.5 h')
    """
    if seconds < 10:
        return f"{seconds:.3g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
