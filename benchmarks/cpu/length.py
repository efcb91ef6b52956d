"""Measure whether time and memory stay in proportion: clips of ten seconds to an hour.

`python -m benchmarks.cpu.length CLIP [--seconds S]... [--rounds N] [--json PATH]` repeats a clip,
without encoding it anew, until it is as long as asked, and runs `mfer-edge infer` on each, every
time in a process of its own.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av

from benchmarks.cpu.footprint import MODULE, measure
from benchmarks.harness.processes import MB, machine_line, publish, read_options, run_script, tell
from mfer_edge.bench.machine import Machine, describe_machine
from mfer_edge.sources.clip import Clip

SECONDS = (10, 60, 600, 3600)


@dataclass(frozen=True)
class Row:
    """What a clip of some length took."""

    length_s: float
    wall_s: float
    peak_bytes: int

    def row(self) -> str:
        """Give a line of the table."""
        return (
            f"| {self.length_s:.0f} | {self.wall_s:.1f} "
            f"| {1000 * self.wall_s / self.length_s:.1f} | {self.peak_bytes / MB:.0f} |"
        )


@dataclass(frozen=True)
class Report:
    """All that was measured."""

    machine: Machine
    clip: str
    rounds: int
    rows: list[Row]


def repeat(clip: Path, length_s: float, out: Path) -> float:
    """Write a clip's packets again and again; give the length of what came of it, in seconds."""
    with av.open(str(clip)) as source:
        tracks = [s for s in source.streams if s.type in ("video", "audio")]
        packets = [p for p in source.demux(tracks) if p.pts is not None and p.dts is not None]
        times = [(p, p.pts * p.time_base, p.dts * p.time_base) for p in packets]
        step_s = max(pts_s + p.duration * p.time_base for p, pts_s, _ in times)
        step_s -= min(dts_s for *_, dts_s in times)
    repeats = math.ceil(length_s / step_s)
    with av.open(str(out), "w") as target:
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


def table(report: Report) -> str:
    """Give the report in Markdown."""
    return "\n".join(
        [
            f"Clip: {report.clip}, repeated; runs of each: {report.rounds}, of which the median.",
            machine_line(report.machine, []),
            "",
            "| clip, s | `mfer-edge infer`, s | ms for a second of clip | peak memory, MB |",
            "|--:|--:|--:|--:|",
            *(row.row() for row in report.rows),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--seconds", type=int, action="append")
    options = read_options(parser, arguments)
    with Clip(options.clip):
        pass  # it opens
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for seconds in options.seconds or SECONDS:
            path = Path(folder) / "long.mkv"
            length_s = repeat(options.clip, seconds, path)
            runs = measure("infer", [*MODULE, "infer", str(path), "--quiet"], options.rounds)
            rows.append(Row(length_s, statistics.median(runs.seconds), runs.peak_bytes))
            tell(rows[-1].row())
    report = Report(describe_machine(), options.clip.name, options.rounds, rows)
    publish(table(report), report, options.json)


if __name__ == "__main__":
    run_script(main)
