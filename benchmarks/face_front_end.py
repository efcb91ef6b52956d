"""Compare ways to find faces in clips: facenet-pytorch, our search of every frame, our tracking.

`python -m benchmarks.face_front_end [CLIP...] [--runs N] [--json PATH]` decodes each clip at five
pictures a second and lets all three look at every picture in turn, so that other work on the
machine slows them alike. It prints milliseconds for a picture (the median of the runs' means) and
how often our largest box overlaps facenet-pytorch's by at least 0.9. facenet-pytorch runs as
`MTCNN(keep_all=True)`, all else by default. All use as many threads as the process has cores: pin
it (`taskset -c 1 python -m ...`) where others use the machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.footprint import cpu_name
from mfer_edge.bundle import Bundle, Crop
from mfer_edge.face_finder import FaceFinder
from mfer_edge.media import Clip, Picture
from mfer_edge.mtcnn import FaceBox, FaceDetector
from mfer_edge.pipeline import bundle_networks, cores
from mfer_edge.tracker import overlap
from mfer_edge.visual import crop_face

SAMPLES = sorted((Path(__file__).resolve().parent.parent / "samples").glob("*.mp4"))
SAME = 0.9  # overlap from which two boxes count as the same
NEEDED = {"torch": "torch", "facenet_pytorch": "--no-deps facenet-pytorch", "pytest": "pytest"}

Find = Callable[[np.ndarray, float], Sequence[FaceBox]]


@dataclass(frozen=True)
class Row:
    """What one clip took; milliseconds for each picture."""

    clip: str
    pictures: int
    decode_ms: float
    facenet_ms: float  # detection and crop, as are the next two
    search_ms: float
    track_ms: float
    search_same: float  # share of pictures in which our box is facenet-pytorch's
    track_same: float

    @property
    def detection(self) -> tuple[float, float]:
        """How many times faster our search and our tracking are than facenet-pytorch."""
        return self.facenet_ms / self.search_ms, self.facenet_ms / self.track_ms

    @property
    def front_end(self) -> tuple[float, float]:
        """The same with decoding counted on both sides."""
        theirs, decode = self.decode_ms + self.facenet_ms, self.decode_ms
        return theirs / (decode + self.search_ms), theirs / (decode + self.track_ms)

    def line(self) -> str:
        """Give a line of the table."""
        return (
            f"| {self.clip} | {self.pictures} | {self.decode_ms:.1f} | {self.facenet_ms:.1f} "
            f"| {self.search_ms:.1f} | {self.track_ms:.1f} "
            f"| {self.detection[0]:.0f}x, {self.detection[1]:.0f}x "
            f"| {self.front_end[0]:.1f}x, {self.front_end[1]:.1f}x "
            f"| {self.search_same:.1%}, {self.track_same:.1%} |"
        )


def measure(path: Path, facenet: Find, detector: FaceDetector, crop: Crop, runs: int) -> Row:
    """Let all three look at a clip several times.

    Raises:
        MediaError: it can't be read.
    """
    means: list[Row] = []
    for _ in range(runs):
        start = time.perf_counter()
        with Clip(path) as clip:
            pictures = [item for item in clip if isinstance(item, Picture)]
        decode_s = time.perf_counter() - start
        ways: list[Find] = [facenet, lambda image, _: detector(image), FaceFinder(detector)]
        seconds = [0.0] * len(ways)
        same = [0] * len(ways)
        for picture in pictures:
            found = []
            for index, find in enumerate(ways):
                start = time.perf_counter()
                faces = find(picture.image, picture.time_s)
                for face in faces:
                    crop_face(picture.image, face, crop)
                seconds[index] += time.perf_counter() - start
                found.append(max(faces, key=lambda face: face.area, default=None))
            same = [n + _same(found[0], box) for n, box in zip(same, found, strict=True)]
        count = len(pictures)
        ms = [1000 * value / count for value in (decode_s, *seconds)]
        shares = [value / count for value in same[1:]]
        means.append(Row(path.name, count, ms[0], ms[1], ms[2], ms[3], shares[0], shares[1]))
    medians = {
        name: statistics.median(getattr(row, name) for row in means)
        for name in ("decode_ms", "facenet_ms", "search_ms", "track_ms")
    }
    return replace(means[0], **medians)


def _same(one: FaceBox | None, other: FaceBox | None) -> bool:
    if one is None or other is None:
        return one is other
    return overlap(one, other) >= SAME


def facenet_finder(threads: int) -> Find:
    """Load facenet-pytorch's MTCNN with its default options.

    Raises:
        SystemExit: it, or what it needs, is not installed.
    """
    for module, package in NEEDED.items():
        if importlib.util.find_spec(module) is None:
            raise SystemExit(f"{module} is not installed: pip install {package}")
    import torch

    from tests.oracles import facenet

    torch.set_num_threads(threads)
    mtcnn = facenet().MTCNN(keep_all=True)

    def find(image: np.ndarray, _: float) -> list[FaceBox]:
        boxes, probability = mtcnn.detect(image[..., ::-1])
        if boxes is None:
            return []
        return [FaceBox(*map(float, box), p) for box, p in zip(boxes, probability, strict=True)]

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


def main() -> None:
    """Print the table, and write it where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", nargs="*", type=Path, default=SAMPLES, metavar="CLIP")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    threads = cores()
    facenet = facenet_finder(threads)
    bundle = Bundle.open()
    networks = bundle_networks(bundle)
    detector = FaceDetector(networks["pnet"], networks["rnet"], networks["onet"])
    crop = bundle.manifest.crop
    rows = [measure(path, facenet, detector, crop, options.runs) for path in options.clips]
    rows.append(total(rows))
    packages = ("facenet-pytorch", "torch", "onnxruntime", "opencv-python-headless", "numpy")
    machine = (
        f"{cpu_name()}, {threads} core{'s' if threads > 1 else ''} used; "
        f"Python {platform.python_version()}; "
        + ", ".join(f"{name} {version(name)}" for name in packages)
    )
    print(f"Machine: {machine}. {options.runs} runs; ms a picture; ours: search, tracking.\n")
    heads = ["clip", "pictures", "decode", "facenet-pytorch", "search", "tracking"]
    heads += ["detection", "front end", f"same box (IoU >= {SAME})"]
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    print("\n".join(row.line() for row in rows))
    if options.json:
        rows_json = [
            {**asdict(row), "detection": row.detection, "front_end": row.front_end} for row in rows
        ]
        report = {"command": sys.argv, "machine": machine, "runs": options.runs, "rows": rows_json}
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
