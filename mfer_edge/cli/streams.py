"""Standard output, whatever its encoding and however full its disk; signals that end a command."""

from __future__ import annotations

import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

import click

from mfer_edge.errors import OutputError

ENDING = ("SIGTERM", "SIGHUP")  # as Ctrl-C: what is finished stays, what is begun is removed


def print_data(text: str) -> None:
    """Print a result in a format that programs read: in UTF-8, whatever the terminal's encoding.

    Raises:
        OutputError: stdout can't be written to.
    """
    with checked_stdout():
        click.echo(text.encode(), nl=False)


def print_text(text: str) -> None:
    """Print a text for people and a line end.

    Raises:
        OutputError: stdout can't be written to.
    """
    with checked_stdout():
        click.echo(text)


@contextmanager
def checked_stdout() -> Iterator[None]:
    """Turn a failure of stdout, but for a reader that left, into an `OutputError`."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise stdout_error() or error from error


def stdout_error() -> OutputError | None:
    """The error of a stdout that can't be written to, once: later text is dropped in silence.

    Without that the interpreter fails at its end, on what is still in the buffer.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
            sys.stdout.flush()
        return OutputError(f"stdout: could not be written: {error.strerror or error}")
    return None


def allow_any_text() -> None:
    """Print letters that stdout's encoding lacks as escapes, such as \\xe9, instead of failing."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@contextmanager
def ended_as_by_ctrl_c() -> Iterator[None]:
    """Raise `KeyboardInterrupt` on signals that would end the process without cleaning up."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in ENDING:
            number = getattr(signal, name, None)
            # One that is ignored, as `nohup` does, or handled by a program around this one, stays.
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
