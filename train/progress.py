"""Progress bars on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show progress on a terminal; do nothing elsewhere. Yields `update(done, count)`."""
    if not sys.stderr.isatty():
        yield lambda done, count: None
        return
    with click.progressbar(length=1, label=label, file=sys.stderr) as shown:

        def progress(done: int, count: int) -> None:
            shown.length = count
            shown.update(done - shown.pos)

        yield progress
