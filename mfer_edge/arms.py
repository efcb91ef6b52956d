"""The audio arm: what a stretch of speech shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mfer_edge.engines.base import Engine


@dataclass(frozen=True)
class ArmOutput:
    """What one arm makes of a window."""

    scores: np.ndarray  # (labels,) float32, a probability each
    embedding: np.ndarray  # (1, width) float32, what fusion takes


class AudioArm:
    """Speech in, scores out."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self, speech: np.ndarray) -> ArmOutput:
        """Score (n,) float32 samples of speech, 16 kHz."""
        result = self._engine(wave=speech[None])
        return ArmOutput(result["scores"][0], result["embedding"])


class Fusion:
    """What face and voice show together."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def __call__(self, visual: ArmOutput | None, audio: ArmOutput | None) -> np.ndarray | None:
        """Give (labels,) scores of the arms that are there; None where neither is."""
        if visual is not None and audio is not None:
            return self._engine(visual=visual.embedding, audio=audio.embedding)["scores"][0]
        only = visual if visual is not None else audio
        return None if only is None else only.scores


FACES_AT_ONCE = 5  # in one call on a CPU: no slower than a window's 20, for a quarter of the memory


class VisualArm:
    """Faces in, scores out.

    Args:
        face: embeds faces.
        sequence: scores one face over time.
        at_once: how many faces to embed in one call; by default all of a window's.
    """

    def __init__(self, face: Engine, sequence: Engine, at_once: int | None = None) -> None:
        self._face = face
        self._sequence = sequence
        self._at_once = at_once

    def embed(self, faces: np.ndarray) -> np.ndarray:
        """Embed (n, size, size) uint8 faces, n > 0, each on its own: (n, width) float32."""
        step = self._at_once or len(faces)
        calls = [faces[start : start + step, None] for start in range(0, len(faces), step)]
        return np.concatenate([self._face(faces=call)["embedding"] for call in calls])

    def __call__(self, embeddings: np.ndarray) -> ArmOutput:
        """Score one face over time, (frames, width) float32 in order."""
        result = self._sequence(embeddings=embeddings[None])
        return ArmOutput(result["scores"][0], result["embedding"])
