"""The audio arm, the visual arm, and their fusion."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mfer_edge.engines.base import Engine

FACES_AT_ONCE = 5  # in one call on a CPU: no slower than a window's 20, for a quarter of the memory


@dataclass(frozen=True)
class ArmOutput:
    """Output of one arm for one window."""

    scores: np.ndarray  # (labels,) float32, probabilities
    embedding: np.ndarray  # (1, width) float32, the input of fusion


class AudioArm:
    """Speech to scores.

    Args:
        engine: the bundle's `audio`.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self, speech: np.ndarray) -> ArmOutput:
        """Score (n,) float32 samples of speech, 16 kHz."""
        result = self._engine(wave=speech[None])
        return ArmOutput(result["scores"][0], result["embedding"])


class VisualArm:
    """Crops of one face over time to scores.

    Args:
        face: the bundle's `face`, which embeds single crops.
        sequence: the bundle's `visual`, which scores a sequence of embeddings.
        at_once: crops to embed in one call; by default all of a window's.
    """

    def __init__(self, face: Engine, sequence: Engine, at_once: int | None = None) -> None:
        self._face = face
        self._sequence = sequence
        self._at_once = at_once

    def embed(self, faces: np.ndarray) -> np.ndarray:
        """Embed (n, size, size) uint8 crops, n > 0, each by itself: (n, width) float32."""
        step = self._at_once or len(faces)
        calls = [faces[start : start + step, None] for start in range(0, len(faces), step)]
        return np.concatenate([self._face(faces=call)["embedding"] for call in calls])

    def __call__(self, embeddings: np.ndarray) -> ArmOutput:
        """Score one face over time: (frames, width) float32 embeddings, in order of time."""
        result = self._sequence(embeddings=embeddings[None])
        return ArmOutput(result["scores"][0], result["embedding"])


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
            return self._engine(visual=visual.embedding, audio=audio.embedding)["scores"][0]
        only = visual if visual is not None else audio
        return None if only is None else only.scores
