"""Measure live sessions: latency, lag, dropped frames, memory, drift, missing readings.

`python -m benchmarks.live.replay CLIP [--seconds S] [--fast] [--streams N] [--json PATH]` repeats a
clip, without encoding it anew, until it is as long as asked, and replays it into live sessions, as
`mfer-edge live --replay` does. At its own pace frames are dropped when the machine is late, as of a
camera; with `--fast` it is read as fast as it goes, which shows memory and drift over hours.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cpu.length import repeat
from benchmarks.harness import script
from benchmarks.harness.tables import MB, document, markdown_table, milliseconds
from mfer_edge.bench.machine import Machine, describe_machine
from mfer_edge.cpu import decoding_threads
from mfer_edge.isolation.process import resident_bytes
from mfer_edge.live.events import LiveReading, LiveStats
from mfer_edge.live.feed import Feeder, FeedOptions
from mfer_edge.live.session import LiveSession
from mfer_edge.pipeline import Pipeline
from mfer_edge.sources.base import AudioChunk, Frame, Source
from mfer_edge.sources.clip import Clip

FAST = 1e9  # seconds of a clip a second: more than any machine reads
SAMPLES = 20  # of the memory, over the run


class Watched(Clip):
    """A clip that remembers how far its tracks were read."""

    video_s = audio_s = 0.0

    def __iter__(self):  # type: ignore[no-untyped-def]
        for item in super().__iter__():
            if isinstance(item, Frame):
                self.video_s = item.time_s
            elif isinstance(item, AudioChunk):
                self.audio_s += len(item.samples) / 16_000
            yield item

    @property
    def ahead_s(self) -> float:
        """How far the sound was ahead of the last frame."""
        return self.audio_s - self.video_s


@dataclass(frozen=True)
class StreamResult:
    """What one stream gave."""

    stats: LiveStats
    missing: int  # windows without a reading
    drift_s: float  # of sound against frames, from the first repetition to the last
    resident_bytes: list[int]  # over time


@dataclass(frozen=True)
class LiveResult:
    """What all streams gave."""

    machine: Machine
    clip: str
    length_s: float
    fast: bool
    streams: list[StreamResult]


def watch(pipeline: Pipeline, path: Path, fast: bool, length_s: float) -> StreamResult:
    """Replay a clip into a live session.

    Raises:
        MferError: the clip can't be read.
    """
    rate = pipeline.bundle.manifest.frame_rate
    opened: list[Watched] = []

    def open_source() -> Source:
        opened.append(Watched(path, rate, decoding_threads(pipeline.threads)))
        return opened[-1]

    live = LiveSession(pipeline, has_video=None, has_audio=None)
    options = FeedOptions(ends=True, speed=FAST if fast else 1.0, drops=not fast)
    ends_s: list[float] = []
    memory: list[int] = []
    with Feeder(live, open_source, options):
        for event in live.events():
            if isinstance(event, LiveReading) and event.reading.main:
                ends_s.append(event.reading.end_s)
                if event.reading.end_s > len(memory) * length_s / SAMPLES:
                    memory.append(resident_bytes(os.getpid()))
                    script.log(f"{event.reading.end_s:.0f} s: {memory[-1] / MB:.0f} MB")
    hop_s, window_s = live.options.hop_s, live.options.window_s
    expected = {round(window_s + i * hop_s, 3) for i in range(int((length_s - window_s) / hop_s))}
    missing = len(expected - {round(end_s, 3) for end_s in ends_s})
    return StreamResult(live.stats(), missing, opened[-1].ahead_s, memory)


def measure(clip: Path, seconds: float, fast: bool, streams: int) -> LiveResult:
    """Replay a clip, repeated to a length, into some sessions at a time.

    Raises:
        MferError: the clip can't be read.
    """
    pipeline = Pipeline.open(device="cpu")
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(streams) as pool:
        path = Path(folder) / "long.mkv"
        once_s = repeat(clip, 1, path)
        once = Watched(path, pipeline.bundle.manifest.frame_rate)
        with once:
            for _ in once:
                pass
        length_s = repeat(clip, max(once_s, seconds), path)
        jobs = [pool.submit(watch, pipeline, path, fast, length_s) for _ in range(streams)]
        results = [job.result() for job in jobs]
    results = [
        StreamResult(r.stats, r.missing, r.drift_s - once.ahead_s, r.resident_bytes)
        for r in results
    ]
    return LiveResult(describe_machine(), clip.name, length_s, fast, results)


def markdown(result: LiveResult) -> str:
    """Format the table."""
    pace = "as fast as it goes" if result.fast else "at its own pace, frames dropped when late"
    rows = []
    for number, stream in enumerate(result.streams):
        stats, memory = stream.stats, stream.resident_bytes
        rows.append(
            (
                str(number + 1),
                str(stats.readings),
                str(stream.missing),
                f"{stats.frames} / {stats.dropped}",
                f"{milliseconds(stats.compute.p50_s)} / {milliseconds(stats.compute.p99_s)}",
                f"{milliseconds(stats.lag.p50_s)} / {milliseconds(stats.lag.p99_s)}",
                milliseconds(abs(stream.drift_s)),
                " / ".join(f"{size / MB:.0f}" for size in _few(memory)),
            )
        )
    headings = (
        "stream | readings | missing | frames read / dropped | compute, ms: median / p99 | "
        "lag, ms: median / p99 | drift, ms | memory of the process over time, MB"
    )
    summary = f"Clip: {result.clip}, repeated to {result.length_s:.0f} s; read {pace}."
    table = markdown_table(headings, rows, align="rrrrrrrr")
    return document(f"{summary}\n{script.machine_line(result.machine)}", table)


def _few(memory: list[int]) -> list[int]:
    """The first, a tenth of the way, the middle and the last."""
    last = len(memory) - 1
    return [memory[i] for i in (0, last // 10 + 1, last // 2, last) if 0 <= i <= last]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write it as JSON where asked."""
    parser = script.parser_of(__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--streams", type=int, default=1)
    options = script.parse(parser, arguments)
    result = measure(options.clip, options.seconds, options.fast, options.streams)
    script.publish(markdown(result), result, options.json)


if __name__ == "__main__":
    script.run(main)
