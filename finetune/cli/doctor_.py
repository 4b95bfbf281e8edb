"""`finetune doctor`."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import click

from finetune.cli import parameters

if TYPE_CHECKING:
    from finetune.plugins import Plugins


@click.command("doctor")
@parameters.as_json("Print JSON.")
def command(as_json: bool) -> None:
    """Show what is installed, the hardware, and what would not work."""
    from finetune.cli import output
    from finetune.plugins import discover
    from finetune.result import environment

    with output.loading():
        import torch

        found = discover()
        facts = environment()
        extras = missing(found)
        not_working = problems(found, torch)
    if as_json:
        output.as_json({**facts, "broken": dict(found.broken), "missing": extras, "would_not_work": not_working})
        return
    output.table(["package", "version"], [["python", facts["python"]], *facts["versions"].items()])
    click.echo(f"\n{facts['platform']}, {facts['cpu_count']} processors, {facts['threads']} threads")
    click.echo(f"GPU: {', '.join(facts['gpus']) or 'none'}")
    click.echo(f"plugins: {', '.join(sorted(set(found.distributions) - set(found.broken))) or 'none'}")
    for package, names in extras.items():
        click.secho(f"\npip install '{package}'", fg="yellow", nl=False)
        click.echo(f" is needed for {', '.join(names)}.")
    for what, why in not_working.items():
        click.secho(f"\n{what} would not work: ", fg="yellow", nl=False)
        click.echo(why)
    if not extras and not not_working:
        click.secho("\nEverything would work.", fg="green")


def missing(found: Plugins) -> dict[str, list[str]]:
    """Return what is not installed: what ``pip install`` takes → what needs it (``strategy lora``)."""
    needed: dict[str, list[str]] = {}
    for catalogue in found.catalogues.values():
        for name, libraries in catalogue.missing.items():
            for package in dict.fromkeys(libraries.values()):
                needed.setdefault(package, []).append(f"{catalogue.kind} {name}")
    from finetune.plugins import not_installed
    from finetune.report import charts

    for package in not_installed(charts.LIBRARIES).values():
        needed.setdefault(package, []).append("charts in reports")
    return needed


def problems(found: Plugins, torch: Any) -> dict[str, str]:
    """Return what would not work here: what → why, and what to do."""
    reasons = {f"plugin {name}": f"{why}." for name, why in found.broken.items()}
    from finetune.training import upstream

    reasons |= upstream.problems()
    from finetune.training.arguments import FP16_ON_CPU, device_arguments

    if device_arguments()["use_cpu"]:
        reasons["training: {fp16: true}"] = FP16_ON_CPU
    if not torch.cuda.is_available():
        from finetune.models import bf16_is_fast

        if not bf16_is_fast():
            reasons["training: {bf16: true}"] = (
                "this processor has no bfloat16 instructions. Training would run, but slower than without it."
            )
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in {"1", "ON", "YES", "TRUE"}:
        reasons["models and data sets from the Hub"] = "HF_HUB_OFFLINE is set; what is in the cache still works."
    free = shutil.disk_usage(".").free / 2**30
    if free < 5:
        reasons["long runs"] = f"{free:.1f} GiB are free here, and every checkpoint takes about three times the model."
    return reasons
