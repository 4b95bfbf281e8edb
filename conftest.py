"""Run what the hand-written pages and README.md say: one namespace and one empty folder a page.

* ```` ```python ````: run; what stands after ``>>>`` is compared.
* ```` ```console ````: every ``$ finetune …`` is run, and what follows is compared; ``...`` stands for anything. It
  must succeed, unless ``$ echo $?`` right after it says how it exits. ``$ pip install -e .`` leaves what pip would.
* ```` ```yaml title="recipe.yaml" ````, in any language: written to that file.

It stands here, at the root, because what lies in docs/ is published.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, OutputChecker
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from sybil import Document, Example, Region, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported: the cores are shared with other workers


class ConsoleParser(CodeBlockParser):
    """Run the commands of a console block and compare what they print."""

    language = "console"

    def evaluate(self, example: Example) -> None:
        """Run one block."""
        status = 0
        steps = re.split(r"^\$ ", example.parsed, flags=re.MULTILINE)[1:]
        for step, after in zip(steps, [*steps[1:], ""], strict=True):
            command, _, wanted = step.partition("\n")
            if command.strip() == "echo $?":
                printed = f"{status}\n"
            else:
                status, printed = _invoke(command)
                message = f"$ {command}\nexited with {status}:\n{printed}"
                assert status == 0 or after.startswith("echo $?"), message
            _compare(command, printed, wanted)


def write_titled_blocks(document: Document) -> Iterator[Region]:
    """Write every block that has a title to the file of that name."""
    titled = re.compile(r'\w+ title="(?P<name>[^"\n]+)"[^\n]*\n')
    for region in RawFencedCodeBlockLexer(titled)(document):
        region.evaluator = _write
        yield region


def _write(example: Example) -> None:
    path = Path(example.region.lexemes["name"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(example.region.lexemes["source"], encoding="utf-8")


def _invoke(command: str) -> tuple[int, str]:
    """Return exit status and output of a command."""
    from finetune.cli import main

    if command.strip() == "pip install -e .":
        return _install(Path.cwd())
    program, *arguments = shlex.split(command)
    assert program == "finetune", f"$ {command}\na console block runs `finetune` only; show others in a bash block"
    # An error that the command line does not turn into an exit status must show its traceback.
    result = CliRunner(catch_exceptions=False).invoke(main, arguments, env={"COLUMNS": "80", "NO_COLOR": "1"})
    return result.exit_code, result.output


def _install(folder: Path) -> tuple[int, str]:
    """Leave what an editable install leaves: the folder on the path, and its entry points."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(head, encoding="utf-8")
    entries = [
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in entry_points.items())
        for group, entry_points in project["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("\n".join(entries), encoding="utf-8")
    sys.path.insert(0, str(folder))
    return 0, ""


def _compare(command: str, printed: str, wanted: str) -> None:
    """Compare what a command printed with the page, widths of columns apart."""
    same = OutputChecker().check_output(wanted.strip(), printed.strip(), ELLIPSIS | NORMALIZE_WHITESPACE)
    assert same, f"$ {command}\nprinted:\n{printed}\nthe page says:\n{wanted}"


def _enter(namespace: dict[str, Any]) -> None:
    """Give a page an empty folder to work in."""
    namespace["__folder__"] = tempfile.TemporaryDirectory()
    namespace["__before__"] = (Path.cwd(), list(sys.path), set(sys.modules))
    os.chdir(namespace["__folder__"].name)
    sys.path.insert(0, namespace["__folder__"].name)


def _leave(namespace: dict[str, Any]) -> None:
    """Go back, and forget the modules that the page wrote."""
    folder, before = namespace["__folder__"], namespace["__before__"]
    os.chdir(before[0])
    sys.path[:] = before[1]
    for name in set(sys.modules) - before[2]:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(folder.name):
            del sys.modules[name]
    folder.cleanup()


pytest_collect_file = Sybil(
    parsers=[
        PythonCodeBlockParser(doctest_optionflags=ELLIPSIS),
        ConsoleParser(),
        write_titled_blocks,
        SkipParser(),
    ],
    patterns=["docs/*.md", "docs/**/*.md", "README.md"],
    excludes=["docs/tutorials/[0-9]*.md"],
    setup=_enter,
    teardown=_leave,
).pytest()
