"""`mfer-edge infer`: emotions in clips."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mfer_edge.cli.analyzers import Analyzer, Isolation, Request, WindowRequest, analyzer
from mfer_edge.cli.errors import FailureCount
from mfer_edge.cli.options import (
    INPUT,
    OUTPUT,
    STDOUT,
    TEXT_OUTPUT,
    adapt_option,
    adaptation_file,
    bundle_option,
    device_option,
    faces_option,
    hop_option,
    isolate_option,
    max_memory_option,
    skip_still_option,
    threads_option,
    timeout_option,
    window_option,
)
from mfer_edge.cli.output_paths import OutputPaths
from mfer_edge.cli.progress import progress_bar

if TYPE_CHECKING:
    from mfer_edge.results import Analysis


@click.command()
@click.argument("sources", nargs=-1, required=True, type=INPUT)
@bundle_option
@device_option
@window_option
@hop_option
@faces_option
@skip_still_option
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
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def infer(
    *,
    sources: tuple[Path, ...],
    bundle: Path | None,
    device: str,
    window: float | None,
    hop: float | None,
    faces: str,
    skip_still: float,
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
    quiet: bool,
) -> None:
    """Read the emotion in each SOURCE, a video or audio file."""
    outputs = OutputPaths(json_path, csv_path, vtt_path, video_path, plot_path)
    outputs.check(sources)
    request = Request(
        bundle=bundle,
        device=device,
        threads=threads or 0,
        adaptation=adaptation_file(adapt),
        windows=WindowRequest(window, hop, faces, skip_still),
        isolation=Isolation(isolate, timeout_s, max_memory),
        keep_detections=video_path is not None,
    )
    with analyzer(request) as analyze:
        code = analyze_sources(analyze, sources, outputs, quiet=quiet)
    sys.exit(code)


def analyze_sources(
    analyze: Analyzer,
    sources: Sequence[Path],
    outputs: OutputPaths,
    *,
    quiet: bool,
) -> int:
    """Analyze clips one after the other and write the outputs.

    Returns:
        The exit code; a clip or an output that fails does not stop the others.
    """
    quiet = quiet or outputs.use_stdout
    analyses, failures = [], FailureCount()
    for source in sources:
        with failures.reported():
            with progress_bar(source.name, quiet=quiet) as progress:
                analysis = analyze(source, progress)
            analyses.append(analysis)
            print_analysis(analysis, outputs, quiet=quiet, one_per_line=len(sources) > 1)
            write_images(analysis, source, outputs, quiet=quiet)
    if analyses:
        write_texts(analyses, outputs, failures, one_per_line=len(sources) > 1)
    return failures.exit_code


def print_analysis(
    analysis: Analysis, outputs: OutputPaths, *, quiet: bool, one_per_line: bool
) -> None:
    """Print the summary of a clip, or its JSON if that goes to stdout."""
    if not quiet:
        from mfer_edge.outputs.terminal import summary

        click.echo(summary(analysis))
    if outputs.json == STDOUT:
        from mfer_edge.outputs.json import json_text

        click.echo(json_text([analysis], one_per_line=one_per_line), nl=False)


def write_images(analysis: Analysis, source: Path, outputs: OutputPaths, *, quiet: bool) -> None:
    """Write the timeline and the overlay video of a clip."""
    if outputs.plot is not None:
        from mfer_edge.outputs.timeline import write_timeline

        write_timeline(analysis, outputs.plot)
    if outputs.video is not None:
        from mfer_edge.outputs.overlay import write_overlay

        with progress_bar(outputs.video.name, quiet=quiet) as progress:
            write_overlay(source, analysis, outputs.video, progress)


def write_texts(
    analyses: Sequence[Analysis],
    outputs: OutputPaths,
    failures: FailureCount,
    *,
    one_per_line: bool,
) -> None:
    """Write JSON, CSV and WebVTT; JSON for stdout has been printed clip by clip."""
    from mfer_edge.outputs.csv import csv_text
    from mfer_edge.outputs.json import json_text
    from mfer_edge.outputs.webvtt import vtt_text

    if outputs.json is not None and outputs.json != STDOUT:
        with failures.reported():
            write_or_print(outputs.json, json_text(analyses, one_per_line=one_per_line))
    if outputs.csv is not None:
        with failures.reported():
            write_or_print(outputs.csv, csv_text(analyses))
    if outputs.vtt is not None:
        with failures.reported():
            write_or_print(outputs.vtt, vtt_text(analyses[0]))


def write_or_print(path: Path, text: str) -> None:
    """Write a text to a file, or to stdout for `STDOUT`."""
    from mfer_edge.outputs.files import write_text

    if path == STDOUT:
        click.echo(text, nl=False)
    else:
        write_text(path, text)
