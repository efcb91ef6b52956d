"""Engines that take a given time."""

from __future__ import annotations

import time

import numpy as np

from mfer_edge.engines.base import Engine
from mfer_edge.engines.load import load_engines
from mfer_edge.model import Model
from mfer_edge.pipeline import Pipeline


class Slow:
    """Engine that sleeps before each call."""

    def __init__(self, engine: Engine, seconds: float) -> None:
        self._engine, self._seconds = engine, seconds

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        time.sleep(self._seconds)
        return self._engine(**arrays)


def slowed(pipeline: Pipeline, **seconds: float) -> Pipeline:
    engines = dict(load_engines(pipeline.bundle))
    for name, taken_s in seconds.items():
        engines[name] = Slow(engines[name], taken_s)
    return Pipeline(Model.of(pipeline.bundle, engines))
