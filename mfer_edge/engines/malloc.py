"""Memory allocator settings: when glibc returns freed memory to the system."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of `mallopt`, as numbered in malloc.h
LOADING_LIMIT = 128 * 1024  # bytes; freed blocks of this size are returned: glibc's initial limit
DEFAULT_LIMIT = 32 * 1024 * 1024  # bytes; the limit up to which glibc raises itself
LARGE_MODEL_LIMIT = 1024 * 1024  # bytes; the limit kept beside large engines
LARGE_MODEL = 500_000_000  # bytes of weights


@contextmanager
def memory_returned(weights_bytes: int) -> Iterator[None]:
    """Return freed memory to the system at once while engines load.

    By default glibc soon keeps freed blocks of up to 32 MB for reuse. While an engine loads, these
    are its weights as read from the file, and the process would hold about half of them twice from
    then on. After loading, the limits are those that glibc reaches by itself, because returning
    and allocating again the buffers of every frame takes face detection up to twice as long. With
    large engines that share is negligible and memory is short, so the limits stay low. Other C
    libraries are not affected.

    Args:
        weights_bytes: size of all engine files.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:
        yield
        return
    set_option(MMAP_THRESHOLD, LOADING_LIMIT)
    set_option(TRIM_THRESHOLD, LOADING_LIMIT)
    try:
        yield
    finally:
        limit = DEFAULT_LIMIT if weights_bytes < LARGE_MODEL else LARGE_MODEL_LIMIT
        set_option(MMAP_THRESHOLD, limit)
        set_option(TRIM_THRESHOLD, 2 * limit)
