"""The audio arm, the visual arm, and their fusion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mfer_edge.engines.base import Engine
from mfer_edge.errors import EngineError

MAX_SUM_ERROR = 0.01  # of probabilities: half precision rounds them
FACES_AT_ONCE = {"cpu": 5, "cuda": 16}
"""Faces in one call, at most: on a CPU 5 are no slower than a window's 20, for a quarter of the
memory; with CUDA 16 limit the sizes of padded calls to five."""


@dataclass(frozen=True)
class ArmOutput:
    """Output of one arm for one window."""

    scores: np.ndarray  # (labels,) float32, probabilities
    embedding: np.ndarray  # (1, width) float32, the input of fusion


@dataclass(frozen=True, eq=False)
class Place:
    """Mean and deviation of an arm's standardised observations in a place, or of a person."""

    shift: np.ndarray  # (width,) float32
    scale: np.ndarray  # (width,) float32, over 0

    @classmethod
    def training_set(cls, width: int) -> Place:
        """The place that changes nothing: zeros and ones."""
        return cls(np.zeros(width, np.float32), np.ones(width, np.float32))


@dataclass(frozen=True, eq=False)
class AudioArm:
    """Speech to scores.

    Args:
        engine: the bundle's `audio`.
        place: statistics that the engine standardises by; None if it has no input for them.
        observer: called with every window's observations, (n, width) float32, standardised by the
            training set: `place` does not change them.
    """

    engine: Engine
    place: Place | None = None
    observer: Callable[[np.ndarray], None] | None = None

    def __call__(self, speech: np.ndarray) -> ArmOutput:
        """Score (n,) float32 samples of speech, 16 kHz."""
        result = _scored(self.engine, self.place, self.observer, wave=speech[None])
        return ArmOutput(_probabilities(result, "audio"), result["embedding"])


@dataclass(frozen=True, eq=False)
class VisualArm:
    """Crops of one face over time to scores.

    Args:
        face: the bundle's `face`, which embeds single crops.
        sequence: the bundle's `visual`, which scores a sequence of embeddings.
        at_once: crops to embed in one call; by default all of a window's.
        padded: repeat the last crop until a call has 1, 2, 4, 8... of them: for devices that search
            for the fastest algorithms at every new shape, which takes many times a call.
        place: statistics that `sequence` standardises by; None if it has no input for them.
        observer: called with the observations of every sequence, as `AudioArm`'s.
    """

    face: Engine
    sequence: Engine
    at_once: int | None = None
    place: Place | None = None
    observer: Callable[[np.ndarray], None] | None = None
    padded: bool = False

    def embed(self, faces: np.ndarray) -> np.ndarray:
        """Embed (n, size, size) uint8 crops, n > 0, each by itself: (n, width) float32."""
        step = self.at_once or len(faces)
        parts = [faces[start : start + step] for start in range(0, len(faces), step)]
        return np.concatenate([self._embed_at_once(part) for part in parts])

    def _embed_at_once(self, faces: np.ndarray) -> np.ndarray:
        count = len(faces)
        if self.padded:
            more = (1 << (count - 1).bit_length()) - count
            faces = np.concatenate([faces, np.repeat(faces[-1:], more, axis=0)])
        return self.face(faces=faces[:, None])["embedding"][:count]

    def __call__(self, embeddings: np.ndarray) -> ArmOutput:
        """Score one face over time: (frames, width) float32 embeddings, in order of time."""
        result = _scored(self.sequence, self.place, self.observer, embeddings=embeddings[None])
        return ArmOutput(_probabilities(result, "visual"), result["embedding"])


class Fusion:
    """Both arms' outputs to the scores of a window.

    Args:
        engine: the bundle's `fusion`.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self, visual: ArmOutput | None, audio: ArmOutput | None) -> np.ndarray | None:
        """Fuse two outputs, or take the scores of the only one: (labels,); None without any."""
        if visual is not None and audio is not None:
            result = self._engine(visual=visual.embedding, audio=audio.embedding)
            return _probabilities(result, "fusion")
        only = visual if visual is not None else audio
        return None if only is None else only.scores


def _scored(
    engine: Engine,
    place: Place | None,
    observer: Callable[[np.ndarray], None] | None,
    **arrays: np.ndarray,
) -> dict[str, np.ndarray]:
    """An arm's result for one window, in a place if its engine has an input for one."""
    if place is None:
        return engine(**arrays)
    result = engine(**arrays, shift=place.shift, scale=place.scale)
    if observer is not None:
        observer(result["observations"][0])
    return result


def _probabilities(result: dict[str, np.ndarray], engine: str) -> np.ndarray:
    """The scores in a result, of its only window.

    Raises:
        EngineError: they are no probabilities.
    """
    scores = result["scores"][0]
    # NaN compares as false.
    if not (abs(float(scores.sum()) - 1) <= MAX_SUM_ERROR and float(scores.min()) >= 0):
        raise EngineError(f"the engine {engine} gave scores that are no probabilities: {scores}")
    return scores
