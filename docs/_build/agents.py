"""Write what programs read: AGENTS.md, and docs/llms.txt, the map of the site.

    python docs/_build/agents.py            write both
    python docs/_build/agents.py --check    write nothing; exit with 1 if one is not current

Both are made of the commands, of the site's navigation and of `agent_tasks.yaml`, whose tasks a test runs.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import yaml

from finetune.cli import main

ROOT = Path(__file__).resolve().parents[2]
TASKS = ROOT / "docs/_build/agent_tasks.yaml"
NOTE = "<!-- Written by `python docs/_build/agents.py`. Do not change it by hand. -->"
RULES = """\
`finetune` adapts a pretrained Hugging Face transformer to a task. One YAML file, the recipe, says everything about a run; `KEY=VALUE`
after it changes a key (`dataset=FILE` replaces a whole section, `dataset.path=FILE` one key): `finetune train recipe.yaml training.learning_rate=1e-5`. The package is `finetune-kit`; install it in a clone
with `pip install -c constraints.txt ".[all]"`.

- Answers go to standard output, notes and progress to standard error. `--json` prints one JSON value.
- An error of a command with `--json` is JSON as well: `error` (what is wrong, where, what to do), `kind`, `exit_code`; for data also
  `findings`, each with `code`, `level` (`error`, `row` or `warning`), `file`, `line` (null if it is about a whole file), `column`,
  `message` and `fix`, and `counts`. A command that is called wrongly, such as
  with an unknown option, says so on standard error only.
- Exit codes: 0 success; 1 a failure while running; 2 the call, the recipe or the data is wrong, and nothing was trained; 3 not a finite
  number, or no better run, or an export that lost too much; 4 no room on the disk; 5 out of memory; 6 a file cannot be written or read;
  129, 130, 143 stopped by a signal, with a checkpoint.
- `finetune check` costs seconds and loads no model: run it after each change of the data or the recipe. What depends on the model
  itself, such as names of layers, only `plan` and `train` can refuse. `finetune train RECIPE
  --auto-resume` continues a run that was stopped, and starts one that was not.
- A run that is finished has `result.json`. Nothing is written over it: give another `output`.
- A difference counts if its interval does not contain 0: read `verdict`, not the scores alone. A score without its baseline says little:
  `baselines` in `result.json`.
- Python code that a run folder names is not run without `--trust-code`. Do not give it for a folder that you did not make.
"""


def agents() -> str:
    """Return AGENTS.md."""
    parts = [NOTE, "# For programs that use finetune", RULES.rstrip(), "## Commands", "\n".join(_commands())]
    parts += ["## Tasks", "Each of them is tested.", "\n".join(_tasks())]
    parts += [
        "## More",
        "`finetune show NAME` documents a task, a strategy, a format or a sample; `finetune init --full` prints every key",
    ]
    parts[-1] += (
        " of a recipe.\n`docs/reference/findings.md` lists the codes of findings, `docs/reference/run-folder.md` the files of a run."
    )
    return "\n\n".join(parts) + "\n"


def llms() -> str:
    """Return llms.txt: the pages of the site, each with its first sentence (https://llmstxt.org)."""
    config = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader=_Loose)  # noqa: S506, no objects are made
    lines = ["# finetune", "", f"> {config['site_description']}", ""]
    for section in config["nav"]:
        ((title, pages),) = section.items()
        lines += [f"## {title}", ""] if isinstance(pages, list) else []
        for page in pages if isinstance(pages, list) else [pages]:
            path = next(iter(page.values())) if isinstance(page, dict) else page
            name, first = _heading(ROOT / "docs" / path)
            lines.append(f"- [{name}]({path}): {first}")
        lines.append("")
    return "\n".join(lines)


class _Loose(yaml.SafeLoader):
    """Reads MkDocs' tags for Python objects as nothing."""


_Loose.add_constructor("!ENV", lambda loader, node: None)
_Loose.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: None)


def _heading(page: Path) -> tuple[str, str]:
    """Return the title of a page, and its first sentence."""
    text = re.sub(
        r"<!--.*?-->|^---\n.*?\n---\n|^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE
    )
    title = re.search(r"^# (.+)$|<h1[^>]*>(.+?)</h1>", text, re.MULTILINE)
    name = next((found for found in title.groups() if found), "") if title else page.stem
    after = text[title.end() :] if title else text
    for block in re.split(r"\n\s*\n", after):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(block.split()))
        if plain and plain[0] not in "#|<!:`{-=*" and not plain.startswith("**You need"):
            return re.sub(r"\s*\{#.*\}", "", name), re.split(r"(?<=[.?!]) ", plain)[0].removesuffix(":")
    return name, ""


def _commands() -> Iterator[str]:
    context = click.Context(main)
    yield "| Command | What it does | `--json` |"
    yield "|---|---|---|"
    for name in main.list_commands(context):
        command = main.get_command(context, name)
        assert command is not None
        has_json = _has_json(command)
        about = command.get_short_help_str(200).rstrip(".")
        yield f"| `{name}` | {about} | {'yes' if has_json else ''} |"


def _has_json(command: click.Command) -> bool:
    inner = command.commands.values() if isinstance(command, click.Group) else ()
    return any("--json" in parameter.opts for each in (command, *inner) for parameter in each.params)


def _tasks() -> Iterator[str]:
    yield "| To do | Command | Read |"
    yield "|---|---|---|"
    for task in tasks():
        code = f" (exit code {task['code']})" if "code" in task else ""
        yield f"| {task['ask']} | `{task['run']}`{code} | {_place(task['read'])} |"


def tasks() -> list[dict[str, Any]]:
    """Return the tasks."""
    found: list[dict[str, Any]] = yaml.safe_load(TASKS.read_text(encoding="utf-8"))
    return found


def _place(read: str) -> str:
    kind, colon, place = read.partition(": ")
    if not colon:
        return f"`{read}`"
    return {"yaml": f"the key `{place}`", "lines": f"one JSON object a line: `{place}`", "file": f"the file `{place}`"}[
        kind
    ]


def pages() -> dict[Path, str]:
    """Return each file and what it must hold."""
    return {ROOT / "AGENTS.md": agents(), ROOT / "docs/llms.txt": llms()}


if __name__ == "__main__":
    stale = [path for path, text in pages().items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        sys.exit(f"not current: {', '.join(map(str, stale))}" if stale else 0)
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
