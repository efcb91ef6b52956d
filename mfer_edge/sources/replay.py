"""Footage held decoded in memory, with the times at which a live source would have it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mfer_edge.errors import MediaError
from mfer_edge.sources.base import AudioChunk, Frame, missing_tracks
from mfer_edge.sources.clip import MAX_CLIP_LAG_S, Clip
from mfer_edge.speech.vad import SAMPLE_RATE

FOOTAGE_S = 8.0  # of a clip that are held by default, its frames uncompressed
CHUNK_S = 0.1  # of audio that comes at a time
REPLAY_LAG_S = MAX_CLIP_LAG_S  # so that readings are the same


@dataclass(frozen=True, eq=False)
class Replay:
    """Decoded footage: a `Source` that may be read many times, also by several threads at once.

    Example:
        >>> replay = Replay.read("clip.mp4", frame_rate=5.0)
        >>> readings = list(pipeline.stream(replay))
        >>> for due_s, item in replay.endless().timed():  # never ends
        ...     session.push(item)
    """

    name: str
    frames: tuple[Frame, ...]
    audio: np.ndarray  # (samples,) float32, 16 kHz; empty without an audio track
    length_s: float
    frame_rate: float
    repeats: bool = False  # whether it starts again at its end, forever
    max_lag_s: float = REPLAY_LAG_S

    @classmethod
    def read(cls, path: Path | str, frame_rate: float, length_s: float = FOOTAGE_S) -> Replay:
        """Decode the beginning of a clip.

        Args:
            frame_rate: frames per second to take.
            length_s: of the clip that are held, at most.

        Raises:
            MediaError: as `Clip`; or there is neither video nor audio in it.
        """
        frames: list[Frame] = []
        chunks: list[np.ndarray] = []
        audio_s = 0.0
        with Clip(path, frame_rate) as clip:
            for item in clip:
                if isinstance(item, Frame):
                    frames.append(item)
                else:
                    chunks.append(item.samples)
                    audio_s += len(item.samples) / SAMPLE_RATE
                video_s = frames[-1].time_s if frames else 0.0
                if (video_s >= length_s or not clip.has_video) and (
                    audio_s >= length_s or not clip.has_audio
                ):
                    held_s = length_s
                    break
            else:
                held_s = min(length_s, clip.duration_s)
        if not frames and not chunks:
            raise MediaError(f"{path}: nothing in this file could be decoded")
        audio = np.concatenate(chunks) if chunks else np.zeros(0, np.float32)
        return cls(
            name=clip.name,
            frames=tuple(frame for frame in frames if frame.time_s < length_s),
            audio=audio[: round(length_s * SAMPLE_RATE)],
            length_s=held_s,
            frame_rate=frame_rate,
        )

    def endless(self) -> Replay:
        """The same, repeated forever.

        Each round is as long as a whole number of frames, so that they keep their rate; audio is
        padded with silence, or cut, to that length.
        """
        video = 0
        if self.frames:
            last = self.frames[-1]
            held_s = min(last.until_s or 0.0, self.length_s)
            video = math.floor(max(last.time_s * self.frame_rate + 1, held_s * self.frame_rate))
        audio = math.ceil(len(self.audio) / SAMPLE_RATE * self.frame_rate - 1e-6)
        round_s = max(video, audio) / self.frame_rate
        samples = round(round_s * SAMPLE_RATE) if self.has_audio else 0
        padded = np.zeros(samples, np.float32)
        padded[: len(self.audio)] = self.audio[:samples]
        return replace(self, audio=padded, length_s=round_s, repeats=True)

    @property
    def has_video(self) -> bool:
        """Whether there are frames."""
        return bool(self.frames)

    @property
    def has_audio(self) -> bool:
        """Whether there is audio."""
        return bool(len(self.audio))

    @property
    def duration_s(self) -> float | None:
        """Length; None if it never ends."""
        return None if self.repeats else self.length_s

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, *exception: object) -> None:
        """Do nothing: memory is all that a replay holds."""

    def __iter__(self) -> Iterator[Frame | AudioChunk]:
        return (item for _, item in self.timed())

    def timed(self) -> Iterator[tuple[float, Frame | AudioChunk]]:
        """Yield each item with the time in seconds at which a live source would have it.

        That is a frame's own time, and for a chunk the time of its last sample.
        """
        size = round(CHUNK_S * SAMPLE_RATE)
        items: list[tuple[float, Frame | AudioChunk]] = [(f.time_s, f) for f in self.frames]
        for start in range(0, len(self.audio), size):
            chunk = AudioChunk(self.audio[start : start + size])
            items.append(((start + len(chunk.samples)) / SAMPLE_RATE, chunk))
        items.sort(key=lambda item: item[0])
        start_s = 0.0
        while True:
            for due_s, item in items:
                if isinstance(item, Frame) and self.repeats:
                    item = Frame(start_s + item.time_s, item.image)
                yield start_s + due_s, item
            if not self.repeats:
                return
            start_s += self.length_s

    def warnings(self) -> tuple[str, ...]:
        """Tracks that are missing."""
        return tuple(missing_tracks(self))
