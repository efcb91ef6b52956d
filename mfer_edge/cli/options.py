"""Parameter types and options that commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mfer_edge.sources.url import is_url

STDOUT = Path("-")

# Whether a path can be read is checked where it is opened, which has the better error message.
INPUT = click.Path(path_type=Path, readable=False)
OUTPUT = click.Path(path_type=Path, readable=False, dir_okay=False)
TEXT_OUTPUT = click.Path(path_type=Path, readable=False, dir_okay=False, allow_dash=True)

STDIN = Path("-")


class SourceType(click.Path):
    """A file's path, `-` for stdin, or a URL, which stays text."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if is_url(value) else super().convert(value, param, ctx)


SOURCE = SourceType(path_type=Path, readable=False)

device_option = click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "tensorrt"]),
    default="auto",
    show_default=True,
)
adapt_option = click.option(
    "--adapt",
    default="off",
    show_default=True,
    metavar="off|FILE",
    help="Adaptation to a place or a person that `mfer-edge adapt` made.",
)
threads_option = click.option(
    "--threads",
    type=click.IntRange(1),
    help="CPU threads, at most all cores [default: all].",
)


def adaptation_file(adapt: str) -> Path | None:
    """The file that `--adapt` names; None for `off`.

    Raises:
        click.UsageError: it is `auto`. A recording's own statistics are no adaptation: of voices
            that were never trained on, mixed recordings of 12 windows gained 7 points of recall,
            those of one emotion lost 7, and ordinary talk called neutral fell from 86 to 59 %.
    """
    if adapt == "auto":
        raise click.UsageError(
            "--adapt auto: not offered, as a recording's own statistics take its mood for the "
            "place; make a file from several recordings with `mfer-edge adapt`"
        )
    return None if adapt == "off" else Path(adapt)
