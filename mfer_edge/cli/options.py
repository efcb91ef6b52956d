"""Parameter types and options that commands share."""

from __future__ import annotations

from pathlib import Path

import click

STDOUT = Path("-")

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
threads_option = click.option(
    "--threads", type=click.IntRange(1), help="CPU threads [default: all cores]."
)
