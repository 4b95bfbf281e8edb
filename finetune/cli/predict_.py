"""`finetune predict`."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import click

from finetune.cli import parameters

if TYPE_CHECKING:
    from finetune.api import FineTuned
    from finetune.recipe import Source

GENERATION = "generation."


@click.command("predict", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.argument("run", type=parameters.RunPath(file_okay=False))
@click.argument("file", required=False)
@parameters.base
@parameters.accept_changes
@parameters.modules
@click.option(
    "--on-bad",
    type=click.Choice(["error", "drop"]),
    help="What to do with bad rows of FILE: stop, or print a line without a prediction. Default: as in the run.",
)
@parameters.trust_code
@click.option(
    "--output",
    type=click.Path(file_okay=False),
    callback=parameters.not_empty,
    help="Folder for the lines, in files of --block-rows rows, instead of printing them. After a stop, the same call "
    "makes the files that are missing.",
)
@parameters.blocks
@click.pass_context
def command(
    ctx: click.Context,
    /,
    run: str,
    file: str | None,
    base: str | None,
    accept_changes: bool,
    on_bad: Literal["error", "drop"] | None,
    **output: Any,
) -> None:
    """Predict with the model of a finished RUN.

    One JSON object is printed for each example.

    FILE contains examples in any format of a recipe, with the column names of the run's data set.
    Columns with answers are not read. The lines that are printed are in the order of the rows.
    `-` reads JSON lines from standard input, with the column names of the task. For a single
    example, give its columns: `finetune predict RUN --question "Who?" --context "…"`. A column
    that holds a list or a mapping, such as a chat, is written as JSON: `--messages '[{"role": …}]'`.
    If the task generates text, `generation.num_beams=4` changes an option of the generation.
    """
    words = [*([file] if file is not None else []), *ctx.args]
    generation = [word for word in words if word.startswith(GENERATION)]
    columns, file = _columns([word for word in words if word not in generation])
    if bool(columns) == (file is not None):
        raise click.UsageError("give a file, - for standard input, or one example by its columns: --text '…'.")
    from finetune.cli import output as shown

    with shown.loading():
        from finetune import api, data

    options = parameters.chosen(output, need_output=output.keys())
    if options:
        if columns or file == "-":
            raise click.UsageError("--output needs a file with rows.")
        _write(run, str(file), dict(_option(word) for word in generation), on_bad=on_bad, base=base,
               accept_changes=accept_changes, **options)  # fmt: skip
        return
    model = api.load(run, base=base, accept_changes=accept_changes)
    if generation:
        model = model.with_generation(**dict(_option(word) for word in generation))
    if columns:
        _print(_predict(model, columns))
        return
    with TemporaryDirectory() as folder:
        source = _source(str(file), model, folder)
        if on_bad is not None:
            source = replace(source, on_bad=on_bad)
        records, dropped = model.predict_source(source)
        for record in records:
            _print(record)
    if dropped:
        click.echo(data.left_out(dropped, rows=len(records)), err=True)


def _write(run: str, file: str, generation: dict[str, Any], *, output: str, **options: Any) -> None:
    """Predict the rows of a file into a folder, and say how many there are."""
    from finetune import api, data
    from finetune.progress import Console

    written = api.predict(run, file, output, generation=generation, reporter=Console(), **options)
    if written.dropped:
        click.echo(data.left_out(written.dropped, rows=written.rows), err=True)
    kept = written.parts - written.made
    earlier = f", {kept:,} of them by an earlier call" if kept else ""
    files = "file" if written.parts == 1 else "files"
    click.echo(f"{written.rows:,} rows in {written.parts:,} {files}{earlier}: {written.output}")


def _predict(model: FineTuned, columns: dict[str, str]) -> object:
    """Predict one example; a value that is a JSON list or object is read as such if the task takes it, else as text."""
    from finetune.errors import BadData

    nested = {name: _nested(text) for name, text in columns.items()}
    try:
        return model.predict(nested)
    except BadData as error:
        if nested == columns:
            raise
        try:
            return model.predict(columns)
        except BadData:
            raise error from None


def _nested(text: str) -> Any:
    """Return the list or the object that a text is in JSON; any other text as it is."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, list | dict) else text


def _option(word: str) -> tuple[str, Any]:
    """Read one generation option: ``generation.num_beams=4``."""
    from finetune import recipe

    name, equals, value = word.removeprefix(GENERATION).partition("=")
    if not equals:
        raise click.UsageError(f"{word} needs a value: {word}=4.")
    return name, recipe.load(value, name=word)


def _columns(words: list[str]) -> tuple[dict[str, str], str | None]:
    """Return the columns given as flags, and the file if there is one."""
    columns: dict[str, str] = {}
    file: str | None = None
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if not equals and not words:
                raise click.UsageError(f"--{name} needs a value.")
            columns[name.replace("-", "_")] = value if equals else words.pop(0)
        elif file is None:
            file = word
        else:
            raise click.UsageError(f"one file at a time, not {file!r} and {word!r}.")
    return columns, file


def _source(file: str, model: FineTuned, folder: str) -> Source:
    """Return a file as a data set, with those renames of the run that predicting needs."""
    if file == "-":
        copy = Path(folder) / "stdin.jsonl"
        copy.write_bytes(sys.stdin.buffer.read())
        return model.source_like(str(copy), columns={}, encoding="utf-8")
    return model.source_to_predict(file)


def _print(record: object) -> None:
    from finetune.result import to_json

    click.echo(to_json(record))
