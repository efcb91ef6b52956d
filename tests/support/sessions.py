"""Sessions fed with a real clip, in items of any size and order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mfer_edge.faces.integral_image import IntegralImage
from mfer_edge.faces.mtcnn import FaceBox, FaceDetector, LevelPart
from mfer_edge.model import Model
from mfer_edge.options import SessionOptions
from mfer_edge.results import Reading
from mfer_edge.session import Session
from mfer_edge.sources.base import AudioChunk, Frame
from mfer_edge.sources.clip import Clip
from mfer_edge.speech.vad import SAMPLE_RATE

FRAME_S = 0.2  # from one frame to the next
DEFAULT = SessionOptions(4.0, 1.0)
NOBODY = np.zeros((10, 10, 3), np.uint8)  # too small for a face, so it costs no time


class OnceDetector(FaceDetector):
    """The face detector with a cache: detection is most of the tests' time."""

    def __init__(self, detector: FaceDetector) -> None:
        super().__init__(detector.pnet, detector.rnet, detector.onet, detector.options)
        self._found: dict[tuple[bytes, str], list[FaceBox]] = {}
        self._proposed: dict[bytes, np.ndarray] = {}

    def search(self, image: IntegralImage, near: Sequence[FaceBox] | None = None) -> list[FaceBox]:
        key = image.image.tobytes(), repr(near)
        if key not in self._found:
            self._found[key] = super().search(image, near)
        return self._found[key]

    def propose(self, parts: Sequence[LevelPart]) -> np.ndarray:
        key = b"".join(part.pixels.tobytes() for part in parts)
        if key not in self._proposed:
            self._proposed[key] = super().propose(parts)
        return self._proposed[key]


@dataclass(frozen=True)
class Stream:
    """Frames and audio as a camera and a microphone would give them."""

    frames: list[Frame]
    audio: np.ndarray
    end_s: float

    @property
    def chunk(self) -> AudioChunk:
        """All of the audio at once."""
        return AudioChunk(self.audio)

    def again(self, times: int) -> Stream:
        """The same several times in a row."""
        frames = [
            replace(frame, time_s=frame.time_s + self.end_s * index)
            for index in range(times)
            for frame in self.frames
        ]
        once = np.zeros(round(self.end_s * SAMPLE_RATE), np.float32)
        audio = self.audio[: len(once)]
        once[: len(audio)] = audio
        return Stream(frames, np.tile(once, times), self.end_s * times)


def read_stream(path: Path) -> Stream:
    with Clip(path) as clip:
        items = list(clip)
    frames = [item for item in items if isinstance(item, Frame)]
    audio = np.concatenate([item.samples for item in items if not isinstance(item, Frame)])
    return Stream(frames, audio, clip.duration_s)


Item = Frame | AudioChunk


def in_turn(stream: Stream, rng: random.Random, late_s: float) -> list[Item]:
    """A stream in items of any size, each coming up to this late; frames and audio in order."""
    items: list[tuple[float, Item]] = []
    key_s = 0.0
    for frame in stream.frames:
        key_s = max(key_s, frame.time_s + rng.uniform(0, late_s))
        items.append((key_s, frame))
    key_s, start = 0.0, 0
    while start < len(stream.audio):
        end = start + rng.choice([0, 1, 160, 512, 4000, 16_000, 40_000])
        key_s = max(key_s, end / SAMPLE_RATE + rng.uniform(0, late_s))
        items.append((key_s, AudioChunk(stream.audio[start:end])))
        start = end
    return [item for _, item in sorted(items, key=lambda pair: pair[0])]


def read(
    model: Model, items: list[Item], end_s: float | None, options: SessionOptions = DEFAULT
) -> list[Reading]:
    """Push items, take readings as they come, and close."""
    session, readings = Session(model, options), []
    for item in items:
        session.push(item)
        readings += session.readings()
    session.close(end_s)
    assert session.late_s == {"audio": 0.0, "video": 0.0}
    return readings + session.readings()


def spans(readings: list[Reading]) -> list[tuple[float, float]]:
    return [(reading.start_s, reading.end_s) for reading in readings]


def silent(model: Model, end_s: float, options: SessionOptions = DEFAULT) -> list[Reading]:
    """The readings of silence."""
    session = Session(model, options, has_video=False)
    session.push_audio(np.zeros(round(end_s * SAMPLE_RATE), np.float32))
    session.close()
    return session.readings()


def held(session: Session) -> tuple[int, float]:
    """Frames, and seconds of audio, that a session holds."""
    speech = session._speech
    samples = len(speech._samples) + sum(len(item) for item in speech._pushed)
    return len(session._shown), samples / SAMPLE_RATE
