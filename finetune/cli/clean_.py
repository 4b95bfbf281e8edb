"""`finetune clean`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from finetune.characters import visible
from finetune.cli import parameters

if TYPE_CHECKING:
    from finetune.cleaning import Cleaned, Examined

WORKS = "Predict, evaluate, report, compare, card, push and merge work as before"


@click.command("clean")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=parameters.RunPath(file_okay=False))
@click.option("--yes", "-y", is_flag=True, help="Remove it. Without this option, the command only shows it.")
@click.option("--keep-weights", is_flag=True, help="Keep the weights of checkpoints; free their optimizer states only.")
@click.option(
    "--all", "everything", is_flag=True, help="Also free the checkpoint from which an unfinished run can be resumed."
)
@parameters.as_json("Print JSON.")
def command(runs: tuple[str, ...], yes: bool, keep_weights: bool, everything: bool, as_json: bool) -> None:
    """Free the space that checkpoints and leftovers of a RUN take.

    RUN is a run folder, or a folder that holds run folders. A finished run keeps its model and all
    results; an unfinished one keeps the checkpoint from which it can be resumed. Files that you put
    there stay. Nothing is removed without --yes.
    """
    from pathlib import Path

    from finetune.cli import output
    from finetune.errors import FinetuneError

    with output.loading():
        from finetune import cleaning

    options = {"keep_weights": keep_weights, "everything": everything}
    found: dict[Path, Examined] = {}
    for name in runs:
        inside = cleaning.find_runs(Path(name))
        for run in inside:
            try:
                found.setdefault(run.resolve(), cleaning.examine(run, **options))
            except FinetuneError as error:
                if inside == [Path(name)]:
                    raise
                click.echo(visible(f"{run} is left as it is: {error}"), err=True)
    examined = list(found.values())
    cleaned = {each.run: cleaning.clean(each.run, **options) for each in examined if each.items} if yes else {}
    examined = [cleaned[each.run].examined if each.run in cleaned else each for each in examined]
    freed = sum(each.before - each.after for each in cleaned.values())
    if as_json:
        output.as_json({"runs": [_facts(each, cleaned.get(each.run)) for each in examined], "freed": freed})
        return
    for each in examined:
        _show(each, cleaned.get(each.run))
    to_free = sum(each.freed for each in examined)
    if cleaned:
        click.echo(f"{_bytes(freed)} freed.")
    elif to_free:
        click.echo(f"Nothing was removed. To free {_bytes(to_free)}, add --yes.")


def _show(found: Examined, cleaned: Cleaned | None) -> None:
    """Print what is removed from a run folder, and what stays possible afterwards."""
    from finetune.cli import output

    click.echo(visible(f"{found.run}: {'finished' if found.finished else 'not finished'}, {_bytes(found.size)}"))
    if found.items:
        headers = ["removed" if cleaned else "to remove", "size", "note"]
        output.table(headers, [[item.name, _bytes(item.size), item.note] for item in found.items])
    for name, why in found.kept.items():
        click.echo(visible(f"{name} stays: {why}."))
    if not found.items:
        click.echo("There is nothing to free.\n")
        return
    after = _bytes(cleaned.after if cleaned else found.size - found.freed)
    click.echo(visible(f"{'Now' if cleaned else 'Afterwards'}: {after}. {_possible(found)}\n"))


def _possible(found: Examined) -> str:
    """Return what can be done with a run after its items are removed."""
    if found.finished:
        return f"{WORKS}."
    if found.resumes_from is None:
        return "The run cannot be resumed; start again with --overwrite."
    return f"`finetune train --resume` continues from {found.resumes_from}."


def _facts(found: Examined, cleaned: Cleaned | None) -> dict[str, Any]:
    return {
        "run": str(found.run),
        "finished": found.finished,
        "items": [{"name": item.name, "bytes": item.size, "note": item.note} for item in found.items],
        "kept": dict(found.kept),
        "resumes_from": found.resumes_from,
        "before": found.size,
        "after": cleaned.after if cleaned else found.size - found.freed,
        "removed": cleaned is not None,
    }


def _bytes(size: int) -> str:
    """Return a size as text.

    >>> _bytes(0), _bytes(999), _bytes(36_043), _bytes(803_100_000), _bytes(1_610_000_000)
    ('0 B', '999 B', '36.0 kB', '803.1 MB', '1.6 GB')
    """
    amount, unit = float(size), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 999.95:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
