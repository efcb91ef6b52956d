"""Recorded inputs of a bundle's engines on real clips, for calibration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from export.measure import read_clips
from mfer_edge.bundle import Bundle
from mfer_edge.engines.base import Engine
from mfer_edge.engines.load import load_engines
from mfer_edge.manifest import ENGINES
from mfer_edge.model import Model

Call = dict[str, np.ndarray]  # an engine's inputs, by name


class Recorder:
    """An engine that records the inputs of every call."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.calls: list[Call] = []

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Record the inputs and run the engine."""
        self.calls.append(arrays)
        return self._engine(**arrays)


def record_calls(
    bundle: Bundle, clips: Sequence[Path], names: Iterable[str] = ENGINES
) -> dict[str, list[Call]]:
    """Analyze clips with a bundle and return the calls of the named engines, in order.

    Those of the arms' engines include calls that are adapted to a place.
    """
    engines = load_engines(bundle)
    recorders = {name: Recorder(engines[name]) for name in names}
    read_clips(Model.of(bundle, {**engines, **recorders}), clips)
    return {name: recorder.calls for name, recorder in recorders.items()}
