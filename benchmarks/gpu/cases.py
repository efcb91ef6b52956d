"""Cases: the engine calls to compare backends on, filled with faces and speech of real clips."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from export.parity import Call
from mfer_edge.errors import MferError
from mfer_edge.manifest import MODEL_ENGINES, Manifest
from mfer_edge.speech.vad import SAMPLE_RATE


@dataclass(frozen=True)
class Case:
    """Engine calls that every backend is timed on."""

    name: str
    batch: str
    calls: Mapping[str, Call]  # by engine, one after the other


@dataclass(frozen=True)
class WindowInputs:
    """Engine inputs of one full window."""

    faces: np.ndarray  # (n, 1, size, size) uint8
    audio: Call  # `wave` is (1, samples) float32: speech without pauses
    sequence: Call  # `embeddings` is (1, n, width) float32, of those faces
    states: Call  # of both arms, the inputs of fusion
    fresh: int  # of the faces, those that are new to a window

    @classmethod
    def of(cls, recorded: Mapping[str, Sequence[Call]], manifest: Manifest) -> WindowInputs:
        """Fill a window with recorded faces and speech, repeated as often as it takes.

        Args:
            recorded: the calls of a bundle's engines.

        Raises:
            MferError: the clips hold no face or no speech.
        """
        for name in MODEL_ENGINES:
            if not recorded[name]:
                raise MferError(
                    f"the clips led to no call of the engine {name}: name one with --clip that "
                    "shows a face and holds speech"
                )
        frames = round(manifest.window_s * manifest.frame_rate)
        faces = np.concatenate([call["faces"] for call in recorded["face"]])
        embeddings = recorded["visual"][0]["embeddings"][0]
        wave = np.concatenate([call["wave"][0] for call in recorded["audio"]])
        return cls(
            np.resize(faces, (frames, *faces.shape[1:])),
            {
                **recorded["audio"][0],
                "wave": np.resize(wave, (1, round(manifest.window_s * SAMPLE_RATE))),
            },
            {
                **recorded["visual"][0],
                "embeddings": np.resize(embeddings, (1, frames, embeddings.shape[1])),
            },
            recorded["fusion"][0],
            round(manifest.hop_s * manifest.frame_rate),
        )

    def cases(self) -> list[Case]:
        """List the cases."""
        frames, seconds = len(self.faces), self.audio["wave"].shape[1] / SAMPLE_RATE
        small = {"visual": self.sequence, "fusion": self.states}
        return [
            Case("face", "1 face", {"face": {"faces": self.faces[:1]}}),
            Case("face", f"{frames} faces", {"face": {"faces": self.faces}}),
            Case("audio", f"{seconds:g} s", {"audio": self.audio}),
            Case("visual + fusion", f"{frames} faces", small),
        ]
