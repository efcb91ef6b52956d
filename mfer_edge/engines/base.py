"""Engines: exported networks that take and give named arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class TensorSpec:
    """What an engine expects at an input, or gives at an output."""

    name: str
    dtype: str  # numpy's name
    shape: tuple[int | str, ...]  # a string names a dimension that may vary, "?" one without a name


class Engine(Protocol):
    """Anything that takes named arrays and gives named arrays; an `OnnxEngine` is one."""

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Run on named arrays; give every output by name."""
        ...
