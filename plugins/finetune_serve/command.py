"""`finetune serve`."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from finetune.kit import cli_parameters

if TYPE_CHECKING:
    from finetune_serve.limits import Limits


@click.command("serve")
@click.argument("model", type=cli_parameters.RunPath(file_okay=False))
@click.argument("options", nargs=-1, metavar="")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address; 0.0.0.0 for all networks.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 for a free one.")
@click.option(
    "--max-body-mb",
    type=click.FloatRange(min=0, min_open=True),
    default=4,
    show_default=True,
    help="Most megabytes of the body of a request.",
)
@click.option(
    "--max-characters",
    type=click.IntRange(min=1),
    default=100_000,
    show_default=True,
    help="Most characters of all texts of a row.",
)
@click.option(
    "--max-requests",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Most requests that wait for the model; the next one is refused.",
)
@click.option(
    "--batch-tokens",
    type=click.IntRange(min=1),
    default=16_384,
    show_default=True,
    help="Most tokens that the model gets at once.",
)
@click.option(
    "--max-wait-ms",
    type=click.FloatRange(min=0),
    default=2,
    show_default=True,
    help="How long a request waits for others, so that the model gets them together.",
)
@click.option(
    "--dockerfile",
    type=click.Path(file_okay=False),
    metavar="DIR",
    callback=cli_parameters.not_empty,
    help="Serve nothing; write a Dockerfile, compose.yaml and requirements.txt into this folder.",
)
@click.option(
    "--ray",
    "ray_file",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    callback=cli_parameters.not_empty,
    help="Serve nothing; write an application for Ray Serve into this Python file.",
)
@click.option(
    "--with",
    "engine",
    type=click.Choice(["vllm", "transformers"]),
    help="Print the command with which this engine serves the merged model, and run it if it is installed here.",
)
@click.option("--dry-run", is_flag=True, help="With --with: print the commands only.")
@cli_parameters.answering
@cli_parameters.task
@cli_parameters.base
@cli_parameters.accept_changes
@cli_parameters.modules
@cli_parameters.trust_code
@cli_parameters.loudness
def command(
    model: str,
    options: tuple[str, ...],
    host: str,
    port: int,
    max_body_mb: float,
    max_characters: int,
    max_requests: int,
    batch_tokens: int,
    max_wait_ms: float,
    dockerfile: str | None,
    ray_file: str | None,
    engine: str | None,
    dry_run: bool,
    abstain_below: float | None,
    coverage: float | None,
    task: str | None,
    base: str | None,
    accept_changes: bool,
    quiet: bool,
) -> None:
    """Serve the MODEL of a finished run, or of another program, over HTTP.

    POST /predict answers rows as `finetune predict` does: `{"column": value}` for one, `{"rows": [{…}, {…}]}` for
    several. GET /info names the columns, /docs lists all paths, /metrics is for Prometheus, /health for load balancers.
    Ctrl-C or SIGTERM stops the server after the requests that it has taken.

    MODEL can also be a folder that transformers or PEFT wrote, or an id of the Hub with --task. Such a model takes
    options: `preprocessor.max_length=384`.

    There is no password. Anyone who can reach the address can use the model; by default that is this machine alone.
    """  # fmt: skip
    sections, unknown = cli_parameters.sections(options)
    if unknown:
        raise click.UsageError(f"unexpected argument {unknown[0]!r}. Rows are sent to the server: POST /predict.")
    if dry_run and engine is None:
        raise click.UsageError("--dry-run has an effect with --with only.")
    if dockerfile is not None:
        if said := [name for name, value in {"--task": task, "--base": base, **sections}.items() if value]:
            raise click.UsageError(f"{said[0]} has no effect on --dockerfile: it takes a run, which knows it.")
        _write_container(Path(dockerfile), Path(model))
        return
    from finetune_serve.limits import Limits

    limits = Limits(
        body_bytes=int(max_body_mb * (1 << 20)),
        characters=max_characters,
        requests=max_requests,
        batch_tokens=batch_tokens,
        wait_seconds=max_wait_ms / 1000,
    )
    if ray_file is not None:
        answering = {"abstain_below": abstain_below, "coverage": coverage}
        more = {
            "answering": {name: value for name, value in answering.items() if value is not None},
            "task": task,
            "base": base,
            "accept_changes": accept_changes,
            **sections,
        }
        _write_ray_application(Path(ray_file), model, limits, more)
        return
    if engine is not None:
        _use_engine(Path(model), engine, host=host, port=port, dry_run=dry_run)
        return
    from finetune.kit import cli_output

    with cli_output.loading(quiet=quiet):
        import finetune
        from finetune_serve import server
        from finetune_serve.app import build

    reporter = cli_output.reporter(quiet=quiet)
    with closing(server.listen(host, port)) as listener:  # a port that is in use is named before the model is loaded
        with reporter.phase("load the model"):
            loaded = finetune.load(model, task=task, base=base, accept_changes=accept_changes, **sections)
            loaded = loaded.with_answering(abstain_below=abstain_below, coverage=coverage)
        loaded.say(reporter)
        app = build(loaded, limits)
        if not quiet:
            address = server.address_of(listener, host)
            click.echo(f"Serving {loaded.plan.recipe.task} at {address} (Ctrl-C stops)", err=True)
        server.serve(app, listener, seconds=limits.read_seconds)


def _write_container(folder: Path, run: Path) -> None:
    """Write the files of a container, and say how to use them."""
    from finetune_serve import container

    given = click.get_current_context()
    options = {}
    for name in (
        "max_body_mb", "max_characters", "max_requests", "batch_tokens", "max_wait_ms", "abstain_below", "coverage",
    ):  # fmt: skip
        if given.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT:
            options[f"--{name.replace('_', '-')}"] = f"{given.params[name]:g}"
    container.write(folder, run, options=options)
    click.echo(f"Wrote {', '.join(container.NAMES)} into {folder}.")
    click.echo(f"docker compose --file {shlex.quote(str(folder / 'compose.yaml'))} up --build")


def _write_ray_application(file: Path, model: str, limits: Limits, options: Mapping[str, Any]) -> None:
    """Write an application for Ray Serve, and say how to use it."""
    from finetune_serve import ray_application

    ray_application.write(file, model, limits, options)
    click.echo(f"Wrote {file}.")
    click.echo(f"cd {shlex.quote(str(file.parent))} && serve run {file.stem}:app")


def _use_engine(run: Path, engine: str, *, host: str, port: int, dry_run: bool) -> None:
    """Print the commands with which another engine serves a run, and run them."""
    from finetune_serve import engines

    planned = engines.plan(run, engine, host=host, port=port)
    for line in engines.lines(planned):
        click.echo(line)
    if not dry_run:
        engines.start(planned)
