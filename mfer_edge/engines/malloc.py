"""What the C library does with memory that was freed."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # as glibc numbers what `mallopt` sets (malloc.h)
SMALLEST = 128 * 1024  # bytes; from this size on glibc gives a freed block back, at first
LARGEST = 32 * 1024 * 1024  # and in the end, once blocks of that size came and went
SPARING = 1024 * 1024  # from this size on with large networks, for good
MANY_WEIGHTS = 500_000_000  # bytes, from which on networks are large


@contextmanager
def memory_returned(weights_bytes: int) -> Iterator[None]:
    """Have freed memory given back to the system at once, for as long as networks load.

    glibc soon keeps freed blocks of up to 32 MB for later. While a network loads, these are its
    weights as they stood in the file, and the process would hold half of them twice from then on.
    Afterwards glibc has the limits to which it would have come by itself, because giving back what
    every picture needs anew takes up to twice the time of finding faces. Large networks take so
    long that this hardly shows, and leave no memory to waste: with them the limits stay low. Other
    C libraries are left alone.

    Args:
        weights_bytes: size of the networks.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        yield
        return
    set_option(MMAP_THRESHOLD, SMALLEST)
    set_option(TRIM_THRESHOLD, SMALLEST)
    try:
        yield
    finally:
        limit = LARGEST if weights_bytes < MANY_WEIGHTS else SPARING
        set_option(MMAP_THRESHOLD, limit)
        set_option(TRIM_THRESHOLD, 2 * limit)
