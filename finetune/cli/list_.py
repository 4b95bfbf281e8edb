"""`finetune list`."""

from __future__ import annotations

import click


@click.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> None:
    """List what is installed, by kind, and which plugin brought it."""
    from finetune.cli import output
    from finetune.plugins import discover

    found = discover()
    rows = [
        {
            "kind": catalogue.kind,
            "name": name,
            "plugin": catalogue.owners[name],
            "distribution": found.distributions[catalogue.owners[name]],
            "summary": getattr(catalogue.targets[name], "summary", ""),
        }
        for catalogue in found.catalogues.values()
        for name in sorted(catalogue.targets)
    ]
    broken = [
        {"kind": "broken", "name": name, "plugin": name, "distribution": found.distributions[name], "summary": why}
        for name, why in found.broken.items()
    ]
    if as_json:
        output.as_json(rows + broken)
        return
    output.table(
        ["kind", "name", "plugin", ""], [[r["kind"], r["name"], r["plugin"], r["summary"]] for r in rows + broken]
    )
