"""Output of commands: tables on a terminal, aligned text elsewhere, JSON on request."""

from __future__ import annotations

import re
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from finetune.characters import visible
from finetune.errors import BadOptions
from finetune.interfaces import Finding
from finetune.result import to_json, write_atomically

if TYPE_CHECKING:
    from finetune.evaluation.summary import Evaluation
    from finetune.progress import Reporter

WIDEST_NAME = 30
"""Most characters of a name in the first column that is not broken into two lines."""

_ENDS = re.compile("[\t\n\r]")
"""Characters that a cell of a table cannot hold."""


MOST_LABELS = 10
"""Most labels of a confusion matrix that is printed."""


@contextmanager
def loading(what: str = "Loading libraries", *, quiet: bool = False) -> Iterator[None]:
    """Say on a terminal what happens during a `with` block, which takes some seconds.

    Args:
        what: What happens.
        quiet: Whether to say nothing.
    """
    if quiet or not sys.stderr.isatty():
        yield
        return
    click.secho(f"{what} …", dim=True, nl=False, err=True)
    try:
        yield
    finally:
        click.echo("\r\033[K", nl=False, err=True)  # takes the line back


def reporter(*, quiet: bool = False, lasting: bool = True) -> Reporter:
    """Return what shows the progress of a command.

    Args:
        quiet: Whether to show none.
        lasting: Whether a line about each phase stays. If not, nothing is shown unless standard error is a terminal.
    """
    from finetune.progress import Console, Reporter

    if quiet or (not lasting and not sys.stderr.isatty()):
        return Reporter()
    return Console(lasting=lasting)


def say(text: str, *, err: bool = False) -> None:
    """Print a sentence; on a terminal, lines break between words."""
    stream = sys.stderr if err else sys.stdout
    click.echo(wrapped(text) if stream.isatty() else text, err=err)


def wrapped(text: str, *, first: int = 0, indent: str = "") -> str:
    """Return a text whose lines fit the terminal and break between words.

    Args:
        text: It can have several lines.
        first: Columns that are taken in its first line.
        indent: What the lines begin with that a break makes.
    """
    width = max(shutil.get_terminal_size().columns, 20)
    broken_lines: list[str] = []
    for line in text.splitlines() or [""]:
        start = line[: len(line) - len(line.lstrip())]
        taken = " " * (first if not broken_lines else 0)
        broken = textwrap.wrap(
            taken + line, width, subsequent_indent=indent or start, break_long_words=False, break_on_hyphens=False,
            drop_whitespace=True,
        )  # fmt: skip
        broken_lines.append("\n".join(broken).removeprefix(taken))
    return "\n".join(broken_lines)


def lines(texts: Iterable[str]) -> None:
    """Print lines as they come."""
    for text in texts:
        click.echo(text)


def table(headers: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> None:
    """Print rows under headers; columns of numbers are aligned to the right."""
    cells = [["" if cell is None else _text(cell) for cell in row] for row in rows]
    kinds = list(zip(*cells, strict=True)) if cells else [()] * len(headers)
    right = [bool(column) and all(_is_number(cell) for cell in column) for column in kinds]
    if sys.stdout.isatty():
        _rich_table(headers, cells, right, title)
        return
    widths = [max([len(header), *(len(row[i]) for row in cells)]) for i, header in enumerate(headers)]
    if title:
        click.echo(title)
    for row in [list(headers), *cells]:
        pieces = [c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)]
        click.echo("  ".join(pieces).rstrip())


def _rich_table(headers: Sequence[str], cells: list[list[str]], right: list[bool], title: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    shown = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, collapse_padding=True)
    for place, (header, is_right) in enumerate(zip(headers, right, strict=True)):
        whole = place == 0 and max((len(row[0]) for row in cells), default=0) <= WIDEST_NAME
        shown.add_column(header, justify="right" if is_right else "left", overflow="fold", no_wrap=whole)
    for row in cells:
        shown.add_row(*map(escape, row))
    Console(highlight=False).print(shown)


RANK = {"error": 0, "row": 1, "warning": 2}
"""Level of a finding → its place among the others: the worst one comes first."""


def findings(found: Sequence[Finding], counts: Mapping[str, int]) -> None:
    """Print findings by code, the worst level first, each with its place, and the number of each code."""
    from finetune.data.findings import with_value

    worst = dict.fromkeys(counts, RANK["warning"])
    for finding in found:
        worst[finding.code] = min(worst.get(finding.code, RANK["warning"]), RANK[finding.level])
    for code, count in sorted(counts.items(), key=lambda item: worst[item[0]]):
        shown = [finding for finding in found if finding.code == code]
        click.secho(f"\n{code}", bold=True, nl=False, err=True)
        noun = "warning" if worst[code] == RANK["warning"] else "finding"
        number = f"  {count} {noun}{'' if count == 1 else 's'}"
        click.echo(number + (f", {len(shown)} shown" if len(shown) < count else ""), err=True)
        for finding in shown:
            say(f"  {place(finding)}{with_value(finding)}", err=True)
            if finding.fix:
                fix = wrapped(f"      {finding.fix}") if sys.stderr.isatty() else f"      {finding.fix}"
                click.secho(fix, dim=True, err=True)


