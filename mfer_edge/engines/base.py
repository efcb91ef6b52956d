"""Engines: exported networks called with named arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class TensorSpec:
    """Name, type and shape of an engine's input or output."""

    name: str
    dtype: str  # NumPy's name
    shape: tuple[int | str, ...]  # a string names a dynamic dimension, "?" one without a name

    def with_size(self, size: int) -> tuple[int, ...]:
        """The shape with this size of its dynamic dimensions."""
        return tuple(size if isinstance(n, str) else n for n in self.shape)


class Engine(Protocol):
    """A callable from named arrays to named arrays; `OnnxEngine` is one."""

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Run on named arrays and return every output by name."""
        ...
