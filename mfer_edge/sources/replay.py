"""A clip held decoded, and replayed again and again as a live source would give it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mfer_edge.errors import MediaError
from mfer_edge.session import Session
from mfer_edge.sources.base import AudioChunk, Frame
from mfer_edge.sources.clip import Clip
from mfer_edge.speech.vad import SAMPLE_RATE

FOOTAGE_S = 8.0  # of a clip that are held, its pictures uncompressed
BLOCK_S = 0.1  # of sound that comes at a time


@dataclass(frozen=True)
class Footage:
    """The beginning of a clip, decoded."""

    pictures: tuple[Frame, ...]
    sound: np.ndarray  # (samples,) float32, 16 kHz, as long as the footage; empty without a track
    length_s: float

    @property
    def has_video(self) -> bool:
        """Whether there are pictures."""
        return bool(self.pictures)

    @property
    def has_audio(self) -> bool:
        """Whether there is sound."""
        return bool(len(self.sound))

    def replay(self) -> Iterator[tuple[float, Frame | AudioChunk]]:
        """Give pictures and blocks of sound, each with the second at which it is there; no end.

        A picture is there at its time, a block of sound when its last sample was heard.
        """
        block = round(BLOCK_S * SAMPLE_RATE)
        blocks = [self.sound[start : start + block] for start in range(0, len(self.sound), block)]
        ends_s = np.cumsum([len(samples) for samples in blocks]) / SAMPLE_RATE
        once: list[tuple[float, Frame | AudioChunk]] = [
            *((picture.time_s, picture) for picture in self.pictures),
            *((end_s, AudioChunk(samples)) for end_s, samples in zip(ends_s, blocks, strict=True)),
        ]
        once.sort(key=lambda item: item[0])
        start_s = 0.0
        while True:
            for due_s, item in once:
                if isinstance(item, Frame):
                    item = Frame(start_s + item.time_s, item.image)
                yield start_s + float(due_s), item
            start_s += self.length_s


def read_footage(path: Path, frame_rate: float, length_s: float = FOOTAGE_S) -> Footage:
    """Decode a clip's beginning.

    The footage is made as long as a whole number of pictures, so that they keep their rate when it
    is repeated; the sound is filled up with silence, or cut, to that length.

    Raises:
        MediaError: as `Clip`; or there is neither a picture nor sound in it.
    """
    pictures: list[Frame] = []
    pieces: list[np.ndarray] = []
    heard_s = 0.0
    with Clip(path, frame_rate) as clip:
        has_video, has_audio = clip.has_video, clip.has_audio
        for item in clip:
            if isinstance(item, Frame):
                pictures.append(item)
            else:
                pieces.append(item.samples)
                heard_s += len(item.samples) / SAMPLE_RATE
            seen_s = pictures[-1].time_s if pictures else 0.0
            if (seen_s >= length_s or not has_video) and (heard_s >= length_s or not has_audio):
                break
    if not pictures and not pieces:
        raise MediaError(f"{path}: nothing in this file could be decoded")
    pictures = [picture for picture in pictures if picture.time_s < length_s]
    seen = math.floor(pictures[-1].time_s * frame_rate) + 1 if pictures else 0
    heard = math.ceil(min(heard_s, length_s) * frame_rate - 1e-6)
    whole_s = max(seen, heard) / frame_rate
    sound = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    if len(sound):
        samples = round(whole_s * SAMPLE_RATE)
        sound = np.pad(sound[:samples], (0, max(0, samples - len(sound))))
    return Footage(tuple(pictures), sound, whole_s)


def push(session: Session, item: Frame | AudioChunk) -> None:
    """Give a session what a source gave."""
    if isinstance(item, Frame):
        session.push_frame(item.image, item.time_s)
    else:
        session.push_audio(item.samples)
