"""Progress on stderr, if that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

STEPS = 1000  # of a progress bar

Progress = Callable[[float], None]
"""Called with the fraction that is done, 0 to 1."""


@contextmanager
def progress_bar(label: str, *, quiet: bool) -> Iterator[Progress | None]:
    """Show a progress bar; None if there is none to show."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=STEPS, label=label, file=sys.stderr) as bar:
        yield lambda fraction: bar.update(max(0, int(fraction * STEPS) - bar.pos))


def print_step(line: str) -> None:
    """Print what is being done."""
    if sys.stderr.isatty():
        click.echo(line, err=True)
