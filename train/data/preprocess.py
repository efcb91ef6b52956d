"""The runtime's preprocessing of training files: speech and face crops, cached."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from mfer_edge.bundle import Bundle, Crop
from mfer_edge.faces.crop import crop_face
from mfer_edge.faces.finder import FaceFinder
from mfer_edge.faces.mtcnn import FaceDetector
from mfer_edge.faces.tracker import FaceTracker
from mfer_edge.model import load_engines
from mfer_edge.sources.base import Frame
from mfer_edge.sources.clip import Clip
from mfer_edge.speech.vad import SAMPLE_RATE, SpeechProbability, collect_speech, speech_segments
from train.data.cache import Cache
from train.data.images import read_picture
from train.data.index import Entry

FRAME_RATE = 5.0  # frames a second, as in the paper
CROP_SCALE = 1.0
"""Of MTCNN's box, made square. It frames faces as FER-2013, on which both face backbones were
trained: over 275 of its images, placed in larger ones, the image's side was 0.96 (median) of the
box's longer side."""
MIN_SPEECH_S = 0.4  # with less, a bundle treats the voice as missing
VERSION = 2  # of the inputs: a change invalidates the cache


@dataclass(frozen=True)
class Inputs:
    """Model inputs of one file."""

    speech: np.ndarray  # (n,) float32, 16 kHz; empty with less than MIN_SPEECH_S of audio
    faces: np.ndarray  # (frames, size, size) uint8, one face over time; empty without video

    @property
    def speech_s(self) -> float:
        return len(self.speech) / SAMPLE_RATE


def read_face(entry: Entry, size: int) -> np.ndarray:
    """Read an image of one face: (size, size) uint8, grey.

    Raises:
        DatasetError: it can't be read.
    """
    image = read_picture(entry.path, entry.row)
    shrinks = max(image.shape) > size
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (size, size), interpolation=interpolation)


class Preprocessor:
    """Decodes, detects speech, detects and crops faces, as the runtime does.

    Args:
        size: pixels on a crop's side.
        scale: of the crop, by MTCNN's box: see the manifest.
        cache: of the inputs, by content.
    """

    def __init__(self, size: int, scale: float, cache: Cache) -> None:
        self._crop = Crop(size, scale)
        self._cache = cache
        bundle = Bundle.open()
        engines = load_engines(bundle)
        self._vad = engines["vad"]
        self._detector = FaceDetector(engines["pnet"], engines["rnet"], engines["onet"])
        specs = bundle.manifest.engines
        detectors = [specs[name].sha256 for name in ("vad", "pnet", "rnet", "onet")]
        self._settings = repr((VERSION, FRAME_RATE, self._crop, detectors))

    def key(self, entry: Entry) -> str:
        """Key of a file's inputs, from its content and all settings."""
        return hashlib.sha256(f"{entry.content} {entry.kind} {self._settings}".encode()).hexdigest()

    def __call__(self, entry: Entry) -> Inputs:
        """Give a file's inputs, from the cache or newly computed.

        With less than MIN_SPEECH_S of detected speech all of the recording counts as speech; a
        recording shorter than that has none.

        Raises:
            MediaError, DatasetError: it can't be read.
        """
        if entry.kind == "image":  # a face already: no cache is faster
            return Inputs(np.zeros(0, np.float32), read_face(entry, self._crop.size)[None])
        arrays = self._cache.get(self.key(entry), lambda: self._make(entry))
        return Inputs(arrays["speech"].astype(np.float32) / 32767, arrays["faces"])

    def _make(self, entry: Entry) -> dict[str, Any]:
        chunks: list[np.ndarray] = []
        faces: list[tuple[int, float, np.ndarray]] = []  # track, area, crop
        finder, tracker = FaceFinder(self._detector), FaceTracker()
        with Clip(entry.path, FRAME_RATE if entry.has_pictures else None) as clip:
            for item in clip:
                if not isinstance(item, Frame):
                    chunks.append(item.samples)
                elif entry.has_pictures:
                    boxes = finder(item.image, item.time_s)
                    for track, box in zip(tracker.update(item.time_s, boxes), boxes, strict=True):
                        faces.append((track, box.area, crop_face(item.image, box, self._crop)))
        kept = chunks if entry.has_sound else []
        speech = self._speech(np.concatenate([np.zeros(0, np.float32), *kept]))
        return {
            "speech": np.round(speech.clip(-1, 1) * 32767).astype(np.int16),
            "faces": self._main_face(faces),
        }

    def _speech(self, samples: np.ndarray) -> np.ndarray:
        segments = speech_segments(SpeechProbability(self._vad)(samples), len(samples))
        for speech in (collect_speech(samples, segments), samples):
            if len(speech) >= MIN_SPEECH_S * SAMPLE_RATE:
                return speech
        return samples[:0]

    def _main_face(self, faces: Sequence[tuple[int, float, np.ndarray]]) -> np.ndarray:
        """Crops of the track with the largest area over time, as in a reading."""
        areas: dict[int, float] = {}
        for track, area, _ in faces:
            areas[track] = areas.get(track, 0.0) + area
        main = max(areas, key=lambda track: areas[track], default=None)
        crops = [crop for track, _, crop in faces if track == main]
        return np.stack(crops) if crops else np.zeros((0,) + 2 * (self._crop.size,), np.uint8)
