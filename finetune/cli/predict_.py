"""`finetune predict`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import click

from finetune.cli import parameters
from finetune.errors import did_you_mean, listed

if TYPE_CHECKING:
    from finetune.api import FineTuned
    from finetune.interfaces import Record

GENERATION = "generation."


@click.command("predict", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
@click.argument("run", type=parameters.RunPath(file_okay=False))
@click.argument("file", required=False)
@parameters.task
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
    type=click.Path(),
    callback=parameters.not_empty,
    help="A file that ends in .jsonl, .csv or .parquet, or a folder for files of --block-rows rows, instead of "
    "printing the lines. After a stop, the same call predicts only what is missing.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["jsonl", "csv", "parquet"]),
    help="Format of the lines that are printed, or of the file. Default: jsonl, or what --output ends in.",
)
@parameters.answering
@parameters.blocks
@parameters.loudness
@click.pass_context
def command(
    ctx: click.Context,
    /,
    run: str,
    file: str | None,
    task: str | None,
    base: str | None,
    accept_changes: bool,
    on_bad: Literal["error", "drop"] | None,
    kind: str | None,
    abstain_below: float | None,
    coverage: float | None,
    quiet: bool,
    **output: Any,
) -> None:
    """Predict with the model of a finished RUN, or with a model that another program trained.

    One JSON object is printed for each row: its place, its columns and the prediction.

    FILE contains rows in any format of a recipe, with the column names of the run's data set or of
    the task. A .txt file has a row on each line. Columns with answers are not read. The lines that
    are printed are in the order of the rows. `-` reads standard input: JSON lines, or lines of text.
    For a single row, give its columns: `finetune predict RUN --question "Who?" --context "…"`. A
    column that holds a list or a mapping, such as a chat, is written as JSON: `--messages '[{"role":
    …}]'`. If the task generates text, `generation.num_beams=4` changes an option of the generation.

    RUN can also be a folder that transformers or PEFT wrote, or an id of the Hub with --task. Such a model takes
    options: `preprocessor.max_length=384`, and the names of the columns: `columns.review=text`.
    """
    words = [*([file] if file is not None else []), *ctx.args]
    sections, words = parameters.sections(words)
    generation = [word for word in words if word.startswith(GENERATION)]
    columns, file = _columns([word for word in words if word not in generation], ctx)
    if columns and file is not None:
        raise click.UsageError(_unknown(next(iter(columns)), ctx, ()))
    if not columns and file is None:
        raise click.UsageError("give a file, - for standard input, or one row by its columns: --text '…'.")
    options = parameters.chosen(output, need_output=output.keys())
    if options and columns:
        raise click.UsageError("--output needs a file with rows.")
    if kind == "parquet" and "output" not in options:
        raise click.UsageError("--format parquet needs --output: it is no text.")
    from finetune.cli import output as shown

    with shown.loading(quiet=quiet):
        from finetune import api, data

    reporter = shown.reporter(quiet=quiet, lasting=bool(options))
    changed = dict(_option(word) for word in generation)
    opening = api.Opening(
        task=task,
        base=base,
        accept_changes=accept_changes,
        generation=changed,
        answering=api.Answering(abstain_below=abstain_below, coverage=coverage),
        **sections,
    )
    opened = api.open_without_weights(run, opening)
    if options:
        _write(opened, str(file), kind=kind, on_bad=on_bad, quiet=quiet, reporter=reporter, **options)
        return
    with reporter.phase("load the model"):
        model = api.with_weights(opened)
    model.say(reporter)
    if columns:
        records = [_predict(model, _renamed(columns, model, ctx))]
        shown.lines(_text(records, kind))
        return
    asked = model.asked(str(file))
    if on_bad is not None:
        asked = replace(asked, source=replace(asked.source, on_bad=on_bad))
    with reporter.phase("read and check the data"):
        blocks = model.blocks(asked)
    with reporter.phase("predict"):
        shown.lines(_text(model.each_record(blocks, reporter), kind))
    if blocks.dropped and not quiet:
        click.echo(data.left_out(blocks.dropped, rows=blocks.rows), err=True)


def _text(records: Iterable[Record], kind: str | None) -> Iterator[str]:
    """Yield the lines to print."""
    from finetune.prediction import blocks, tables

    if kind != "csv":
        for record in records:
            yield blocks.line_of(record)
        return
    every = [json.loads(blocks.line_of(record)) for record in records]
    for line in tables.as_csv(every, tables.columns_of(every)):
        yield line.removesuffix("\n")


def _write(model: FineTuned, file: str, *, output: str, kind: str | None, quiet: bool, **options: Any) -> None:
    """Predict the rows of a file into a file or a folder, and say how many there are."""
    from finetune import api, data

    written = api.predict(model, file, output, format=kind, **options)  # type: ignore[arg-type]
    if quiet:
        return
    if written.dropped:
        click.echo(data.left_out(written.dropped, rows=written.rows), err=True)
    kept = written.parts - written.made
    rows = f"{written.rows:,} row{'' if written.rows == 1 else 's'}"
    if written.output.is_dir():
        earlier = f", {kept:,} of them by an earlier call" if kept else ""
        click.echo(
            f"{rows} in {written.parts:,} {'file' if written.parts == 1 else 'files'}{earlier}: {written.output}"
        )
    else:
        earlier = f", {kept:,} of {written.parts:,} blocks of them by an earlier call" if kept else ""
        click.echo(f"{rows}{earlier}: {written.output}")


def _renamed(columns: Mapping[str, str], model: FineTuned, ctx: click.Context) -> dict[str, str]:
    """Return the columns of one row with the names of the task.

    Raises:
        click.UsageError: Neither the data of the run nor the task has such a column.
    """
    needs = model.plan.preprocessor.needs()
    known = {*needs.inputs, *needs.answers, *needs.optional_answers}
    theirs = model.asked("").source.columns
    named = {}
    for name, value in columns.items():
        spelled = name if name in {*known, *theirs} else name.replace("-", "_")
        if needs.inputs and spelled not in {*known, *theirs}:
            raise click.UsageError(_unknown(name, ctx, [*theirs, *needs.inputs]))
        named[theirs.get(spelled, spelled)] = value
    return named


def _unknown(name: str, ctx: click.Context, columns: Iterable[str]) -> str:
    """Return what to say about an option that is none of the command and names no column."""
    options = [word for parameter in ctx.command.params for word in parameter.opts if word.startswith("--")]
    names = [f"--{column}" for column in dict.fromkeys(columns)]
    text = f"no such option --{name}.{did_you_mean(f'--{name}', [*options, *names])}"
    return f"{text} The columns of a row are {listed(names)}." if names else text


def _predict(model: FineTuned, columns: dict[str, str]) -> Record:
    """Predict one row; a value that is a JSON list or object is read as such if the task takes it, else as text."""
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


def _columns(words: list[str], ctx: click.Context) -> tuple[dict[str, str], str | None]:
    """Return the columns given as flags, and the file if there is one."""
    columns: dict[str, str] = {}
    file: str | None = None
    while words:
        word = words.pop(0)
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            if not equals and not words:
                raise click.UsageError(f"--{name} needs a value." if file is None else _unknown(name, ctx, ()))
            columns[name] = value if equals else words.pop(0)
        elif word.startswith("-") and word != "-":
            raise click.UsageError(f"no such option {word}. A file with this name is written ./{word}.")
        elif file is None:
            file = word
        else:
            raise click.UsageError(f"one file at a time, not {file!r} and {word!r}.")
    return columns, file
