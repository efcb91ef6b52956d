"""Jobs that only decode clips: the floor below any system that reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from benchmarks.harness.plain_decoding import frames
from mfer_edge.sources.clip import Clip

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.video.frame import VideoFrame


def decode_all(*clips: str) -> Callable[[], None]:
    """Decode clips by PyAV, every frame and all the audio, without conversion."""

    def one_pass() -> None:
        for path in clips:
            for _ in decoded(path):
                pass

    return one_pass


def decoded(path: str) -> Iterator[VideoFrame | AudioFrame]:
    """Decode by PyAV the video and the audio track that mfer-edge reads."""
    import av

    from mfer_edge.sources.base import TrackChoice
    from mfer_edge.sources.tracks import choose_tracks

    with av.open(f"file:{path}") as container:  # a name may hold what looks like a protocol
        tracks = choose_tracks(container, TrackChoice(), path)
        chosen = [track for track in (tracks.video, tracks.audio) if track is not None]
        yield from frames(tracks.packets(container, *chosen), chosen)


def decode_sampled(*clips: str) -> Callable[[], None]:
    """Decode clips by mfer-edge: the sampled frames and the audio."""

    def one_pass() -> None:
        for path in clips:
            with Clip(path) as clip:
                for _ in clip:
                    pass

    return one_pass


def decode_opencv(*clips: str) -> Callable[[], None]:
    """Decode every frame of clips by OpenCV, which converts them to BGR."""
    import cv2

    def one_pass() -> None:
        for path in clips:
            capture = cv2.VideoCapture(path)
            while capture.read()[0]:
                pass

    return one_pass
