"""Measure time and memory of `mfer-edge infer` by the length of the clip: ten seconds to an hour.

`python -m benchmarks.cpu.length CLIP [--seconds S]... [--rounds N] [--json PATH]` repeats a clip,
without encoding it anew, until it is as long as asked, and runs `mfer-edge infer` on each, every
time in a process of its own.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av

from benchmarks.cpu.footprint import MFER_EDGE
from benchmarks.harness import script
from benchmarks.harness.processes import time_command
from benchmarks.harness.tables import MB, document, markdown_table
from mfer_edge.bench.machine import Machine, describe_machine
from mfer_edge.sources.clip import Clip

SECONDS = (10, 60, 600, 3600)
REPEATABLE = {"fflags": "+bitexact"}  # muxing the same packets gives the same bytes: no random ids


@dataclass(frozen=True)
class LengthCost:
    """Time and memory of a clip of some length."""

    length_s: float
    wall_s: float  # median of the runs
    peak_bytes: int

    def cells(self) -> tuple[str, ...]:
        """Format a row of the table."""
        ms = 1000 * self.wall_s / self.length_s
        return (
            f"{self.length_s:.0f}",
            f"{self.wall_s:.1f}",
            f"{ms:.1f}",
            f"{self.peak_bytes / MB:.0f}",
        )


@dataclass(frozen=True)
class LengthResult:
    """Costs of all lengths."""

    machine: Machine
    clip: str
    rounds: int
    rows: list[LengthCost]


def repeat(clip: Path, length_s: float, out: Path) -> float:
    """Copy a clip's packets again and again until it is so long; return the length in seconds."""
    with av.open(str(clip)) as source:
        tracks = [s for s in source.streams if s.type in ("video", "audio")]
        packets = [p for p in source.demux(tracks) if p.pts is not None and p.dts is not None]
        times = [(p, p.pts * p.time_base, p.dts * p.time_base) for p in packets]
        step_s = max(pts_s + p.duration * p.time_base for p, pts_s, _ in times)
        step_s -= min(dts_s for *_, dts_s in times)
    repeats = math.ceil(length_s / step_s)
    with av.open(str(out), "w", options=REPEATABLE) as target:
        streams: dict[int, av.VideoStream | av.AudioStream] = {}
        for repeated in range(repeats):
            with av.open(str(clip)) as source:
                tracks = [s for s in source.streams if s.type in ("video", "audio")]
                for track in tracks:
                    if track.index not in streams:
                        streams[track.index] = target.add_stream_from_template(track)
                for packet in source.demux(tracks):
                    if packet.dts is None or packet.pts is None:
                        continue  # the empty one at the end
                    shift = round(repeated * step_s / packet.time_base)
                    packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                    packet.stream = streams[packet.stream.index]
                    target.mux(packet)
    return float(repeats * step_s)


def measure(clip: Path, lengths_s: Sequence[int], rounds: int) -> LengthResult:
    """Time `mfer-edge infer` on a clip repeated to each length.

    Raises:
        MferError: the clip can't be read, or a run failed.
    """
    with Clip(clip):
        pass  # it opens
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.mkv"
        for asked_s in lengths_s:
            length_s = repeat(clip, asked_s, path)
            runs = time_command("infer", [*MFER_EDGE, "infer", str(path), "--quiet"], rounds)
            rows.append(LengthCost(length_s, statistics.median(runs.seconds), runs.peak_bytes))
            script.log(f"{length_s:.0f} s of clip: {rows[-1].wall_s:.1f} s")
    return LengthResult(describe_machine(), clip.name, rounds, rows)


def markdown(result: LengthResult) -> str:
    """Format the table."""
    summary = f"Clip: {result.clip}, repeated; runs of each: {result.rounds}, of which the median."
    headings = "clip, s | `mfer-edge infer`, s | ms for a second of clip | peak memory, MB"
    table = markdown_table(headings, [row.cells() for row in result.rows], align="rrrr")
    return document(f"{summary}\n{script.machine_line(result.machine)}", table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write it as JSON where asked."""
    parser = script.parser_of(__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--seconds", type=int, action="append")
    options = script.parse(parser, arguments)
    result = measure(options.clip, options.seconds or SECONDS, options.rounds)
    script.publish(markdown(result), result, options.json)


if __name__ == "__main__":
    script.run(main)
