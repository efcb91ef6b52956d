"""Command group `mfer-edge`; a command's module is imported when the command is called."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NoReturn

import click

from mfer_edge import __version__
from mfer_edge.cli.errors import (
    DEBUG,
    FAILED,
    INTERRUPTED,
    WRONG_USAGE,
    print_error,
    print_unexpected,
)
from mfer_edge.cli.streams import checked_stdout, ended_as_by_ctrl_c
from mfer_edge.errors import MferError, OutputError

ARGUMENTS = "mfer_edge.arguments"  # key in a context's `meta`


@dataclass(frozen=True)
class CommandEntry:
    """Where a command is defined, under its own name."""

    module: str
    help: str  # as the command's docstring begins
    packages: tuple[str, ...] = ()  # packages beside `mfer_edge` that it imports
    extra: str | None = None  # extra that installs its requirements


COMMANDS = {
    "adapt": CommandEntry(
        "mfer_edge.cli.adapt",
        "Adapt a model to a place or a person, from recordings without labels.",
    ),
    "batch": CommandEntry("mfer_edge.cli.batch", "Read the emotion in many clips, into tables."),
    "bench": CommandEntry(
        "mfer_edge.cli.bench",
        "Measure how long everything takes on this machine; about a minute.",
    ),
    "convert": CommandEntry(
        "mfer_edge.cli.convert",
        "Turn a recording of `mfer-edge live --jsonl` into the formats of `infer`.",
    ),
    "doctor": CommandEntry(
        "mfer_edge.cli.doctor", "Tell what this machine can run, and why not the rest."
    ),
    "evaluate": CommandEntry(
        "mfer_edge.evaluation.cli",
        "Compare the model with labels that people gave, before you rely on it.",
    ),
    "export": CommandEntry(
        "export.cli",
        "Export a model to a bundle, and check it against PyTorch.",
        packages=("export", "train"),
        extra="export",
    ),
    "infer": CommandEntry(
        "mfer_edge.cli.infer",
        "Read the emotion in each SOURCE: a video or audio file, a URL, or - for stdin.",
    ),
    "live": CommandEntry(
        "mfer_edge.cli.live",
        "Read the emotion in front of a camera and a microphone, until Ctrl-C.",
    ),
    "serve": CommandEntry(
        "mfer_edge.serve.cli",
        "Serve a page for cameras and clips in the browser, and an API; until Ctrl-C.",
        extra="serve",
    ),
    "train": CommandEntry(
        "train.cli.main",
        "Train the arms and their fusion, and evaluate them on unseen people.",
        packages=("train",),
        extra="train",
    ),
}


class LazyGroup(click.Group):
    """Group that imports a command on use and prints errors as one line on stderr."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = COMMANDS.get(cmd_name)
        return None if entry is None else with_debug(load_command(cmd_name, entry))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = formatter.width - 6 - max(map(len, COMMANDS))
        rows = [
            (name, click.Command(name, help=COMMANDS[name].help).get_short_help_str(width))
            for name in self.list_commands(ctx)
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[ARGUMENTS] = tuple(args)
        return super().parse_args(ctx, args)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            with checked_stdout(), ended_as_by_ctrl_c():
                return super().main(*args, **kwargs)
        except OutputError as error:  # of --help, --version, or the last flush
            print_error(error)
            sys.exit(FAILED)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MferError as error:
            print_error(error)
            ctx.exit(FAILED)
        except click.UsageError as error:
            message = error.format_message().rstrip(".")
            print_error(message + _dash_hint(error, ctx.meta[ARGUMENTS]))
            ctx.exit(WRONG_USAGE)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as error:
            print_unexpected(error)
            ctx.exit(FAILED)


def _dash_hint(error: click.UsageError, arguments: Sequence[str]) -> str:
    """How to name a file whose name starts with a dash, if that is what was meant."""
    if isinstance(error, click.NoSuchOption):
        for argument in arguments:
            if argument.startswith("-") and os.path.exists(argument):
                return f"; for the file of that name write {os.path.join('.', argument)}"
    return ""


def load_command(name: str, entry: CommandEntry) -> click.Command:
    """Import a command.

    Raises:
        click.UsageError: another module has the name of a package that the command needs.
        MferError: a requirement of the command is not installed.
    """
    if entry.packages:
        from mfer_edge.cli.packages import check_packages

        check_packages(entry.packages, command=name)
    try:
        command: click.Command = getattr(import_module(entry.module), name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if entry.extra is None or missing.split(".")[0] in ("mfer_edge", *entry.packages):
            raise
        from mfer_edge.install import install_hint

        raise MferError(f"{missing} is not installed: {install_hint(entry.extra)}") from error
    return command


def _set_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.meta[DEBUG] = ctx.meta.get(DEBUG, False) or value


debug_option = click.Option(
    ["--debug"],
    is_flag=True,
    expose_value=False,
    callback=_set_debug,
    help="Print the traceback of an unexpected error.",
)


def with_debug(command: click.Command) -> click.Command:
    """Add `--debug` to a command and to all that are below it, once."""
    if debug_option not in command.params:
        command.params.append(debug_option)
    for name in getattr(command, "commands", ()):
        with_debug(command.commands[name])  # type: ignore[attr-defined]
    return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mfer-edge")
def main() -> None:
    """Emotion recognition from face and voice, at the edge."""


with_debug(main)


def run() -> NoReturn:
    """Run `mfer-edge` as a process: the command, then what is registered for the exit.

    Where no thread is left, the process ends there. Python would take its modules apart first,
    which takes longer than writing a result.
    """
    try:
        main()
    except SystemExit as ended:
        if threading.active_count() > 1 or not isinstance(ended.code, int):
            raise
        atexit._run_exitfuncs()
        try:
            for stream in filter(None, (sys.stdout, sys.stderr)):  # there may be none of them
                stream.flush()
        except (OSError, ValueError):  # no reader is left, or it is closed
            raise ended from None
        os._exit(ended.code)
    sys.exit()
