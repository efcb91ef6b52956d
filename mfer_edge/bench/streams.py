"""How many live streams one machine holds in real time."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from mfer_edge.pipeline import Pipeline
from mfer_edge.sources.replay import Replay

UPDATES = 10  # readings of each stream that count
TRIALS = 8  # numbers of streams to try, at most
LOST_HOPS = 3.0  # hops behind the source: the machine does not keep up
LEAD_S = 0.2  # for all threads to be ready
CLOSE = 0.1  # of the number found: how near the least number that failed must be


@dataclass(frozen=True)
class Trial:
    """Several streams at once, for some seconds."""

    streams: int
    updates: int  # readings that came, of all streams
    p50_s: float | None  # from when the last sample a reading needs is there to the reading
    p99_s: float | None  # None: no reading came in time
    hop_s: float
    lost: bool  # given up, hopelessly behind

    @property
    def holds(self) -> bool:
        """Whether nearly every reading was there before the next was due."""
        return not self.lost and self.p99_s is not None and self.p99_s <= self.hop_s


def try_streams(pipeline: Pipeline, footage: Replay, streams: int, updates: int = UPDATES) -> Trial:
    """Feed as many sessions, a thread each, in real time from decoded footage.

    Streams are spread evenly over a hop, as cameras that were started independently are. A
    reading's latency counts from when a live source would have had the sample that completes it,
    so it holds all waiting for other streams. The readings of each stream's first hop, for which
    a whole window must be caught up with, do not count.

    Args:
        updates: readings of each stream that count.

    Raises:
        EngineError: a network gave up.
    """
    windows = pipeline.options()
    begin_s = windows.window_s + 1.5 * windows.hop_s  # the first reading is there half a hop late
    end_s = begin_s + updates * windows.hop_s
    origin_s = time.perf_counter() + LEAD_S
    lost = threading.Event()

    def stream(index: int) -> list[float]:
        session = pipeline.session(
            windows, has_video=footage.has_video, has_audio=footage.has_audio
        )
        shift_s = origin_s + windows.hop_s * index / streams
        latencies_s = []
        for due_s, item in footage.endless().timed():
            if due_s >= end_s or lost.is_set():
                break
            time.sleep(max(0.0, shift_s + due_s - time.perf_counter()))
            session.push(item)
            late_s = time.perf_counter() - shift_s - due_s
            if session.readings() and due_s >= begin_s:
                latencies_s.append(late_s)
            if late_s > LOST_HOPS * windows.hop_s:
                lost.set()
        return latencies_s

    with ThreadPoolExecutor(streams) as pool:
        futures = [pool.submit(stream, index) for index in range(streams)]
        try:
            latencies_s = [late_s for future in futures for late_s in future.result()]
        finally:
            lost_early = lost.is_set()
            lost.set()  # an error in one, or an interrupt, ends all
    p50_s, p99_s = np.percentile(latencies_s, [50, 99]).tolist() if latencies_s else (None, None)
    return Trial(streams, len(latencies_s), p50_s, p99_s, windows.hop_s, lost_early)


def most_streams(attempt: Callable[[int], Trial], start: int) -> list[Trial]:
    """Look for the largest number of streams that holds.

    Args:
        attempt: tries a number of streams.
        start: where to look first.

    Returns:
        The trials, in the order in which they were made.
    """
    trials: list[Trial] = []
    held, failed = 0, math.inf
    streams = max(1, start)
    while len(trials) < TRIALS and failed - held > max(1, CLOSE * held):
        trials.append(attempt(streams))
        if trials[-1].holds:
            held = streams
        else:
            failed = streams
        streams = math.ceil(1.5 * held) if failed == math.inf else int(held + failed) // 2
    return trials
