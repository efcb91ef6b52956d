"""`mfer-edge convert`: a recording of `mfer-edge live` in the formats of `infer`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mfer_edge.cli.errors import FailureCount
from mfer_edge.cli.options import INPUT, OUTPUT, STDOUT, TEXT_OUTPUT
from mfer_edge.cli.output_paths import OutputPaths

if TYPE_CHECKING:
    from mfer_edge.results import Analysis


@click.command()
@click.argument("recording", type=INPUT)
@click.option("--run", "run", type=click.IntRange(1), metavar="N",
              help="Of several runs in the file: this one [default: all of them].")  # fmt: skip
@click.option("--json", "json_path", type=TEXT_OUTPUT, help="Write the results; - for stdout.")
@click.option("--csv", "csv_path", type=TEXT_OUTPUT,
              help="Write a line per window; - for stdout.")  # fmt: skip
@click.option("--vtt", "vtt_path", type=TEXT_OUTPUT, help="Write WebVTT captions (one run).")
@click.option("--plot", "plot_path", type=OUTPUT,
              help="Write an image of the timeline (one run).")  # fmt: skip
@click.option("--html", "html_path", type=OUTPUT,
              help="Write a report for a browser (one run).")  # fmt: skip
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def convert(
    *,
    recording: Path,
    run: int | None,
    json_path: Path | None,
    csv_path: Path | None,
    vtt_path: Path | None,
    plot_path: Path | None,
    html_path: Path | None,
    quiet: bool,
) -> None:
    """Turn a recording of `mfer-edge live --jsonl` into the formats of `infer`."""
    outputs = OutputPaths(json_path, csv_path, vtt_path, None, plot_path, html_path)
    outputs.check([recording])
    from mfer_edge.live.recording import read_recording

    analyses = read_recording(recording)
    if run is not None:
        if run > len(analyses):
            raise click.UsageError(f"--run {run}: the recording holds {len(analyses)}")
        analyses = [analyses[run - 1]]
    if len(analyses) > 1 and (vtt_path or plot_path or html_path):
        raise click.UsageError(
            f"--vtt, --plot and --html take one run; the recording holds {len(analyses)}: "
            "choose with --run"
        )
    if not quiet and not outputs.use_stdout:
        from mfer_edge.outputs.terminal import summary

        click.echo("\n".join(map(summary, analyses)), nl=False)
    sys.exit(written(analyses, outputs))


def written(analyses: Sequence[Analysis], outputs: OutputPaths) -> int:
    """Write what was asked for; one that fails does not stop the others. The exit code."""
    from mfer_edge.outputs.csv import csv_text
    from mfer_edge.outputs.files import write_text
    from mfer_edge.outputs.html import write_html
    from mfer_edge.outputs.json import json_text
    from mfer_edge.outputs.timeline import write_timeline
    from mfer_edge.outputs.webvtt import vtt_text

    several, failures = len(analyses) > 1, FailureCount()
    texts = {
        outputs.json: lambda: json_text(analyses, one_per_line=several),
        outputs.csv: lambda: csv_text(analyses),
        outputs.vtt: lambda: vtt_text(analyses[0]),
    }
    for path, text in texts.items():
        if path is not None:
            with failures.reported():
                click.echo(text(), nl=False) if path == STDOUT else write_text(path, text())
    if outputs.plot is not None:
        with failures.reported():
            write_timeline(analyses[0], outputs.plot)
    if outputs.html is not None:
        with failures.reported():
            write_html(analyses[0], outputs.html)
    return failures.exit_code
