"""`mfer-edge live`: emotions in front of a camera and a microphone, in a stream, or in a replay."""

from __future__ import annotations

import math
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mfer_edge.cli.errors import INTERRUPTED, FailureCount
from mfer_edge.cli.options import (
    INPUT,
    STDOUT,
    TEXT_OUTPUT,
    adapt_option,
    adaptation_file,
    device_option,
    threads_option,
)
from mfer_edge.cli.output_paths import is_same_file

if TYPE_CHECKING:
    from mfer_edge.live.events import Event
    from mfer_edge.live.feed import Feeder, FeedOptions
    from mfer_edge.live.recording import RecordingWriter
    from mfer_edge.live.session import LiveSession
    from mfer_edge.live.sources import LiveChoice


@dataclass(frozen=True)
class LiveOutputs:
    """Where readings go while they come."""

    jsonl: Path | None
    quiet: bool

    @property
    def prints(self) -> bool:
        """Whether readings are printed as text."""
        return not self.quiet and self.jsonl != STDOUT


@click.command()
@click.option("--camera", metavar="N|NAME|off", help="Camera [default: 0].")
@click.option("--mic", metavar="NAME|off", help="Microphone [default: the system's].")
@click.option("--url", help="A stream instead: RTSP, HTTP, UDP and the like.")
@click.option("--replay", type=INPUT, help="A clip instead, at its own pace.")
@click.option("--bundle", type=INPUT, help="Model to use [default: compact].")
@device_option
@click.option("--window", type=float, help="Seconds that a reading covers [default: bundle's].")
@click.option("--hop", type=float, help="Seconds from one reading to the next [default: bundle's].")
@click.option("--faces", type=click.Choice(["main", "all"]), default="main", show_default=True,
              help="Whose emotion to read.")  # fmt: skip
@adapt_option
@threads_option
@click.option("--duration", type=click.FloatRange(0, min_open=True), default=math.inf,
              metavar="S", help="End after so many seconds.")  # fmt: skip
@click.option("--give-up", type=click.FloatRange(0), default=math.inf, metavar="S",
              help="End when a lost source was gone for so long [default: never].")  # fmt: skip
@click.option("--jsonl", type=TEXT_OUTPUT,
              help="Write readings as JSON lines; - for stdout. A file is continued.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
def live(
    *,
    camera: str | None,
    mic: str | None,
    url: str | None,
    replay: Path | None,
    bundle: Path | None,
    device: str,
    window: float | None,
    hop: float | None,
    faces: str,
    adapt: str,
    threads: int | None,
    duration: float,
    give_up: float,
    jsonl: Path | None,
    quiet: bool,
) -> None:
    """Read the emotion in front of a camera and a microphone, until Ctrl-C."""
    if (camera is not None or mic is not None) + (url is not None) + (replay is not None) > 1:
        raise click.UsageError("--camera and --mic, --url and --replay exclude each other")
    if (camera, mic) == ("off", "off"):
        raise click.UsageError("--camera off --mic off: nothing is left to read")
    if replay is not None and jsonl is not None and is_same_file(replay, jsonl):
        raise click.UsageError(f"--jsonl {jsonl}: this is the source; write to another name")
    from mfer_edge.live.feed import FeedOptions
    from mfer_edge.live.session import LiveSession
    from mfer_edge.live.sources import LiveChoice
    from mfer_edge.pipeline import Pipeline

    chosen = LiveChoice(camera, mic, url, replay)
    chosen.check()
    pipeline = Pipeline.open(bundle, device, threads or 0, adaptation=adaptation_file(adapt))
    try:
        options = pipeline.options(window, hop, faces)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    session = LiveSession(pipeline, options, has_video=None, has_audio=None)
    feed = FeedOptions(ends=replay is not None, give_up_s=give_up, max_s=duration)
    sys.exit(run(session, chosen, feed, LiveOutputs(jsonl, quiet)))


def run(session: LiveSession, chosen: LiveChoice, feed: FeedOptions, outputs: LiveOutputs) -> int:
    """Read until the source ends, or Ctrl-C; print and write what comes.

    Returns:
        The exit code.
    """
    from mfer_edge.live.events import LiveReading
    from mfer_edge.live.feed import Feeder
    from mfer_edge.live.terminal import LivePrinter, live_summary

    printer = LivePrinter(sys.stdout.isatty())
    feeder = Feeder(session, lambda: chosen.open(session.pipeline), feed)
    failures = FailureCount()
    with _recording(outputs.jsonl) as recording, _stopped_by_signals(feeder) as signalled:
        labels: Counter[str] = Counter()
        with failures.reported(), feeder:
            for event in _told(session, chosen, recording):
                if recording is not None:
                    recording.event(event)
                if outputs.prints:
                    printer(event, session.stats().dropped)
                if isinstance(event, LiveReading) and event.reading.main and event.reading.label:
                    labels[event.reading.label] += 1
        if failures.count and not session.stats().duration_s:
            return failures.exit_code  # it was never there
        warnings = [*session.pipeline.notes, *feeder.warnings]
        warnings += session.pipeline.bundle.manifest.warnings
        if recording is not None:
            recording.end(session.stats(), session.tracks(), warnings)
    if not outputs.quiet:
        text = live_summary(chosen.name, session.stats(), labels, warnings)
        click.echo(text, err=not outputs.prints)
    return INTERRUPTED if signalled() else failures.exit_code


def _told(
    session: LiveSession, chosen: LiveChoice, recording: RecordingWriter | None
) -> Iterator[Event]:
    """Events, and what was left out when the source was opened; the recording begins with the
    first."""
    from mfer_edge.live.events import Notice

    told: set[str] = set()
    for event in session.events():
        if recording is not None:
            recording.start(chosen.name, session.pipeline, session.options)
        for text in chosen.notices:
            if text not in told:
                told.add(text)
                yield Notice(0.0, text)
        yield event


@contextmanager
def _recording(path: Path | None) -> Iterator[RecordingWriter | None]:
    if path is None:
        yield None
        return
    from mfer_edge.live.recording import RecordingWriter

    with RecordingWriter(path) as recording:
        yield recording


@contextmanager
def _stopped_by_signals(feeder: Feeder) -> Iterator[Callable[[], bool]]:
    """End the source at the first Ctrl-C or SIGTERM, so that all that was read is written.

    A second one interrupts.
    """
    came: list[int] = []

    def stop(number: int, frame: object) -> None:
        came.append(number)
        if len(came) > 1:
            raise KeyboardInterrupt
        feeder.stop()

    in_main = threading.current_thread() is threading.main_thread()  # only that one gets signals
    numbers = (signal.SIGINT, signal.SIGTERM) if in_main else ()
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
