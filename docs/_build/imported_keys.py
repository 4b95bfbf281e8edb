"""Write the tables of docs/reference/imported-keys.md: key of another tool → recipe.

Run it after a change of an importer's table: python docs/_build/imported_keys.py
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from finetune.interfaces import Importer
from finetune_import import axolotl, axolotl_data, llama_factory, trainer_scripts, trl_command

PAGE = Path(__file__).parents[1] / "reference" / "imported-keys.md"
IMPORTERS: dict[str, type[Importer]] = {
    "Axolotl": axolotl.AxolotlImporter,
    "LLaMA-Factory": llama_factory.LlamaFactoryImporter,
    "TRL": trl_command.TRLImporter,
    "Example scripts of transformers": trainer_scripts.TrainerImporter,
}
HEAD = """# Imported keys

What `finetune import` makes of each key of another tool. `finetune show axolotl` prints the same table in a terminal;
the other names are `llama-factory`, `trl` and `example-scripts`. A key that is not here is reported as unknown.
Except in Axolotl, options of training that are not here keep their name under `training`.

**no place**: the run does something else without it. The text says what to do instead.
**not needed**: nothing is lost.
"""


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    for title, importer in IMPORTERS.items():
        parts.append(f"\n## {title}\n\n" + "\n".join(_rows(importer)) + "\n")
        if importer is axolotl.AxolotlImporter:
            rows = [f"| {_cell(kind)} | {_cell(text)} |" for kind, text in axolotl_data.TYPES.items()]
            parts.append("\n### Types of data sets\n\n| `type` | Recipe |\n|---|---|\n" + "\n".join(rows) + "\n")
    return "".join(parts)


def _rows(importer: type[Importer]) -> Iterator[str]:
    yield "| Key | Recipe | |"
    yield "|---|---|---|"
    for name, key in importer.keys.items():
        place = f"`{key.to}`" if key.to else {"unneeded": "not needed", "missing": "no place"}.get(key.status, "")
        yield f"| `{name}` | {place} | {_cell(key.note)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
