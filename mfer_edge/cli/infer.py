"""`mfer-edge infer`: emotions in clips."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import click

from mfer_edge.cli.analyzers import Analyzer, Isolation, Request, WindowRequest, analyzer
from mfer_edge.cli.errors import FailureCount
from mfer_edge.cli.options import (
    OUTPUT,
    SOURCE,
    STDIN,
    TEXT_OUTPUT,
    adapt_option,
    adaptation_file,
    audio_track_option,
    bundle_option,
    device_option,
    faces_option,
    hop_option,
    isolate_option,
    max_memory_option,
    skip_still_option,
    threads_option,
    timeout_option,
    video_track_option,
    window_option,
)
from mfer_edge.cli.output_paths import OutputPaths
from mfer_edge.cli.progress import progress_bar
from mfer_edge.sources.base import TrackChoice
from mfer_edge.sources.url import shown_source


@click.command()
@click.argument("sources", nargs=-1, required=True, type=SOURCE)
@bundle_option
@device_option
@window_option
@hop_option
@faces_option
@skip_still_option
@audio_track_option
@video_track_option
@adapt_option
@threads_option
@isolate_option
@timeout_option
@max_memory_option
@click.option("--json", "json_path", type=TEXT_OUTPUT, help="Write the results; - for stdout.")
@click.option("--csv", "csv_path", type=TEXT_OUTPUT,
              help="Write a line per window; - for stdout.")  # fmt: skip
@click.option("--vtt", "vtt_path", type=TEXT_OUTPUT, help="Write WebVTT captions (one source).")
@click.option("--video", "video_path", type=OUTPUT,
              help="Write the clip with the result drawn (one source).")  # fmt: skip
@click.option("--plot", "plot_path", type=OUTPUT,
              help="Write an image of the timeline (one source).")  # fmt: skip
@click.option("--html", "html_path", type=OUTPUT,
              help="Write a report for a browser (one source).")  # fmt: skip
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
    audio_track: int | None,
    video_track: int | None,
    adapt: str,
    threads: int | None,
    isolate: bool,
    timeout_s: float | None,
    max_memory: float | None,
    json_path: Path | None,
    csv_path: Path | None,
    vtt_path: Path | None,
    video_path: Path | None,
    plot_path: Path | None,
    html_path: Path | None,
    quiet: bool,
) -> None:
    """Read the emotion in each SOURCE: a video or audio file, a URL, or - for stdin."""
    outputs = OutputPaths(json_path, csv_path, vtt_path, video_path, plot_path, html_path)
    outputs.check(sources, [adaptation_file(adapt)])
    check_sources(sources, outputs)
    tracks = TrackChoice(video_track, audio_track)
    request = Request(
        bundle=bundle,
        device=device,
        threads=threads or 0,
        adaptation=adaptation_file(adapt),
        windows=WindowRequest(window, hop, faces, skip_still),
        isolation=Isolation(isolate, timeout_s, max_memory),
        keep_detections=video_path is not None,
        tracks=tracks,
    )
    with analyzer(request, sources[0]) as analyze:
        code = analyze_sources(analyze, sources, outputs, tracks, quiet=quiet)
    sys.exit(code)


def analyze_sources(
    analyze: Analyzer,
    sources: Sequence[Path | str],
    outputs: OutputPaths,
    tracks: TrackChoice,
    *,
    quiet: bool,
) -> int:
    """Analyze clips one after the other and write the outputs.

    Returns:
        The exit code; a clip or an output that fails does not stop the others.
    """
    from mfer_edge.cli.results import ResultWriter

    quiet, failures = quiet or outputs.use_stdout, FailureCount()
    writer = ResultWriter(outputs, failures, tracks, several=len(sources) > 1, quiet=quiet)
    with closing(writer):
        for source in sources:
            name = shown_source(source)
            with failures.reported(name), opened(source) as clip:
                with progress_bar(Path(name).name, quiet=quiet) as progress:
                    analysis = analyze(clip, progress)
                if source == STDIN:
                    analysis = replace(analysis, source=Path(clip).name)
                writer.write(analysis, clip)
    return failures.exit_code


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
