"""Frames that are too large are refused before memory is taken for them; others are let go."""

from __future__ import annotations

import gc
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from weakref import finalize

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from mfer_edge.errors import MediaError
from mfer_edge.pipeline import Pipeline
from mfer_edge.sources.base import MAX_PIXELS, AudioChunk, Frame
from mfer_edge.sources.clip import Clip
from mfer_edge.sources.geometry import shown_size
from tests.support.clips import sine, write_clip
from tests.support.commands import python

HUGE = 15_000, 15_000  # pixels; FFmpeg itself refuses over 268 million
START_OF_FRAME = b"\xff\xc0\x00\x11\x08"  # of a JPEG with three components: then height and width


def pictures(path: Path, count: int = 10) -> Path:
    """A clip of JPEG frames, 64 x 48, and a voice."""
    return write_clip(
        path,
        count / 10,
        10,
        video_codec="mjpeg",
        audio=sine(1.0),
        encoding={"strict": "unofficial"},
    )


def claim(path: Path, first: int) -> None:
    """Have frames tell that they are huge, from one on."""
    before, *frames = path.read_bytes().split(START_OF_FRAME)
    size = struct.pack(">HH", *HUGE)
    changed = [frame if i < first else size + frame[4:] for i, frame in enumerate(frames)]
    path.write_bytes(START_OF_FRAME.join([before, *changed]))


# Of a process of its own, as this one's peak is that of all tests before.
PEAK = """
import sys
from mfer_edge.bench.machine import peak_memory
from mfer_edge.sources.clip import Clip
before = peak_memory()
with Clip(sys.argv[1]) as clip:
    for _ in clip:
        pass
print(peak_memory() - before)
"""


def test_a_clip_of_huge_frames_is_refused(tmp_path: Path) -> None:
    path = pictures(tmp_path / "clip.avi")
    told = struct.pack("<II", 64, 48), struct.pack("<II", *HUGE)  # by both of AVI's headers
    path.write_bytes(path.read_bytes().replace(*told))
    claim(path, first=0)
    with (
        pytest.raises(MediaError, match="15000 x 15000 pixels; at most 67,108,864 are"),
        Clip(path),
    ):
        pass
    with Clip(path, frame_rate=None) as clip:  # the voice alone
        assert sum(len(item.samples) for item in clip) == 16_000


def test_huge_frames_in_a_clip_are_damaged(tmp_path: Path) -> None:
    path = pictures(tmp_path / "clip.avi")
    claim(path, first=4)
    assert int(python(PEAK, path).stdout) < 200_000_000  # a frame has 225 million pixels
    with Clip(path) as clip:
        items = list(clip)
    assert clip.damaged == 6
    assert [i.image.shape for i in items if isinstance(i, Frame)] == [(48, 64, 3)] * 2
    assert sum(len(i.samples) for i in items if isinstance(i, AudioChunk)) == 16_000


@pytest.mark.parametrize("shape", [Fraction(4), Fraction(1, 4), Fraction(1, 1000)])
def test_stretched_frames_keep_the_limit(shape: Fraction) -> None:
    width, height = shown_size(8000, 8000, shape)
    assert 0.99 * MAX_PIXELS < width * height <= 1.001 * MAX_PIXELS


def test_decoded_frames_are_let_go(anger: Path) -> None:
    """They need no garbage collector, which comes too late for the pixels of dozens."""
    gc.collect()
    gc.disable()
    try:
        of_other_tests = decoded_frames()  # in reach, so that no new frame takes the place of one
        with Clip(anger) as clip:
            frames = sum(isinstance(item, Frame) for item in clip)
        held = len(decoded_frames()) - len(of_other_tests)
    finally:
        gc.enable()
    assert frames == 21
    assert held < 3


def decoded_frames() -> list[VideoFrame]:
    return [thing for thing in gc.get_objects() if type(thing) is VideoFrame]


def test_a_session_holds_few_large_frames(pipeline: Pipeline) -> None:
    """What is decoded ahead is bounded by its bytes, however slow the networks are."""
    footage = Footage()
    for _ in pipeline.stream(footage):
        pass
    assert footage.most_alive <= 5  # 64 MB are two of 50 MB; one made, one read, one to be freed


class Footage:
    """Frames of 4000 x 4000 pixels, which counts those that are alive."""

    name, has_video, has_audio, max_lag_s = "footage", True, False, 5.0

    def __init__(self) -> None:
        self.duration_s = 2.0
        self.most_alive = 0
        self._alive: set[int] = set()

    def __iter__(self) -> Iterator[Frame]:
        for index in range(10):
            image = np.zeros((4000, 4000, 3), np.uint8)
            self._alive.add(index)
            self.most_alive = max(self.most_alive, len(self._alive))
            finalize(image, self._alive.discard, index)
            frame = Frame(index / 5, image)
            del image
            yield frame

    def __enter__(self) -> Footage:
        return self

    def __exit__(self, *exception: object) -> None:
        pass

    def warnings(self) -> tuple[str, ...]:
        return ()


def test_a_track_of_which_nothing_can_be_decoded_is_said(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mkv", 1.0, 10, audio=sine(1.0))
    with av.open(str(path)) as whole:
        packets = [bytes(packet) for packet in whole.demux(video=0) if packet.size]
    content = path.read_bytes()
    for packet in packets:
        content = content.replace(packet, bytes(len(packet)))
    path.write_bytes(content)
    with Clip(path) as clip:
        assert not any(isinstance(item, Frame) for item in clip)
    assert "the video track holds nothing that could be decoded" in clip.warnings()


@pytest.mark.parametrize("encoder", ["flac", "tta", "wavpack"])
def test_lossless_sound_is_compared_with_its_checksums(tmp_path: Path, encoder: str) -> None:
    path = tmp_path / {"flac": "clip.mka", "tta": "clip.tta", "wavpack": "clip.wv"}[encoder]
    write_clip(path, audio=sine(2.0), video=None, audio_codec=encoder)
    with av.open(str(path)) as whole:
        packets = [bytes(packet) for packet in whole.demux(audio=0) if packet.size]
    middle = packets[len(packets) // 2]
    place = path.read_bytes().index(middle) + 3 * len(middle) // 4
    for damaged in (0, 1):
        with Clip(path) as clip:
            list(clip)
        assert clip.damaged == damaged
        content = bytearray(path.read_bytes())
        content[place] ^= 1
        path.write_bytes(content)
