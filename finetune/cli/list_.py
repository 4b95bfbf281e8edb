"""`finetune list`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from finetune.cli import parameters
from finetune.descriptions import summary

if TYPE_CHECKING:
    from finetune.plugins import Plugins


@dataclass(frozen=True)
class Described:
    """A name with its summary."""

    summary: str


CORE_READERS: dict[str, Any] = {
    "arrow": Described("Reads Arrow files, which store the types of their columns"),
    "csv": "finetune.data.readers.delimited:CsvReader",
    "json": "finetune.data.readers.json_array:JsonArrayReader",
    "jsonl": "finetune.data.readers.json_lines:JsonLinesReader",
    "parquet": Described("Reads Parquet files, which store the types of their columns"),
    "tsv": "finetune.data.readers.delimited:TsvReader",
}
"""The file formats that need no plugin: name → class, or what it is."""


@click.command("list")
@parameters.as_json("Print JSON.")
def command(as_json: bool) -> None:
    """List what is installed, by kind, and which plugin brought it.

    A name whose library is not installed is listed with the command that installs it.
    """
    from finetune.cli import output
    from finetune.plugins import discover

    rows = installed(discover())
    if as_json:
        output.as_json(rows)
        return
    columns = ["kind", "name", "plugin"]
    output.table(
        [*columns, ""], [[*(row[column] for column in columns), row["problem"] or row["summary"]] for row in rows]
    )


def installed(found: Plugins) -> list[dict[str, str]]:
    """Return a row for every name, then one for every plugin that cannot be loaded.

    ``problem`` says why a name or a plugin cannot be used; it is empty if it can.
    """
    rows = []
    for catalogue in found.catalogues.values():
        for name in sorted(catalogue.targets):
            owner = catalogue.owners[name]
            row = {"kind": catalogue.kind, "name": name, "plugin": owner, "distribution": found.distributions[owner]}
            rows.append({**row, "summary": summary(catalogue.targets[name]), "problem": catalogue.problem(name)})
        if catalogue.kind == "reader":
            core = {"kind": "reader", "plugin": "finetune", "distribution": "finetune-kit", "problem": ""}
            rows += [{**core, "name": name, "summary": summary(target)} for name, target in CORE_READERS.items()]
    for name, why in found.broken.items():
        row = {"kind": "broken", "name": name, "plugin": name, "distribution": found.distributions[name]}
        rows.append({**row, "summary": "", "problem": why})
    return rows
