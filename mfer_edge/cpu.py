"""CPU cores, and how many threads to decode with."""

from __future__ import annotations

import os


def decoding_threads(threads: int) -> int:
    """Number of threads that decode a clip: one is left for the engines, which run meanwhile."""
    return max(1, threads - 1)


def usable_threads(threads: int) -> int:
    """Number of threads to compute with: as asked, at most one for each core; 0 takes all cores."""
    return min(threads or core_count(), core_count())


def core_count() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
