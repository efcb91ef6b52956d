"""Both arms together, or whichever is there."""

from __future__ import annotations

import numpy as np

from mfer_edge.audio import ArmOutput
from mfer_edge.engine import Network


class Fusion:
    """What face and voice show together."""

    def __init__(self, engine: Network) -> None:
        self._engine = engine

    def __call__(self, visual: ArmOutput | None, audio: ArmOutput | None) -> np.ndarray | None:
        """Give (labels,) scores of the arms that are there; None where neither is."""
        if visual is not None and audio is not None:
            return self._engine(visual=visual.embedding, audio=audio.embedding)["scores"][0]
        only = visual if visual is not None else audio
        return None if only is None else only.scores
