"""Face detection of a clip by facenet-pytorch and by mfer-edge, timed in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks.harness.decoding import decode_opencv
from benchmarks.harness.third_party import facenet
from mfer_edge.bundle import Bundle
from mfer_edge.cpu import core_count, decoding_threads
from mfer_edge.engines.load import load_engines
from mfer_edge.errors import MediaError
from mfer_edge.faces.crop import crop_face
from mfer_edge.faces.finder import FaceFinder
from mfer_edge.faces.mtcnn import FaceBox, FaceDetector
from mfer_edge.faces.tracker import overlap
from mfer_edge.manifest import Crop
from mfer_edge.sources.base import Frame
from mfer_edge.sources.clip import Clip
from mfer_edge.sources.prefetch import decode_ahead
from mfer_edge.stopwatch import Stopwatch

SAME_IOU = 0.9  # from which two boxes count as the same

Find = Callable[[np.ndarray, float], Sequence[FaceBox]]
"""Finds faces in a (height, width, 3) uint8 BGR frame at a time in seconds."""
Clock = Callable[[], float]
"""Seconds since any moment: of the day, or of the process's work."""
T = TypeVar("T")


@dataclass(frozen=True)
class FaceTimes:
    """Times of one clip, in milliseconds a frame, and agreement of the largest boxes."""

    clip: str
    frames: int  # sampled ones
    opencv_ms: float  # decoding of every frame
    facenet_ms: float  # detection and crop, as are the next two
    search_ms: float
    track_ms: float
    decode_ms: float  # by mfer-edge, with nothing beside it
    front_end_ms: float  # of mfer-edge
    search_same: float  # share of frames in which our box is facenet-pytorch's
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


@dataclass(frozen=True)
class FaceFinders:
    """The compared detectors, loaded."""

    facenet: Find
    detector: FaceDetector
    crop: Crop
    clock: Clock = time.perf_counter

    @classmethod
    def load(cls, clock: Clock = time.perf_counter) -> FaceFinders:
        """Load facenet-pytorch and the shipped bundle's detector.

        Args:
            clock: which times to measure.

        Raises:
            MferError: a package is missing.
        """
        bundle = Bundle.open()
        engines = load_engines(bundle)
        detector = FaceDetector.of(engines)
        return cls(facenet_finder(), detector, bundle.manifest.crop, clock)

    def measure(self, path: Path) -> FaceTimes:
        """Run all finders on each frame of a clip in turn, and both front ends on the clip.

        Raises:
            MediaError: it can't be read, or has no frames.
        """
        frames, decode_s = self._timed(lambda: _frames(path))
        _, opencv_s = self._timed(decode_opencv(str(path)))
        _, front_end_s = self._timed(lambda: self._front_end(path))
        finders: list[Find] = [
            self.facenet,
            lambda image, _: self.detector(image),
            FaceFinder(self.detector),
        ]
        seconds, same = [0.0] * len(finders), [0] * len(finders)
        for frame in frames:
            largest = []
            for index, find in enumerate(finders):
                faces, taken_s = self._timed(partial(self._find_and_crop, frame, find))
                seconds[index] += taken_s
                largest.append(max(faces, key=lambda face: face.area, default=None))
            same = [n + _same(largest[0], box) for n, box in zip(same, largest, strict=True)]
        count = len(frames)
        ms = [1000 * value / count for value in (opencv_s, *seconds, decode_s, front_end_s)]
        return FaceTimes(path.name, count, *ms, *(value / count for value in same[1:]))

    def _timed(self, function: Callable[[], T]) -> tuple[T, float]:
        start = self.clock()
        result = function()
        return result, self.clock() - start

    def _front_end(self, path: Path) -> None:
        find = FaceFinder(self.detector)
        with (
            Clip(path, threads=decoding_threads(core_count())) as clip,
            closing(decode_ahead(clip, Stopwatch())) as items,
        ):
            for item in items:
                if isinstance(item, Frame):
                    self._find_and_crop(item, find)

    def _find_and_crop(self, frame: Frame, find: Find) -> Sequence[FaceBox]:
        faces = find(frame.image, frame.time_s)
        for face in faces:
            crop_face(frame.image, face, self.crop)
        return faces


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


def _frames(path: Path) -> list[Frame]:
    with Clip(path) as clip:
        frames = [item for item in clip if isinstance(item, Frame)]
    if not frames:
        raise MediaError(f"{path}: no video frames")
    return frames


def _same(one: FaceBox | None, other: FaceBox | None) -> bool:
    if one is None or other is None:
        return one is other
    return overlap(one, other) >= SAME_IOU
