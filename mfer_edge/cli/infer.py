"""`mfer-edge infer`: emotions in clips."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import click

from mfer_edge.cli.errors import FailureCount
from mfer_edge.cli.options import (
    INPUT,
    OUTPUT,
    SOURCE,
    STDIN,
    TEXT_OUTPUT,
    adapt_option,
    adaptation_file,
    device_option,
    threads_option,
)
from mfer_edge.cli.output_paths import OutputPaths
from mfer_edge.cli.progress import progress_bar
from mfer_edge.sources.url import shown_url


@click.command()
@click.argument("sources", nargs=-1, required=True, type=SOURCE)
@click.option("--bundle", type=INPUT, help="Model to use [default: compact].")
@device_option
@click.option("--window", type=float, help="Seconds that a reading covers [default: bundle's].")
@click.option("--hop", type=float, help="Seconds from one reading to the next [default: bundle's].")
@click.option("--faces", type=click.Choice(["main", "all"]), default="main", show_default=True,
              help="Whose emotion to read.")  # fmt: skip
@click.option("--skip-still", type=float, default=0.0, metavar="LEVELS",
              help="Approximate: don't embed a face again that changed by at most so many of 255 "
              "grey levels.")  # fmt: skip
@adapt_option
@threads_option
@click.option("--timeout", type=float, metavar="SECONDS",
              help="Give a source up that takes longer to read.")  # fmt: skip
@click.option("--json", "json_path", type=TEXT_OUTPUT, help="Write the results; - for stdout.")
@click.option("--csv", "csv_path", type=TEXT_OUTPUT,
              help="Write a line per window; - for stdout.")  # fmt: skip
@click.option("--vtt", "vtt_path", type=TEXT_OUTPUT, help="Write WebVTT captions (one source).")
@click.option("--video", "video_path", type=OUTPUT,
              help="Write the clip with the result drawn (one source).")  # fmt: skip
@click.option("--plot", "plot_path", type=OUTPUT,
              help="Write an image of the timeline (one source).")  # fmt: skip
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def infer(
    *,
    sources: tuple[Path | str, ...],
    bundle: Path | None,
    device: str,
    window: float | None,
    hop: float | None,
    faces: str,
    skip_still: float,
    adapt: str,
    threads: int | None,
    timeout: float | None,
    json_path: Path | None,
    csv_path: Path | None,
    vtt_path: Path | None,
    video_path: Path | None,
    plot_path: Path | None,
    quiet: bool,
) -> None:
    """Read the emotion in each SOURCE: a video or audio file, a URL, or - for stdin."""
    outputs = OutputPaths(json_path, csv_path, vtt_path, video_path, plot_path)
    outputs.check(sources)
    check_sources(sources, outputs)
    if timeout is not None and not timeout > 0:
        raise click.UsageError(f"--timeout {timeout:g}: must be over 0 s")
    from mfer_edge.cli.results import ResultWriter
    from mfer_edge.pipeline import Pipeline

    pipeline = Pipeline.open(bundle, device, threads or 0, adaptation=adaptation_file(adapt))
    try:
        options = pipeline.options(window, hop, faces, skip_still)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    failures = FailureCount()
    quiet = quiet or outputs.use_stdout
    writer = ResultWriter(outputs, failures, several=len(sources) > 1, quiet=quiet)
    with closing(writer):
        for source in sources:
            with failures.reported(shown(source)), opened(source) as clip:
                with progress_bar(Path(shown(source)).name, quiet=quiet) as progress:
                    analysis = pipeline.analyze(
                        clip,
                        options,
                        keep_detections=outputs.video is not None,
                        progress=progress,
                        timeout_s=timeout,
                    )
                if source == STDIN:
                    analysis = replace(analysis, source=Path(clip).name)
                writer.write(analysis, clip)
    sys.exit(failures.exit_code)


@contextmanager
def opened(source: Path | str) -> Iterator[Path | str]:
    """The file or URL to read a source from."""
    if source != STDIN:
        yield source
        return
    from mfer_edge.sources.stdin import stdin_clip

    with stdin_clip() as path:
        yield path


def check_sources(sources: Sequence[Path | str], outputs: OutputPaths) -> None:
    """Refuse sources that can't be read as asked.

    Raises:
        click.UsageError: stdin is named twice, or a terminal; a URL is to be read twice.
    """
    if sources.count(STDIN) > 1:
        raise click.UsageError("stdin, -, can be read only once")
    if STDIN in sources and sys.stdin.isatty():
        raise click.UsageError("-: this is a terminal; pipe a clip into the command")
    if outputs.video is not None and isinstance(sources[0], str):
        raise click.UsageError("--video takes a file: it is read twice, which a URL may not be")


def shown(source: Path | str) -> str:
    """Name of a source in messages."""
    return shown_url(source) if isinstance(source, str) else str(source)
