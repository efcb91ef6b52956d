"""Threads that a test starts. Those of other tests come and go, and are not counted."""

from __future__ import annotations

import threading
from collections.abc import Callable


def started() -> Callable[[], list[str]]:
    """From now on; the function that is returned gives the names of those that run."""
    before = set(threading.enumerate())
    return lambda: [thread.name for thread in threading.enumerate() if thread not in before]
