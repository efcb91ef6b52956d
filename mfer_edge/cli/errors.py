"""Exit codes and error lines of the commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from mfer_edge.errors import MferError

DONE = 0
FAILED = 1  # some input or output failed; the others' results are written
WRONG_USAGE = 2
INTERRUPTED = 130

DEBUG = "mfer_edge.debug"  # key in a context's `meta`


def print_error(error: MferError | str) -> None:
    """Print one line on stderr."""
    click.echo(f"error: {error}", err=True)


def print_unexpected(error: Exception, subject: str = "") -> None:
    """Print one line on an error that nothing provides for; with `--debug`, its traceback first.

    Args:
        subject: what was being done, such as the clip that was read.
    """
    context = click.get_current_context(silent=True)
    hint = " (--debug shows where)"
    if context is not None and context.meta.get(DEBUG):
        import traceback

        click.echo("".join(traceback.format_exception(error)), err=True, nl=False)
        hint = ""
    what = " ".join([f"{type(error).__name__}:", *str(error).split()]).rstrip(":")
    if isinstance(error, MemoryError):
        what = "out of memory"
    print_error(f"{subject and f'{subject}: '}unexpected error: {what}{hint}")


class FailureCount:
    """Counter of failed inputs and outputs, each of which is reported and skipped."""

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def reported(self, subject: str = "") -> Iterator[None]:
        """Print and count an error of the block, foreseen or not; only an interrupt gets out.

        Args:
            subject: what the block reads or writes, for an error that does not say it.
        """
        try:
            yield
        except MferError as error:
            print_error(error)
            self.count += 1
        except (click.ClickException, click.exceptions.Exit, BrokenPipeError):
            raise
        except Exception as error:
            print_unexpected(error, subject)
            self.count += 1

    @property
    def exit_code(self) -> int:
        """`FAILED` if anything failed."""
        return FAILED if self.count else DONE
