"""Progress on stderr, if that is a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

STEPS = 1000  # of a progress bar
BAR = 36  # columns, as is click's default
AROUND_BAR = 24  # columns of blanks, brackets, the percentage and an estimate with days
SHORTEST_LABEL = 8  # columns
ELLIPSIS = "..."

Progress = Callable[[float], None]
"""Called with the fraction that is done, 0 to 1."""


@contextmanager
def progress_bar(label: str, *, quiet: bool) -> Iterator[Progress | None]:
    """Show a progress bar; None if there is none to show."""
    columns = terminal_columns() if sys.stderr.isatty() else 0
    if quiet or columns < AROUND_BAR + SHORTEST_LABEL + 1:
        yield None
        return
    with click.progressbar(
        length=STEPS,
        label=shortened(label, max(columns - BAR - AROUND_BAR, SHORTEST_LABEL)),
        width=min(BAR, columns - AROUND_BAR - SHORTEST_LABEL),
        file=sys.stderr,
    ) as bar:
        yield lambda fraction: bar.update(max(0, int(fraction * STEPS) - bar.pos))


def terminal_columns() -> int:
    """Width of the terminal that stderr is; a bar that is wider starts a new line at each step."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80  # some say 0
    except OSError:
        return 80


def shortened(text: str, columns: int) -> str:
    """A text that takes at most so many columns: its middle is left out; one line, printable."""
    letters = [letter if letter.isprintable() else "?" for letter in text]
    if sum(map(_width, letters)) <= columns:
        return "".join(letters)
    start, end = "", ""
    left = columns - len(ELLIPSIS)
    for index in range(len(letters)):
        # Alternately from the back and from the front: the ending of a file name tells most.
        letter = letters[index // 2] if index % 2 else letters[-1 - index // 2]
        left -= _width(letter)
        if left < 0:
            break
        start, end = (start + letter, end) if index % 2 else (start, letter + end)
    return start + ELLIPSIS + end


def _width(letter: str) -> int:
    """Columns of a letter in a terminal."""
    import unicodedata

    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def print_step(line: str) -> None:
    """Print what is being done."""
    if sys.stderr.isatty():
        click.echo(line, err=True)