def place(finding: Finding) -> str:
    """Return the place of a finding as a prefix: ``reviews.csv:17: label: ``."""
    from finetune.data.findings import place_of

    parts = [part for part in (place_of(finding), finding.column) if part]
    return "".join(f"{part}: " for part in parts)


def as_json(content: Any) -> None:
    """Print JSON to standard output."""
    click.echo(to_json(content, indent=1, default=str))


def scores(
    result_scores: Mapping[str, Mapping[str, float]],
    base_scores: Mapping[str, Mapping[str, float]],
    details: Mapping[str, Mapping[str, Any]] = {},
    *,
    primary: str = "",
) -> None:
    """Print a table of scores, with columns for the base model and the fine-tuned model.

    Scores of one class, such as ``f1/cat``, get a table of the last held-out split, with a row for each class. The
    confusion matrix of a few labels follows.

    Args:
        result_scores: Split → score → number of the fine-tuned model.
        base_scores: The same of the base model; splits can be missing.
        details: Split → what is not a single number.
        primary: Name of the score that represents the others.
    """
    from finetune.evaluation import verdicts

    columns: dict[str, Mapping[str, float]] = {}
    names: dict[str, None] = {}
    for split, numbers in result_scores.items():
        if split in base_scores:
            columns[f"{split} base model"] = base_scores[split]
        columns[f"{split} fine-tuned"] = numbers
    for numbers in columns.values():
        names |= dict.fromkeys(verdicts.shown(numbers, primary=primary))
    rows = [[name, *(numbers.get(name) for numbers in columns.values())] for name in names if "/" not in name]
    table(["score", *columns], rows)
    held_out = next((name for name in ("test", "validation") if name in result_scores), "")
    _classes(held_out, result_scores.get(held_out, {}))
    _confusion(details.get(held_out, {}))


def evaluated(found: Evaluation) -> None:
    """Print the scores of an evaluation with their intervals, and say what was scored and where it is written."""
    from finetune.evaluation import verdicts

    rows = []
    for name, value in verdicts.shown(found.scores, primary=found.primary).items():
        if "/" not in name:
            bounds = found.intervals.get(name)
            interval = [verdicts.format_score(bounds[end]) for end in ("low", "high")] if bounds else []
            rows.append([name, value, " to ".join(interval)])
    table(["score", found.where, "95% interval"], rows)
    _classes(found.where, found.scores)
    _confusion(found.details)
    click.echo()
    say(found.sentence())
    for sentence in found.answers():
        say(sentence)
    if found.units.get("column"):
        say(f"The intervals resample the {found.units['size']:,} different values of {found.units['column']}.")
    if found.output is not None:
        files = f"{found.files:,} file{'' if found.files == 1 else 's'}"
        earlier = f", {found.reused:,} of them by an earlier call" if found.reused else ""
        say(f"Predictions in {files}{earlier}, and the scores in evaluation.json: {found.output}")


def _classes(split: str, numbers: Mapping[str, float]) -> None:
    """Print the scores of each class."""
    kinds = list(dict.fromkeys(name.partition("/")[0] for name in numbers if "/" in name))
    classes = list(dict.fromkeys(name.partition("/")[2] for name in numbers if "/" in name))
    if classes:
        click.echo()
        rows = [[one, *(numbers.get(f"{kind}/{one}") for kind in kinds)] for one in classes]
        table([f"{split}, by class", *kinds], rows)


def _confusion(details: Mapping[str, Any]) -> None:
    """Print a confusion matrix, if there is one of a few labels."""
    matrix, labels = details.get("confusion_matrix"), details.get("labels")
    if not isinstance(matrix, list) or not isinstance(labels, list) or not 2 <= len(labels) <= MOST_LABELS:
        return
    if len(matrix) != len(labels) or any(not isinstance(row, list) or len(row) != len(labels) for row in matrix):
        return
    click.echo()
    rows = [[label, *counts] for label, counts in zip(labels, matrix, strict=True)]
    table(["reference ↓ predicted →", *map(str, labels)], rows)


def page(path: Path, text: str) -> None:
    """Write a page to a file, which is complete or as it was; a link, a device or a pipe is written to as it is.

    Raises:
        BadOptions: The file cannot be written.
    """
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):  # such as /dev/stdout
            path.write_text(text, encoding="utf-8")
        else:
            write_atomically(path, text)
    except OSError as error:
        raise BadOptions(f"{path} cannot be written: {error.strerror}. Name a file in an existing folder.") from error


def _text(cell: object) -> str:
    shown = f"{cell:.4g}" if isinstance(cell, float) else str(cell)
    return _ENDS.sub(lambda found: ascii(found.group())[1:-1], visible(shown))


def _is_number(cell: str) -> bool:
    return not cell or cell.replace(",", "").replace(".", "", 1).replace("e-", "", 1).lstrip("-").isdigit()
