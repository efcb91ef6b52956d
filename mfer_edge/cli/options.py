"""Parameter types and options that commands share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

STDOUT = Path("-")


class PositiveNumber(click.FloatRange):
    """A finite number above 0."""

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read it."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


# Whether a path can be read is checked where it is opened, which has the better error message.
INPUT = click.Path(path_type=Path, readable=False)
OUTPUT = click.Path(path_type=Path, readable=False, dir_okay=False)
TEXT_OUTPUT = click.Path(path_type=Path, readable=False, dir_okay=False, allow_dash=True)

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
    "--threads", type=click.IntRange(1), help="CPU threads [default: all cores]."
)
isolate_option = click.option(
    "--isolate",
    is_flag=True,
    help="Analyse in a worker process: a clip that crashes it costs that clip.",
)
timeout_option = click.option(
    "--timeout",
    "timeout_s",
    type=PositiveNumber(),
    metavar="S",
    help="Give up a clip after so many seconds; in a worker process.",
)
max_memory_option = click.option(
    "--max-memory",
    type=PositiveNumber(),
    metavar="MB",
    help="Give up a clip at so much resident memory; in a worker process.",
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
