"""Soak: one process reads clips and streams for hours; memory, handles and threads stay level.

`python -m benchmarks.torture.soak CLIP... [--hours H] [--every S] [--threads N] [--json PATH]`
reads the clips in turn and, between two rounds of them, a replay of the first one that has a face
and a voice: an endless stream, pushed as fast as it is read, for as much time as a round took, in
sessions of a minute each. What a clip gives is compared with what it gave first, an error included.
Once in `--every` seconds the process is looked at through /proc: 72 hours are `--hours 72`.

The exit code is 1 where a clip gave something else, or memory, handles or threads grew.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.harness import script
from benchmarks.harness.tables import document, markdown_table
from mfer_edge.bench.machine import Machine, describe_machine
from mfer_edge.errors import MferError
from mfer_edge.pipeline import Pipeline
from mfer_edge.sources.replay import Replay

EVERY_S = 60.0
SESSION_S = 60.0  # of a replay, before the next session begins
SETTLED = 1 / 3  # of the run, after which nothing may grow: arenas fill at first
MAX_GROWTH_MB = 8.0  # from the highest of the middle third to the highest of the last
ROWS = 40  # of the table, at most


@dataclass(frozen=True)
class Sample:
    """The process at one moment."""

    time_s: float  # from the start
    rss_mb: float
    handles: int
    threads: int
    clips: int  # read so far
    replayed_s: float  # of streams read so far


@dataclass
class SoakResult:
    """What the script measured."""

    machine: Machine
    hours: float  # asked for
    clips: list[str]
    threads: int
    samples: list[Sample] = field(default_factory=list)
    errors: int = 0  # clips that ended with their one line, as they did the first time
    changed: list[str] = field(default_factory=list)  # clips that gave something else than first

    def growth(self, name: str) -> float:
        """Highest value of the last third less that of the middle third."""
        values = [float(getattr(sample, name)) for sample in self.samples]
        first, second = round(len(values) * SETTLED), round(len(values) * (1 + SETTLED) / 2)
        middle, last = values[first:second], values[second:]
        return max(last) - max(middle) if middle and last else 0.0

    @property
    def slope_mb_per_hour(self) -> float:
        """Memory an hour, by a line through what follows the first third."""
        settled = self.samples[round(len(self.samples) * SETTLED) :]
        if len(settled) < 2:
            return 0.0
        hours = [sample.time_s / 3600 for sample in settled]
        return float(np.polyfit(hours, [sample.rss_mb for sample in settled], 1)[0])

    @property
    def is_level(self) -> bool:
        """Whether nothing grew, and every clip gave the same each time."""
        flat = self.growth("handles") <= 0 and self.growth("threads") <= 0
        return flat and self.growth("rss_mb") <= MAX_GROWTH_MB and not self.changed


class Soak:
    """A run: the pipeline, what each clip gave first, and the samples so far."""

    def __init__(self, pipeline: Pipeline, result: SoakResult, every_s: float) -> None:
        self._pipeline, self._result, self._every_s = pipeline, result, every_s
        self._start_s = self._due_s = time.monotonic()
        self._end_s = self._start_s + 3600 * result.hours
        self._first: dict[str, object] = {}
        self._clips, self._replayed_s = 0, 0.0

    def run(self) -> None:
        """Read clips and replays until the time is over."""
        footage = None
        while self._goes_on():
            begun_s = time.monotonic()
            for clip in self._result.clips:
                if not self._goes_on():
                    return
                if self._read(clip) and footage is None:
                    footage = Replay.read(clip, self._pipeline.bundle.manifest.frame_rate)
            until_s = 2 * time.monotonic() - begun_s
            while footage is not None and time.monotonic() < until_s and self._goes_on():
                self._replay(footage, until_s)

    def _read(self, clip: str) -> bool:
        """Read a clip; whether a face and a voice were in it."""
        given: object
        try:
            analysis = self._pipeline.analyze(clip)
            given, both = (analysis.windows, analysis.tracks), False
            if analysis.overall is not None:
                both = len(analysis.overall.modalities) == 2
        except MferError as error:
            given, both = str(error), False
            self._result.errors += 1
        self._clips += 1
        if self._first.setdefault(clip, given) != given:
            self._result.changed.append(clip)
        return both

    def _replay(self, footage: Replay, until_s: float) -> None:
        session = self._pipeline.session()
        for due_s, item in footage.endless().timed():
            if due_s > SESSION_S or time.monotonic() > until_s or not self._goes_on():
                break
            session.push(item)
            session.readings()
        self._replayed_s += due_s

    def _goes_on(self) -> bool:
        """Take a sample where one is due; whether there is time left."""
        now_s = time.monotonic()
        if now_s >= self._due_s:
            self._due_s += self._every_s
            sample = Sample(now_s - self._start_s, *process(), self._clips, self._replayed_s)
            self._result.samples.append(sample)
            script.log(repr(sample))
        return now_s < self._end_s


def process() -> tuple[float, int, int]:
    """Resident memory in MB, open handles and threads of this process."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    handles = sum(1 for _ in Path("/proc/self/fd").iterdir())
    return int(lines["VmRSS"].split()[0]) / 1024, handles, int(lines["Threads"])


def report(result: SoakResult) -> str:
    """Format the table and what it says."""
    headings = "minute | resident MB | handles | threads | clips read | seconds replayed"
    rows = [
        (
            f"{s.time_s / 60:.0f}", f"{s.rss_mb:.0f}", f"{s.handles}", f"{s.threads}",
            f"{s.clips}", f"{s.replayed_s:.0f}",
        )
        for s in thinned(result.samples)
    ]  # fmt: skip
    last = result.samples[-1]
    told = (
        f"{last.time_s / 3600:.2f} of {result.hours:g} hours: {last.clips} clips read "
        f"({result.errors} of them ended with their one line, as they should), "
        f"{last.replayed_s:.0f} s of streams. From the middle third to the last, at their highest: "
        f"{result.growth('rss_mb'):+.1f} MB, {result.growth('handles'):+.0f} handles, "
        f"{result.growth('threads'):+.0f} threads; by a line through both "
        f"{result.slope_mb_per_hour:+.1f} MB an hour. Clips that gave something else than at "
        f"first: {len(result.changed)}."
    )
    clips = "Clips: " + ", ".join(Path(clip).name for clip in result.clips) + "."
    return document(
        script.machine_line(result.machine), told, clips, markdown_table(headings, rows, "rrrrrr")
    )


def thinned(samples: Sequence[Sample]) -> Iterator[Sample]:
    """At most ROWS of them, evenly, with the first and the last."""
    places = np.linspace(0, len(samples) - 1, min(ROWS, len(samples)))
    return (samples[round(place)] for place in places)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write it as JSON where asked."""
    parser = script.parser_of(__doc__)
    parser.add_argument("clips", nargs="+", metavar="CLIP")
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--every", type=float, default=EVERY_S)
    parser.add_argument("--threads", type=int, default=1)
    options = script.parse(parser, arguments)
    pipeline = Pipeline.open(device="cpu", threads=options.threads)
    result = SoakResult(describe_machine(), options.hours, options.clips, options.threads)
    Soak(pipeline, result, options.every).run()
    script.publish(report(result), result, options.json)
    if not result.is_level:
        sys.exit(1)


if __name__ == "__main__":
    script.run(main)
