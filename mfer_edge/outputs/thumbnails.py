"""Thumbnails: small pictures of a clip at moments spread over its length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import av
import av.error
import cv2
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mfer_edge.sources.base import Frame, TrackChoice
from mfer_edge.sources.clip import Clip
from mfer_edge.sources.geometry import Geometry
from mfer_edge.sources.probe import open_container

MAX_COUNT = 60
MIN_DISTANCE_S = 0.5  # between two
MAX_WIDTH, MAX_HEIGHT = 160, 90  # pixels
QUALITIES = (70, 50, 30, 10)  # of JPEG: the first with which all fit
MAX_BYTES = 330_000  # of all: 440 kB as text
KEYFRAMES_FROM_S = 120.0  # of clips at least so long only keyframes are decoded
MIN_KEYFRAMES = 12  # of those: where there are fewer, everything is decoded after all
MAX_DIFFERENCE_S = 1.0  # of a length by the header: else its times can't be sought


@dataclass(frozen=True)
class Thumbnail:
    """A small picture of a clip."""

    time_s: float  # from the start of the clip
    jpeg: bytes


def thumbnails(
    clip: Path | str, duration_s: float, tracks: TrackChoice | None = None
) -> tuple[Thumbnail, ...]:
    """Take pictures of a clip, at most 60, in order of time; none of a clip without video.

    Args:
        duration_s: of the clip, as it was analysed.
        tracks: as for the analysis.

    Raises:
        MediaError: the clip can't be read.
    """
    count = max(1, min(MAX_COUNT, int(duration_s / MIN_DISTANCE_S)))
    step_s = duration_s / count
    images = _keyframes(clip, duration_s, step_s, tracks) if duration_s >= KEYFRAMES_FROM_S else []
    if len(images) < MIN_KEYFRAMES:
        images = _sampled(clip, count, step_s, tracks)
    for quality in QUALITIES:
        pictures = tuple(Thumbnail(time_s, _jpeg(image, quality)) for time_s, image in images)
        if sum(len(picture.jpeg) for picture in pictures) <= MAX_BYTES:
            break
    return pictures


def _sampled(
    clip: Path | str, count: int, step_s: float, tracks: TrackChoice | None
) -> list[tuple[float, np.ndarray]]:
    """Small images of a clip, one a step: all of its video is decoded."""
    with Clip(clip, 1 / step_s if step_s else 1.0, choice=tracks) as frames:
        if not frames.has_video:
            return []
        found = ((f.time_s, small(f.image)) for f in frames if isinstance(f, Frame))
        return [one for one, _ in zip(found, range(count), strict=False)]


def _keyframes(
    clip: Path | str, duration_s: float, step_s: float, tracks: TrackChoice | None
) -> list[tuple[float, np.ndarray]]:
    """Small images of the keyframes nearest before each step; none where they can't be sought."""
    with Clip(clip, None, choice=tracks) as chosen:
        index = chosen.video.index if chosen.video is not None else None
        exact = abs(chosen.duration_s - duration_s) <= MAX_DIFFERENCE_S
    if index is None or not exact:
        return []
    images: dict[float, np.ndarray] = {}
    with open_container(clip) as container:
        video = container.streams[index]
        if not isinstance(video, VideoStream):
            return []
        video.codec_context.skip_frame = "NONKEY"
        geometry = Geometry(video)
        start_s = (container.start_time or 0) / av.time_base
        wanted_s = [step_s * number for number in range(round(duration_s / step_s))]
        for frame in _sought(container, video, [start_s + time_s for time_s in wanted_s]):
            time_s = round((frame.time or 0.0) - start_s, 3)
            if time_s < max(images, default=0.0):
                return []  # time stamps that start anew
            if time_s not in images:
                images[time_s] = small(geometry.shown(frame))
    return list(images.items())


def _sought(
    container: InputContainer, video: VideoStream, times_s: Sequence[float]
) -> Iterator[VideoFrame]:
    for time_s in times_s:
        with suppress(av.error.FFmpegError, StopIteration):  # damaged there: a picture less
            container.seek(int(time_s * av.time_base))
            yield next(container.decode(video))


def small(image: np.ndarray) -> np.ndarray:
    """Shrink a (height, width, 3) image to a thumbnail's size, its proportions kept."""
    height, width = image.shape[:2]
    scale = min(1.0, MAX_WIDTH / width, MAX_HEIGHT / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _jpeg(image: np.ndarray, quality: int) -> bytes:
    _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()
