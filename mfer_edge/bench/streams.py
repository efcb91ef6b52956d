"""Number of live streams that a machine processes in real time."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from mfer_edge.live.backends import Backend
from mfer_edge.options import SessionOptions
from mfer_edge.sources.base import Frame
from mfer_edge.sources.replay import CHUNK_S, Replay

UPDATES = 10  # timed readings of each stream
MAX_TRIALS = 8
LOST_HOPS = 3.0  # hops behind the source at which a trial is aborted
LEAD_S = 0.2  # delay of the start, until all threads are ready
TOLERANCE = 0.1  # of the number found, relative: distance to the smallest number that failed


@dataclass(frozen=True)
class Trial:
    """Latency of a number of simultaneous streams."""

    streams: int
    updates: int  # timed readings of all streams
    p50_s: float | None  # from the time of the last sample of a window until its reading is ready
    p99_s: float | None  # None without a timed reading
    hop_s: float
    lost: bool  # aborted, `LOST_HOPS` behind

    @property
    def holds(self) -> bool:
        """Whether 99% of the readings were ready within a hop."""
        return not self.lost and self.p99_s is not None and self.p99_s <= self.hop_s


def try_streams(
    backend: Backend,
    options: SessionOptions,
    footage: Replay,
    streams: int,
    at_once: int | None = None,
    updates: int = UPDATES,
) -> Trial:
    """Feed sessions, each in a thread, in real time from decoded footage.

    A session that is not late embeds the faces of a frame at once, as `LiveSession` does. Starts
    are spread evenly over a hop, like those of independent cameras. The latency of a reading counts
    from the time at which a live source would deliver the last sample of its window, so it includes
    waiting for other streams. The readings of the first hop are not timed: they embed the faces of
    a whole window.

    Args:
        backend: where the sessions compute.
        options: of the sessions.
        at_once: sessions that compute at the same time, where they do so in this process: more
            threads than cores would take the interpreter's lock from each other. None: all.
        updates: timed readings of each stream.

    Raises:
        EngineError: an engine failed.
    """
    begin_s = options.window_s + 1.5 * options.hop_s  # the first reading is half a hop late
    end_s = begin_s + updates * options.hop_s
    origin_s = time.perf_counter() + LEAD_S
    lost, turns = threading.Event(), threading.Semaphore(at_once or streams)

    def stream(index: int) -> list[float]:
        session = backend.session(options, has_video=footage.has_video, has_audio=footage.has_audio)
        shift_s = origin_s + options.hop_s * index / streams
        latencies_s = []
        for due_s, item in footage.endless().timed():
            if due_s >= end_s or lost.is_set():
                break
            time.sleep(max(0.0, shift_s + due_s - time.perf_counter()))
            with turns:
                session.push(item)
                late_s = time.perf_counter() - shift_s - due_s
                if isinstance(item, Frame) and late_s < CHUNK_S:
                    session.prepare()
            if session.readings() and due_s >= begin_s:
                latencies_s.append(late_s)
            if late_s > LOST_HOPS * options.hop_s:
                lost.set()
        return latencies_s

    with ThreadPoolExecutor(streams) as pool:
        futures = [pool.submit(stream, index) for index in range(streams)]
        try:
            latencies_s = [late_s for future in futures for late_s in future.result()]
        finally:
            lost_early = lost.is_set()
            lost.set()  # after an error or an interrupt the other threads end too
    p50_s, p99_s = np.percentile(latencies_s, [50, 99]).tolist() if latencies_s else (None, None)
    return Trial(streams, len(latencies_s), p50_s, p99_s, options.hop_s, lost_early)


def most_streams(attempt: Callable[[int], Trial], start: int) -> list[Trial]:
    """Search for the largest number of streams that holds.

    Args:
        attempt: runs a trial with a number of streams.
        start: number of the first trial.

    Returns:
        All trials, in the order in which they were made.
    """
    trials: list[Trial] = []
    held, failed = 0, math.inf
    streams = max(1, start)
    while len(trials) < MAX_TRIALS and failed - held > max(1, TOLERANCE * held):
        trials.append(attempt(streams))
        if trials[-1].holds:
            held = streams
        else:
            failed = streams
        streams = math.ceil(1.5 * held) if failed == math.inf else int(held + failed) // 2
    return trials
