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


def print_error(error: MferError | str) -> None:
    """Print one line on stderr."""
    click.echo(f"error: {error}", err=True)


class FailureCount:
    """Counter of failed inputs and outputs, each of which is reported and skipped."""

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def reported(self) -> Iterator[None]:
        """Print and count an `MferError` of the block."""
        try:
            yield
        except MferError as error:
            print_error(error)
            self.count += 1

    @property
    def exit_code(self) -> int:
        """`FAILED` if anything failed."""
        return FAILED if self.count else DONE
