"""Backends: what runs a model's engines, and parts of the benchmark that may fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from export.parity import Call
from mfer_edge.manifest import MODEL_ENGINES

LEFT_OUT = "left out as asked"


class Runner(Protocol):
    """An engine on one backend."""

    note: str  # for the table

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Run it as the runtime does, from arrays in the host's memory to arrays there."""
        ...

    def bind(self, call: Call) -> Callable[[], object]:
        """Copy a call's arrays to the device.

        Returns:
            Runs the engine on them, leaves the results there, and waits until it is done.

        Raises:
            Exception: of any type: this backend can't run without copies.
        """
        ...


@dataclass(frozen=True)
class Backend:
    """A library and a device that run engines in one precision."""

    name: str
    precision: str
    open: Callable[[str], Runner]  # by the engine's name
    engines: tuple[str, ...] = MODEL_ENGINES  # that it can run

    def __str__(self) -> str:
        return f"{self.name} {self.precision}"


@contextmanager
def attempt(part: str, not_run: dict[str, str]) -> Iterator[None]:
    """Record why a part failed, and continue with the rest."""
    try:
        yield
    except Exception as error:  # drivers, compilers and runtimes share no narrower base
        not_run.setdefault(part, first_line(error))


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its type where that is empty."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
