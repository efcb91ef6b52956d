"""Parameter types and options that commands share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from mfer_edge.sources.url import is_url

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
OUTPUT_FOLDER = click.Path(path_type=Path, readable=False, file_okay=False)
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
workers_option = click.option(
    "--workers", type=click.IntRange(1), help="Processes [default: one a core]."
)
worker_threads_option = click.option(
    "--threads",
    type=click.IntRange(1),
    help="CPU threads of each worker [default: the cores, shared].",
)
bundle_option = click.option("--bundle", type=INPUT, help="Model to use [default: compact].")
window_option = click.option(
    "--window", type=float, help="Seconds that a reading covers [default: bundle's]."
)
hop_option = click.option(
    "--hop", type=float, help="Seconds from one reading to the next [default: bundle's]."
)
faces_option = click.option(
    "--faces",
    type=click.Choice(["main", "all"]),
    default="main",
    show_default=True,
    help="Whose emotion to read.",
)
audio_track_option = click.option(
    "--audio-track",
    type=click.IntRange(1),
    metavar="N",
    help="Sound track to read, from 1 [default: as players do].",
)
video_track_option = click.option(
    "--video-track",
    type=click.IntRange(1),
    metavar="N",
    help="Video track to read, from 1 [default: as players do].",
)
skip_still_option = click.option(
    "--skip-still",
    type=float,
    default=0.0,
    metavar="LEVELS",
    help="Approximate: don't embed a face again that changed by at most so many of 255 grey "
    "levels.",
)


def adaptation_file(adapt: str) -> Path | None:
    """The file that `--adapt` names; None for `off`.

    Raises:
        click.UsageError: it is `auto`.
    """
    if adapt == "auto":
        from mfer_edge.adapt import NO_AUTO

        raise click.UsageError(f"--adapt {NO_AUTO}")
    return None if adapt == "off" else Path(adapt)
