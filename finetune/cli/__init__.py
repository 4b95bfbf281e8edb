"""The command line: one file for each command, imported when the command is used.

Nothing here imports torch or transformers; the bodies of commands do.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import click

from finetune import __version__, failures, processes, secrets
from finetune.characters import visible
from finetune.cli.parameters import AS_JSON
from finetune.descriptions import summary
from finetune.errors import BadData, FinetuneError, Interrupted, ProcessFailed, did_you_mean
from finetune.plugins import Catalogue, discover
from finetune.training import upstream
from finetune.user_code import failed

GROUPS = {
    "data": ("Data and recipe", ("init", "import", "check")),
    "train": ("Train", ("plan", "train", "job", "clean")),
    "judge": ("Judge", ("evaluate", "report", "compare", "adopt")),
    "use": ("Use", ("predict",)),
    "share": ("Share", ()),
    "learn": ("Learn", ("list", "show", "schema", "doctor", "plugin")),
}
"""Purpose → its title in the help, and the commands of finetune with it, in the order in which a new user needs them.
Each command is the attribute `command` of a module of this package. Plugins add more."""

COMMANDS = tuple(name for _, names in GROUPS.values() for name in names)

OTHERS = "Others"
"""The title of those commands of plugins that have no known group."""


class Commands(click.Group):
    """The commands of finetune and of plugins."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return every name."""
        return [*COMMANDS, *sorted(_plugins(ctx).targets)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command of a name."""
        if cmd_name in COMMANDS:
            command: click.Command = importlib.import_module(f"finetune.cli.{cmd_name}_").command
            return command
        catalogue = _plugins(ctx)
        return catalogue.find(cmd_name) if cmd_name in catalogue.targets else None

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Suggest the most similar command for an unknown one."""
        if args and args[0] not in self.list_commands(ctx) and not args[0].startswith("-"):
            ctx.fail(f"no such command {args[0]!r}.{did_you_mean(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by purpose, each with the first sentence about it; none is imported."""
        catalogue = _plugins(ctx)
        sections = {title: list(names) for title, names in GROUPS.values()}
        for name, target in sorted(catalogue.targets.items()):
            title, _ = GROUPS.get(getattr(target, "group", ""), (OTHERS, ()))
            sections.setdefault(title, []).append(name)
        widest = max(len(name) for names in sections.values() for name in names)
        for title, names in sections.items():
            if names:
                with formatter.section(title):
                    formatter.write_dl([(name.ljust(widest), _summary(catalogue, name)) for name in names])

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line, and take credentials out of everything that it prints."""
        _open_missing_streams()
        sums = os.environ.get(upstream.REPRODUCIBLE_SUMS, upstream.STRICT)
        try:
            with upstream.environment(upstream.REPRODUCIBLE_SUMS, sums), secrets.hidden():
                return super().main(*args, **extra)
        finally:
            _flush()

    def make_context(self, *args: Any, **extra: Any) -> click.Context:
        """Read the options; Ctrl-C ends this as it ends a command."""
        try:
            return super().make_context(*args, **extra)
        except KeyboardInterrupt as stop:
            error = failures.interrupted(stop)
            show(error)
            sys.exit(error.exit_code)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; turn our errors, failures of the machine and signals into messages and exit codes."""
        try:
            with failures.stopping():
                return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            _end(ctx, failures.interrupted(stop))
        except Exception as error:
            meaning = failures.explain(error)
            if meaning is None and isinstance(error, FinetuneError):
                meaning = error
            if meaning is None:
                meaning = failed(error)
            if meaning is None:
                raise  # a fault of ours, or of a library: the traceback is needed
            _end(ctx, meaning)


def show(error: FinetuneError) -> None:
    """Print an error to standard error: what is wrong, where, and what to do.

    If a run has several processes, the others say which one they are; what another process shows is not shown again.
    """
    if not processes.is_main():
        if isinstance(error, ProcessFailed | Interrupted):
            return
        click.echo(f"process {processes.number()}: ", nl=False, err=True)
    elif isinstance(error, ProcessFailed) and error.number is not None:
        return
    click.secho("error: ", fg="red", bold=True, nl=False, err=True)
    if isinstance(error, BadData) and error.findings:
        from finetune.cli.output import findings

        click.echo(visible(str(error)).splitlines()[0], err=True)
        findings(error.findings, error.counts)
    else:
        text = visible(str(error))
        if sys.stderr.isatty():
            from finetune.cli.output import wrapped

            text = wrapped(text, first=len("error: "))
        click.echo(text, err=True)


def _show_as_json(error: FinetuneError) -> None:
    """Print an error to standard output as one JSON object, for a command with `--json`."""
    from finetune.cli.output import RANK, as_json

    content = {"error": visible(str(error)), "kind": type(error).__name__, "exit_code": error.exit_code}
    if isinstance(error, BadData):
        content |= {
            "findings": [asdict(finding) for finding in sorted(error.findings, key=lambda each: RANK[each.level])],
            "counts": error.counts,
        }
    as_json(content)


def _end(ctx: click.Context, error: FinetuneError) -> None:
    """Print an error, and end the command with its exit code."""
    if isinstance(error, Interrupted):
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # another Ctrl-C ends the process; it has nothing left to say
    with suppress(OSError):  # a stream can be closed, or on a full disk
        show(error)
        if ctx.meta.get(AS_JSON) and processes.is_main():
            _show_as_json(error)
    _flush()
    ctx.exit(error.exit_code)


def _open_missing_streams() -> None:
    """Give a standard stream that the caller closed (``>&-``) an empty file: Python has `None` there."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115


def _flush() -> None:
    """Write out standard output; if nobody takes it, drop it: Python would fail at its end, with another exit code."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _summary(catalogue: Catalogue, name: str) -> str:
    """Return what a command does, and what it needs if that is not installed."""
    if name in COMMANDS:
        return summary(f"finetune.cli.{name}_:command")
    problem = catalogue.problem(name)
    return f"({problem})" if problem else summary(catalogue.targets[name]) or f"from {catalogue.owners[name]}"


def _plugins(ctx: click.Context) -> Catalogue:
    """Return the commands of plugins, discovered once per call."""
    if "finetune.commands" not in ctx.meta:
        ctx.meta["finetune.commands"] = discover().catalogues["commands"]
    found: Catalogue = ctx.meta["finetune.commands"]
    return found


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="finetune")
def main() -> None:
    """Fine-tune any pretrained transformer: one task, one strategy, one recipe.

    Begin with `finetune init text-classification > recipe.yaml`, look at the data with `finetune check recipe.yaml`,
    then `finetune train recipe.yaml`.
    """
