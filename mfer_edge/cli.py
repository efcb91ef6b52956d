"""The command line: each command parses, calls one function, and prints."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mfer_edge import __version__
from mfer_edge.errors import MferError

if TYPE_CHECKING:
    from mfer_edge.results import Analysis

DEVICES = click.Choice(["auto", "cpu", "cuda", "tensorrt"])
FAILED = 1  # exit code: some input failed
DASH = Path("-")  # for stdout
OUTPUT = click.Path(path_type=Path, dir_okay=False, allow_dash=True)


class Group(click.Group):
    """Turns an error that a person can meet into one line on stderr and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MferError as error:
            fail(error)
            ctx.exit(FAILED)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mfer-edge")
def main() -> None:
    """Emotion recognition from face and voice, at the edge."""


@main.command()
@click.argument("sources", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--bundle", type=click.Path(path_type=Path), help="Model to use [default: compact].")
@click.option("--device", type=DEVICES, default="auto", show_default=True)
@click.option("--window", type=float, help="Seconds that a reading looks at [default: bundle's].")
@click.option("--hop", type=float, help="Seconds from one reading to the next [default: bundle's].")
@click.option("--faces", type=click.Choice(["main", "all"]), default="main", show_default=True)
@click.option("--threads", type=click.IntRange(1), help="CPU threads [default: all cores].")
@click.option("--json", "json_path", type=OUTPUT, help="Write the results; - for stdout.")
@click.option("--csv", "csv_path", type=OUTPUT, help="Write a line per window; - for stdout.")
@click.option("--vtt", type=OUTPUT, help="Write WebVTT captions (one source).")
@click.option("--video", type=OUTPUT, help="Write the clip with the result drawn (one source).")
@click.option("--plot", type=OUTPUT, help="Write a picture of the timeline (one source).")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def infer(
    sources: tuple[Path, ...],
    bundle: Path | None,
    device: str,
    window: float | None,
    hop: float | None,
    faces: str,
    threads: int | None,
    json_path: Path | None,
    csv_path: Path | None,
    vtt: Path | None,
    video: Path | None,
    plot: Path | None,
    quiet: bool,
) -> None:
    """Read the emotion in each SOURCE, a video or sound file."""
    for option, path in {"--vtt": vtt, "--video": video, "--plot": plot}.items():
        if path is not None and len(sources) > 1:
            raise click.UsageError(f"{option} takes one source; {len(sources)} were given")
    from mfer_edge.pipeline import Pipeline

    pipeline = Pipeline.open(bundle, device, threads or 0)
    try:
        windows = pipeline.windows(window, hop, faces)
    except ValueError as error:
        raise click.UsageError(str(error)) from error

    talk = not quiet and DASH not in (json_path, csv_path, vtt)
    analyses, failed = [], False
    for source in sources:
        try:
            with progress_bar(source, talk) as progress:
                analysis = pipeline.analyze(source, windows, video is not None, progress)
            write_pictures(analysis, source, video, plot, talk)
        except MferError as error:
            fail(error)
            failed = True
            continue
        if talk:
            click.echo(describe(analysis))
        if json_path == DASH:
            click.echo(json_text([analysis], len(sources) > 1), nl=False)
        analyses.append(analysis)
    if json_path is not None and json_path != DASH:
        write_text(json_path, json_text(analyses, len(sources) > 1))
    if csv_path is not None:
        write_text(csv_path, csv_text(analyses))
    if vtt is not None:
        write_text(vtt, "".join(analysis.to_vtt() for analysis in analyses))
    sys.exit(FAILED if failed else 0)


@main.command()
@click.option("--bundle", type=click.Path(path_type=Path), help="Model to check.")
def doctor(bundle: Path | None) -> None:
    """Tell what this machine can run, and why not the rest."""
    from mfer_edge.doctor import checkup

    checks = checkup(bundle)
    for check in checks:
        click.echo(f"{'ok ' if check.ok else 'no '} {check.what:<22} {check.detail}")
    sys.exit(0 if all(check.ok for check in checks if check.needed) else FAILED)


def describe(analysis: Analysis) -> str:
    """Sum up an analysis for a person at a terminal."""
    lines = [f"{analysis.source}  {analysis.duration_s:.2f} s"]
    if analysis.overall is None:
        lines.append("  no emotion: neither a face nor speech was found")
    else:
        scores = analysis.overall.scores
        names = {"visual": "face", "audio": "voice"}
        used = " + ".join(names[name] for name in analysis.overall.modalities)
        lines.append(f"  {analysis.overall.label} {scores[analysis.overall.label]:.0%} ({used})")
        lines.append("")
        for label, value in sorted(scores.items(), key=lambda item: -item[1]):
            lines.append(f"  {label:<10} {value:.3f} {'#' * round(30 * value)}")
    if len(analysis.windows) > 1:
        lines.append("")
        for reading in analysis.windows:
            face = "" if reading.track is None else f"face {reading.track}"
            shown = f"{reading.label or 'nothing':<10}"
            score = "" if reading.scores is None else f"{max(reading.scores.values()):.3f}"
            span = f"{reading.start_s:7.2f} - {reading.end_s:7.2f} s"
            lines.append(f"  {span}  {shown} {score:<6} {face}".rstrip())
    timing = analysis.timing
    rtf = timing.rtf(analysis.duration_s)
    lines.append("")
    lines.append(
        f"  {analysis.bundle.name} {analysis.bundle.precision}, {analysis.device}, "
        f"{timing.threads} threads: {timing.wall_s:.2f} s, real-time factor {rtf:.3f}"
    )
    lines += [f"  warning: {warning}" for warning in analysis.warnings]
    return "\n".join(lines) + "\n"


def json_text(analyses: list[Analysis], one_a_line: bool) -> str:
    indent = None if one_a_line else 2
    return "".join(
        json.dumps(analysis.to_dict(), indent=indent, ensure_ascii=False) + "\n"
        for analysis in analyses
    )


def csv_text(analyses: list[Analysis]) -> str:
    """Join the tables of several clips under one heading."""
    tables = [analysis.to_csv() for analysis in analyses]
    return "".join(tables[:1] + [table.split("\n", 1)[1] for table in tables[1:]])


def write_pictures(
    analysis: Analysis, source: Path, video: Path | None, plot: Path | None, talk: bool
) -> None:
    if plot is not None:
        from mfer_edge.timeline import write_timeline

        write_timeline(analysis, plot)
    if video is not None:
        from mfer_edge.render import write_overlay

        with progress_bar(video, talk) as progress:
            write_overlay(source, analysis, video, progress)


def write_text(path: Path, text: str) -> None:
    """Write to a file, or to stdout for a dash."""
    if path == DASH:
        click.echo(text, nl=False)
        return
    from mfer_edge.output import replacing

    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")


@contextmanager
def progress_bar(what: Path, talk: bool) -> Iterator[Any]:
    """Show how far the work on one file is, on a terminal only."""
    if not talk or not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1000, label=what.name, file=sys.stderr) as bar:
        yield lambda share: bar.update(max(0, int(share * 1000) - bar.pos))


def fail(error: MferError) -> None:
    click.echo(f"error: {error}", err=True)
