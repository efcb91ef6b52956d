"""Frames as a player shows them: square pixels, turned and mirrored as the file says."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from av.filter import Graph
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mfer_edge.sources.base import MAX_PIXELS
from mfer_edge.sources.hdr import to_sdr

MAX_STRETCH = 4.0  # times as many pixels as are stored; of longer pixels some rows are left out
UNKNOWN_SIDE_DATA = range(len(SideDataType), 48)  # FFmpeg 8.1 has kinds up to 32


@dataclass(frozen=True)
class Orientation:
    """One of the eight ways to lay a frame: transpose it first, then mirror it."""

    transposed: bool = False
    mirrored: bool = False  # left and right
    flipped: bool = False  # top and bottom

    @classmethod
    def of_matrix(cls, matrix: bytes) -> Orientation:
        """Orientation nearest to FFmpeg's display matrix, nine integers.

        Its rows are a, b, 0 and c, d, 0: the point (x, y) is shown at (a x + c y, b x + d y). One
        that maps the frame to a line is damaged: the frame stays as it is.
        """
        a, b, _, c, d, *_ = struct.unpack("=9i", matrix)
        if not a * d - b * c:
            return cls()
        if abs(b) + abs(c) > abs(a) + abs(d):
            return cls(True, c < 0, b < 0)
        return cls(False, a < 0, d < 0)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Lay a (height, width, 3) image."""
        if self.transposed:
            image = image.transpose(1, 0, 2)
        rows = slice(None, None, -1 if self.flipped else 1)
        columns = slice(None, None, -1 if self.mirrored else 1)
        return np.ascontiguousarray(image[rows, columns])


class Geometry:
    """Conversion of a track's frames to what a player shows."""

    def __init__(self, stream: VideoStream) -> None:
        self._context = stream.codec_context
        self._announced = stream.sample_aspect_ratio or Fraction(1)
        self._coded = self._context.sample_aspect_ratio

    def shown(self, frame: VideoFrame) -> np.ndarray:
        """Image of a frame: (height, width, 3) uint8 BGR."""
        width, height = shown_size(frame.width, frame.height, self._pixel_shape())
        # More threads would be started anew for each frame, which takes longer than the conversion.
        image = frame.to_ndarray(format="bgr24", width=width, height=height, threads=1)
        return orientation(frame)(to_sdr(image, frame.color_trc))

    def _pixel_shape(self) -> Fraction:
        """Width of a pixel over its height; broadcasts change it within a track."""
        coded = self._context.sample_aspect_ratio
        return self._announced if coded is None or coded == self._coded else coded


def shown_size(width: int, height: int, pixel_shape: Fraction) -> tuple[int, int]:
    """Size of a frame with square pixels: longer by its pixels' shape, at no loss of detail."""
    shape = float(pixel_shape)
    if not 0 < shape < math.inf or shape == 1:
        return width, height
    x, y = max(1.0, shape), max(1.0, 1 / shape)
    shown = width * height * x * y
    less = math.sqrt(min(1.0, MAX_STRETCH / (x * y), MAX_PIXELS / shown))
    return max(1, round(width * x * less)), max(1, round(height * y * less))


def orientation(frame: VideoFrame) -> Orientation:
    """How a player lays a frame, by its container, its codec or its EXIF data."""
    try:
        matrix = _side_data(frame).get("DISPLAYMATRIX")
    except ValueError:  # how PyAV fails if there is side data of a kind that it does not know
        matrix = _side_data(_without_unknown(frame)).get("DISPLAYMATRIX")
    return Orientation() if matrix is None else Orientation.of_matrix(bytes(matrix))


def _side_data(frame: VideoFrame) -> SideDataContainer:
    """Side data of a frame, which `frame.side_data` would tie to it: the pixels of dozens of frames
    would wait for the garbage collector."""
    return SideDataContainer(frame)  # type: ignore[call-arg]


def _without_unknown(frame: VideoFrame) -> VideoFrame:
    """The frame without the kinds of side data that FFmpeg knows and PyAV does not."""
    graph = Graph()
    last = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1)
    )
    for kind in UNKNOWN_SIDE_DATA:
        delete = graph.add("sidedata", f"mode=delete:type={kind}")
        last.link_to(delete)
        last = delete
    sink = graph.add("buffersink")
    last.link_to(sink)
    graph.configure()
    graph.push(frame)
    plain = graph.pull()
    assert isinstance(plain, VideoFrame)
    return plain
