"""The command line: each command parses, calls one function, and prints."""

from __future__ import annotations

import json
import mimetypes
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
WRONG_USAGE = 2  # exit code
DASH = Path("-")  # for stdout
# What can't be read is for the functions to say, in the words of their errors.
INPUT = click.Path(path_type=Path, readable=False)
OUTPUT = click.Path(path_type=Path, readable=False, dir_okay=False)
TEXT = click.Path(path_type=Path, readable=False, dir_okay=False, allow_dash=True)


class Group(click.Group):
    """Turns an error that a person can meet into one line on stderr and exit code 1 or 2."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), "export", "train"])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "export":
            from export.cli import export

            return export
        if cmd_name == "train":
            from train.cli import train

            return train
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MferError as error:
            fail(error)
            ctx.exit(FAILED)
        except click.UsageError as error:
            fail(error.format_message().rstrip("."))
            ctx.exit(WRONG_USAGE)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(130)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mfer-edge")
def main() -> None:
    """Emotion recognition from face and voice, at the edge."""


@main.command()
@click.argument("sources", nargs=-1, required=True, type=INPUT)
@click.option("--bundle", type=INPUT, help="Model to use [default: compact].")
@click.option("--device", type=DEVICES, default="auto", show_default=True)
@click.option("--window", type=float, help="Seconds that a reading looks at [default: bundle's].")
@click.option("--hop", type=float, help="Seconds from one reading to the next [default: bundle's].")
@click.option("--faces", type=click.Choice(["main", "all"]), default="main", show_default=True,
              help="Whose emotion to read.")  # fmt: skip
@click.option("--skip-still", type=float, default=0.0, metavar="LEVELS",
              help="Approximate: don't look again at a face that changed by at most so many of 255 "
              "grey levels.")  # fmt: skip
@click.option("--threads", type=click.IntRange(1), help="CPU threads [default: all cores].")
@click.option("--json", "json_path", type=TEXT, help="Write the results; - for stdout.")
@click.option("--csv", "csv_path", type=TEXT, help="Write a line per window; - for stdout.")
@click.option("--vtt", type=TEXT, help="Write WebVTT captions (one source).")
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
    skip_still: float,
    threads: int | None,
    json_path: Path | None,
    csv_path: Path | None,
    vtt: Path | None,
    video: Path | None,
    plot: Path | None,
    quiet: bool,
) -> None:
    """Read the emotion in each SOURCE, a video or sound file."""
    texts = {"--json": json_path, "--csv": csv_path, "--vtt": vtt}
    pictures = {"--video": video, "--plot": plot}
    check_outputs(texts, pictures, sources)
    from mfer_edge.pipeline import Pipeline

    pipeline = Pipeline.open(bundle, device, threads or 0)
    try:
        windows = pipeline.options(window, hop, faces, skip_still)
    except ValueError as error:
        raise click.UsageError(str(error)) from error

    talk = not quiet and DASH not in texts.values()
    analyses, failures = [], Failures()
    for source in sources:
        with failures.reported():
            with progress_bar(source, talk) as progress:
                analysis = pipeline.analyze(
                    source, windows, keep_detections=video is not None, progress=progress
                )
            analyses.append(analysis)
            if talk:
                click.echo(describe(analysis))
            if json_path == DASH:
                click.echo(json_text([analysis], len(sources) > 1), nl=False)
            write_pictures(analysis, source, video, plot, talk)
    if analyses:
        if json_path is not None and json_path != DASH:
            with failures.reported():
                write_text(json_path, json_text(analyses, len(sources) > 1))
        if csv_path is not None:
            with failures.reported():
                write_text(csv_path, csv_text(analyses))
        if vtt is not None:
            with failures.reported():
                write_text(vtt, analyses[0].to_vtt())
    sys.exit(FAILED if failures.count else 0)


@main.command()
@click.option("--bundle", "bundles", multiple=True, type=INPUT,
              help="Model to measure [default: compact]; more than one with --sweep.")  # fmt: skip
@click.option("--device", type=DEVICES, default="auto", show_default=True)
@click.option("--clip", type=INPUT, help="What to measure on [default: a checkout's sample].")
@click.option("--runs", type=click.IntRange(1), help="Of each kind [default: 100, or for 20 s].")
@click.option("--threads", type=click.IntRange(1), help="CPU threads [default: all cores].")
@click.option("--scenario", type=click.Choice(["single", "streams", "offline"]), default="single",
              show_default=True, help="One clip and one live session as fast as they go; how many "
              "live sessions keep up; clips back to back.")  # fmt: skip
@click.option("--streams", type=click.IntRange(1), help="With --scenario streams: try so many.")
@click.option("--sweep", is_flag=True, help="Try precisions (bundles), threads and batches.")
@click.option("--json", "json_path", type=TEXT, help="Write the result; - for stdout.")
@click.option("--compare", "other", type=INPUT, help="An earlier --json: what differs from it.")
def bench(
    bundles: tuple[Path, ...],
    device: str,
    clip: Path | None,
    runs: int | None,
    threads: int | None,
    scenario: str,
    streams: int | None,
    sweep: bool,
    json_path: Path | None,
    other: Path | None,
) -> None:
    """Measure how long everything takes on this machine; about a minute."""
    if len(bundles) > 1 and not sweep:
        raise click.UsageError("more than one --bundle is for --sweep")
    if streams and scenario != "streams":
        raise click.UsageError("--streams is for --scenario streams")
    if sweep and scenario != "single":
        raise click.UsageError(f"--sweep and --scenario {scenario} don't go together")
    sources = tuple(path for path in (clip, other) if path is not None)
    check_outputs({"--json": json_path}, {}, sources)
    from mfer_edge.bench import report
    from mfer_edge.bench.run import bench

    before = None if other is None else report.read_bench(other)
    measured = bench(
        bundles, device, clip, "sweep" if sweep else scenario, runs, threads or 0, streams, tell
    )
    if json_path is not None:
        write_text(json_path, json.dumps(report.to_dict(measured)) + "\n")
    if json_path != DASH:
        click.echo(report.table(measured), nl=False)
    if before is not None:
        click.echo(report.comparison(before, measured), nl=False, err=json_path == DASH)


@main.command()
@click.option("--bundle", type=INPUT, help="Model to check.")
def doctor(bundle: Path | None) -> None:
    """Tell what this machine can run, and why not the rest."""
    from mfer_edge.doctor import checkup

    checks = checkup(bundle)
    for check in checks:
        click.echo(f"{'ok ' if check.ok else 'no '} {check.what:<22} {check.detail}")
    sys.exit(0 if all(check.ok for check in checks if check.needed) else FAILED)


def check_outputs(
    texts: dict[str, Path | None], pictures: dict[str, Path | None], sources: tuple[Path, ...]
) -> None:
    """Refuse, before any work, outputs that can't be written, or would overwrite a clip.

    Args:
        texts, pictures: by option.
    """
    from mfer_edge.outputs.files import PICTURE_SUFFIXES, VIDEO_SUFFIXES, check_output, is_stream

    suffixes = {"--video": VIDEO_SUFFIXES, "--plot": PICTURE_SUFFIXES}
    if list(texts.values()).count(DASH) > 1:
        raise click.UsageError("only one of --json, --csv and --vtt can go to stdout")
    for option, path in (texts | pictures).items():
        if path is None:
            continue
        if len(sources) > 1 and option in ("--vtt", "--video", "--plot"):
            raise click.UsageError(f"{option} takes one source; {len(sources)} were given")
        if option in texts and (path == DASH or is_stream(path)):
            continue
        if any(same_file(source, path) for source in sources):
            raise click.UsageError(f"{option} {path}: this is a source; write to another name")
        kind = (mimetypes.guess_type(path.name)[0] or "").split("/")[0]
        if option in texts and kind in ("video", "audio"):  # --json a.mp4 b.mp4: the name forgotten
            raise click.UsageError(f"{option} {path}: this is the name of a clip, not of a result")
        check_output(path, suffixes.get(option, ()))


def same_file(one: Path, other: Path) -> bool:
    """Whether both names lead to one file that is there."""
    try:
        return one.samefile(other)
    except OSError:  # one is not there, or in a folder that is closed to us
        return False


def describe(analysis: Analysis) -> str:
    """Sum up an analysis for a person at a terminal."""
    from mfer_edge.segments import segments

    lines = [f"{analysis.source}  {analysis.duration_s:.2f} s"]
    if analysis.overall is None:
        lines.append("  no reading: neither a face nor speech was found")
    else:
        scores, names = analysis.overall.scores, {"visual": "face", "audio": "voice"}
        used = " + ".join(names[name] for name in analysis.overall.modalities)
        lines += [f"  {analysis.overall.label} ({used})", ""]
        for label, value in sorted(scores.items(), key=lambda item: -item[1]):
            lines.append(f"  {label:<10} {value:4.0%} {'#' * round(30 * value)}".rstrip())
    if len(analysis.windows) > 1:
        lines.append("")
        several = len(analysis.tracks) > 1
        for stretch in segments(analysis.windows, analysis.duration_s):
            span = f"{stretch.start_s:7.1f} - {stretch.end_s:6.1f} s"
            score = "" if stretch.share is None else f"{stretch.share:.0%}"
            face = f"face {stretch.track}" if several and stretch.track is not None else ""
            shown = stretch.label or "no face, no speech"
            lines.append(f"  {span}  {shown:<10} {score:>4}  {face}".rstrip())
    timing = analysis.timing
    threads = "1 thread" if timing.threads == 1 else f"{timing.threads} threads"
    lines.append("")
    lines.append(
        f"  {analysis.bundle.name} {analysis.bundle.precision} on {analysis.device}, {threads}: "
        f"{timing.wall_s:.2f} s, real-time factor {timing.rtf(analysis.duration_s):.2f}"
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
        from mfer_edge.outputs.timeline import write_timeline

        write_timeline(analysis, plot)
    if video is not None:
        from mfer_edge.outputs.overlay import write_overlay

        with progress_bar(video, talk) as progress:
            write_overlay(source, analysis, video, progress)


def write_text(path: Path, text: str) -> None:
    """Write to a file, or to stdout for a dash."""
    if path == DASH:
        click.echo(text, nl=False)
        return
    from mfer_edge.outputs import files

    files.write_text(path, text)


@contextmanager
def progress_bar(what: Path, talk: bool) -> Iterator[Any]:
    """Show how far the work on one file is, on a terminal only."""
    if not talk or not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=1000, label=what.name, file=sys.stderr) as bar:
        yield lambda share: bar.update(max(0, int(share * 1000) - bar.pos))


def tell(line: str) -> None:
    """Say what is being done, on a terminal only."""
    if sys.stderr.isatty():
        click.echo(line, err=True)


class Failures:
    """Reports what goes wrong with one input or output, and lets the others go on."""

    def __init__(self) -> None:
        self.count = 0

    @contextmanager
    def reported(self) -> Iterator[None]:
        """Turn an error within into a line on stderr."""
        try:
            yield
        except MferError as error:
            fail(error)
            self.count += 1


def fail(error: MferError | str) -> None:
    click.echo(f"error: {error}", err=True)
