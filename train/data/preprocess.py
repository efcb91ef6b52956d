"""What the runtime's own preprocessing makes of training files: speech and face crops, cached."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from mfer_edge.faces.stream import FaceStream, FrameFaces, faces_by_track, main_track
from mfer_edge.manifest import Crop
from mfer_edge.model import Model
from mfer_edge.sources.base import Frame
from mfer_edge.sources.clip import Clip
from mfer_edge.speech.buffer import SpeechBuffer
from mfer_edge.speech.vad import SAMPLE_RATE
from train.data.cache import Cache
from train.data.images import read_picture
from train.data.index import Entry

FRAME_RATE = 5.0  # pictures a second, as in the paper
CROP_SCALE = 1.0
"""MTCNN's box, made square, frames a face as FER-2013 does, from which both face backbones learned:
over 275 of its pictures, put into larger ones, the picture's side was 0.96 (median) of the box's
longer side."""
MIN_SPEECH_S = 0.4  # with less, a bundle counts the voice as missing
VERSION = 2  # of what is made here: a change makes all that was cached anew


@dataclass(frozen=True)
class Inputs:
    """What one file gives a model to see and hear."""

    speech: np.ndarray  # (n,) float32, 16 kHz; empty without MIN_SPEECH_S of sound
    faces: np.ndarray  # (frames, size, size) uint8, one face over time; empty without pictures

    @property
    def speech_s(self) -> float:
        return len(self.speech) / SAMPLE_RATE


def read_face(entry: Entry, size: int) -> np.ndarray:
    """Read a picture that shows one face and little else: (size, size) uint8, grey.

    Raises:
        DatasetError: it can't be read.
    """
    picture = read_picture(entry.path, entry.row)
    shrinks = max(picture.shape) > size
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(picture, (size, size), interpolation=interpolation)


class Preprocessor:
    """Decodes, finds speech, finds and crops faces, as the runtime does on the device.

    Args:
        size: pixels on a crop's side.
        scale: of MTCNN's box that a crop shows: see the manifest.
        cache: where results are kept, by content.
    """

    def __init__(self, size: int, scale: float, cache: Cache) -> None:
        self._crop = Crop(size, scale)
        self._cache = cache
        self._model = Model.load(device="cpu", threads=1)
        engines = self._model.manifest.engines
        finders = [engines[name].sha256 for name in ("pnet", "rnet", "onet")]
        self._sound = repr((VERSION, engines["vad"].sha256))
        self._pictures = repr((VERSION, FRAME_RATE, self._crop, finders))

    def key(self, entry: Entry) -> str:
        """Name a file's inputs by its content and the settings that they depend on."""
        settings = self._sound * entry.has_sound + self._pictures * (entry.kind != "audio")
        return hashlib.sha256(f"{entry.content} {entry.kind} {settings}".encode()).hexdigest()

    def __call__(self, entry: Entry) -> Inputs:
        """Give a file's inputs, from the cache if they are there.

        A recording in which less than MIN_SPEECH_S of speech is found is used whole; one that is
        itself shorter has none.

        Raises:
            MediaError, DatasetError: it can't be read.
        """
        if entry.kind == "image":  # a face already, read as fast as from any cache
            return Inputs(np.zeros(0, np.float32), read_face(entry, self._crop.size)[None])
        arrays = self._cache.get(self.key(entry), lambda: self._make(entry))
        return Inputs(arrays["speech"].astype(np.float32) / 32767, arrays["faces"])

    def _make(self, entry: Entry) -> dict[str, Any]:
        faces = FaceStream(self._model.detector, self._crop)
        audio = SpeechBuffer(self._model.vad)
        frames: list[FrameFaces] = []
        with Clip(entry.path, FRAME_RATE if entry.has_pictures else None) as clip:
            for item in clip:
                if isinstance(item, Frame):
                    frames.append(faces.push(item))
                elif entry.has_sound:
                    audio.push(item.samples)
        speech = _speech(audio)
        return {
            "speech": np.round(speech.clip(-1, 1) * 32767).astype(np.int16),
            "faces": self._main_face(frames),
        }

    def _main_face(self, frames: Sequence[FrameFaces]) -> np.ndarray:
        """Crops of the main face, chosen as in a reading of the whole clip."""
        by_track = faces_by_track(frames)
        main = main_track(by_track)
        if main is None:
            return np.zeros((0, self._crop.size, self._crop.size), np.uint8)
        return np.stack([face.cached.crop for face in by_track[main]])


def _speech(audio: SpeechBuffer) -> np.ndarray:
    """Speech of a whole recording, or all of it, whichever first is MIN_SPEECH_S long."""
    speech = audio.speech(0, audio.end, last=True)
    for samples in (speech, audio.samples(0, audio.end)):
        if len(samples) >= MIN_SPEECH_S * SAMPLE_RATE:
            return samples
    return speech[:0]
