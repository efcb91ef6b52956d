"""Compare face detection: facenet-pytorch, our search of every frame, our tracking.

`python -m benchmarks.cpu.face_front_end [CLIP...] [--rounds N] [--processor-time] [--json PATH]`
decodes each clip at five frames a second and runs all three on every frame in turn, so that other
work on the machine slows them alike. It prints milliseconds a frame (the median of the rounds'
means) and how often our largest box overlaps facenet-pytorch's by at least 0.9. facenet-pytorch
runs as `MTCNN(keep_all=True)`, all else by default. All use as many threads as the process has
cores. Where others use the machine, pin it (`taskset -c 1 python -m ...`), and measure with
`--processor-time` how long the process works instead of how long it takes.

A front end goes from the file to the face crops. Theirs is OpenCV, which decodes every frame, and
then facenet-pytorch; ours is that of `Pipeline.analyze`: decoding in a thread, and tracking. "At
most" is how many times faster ours would be if detection took no time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.cpu.face_finders import SAME_IOU, FaceFinders, FaceTimes
from benchmarks.harness import script
from benchmarks.harness.tables import document, markdown_table
from benchmarks.harness.third_party import VERSIONS
from mfer_edge.bench.machine import Machine, describe_machine
from mfer_edge.samples import CLIPS


@dataclass(frozen=True)
class FaceFrontEndResult:
    """Times of all clips."""

    machine: Machine
    rounds: int
    processor_time: bool  # instead of time by the clock
    rows: list[FaceTimes]  # the last one of all clips


def measure(clips: Sequence[Path], rounds: int, processor_time: bool = False) -> FaceFrontEndResult:
    """Measure each clip several times.

    Raises:
        MferError: a clip can't be read, or a package is missing.
    """
    finders = FaceFinders.load(time.process_time if processor_time else time.perf_counter)
    rows = [medians([finders.measure(path) for _ in range(rounds)]) for path in clips]
    return FaceFrontEndResult(describe_machine(), rounds, processor_time, [*rows, total(rows)])


def medians(rounds: Sequence[FaceTimes]) -> FaceTimes:
    """Summarise the rounds of one clip."""
    ms = {
        name: statistics.median(getattr(times, name) for times in rounds)
        for name in asdict(rounds[0])
        if name.endswith("_ms")
    }
    return replace(rounds[0], **ms)


def total(clips: Sequence[FaceTimes]) -> FaceTimes:
    """Summarise all clips: means over their frames."""
    count = sum(times.frames for times in clips)
    means: dict[str, Any] = {
        name: sum(getattr(times, name) * times.frames for times in clips) / count
        for name in asdict(clips[0])
        if name not in ("clip", "frames")
    }
    return FaceTimes("all", count, **means)


def cells(times: FaceTimes) -> tuple[str, ...]:
    """Format a row of the table."""
    detection_ms = times.opencv_ms, times.facenet_ms, times.search_ms, times.track_ms
    ms = *detection_ms, times.decode_ms, times.front_end_ms
    return (
        times.clip,
        str(times.frames),
        *(f"{value:.1f}" for value in ms),
        f"{times.detection[0]:.1f}x, {times.detection[1]:.1f}x",
        *(f"{ratio:.1f}x" for ratio in times.front_end),
        f"{times.search_same:.1%}, {times.track_same:.1%}",
    )


def markdown(result: FaceFrontEndResult) -> str:
    """Format the table."""
    unit = "Milliseconds of processor time" if result.processor_time else "Milliseconds"
    summary = (
        f"{unit} a frame, medians of {result.rounds} rounds; detection and boxes: our search, our "
        "tracking.\n" + script.machine_line(result.machine, ["torch", *VERSIONS])
    )
    headings = (
        "clip | frames | OpenCV decodes | facenet-pytorch | our search | our tracking | we decode "
        f"| our front end | detection | front end | at most | same box (IoU >= {SAME_IOU})"
    )
    return document(summary, markdown_table(headings, map(cells, result.rows)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write it as JSON where asked."""
    parser = script.parser_of(__doc__)
    parser.add_argument("clips", nargs="*", type=Path, default=CLIPS, metavar="CLIP")
    parser.add_argument("--processor-time", action="store_true")
    options = script.parse(parser, arguments)
    result = measure(options.clips, options.rounds, options.processor_time)
    script.publish(markdown(result), result, options.json)


if __name__ == "__main__":
    script.run(main)
