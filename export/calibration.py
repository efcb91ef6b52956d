"""What a bundle's networks are given when it reads real clips: what their int8 scales rest on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from mfer_edge.bundle import Bundle
from mfer_edge.engines.base import Engine
from mfer_edge.manifest import ENGINES
from mfer_edge.model import load_engines
from mfer_edge.pipeline import Pipeline

Call = dict[str, np.ndarray]  # a network's inputs, by name


class Recorder:
    """Runs a network and remembers what it was given."""

    def __init__(self, network: Engine) -> None:
        self._network = network
        self.calls: list[Call] = []

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Run the network."""
        self.calls.append(arrays)
        return self._network(**arrays)


def record_calls(
    bundle: Bundle, clips: Sequence[Path], names: Iterable[str] = ENGINES
) -> dict[str, list[Call]]:
    """Read clips with a bundle; give every call of these networks, in order."""
    networks = load_engines(bundle)
    recorders = {name: Recorder(networks[name]) for name in names}
    pipeline = Pipeline(bundle, {**networks, **recorders})
    for clip in clips:
        pipeline.analyze(clip)
    return {name: recorder.calls for name, recorder in recorders.items()}
