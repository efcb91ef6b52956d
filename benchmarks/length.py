"""Measure whether time and memory stay in proportion: clips of ten seconds to an hour.

`python -m benchmarks.length CLIP [--seconds S]... [--out FILE]` repeats a clip, without encoding it
anew, until it is as long as asked, runs `mfer-edge infer` on each, every time in a process of its
own, and prints a Markdown table.
"""

from __future__ import annotations

import argparse
import math
import platform
import tempfile
from pathlib import Path

import av

from benchmarks.footprint import MODULE, cpu_name, measure
from mfer_edge.media import Clip
from mfer_edge.pipeline import cores

SECONDS = (10, 60, 600, 3600)


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


def main() -> None:
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--seconds", type=int, action="append")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = [
        f"Clip: {options.clip.name}, repeated; one run of each. "
        f"Machine: {cpu_name()}, {cores()} cores; Python {platform.python_version()}.",
        "",
        "| clip, s | `mfer-edge infer`, s | ms for a second of clip | peak memory, MB |",
        "|--:|--:|--:|--:|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for seconds in options.seconds or SECONDS:
            path = Path(folder) / "long.mkv"
            length_s = repeat(options.clip, seconds, path)
            with Clip(path):
                pass  # it opens
            run = measure("infer", [*MODULE, "infer", str(path), "--quiet"], 1)
            wall_s = run.seconds[0]
            lines.append(
                f"| {length_s:.0f} | {wall_s:.1f} | {1000 * wall_s / length_s:.1f} "
                f"| {run.peak_mb:.0f} |"
            )
            print(lines[-1], flush=True)
    text = "\n".join([*lines, ""])
    print(text)
    if options.out:
        options.out.write_text(text)


if __name__ == "__main__":
    main()
