"""The whole chain for a clip: a bundle's networks, and a session fed from a file."""

from __future__ import annotations

import os


def decoding_threads(threads: int) -> int:
    """How many of them decode a clip: one is left to what becomes of the pictures meanwhile."""
    return max(1, threads - 1)


def core_count() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
