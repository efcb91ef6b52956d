"""Face networks that tell how they were called."""

from __future__ import annotations

import threading

import numpy as np

from mfer_edge.engines.base import Engine


class CountingEngine:
    """A face network that notes its calls.

    Attributes:
        calls: faces of each call.
        threads: name of the thread that made it, without a number.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.calls: list[int] = []
        self.threads: list[str] = []

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        self.calls.append(len(arrays["faces"]))
        self.threads.append(threading.current_thread().name.split("_")[0])
        return self._engine(**arrays)

    @property
    def crops(self) -> int:
        """Faces of all calls."""
        return sum(self.calls)
