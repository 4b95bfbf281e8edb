"""Write the reference pages of everything that has a name: tasks, strategies, formats, samples and ready recipes.

    python docs/_build/names.py            write the pages
    python docs/_build/names.py --check    write nothing; exit with 1 if a page is not current

The pages hold what `finetune show` prints. They are committed, so that the site is built without torch.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from finetune.cli import main
from finetune.plugins import discover
from finetune.recipe import gallery

REFERENCE = Path(__file__).resolve().parents[1] / "reference"
NOTE = "<!-- This page is written by `python docs/_build/names.py`. Do not change it by hand. -->"
KINDS = {
    "tasks": (
        "Tasks",
        "task",
        "What a model can learn, and the columns that each task reads. `finetune show NAME` prints the same.\n"
        "[Begin from your file](../how-to/begin-from-your-file.md) shows how a file gets these columns.",
    ),
    "strategies": (
        "Strategies",
        "strategy",
        "Which parameters are trained, and how. Each strategy works with each task, or says before the first step\n"
        "why it does not.",
    ),
    "formats": (
        "File formats",
        "reader",
        "What a data file can be. The format is found from the name of the file, or from its content;\n"
        "`dataset.format` names it. The options are those of `dataset.options`.",
    ),
}
"""Page → its title, the kind of `finetune list`, and its first sentences."""
SAMPLES = (
    "Small data sets and models that need no download. They are about an invented town, and are for trying things:\n"
    "a recipe for your own data names a model of the Hub."
)
GALLERY = (
    "Complete recipes, one for each task and typical form of data. `finetune init --from NAME` prints one, and\n"
    "`--data FILE` puts the path of your file into it. A test checks each on a small file of the form that it names.\n"
    "If your file looks different, `finetune init --data FILE` [finds out how](../how-to/begin-from-your-file.md)."
)


def show(*arguments: str) -> Any:
    """Return what a command prints as JSON."""
    result = CliRunner().invoke(main, [*arguments, "--json"])
    if result.exit_code:
        raise RuntimeError(f"finetune {' '.join(arguments)}: {result.output}")
    return json.loads(result.stdout)


def pages() -> dict[str, str]:
    """Return the pages: name of the file → content."""
    rows = [row for row in show("list") if row["kind"] != "broken"]
    written = {}
    for page, (title, kind, intro) in KINDS.items():
        parts = [f"# {title}", NOTE, intro]
        for row in sorted((row for row in rows if row["kind"] == kind), key=lambda row: row["name"]):
            parts += _entries(row["name"], kind)
        written[f"{page}.md"] = "\n\n".join(parts) + "\n"
    written["samples.md"] = "\n\n".join(_samples(rows)) + "\n"
    written["gallery.md"] = "\n\n".join(_gallery()) + "\n"
    return written


def _entries(name: str, kind: str) -> Iterator[str]:
    entries = show("show", name)
    first = next(number for number, entry in enumerate(entries) if entry["title"] == f"{kind} {name}")
    for number, entry in enumerate(entries[first:]):
        if number and entry["title"].split(" ")[0] in ("task", "strategy", "reader", "command", "metric"):
            return  # another meaning of the name
        yield f"## `{name}`" if not number else f"**{_part(entry['title'])}**"
        if entry["text"]:
            yield _plain(entry["text"])
        for title, fact in entry.items():
            if title not in ("title", "text", "options", "From"):
                yield _fact(title, fact)
        if entry["options"]:
            yield _options(entry["options"])


def _part(title: str) -> str:
    return title.partition(": ")[2].partition(" ")[0].capitalize()


def _fact(title: str, fact: Any) -> str:
    if isinstance(fact, Mapping):
        rows = [f"| `{_cell(key)}` | {_cell(value)} |" for key, value in fact.items()]
        return "\n".join([f"{title}:", "", "| | |", "| --- | --- |", *rows])
    shown = ", ".join(f"`{each}`" for each in fact) if isinstance(fact, list) else f"`{fact}`"
    return f"{title}: {shown}"


def _options(options: list[dict[str, Any]]) -> str:
    lines = ["| Option | Type | Default | |", "| --- | --- | --- | --- |"]
    for option in options:
        default = "required" if option["required"] else f"`{json.dumps(option['default'], ensure_ascii=False)}`"
        lines.append(
            f"| `{option['name']}` | `{_cell(option['type'])}` | {_cell(default)} | {_cell(_plain(option['doc']))} |"
        )
    return "\n".join(lines)


def _cell(value: object) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def _plain(text: str) -> str:
    """Return a docstring as Markdown, without its examples."""
    kept = text.split("\n\nExamples:")[0].split("\n\nArgs:")[0]
    return kept.replace("``", "`").replace("::\n", ":\n")


def _samples(rows: list[dict[str, str]]) -> Iterator[str]:
    yield "# Samples"
    yield NOTE
    yield SAMPLES
    for kind, title in (("source", "Data sets"), ("model scheme", "Models")):
        yield f"## {title}"
        for row in [row for row in rows if row["kind"] == kind]:
            for entry in show("show", row["name"]):
                if entry["title"] == f"{kind} {row['name']}" and "Names" in entry:
                    lines = [f"| `{_cell(name)}` | {_cell(text)} |" for name, text in entry["Names"].items()]
                    yield "\n".join(["| In a recipe | |", "| --- | --- |", *lines])


def _gallery() -> Iterator[str]:
    yield "# Gallery of recipes"
    yield NOTE
    yield GALLERY
    recipes = gallery.found(discover())
    rows = [f"| [`{one.name}`](#{one.name}) | `{one.task}` | {_cell(one.title)} |" for one in recipes]
    yield "\n".join(["| Name | Task | |", "| --- | --- | --- |", *rows])
    for one in recipes:
        yield f"## `{one.name}`"
        yield f"```yaml\n{one.text}```"


def main_(check: bool) -> int:
    """Write the pages, or say which are not current; return the exit code."""
    stale = []
    for name, text in pages().items():
        path = REFERENCE / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                path.write_text(text, encoding="utf-8")
    if check and stale:
        print(f"not current: {', '.join(stale)}. Run python docs/_build/names.py")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main_("--check" in sys.argv[1:]))
