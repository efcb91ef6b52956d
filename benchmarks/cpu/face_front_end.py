"""Compare ways to find faces in clips: facenet-pytorch, our search of every frame, our tracking.

`python -m benchmarks.cpu.face_front_end [CLIP...] [--rounds N] [--json PATH]` decodes each clip at
five pictures a second and lets all three look at every picture in turn, so that other work on the
machine slows them alike. It prints milliseconds for a picture (the median of the rounds' means) and
how often our largest box overlaps facenet-pytorch's by at least 0.9. facenet-pytorch runs as
`MTCNN(keep_all=True)`, all else by default. All use as many threads as the process has cores: pin
it (`taskset -c 1 python -m ...`) where others use the machine.

A front end goes from the file to the faces, cut out. Theirs is OpenCV, which decodes every frame,
and then facenet-pytorch; ours is what `Pipeline.analyze` does: decoding in a thread, and tracking.
"At most" is how many times faster it could be if faces were found in no time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from benchmarks.harness.processes import machine_line, publish, read_options, run_script
from benchmarks.harness.systems import SAMPLES, decode_by_opencv
from benchmarks.harness.third_party import VERSIONS, facenet
from mfer_edge.bench.machine import Machine, describe_machine
from mfer_edge.bundle import Bundle
from mfer_edge.cpu import core_count, decoding_threads
from mfer_edge.errors import MediaError
from mfer_edge.faces.crop import crop_face
from mfer_edge.faces.finder import FaceFinder
from mfer_edge.faces.mtcnn import FaceBox, FaceDetector
from mfer_edge.faces.tracker import overlap
from mfer_edge.manifest import Crop
from mfer_edge.model import load_engines
from mfer_edge.pipeline import AHEAD
from mfer_edge.sources.base import Frame
from mfer_edge.sources.clip import Clip
from mfer_edge.sources.prefetch import prefetch

SAME = 0.9  # overlap from which two boxes count as the same

Find = Callable[[np.ndarray, float], Sequence[FaceBox]]
T = TypeVar("T")


@dataclass(frozen=True)
class Row:
    """What one clip took; milliseconds for each picture."""

    clip: str
    pictures: int
    opencv_ms: float  # decoding, every frame of it
    facenet_ms: float  # detection and crop, as are the next two
    search_ms: float
    track_ms: float
    decode_ms: float  # as we do it, with nothing beside it
    front_end_ms: float  # ours
    search_same: float  # share of pictures in which our box is facenet-pytorch's
    track_same: float

    @property
    def detection(self) -> tuple[float, float]:
        """How many times faster our search and our tracking are than facenet-pytorch."""
        return self.facenet_ms / self.search_ms, self.facenet_ms / self.track_ms

    @property
    def front_end(self) -> tuple[float, float]:
        """The same for the front ends, and with nothing but decoding in ours."""
        theirs = self.opencv_ms + self.facenet_ms
        return theirs / self.front_end_ms, theirs / self.decode_ms

    def line(self) -> str:
        """Give a line of the table."""
        detection_ms = self.opencv_ms, self.facenet_ms, self.search_ms, self.track_ms
        ms = *detection_ms, self.decode_ms, self.front_end_ms
        return (
            f"| {self.clip} | {self.pictures} | {' | '.join(f'{value:.1f}' for value in ms)} "
            f"| {self.detection[0]:.0f}x, {self.detection[1]:.0f}x "
            f"| {self.front_end[0]:.1f}x | {self.front_end[1]:.1f}x "
            f"| {self.search_same:.1%}, {self.track_same:.1%} |"
        )


def measure(path: Path, facenet: Find, detector: FaceDetector, crop: Crop, rounds: int) -> Row:
    """Let all three look at a clip several times.

    Raises:
        MediaError: it can't be read, or has no pictures.
    """
    rows = [measure_once(path, facenet, detector, crop) for _ in range(rounds)]
    medians = {
        name: statistics.median(getattr(row, name) for row in rows)
        for name in asdict(rows[0])
        if name.endswith("_ms")
    }
    return replace(rows[0], **medians)


def measure_once(path: Path, facenet: Find, detector: FaceDetector, crop: Crop) -> Row:
    """Let all three look at a clip, and run both front ends."""
    pictures, decode_s = _timed(lambda: _pictures(path))
    _, opencv_s = _timed(decode_by_opencv(str(path)))
    _, front_end_s = _timed(lambda: _front_end(path, FaceFinder(detector), crop))
    ways: list[Find] = [facenet, lambda image, _: detector(image), FaceFinder(detector)]
    seconds, same = [0.0] * len(ways), [0] * len(ways)
    for picture in pictures:
        found = []
        for index, find in enumerate(ways):
            faces, taken_s = _timed(partial(_cut_out, picture, find, crop))
            seconds[index] += taken_s
            found.append(max(faces, key=lambda face: face.area, default=None))
        same = [n + _same(found[0], box) for n, box in zip(same, found, strict=True)]
    count = len(pictures)
    ms = [1000 * value / count for value in (opencv_s, *seconds, decode_s, front_end_s)]
    return Row(path.name, count, *ms, *(value / count for value in same[1:]))


def _pictures(path: Path) -> list[Frame]:
    with Clip(path) as clip:
        pictures = [item for item in clip if isinstance(item, Frame)]
    if not pictures:
        raise MediaError(f"{path}: no pictures to look at")
    return pictures


def _front_end(path: Path, find: Find, crop: Crop) -> None:
    with (
        Clip(path, threads=decoding_threads(core_count())) as clip,
        closing(prefetch(clip, AHEAD)) as items,
    ):
        for item in items:
            if isinstance(item, Frame):
                _cut_out(item, find, crop)


def _cut_out(picture: Frame, find: Find, crop: Crop) -> Sequence[FaceBox]:
    faces = find(picture.image, picture.time_s)
    for face in faces:
        crop_face(picture.image, face, crop)
    return faces


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def _same(one: FaceBox | None, other: FaceBox | None) -> bool:
    if one is None or other is None:
        return one is other
    return overlap(one, other) >= SAME


def facenet_finder() -> Find:
    """Load facenet-pytorch's MTCNN with its default options.

    Raises:
        MferError: it, or what it needs, is not installed.
    """
    mtcnn = facenet().MTCNN(keep_all=True)
    import torch

    torch.set_num_threads(core_count())

    def find(image: np.ndarray, _: float) -> list[FaceBox]:
        boxes, probability = mtcnn.detect(image[..., ::-1])
        if boxes is None:
            return []
        return [
            FaceBox(float(left), float(top), float(right), float(bottom), p)
            for (left, top, right, bottom), p in zip(boxes, probability, strict=True)
        ]

    return find


def total(rows: Sequence[Row]) -> Row:
    """Sum the clips up: means over all their pictures."""
    count = sum(row.pictures for row in rows)
    means: dict[str, Any] = {
        name: sum(getattr(row, name) * row.pictures for row in rows) / count
        for name in asdict(rows[0])
        if name not in ("clip", "pictures")
    }
    return Row("all", count, **means)


@dataclass(frozen=True)
class Report:
    """All that was measured."""

    machine: Machine
    rounds: int
    rows: list[Row]  # the last one of all clips


def table(report: Report) -> str:
    """Give the report in Markdown."""
    heads = ["clip", "pictures", "OpenCV decodes", "facenet-pytorch", "our search"]
    heads += ["our tracking", "we decode", "our front end", "detection", "front end", "at most"]
    heads += [f"same box (IoU >= {SAME})"]
    return "\n".join(
        [
            f"Milliseconds a picture, medians of {report.rounds} rounds; detection and boxes: our "
            "search, our tracking.",
            machine_line(report.machine, ["torch", *VERSIONS]),
            "",
            "| " + " | ".join(heads) + " |",
            "|---" * len(heads) + "|",
            *(row.line() for row in report.rows),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", nargs="*", type=Path, default=SAMPLES, metavar="CLIP")
    options = read_options(parser, arguments)
    find = facenet_finder()
    bundle = Bundle.open()
    networks = load_engines(bundle)
    detector = FaceDetector(networks["pnet"], networks["rnet"], networks["onet"])
    rows = [
        measure(path, find, detector, bundle.manifest.crop, options.rounds)
        for path in options.clips
    ]
    report = Report(describe_machine(), options.rounds, [*rows, total(rows)])
    publish(table(report), report, options.json)


if __name__ == "__main__":
    run_script(main)
