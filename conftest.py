"""Run what the hand-written pages and README.md say: one namespace and one empty folder a page.

* ```` ```python ````: run; what stands after ``>>>`` is compared.
* ```` ```console ````: every ``$ finetune …`` is run, and what follows is compared; ``...`` stands for anything. A command
  must succeed, unless ``$ echo $?`` right after it says how it exits.
* ```` ```yaml title="recipe.yaml" ````, in any language: written to that file.

It stands here, at the root, because what lies in docs/ is published.
"""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from doctest import ELLIPSIS, OutputChecker
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from sybil import Example, Sybil
from sybil.parsers.abstract import AbstractCodeBlockParser
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer


class ConsoleParser(CodeBlockParser):
    """Run the commands of a console block and compare what they print."""

    language = "console"

    def evaluate(self, example: Example) -> None:
        """Run one block."""
        status = 0
        steps = re.split(r"^\$ ", example.parsed, flags=re.MULTILINE)[1:]
        for index, step in enumerate(steps):
            command, _, wanted = step.partition("\n")
            if command.strip() == "echo $?":
                printed = f"{status}\n"
            else:
                status, printed = _invoke(command)
                asked = steps[index + 1 : index + 2] and steps[index + 1].startswith("echo $?")
                assert status == 0 or asked, f"$ {command}\nexited with {status}:\n{printed}"
            _compare(command, printed, wanted)


class FileParser(AbstractCodeBlockParser):
    """Write a block that has a title to the file of that name."""

    def __init__(self) -> None:
        titled = re.compile(r'(?P<language>\w+) title="(?P<name>[^"\n]+)"[^\n]*\n')
        lexer = RawFencedCodeBlockLexer(titled, mapping={"name": "arguments", "source": "source"})
        super().__init__([lexer], language="")

    def __call__(self, document: Any) -> Any:
        """Yield every titled block, whatever its language."""
        for region in self.lexers(document):
            region.parsed = (region.lexemes["arguments"], region.lexemes["source"])
            region.evaluator = self.evaluate
            yield region

    def evaluate(self, example: Example) -> None:
        """Write one file."""
        name, source = example.parsed
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")


def _invoke(command: str) -> tuple[int, str]:
    from finetune.cli import main

    program, *arguments = shlex.split(command)
    assert program == "finetune", f"$ {command}\na console block runs `finetune` only; use a bash block to show others"
    # Exceptions that the command line does not turn into an exit status are shown as they are.
    result = CliRunner(catch_exceptions=False).invoke(main, arguments, env={"COLUMNS": "80", "NO_COLOR": "1"})
    return result.exit_code, result.output


def _compare(command: str, printed: str, wanted: str) -> None:
    """Compare what a command printed with the page, blank lines at the ends and trailing spaces apart."""
    got, want = (re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE).strip("\n") + "\n" for text in (printed, wanted))
    assert OutputChecker().check_output(want, got, ELLIPSIS), f"$ {command}\nprinted:\n{got}\nthe page says:\n{want}"


def _enter(namespace: dict[str, Any]) -> None:
    """Give a page an empty folder to work in."""
    namespace["__folder__"] = tempfile.TemporaryDirectory()
    namespace["__before__"] = Path.cwd()
    os.chdir(namespace["__folder__"].name)


def _leave(namespace: dict[str, Any]) -> None:
    os.chdir(namespace["__before__"])
    namespace["__folder__"].cleanup()


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(doctest_optionflags=ELLIPSIS), ConsoleParser(), FileParser(), SkipParser()],
    patterns=["docs/**/*.md", "README.md"],
    excludes=["docs/tutorials/[0-9]*.md"],
    setup=_enter,
    teardown=_leave,
).pytest()
