"""What repeated timings of one piece of work say, and whether two of them differ."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

NOISE = 0.05  # of a time: differences below it are never called differences
LEAST_RUNS = 5  # that a difference can be read from
WARM_UP = 2  # calls before those that count: caches, clocks, memory that is asked for once
CONFIDENCE = 0.99  # of intervals; a comparison looks at a dozen at once
RESAMPLES = 2000


@dataclass(frozen=True)
class LatencyStats:
    """Seconds that one piece of work took, run after run."""

    p50_s: float
    p90_s: float
    p95_s: float
    p99_s: float
    mean_s: float
    steadiness: float | None
    """How far the medians of the first and the second half of the runs are apart, as a share of the
    larger; None of too few runs."""
    runs_s: tuple[float, ...]

    @classmethod
    def of(cls, runs_s: Sequence[float]) -> LatencyStats:
        """Sum up runs, in the order in which they were made.

        Percentiles lie between two runs where they fall between two: p99 of fewer than 100 runs is
        little more than the slowest.
        """
        p50, p90, p95, p99 = np.percentile(runs_s, [50, 90, 95, 99]).tolist()
        return cls(p50, p90, p95, p99, float(np.mean(runs_s)), _steadiness(runs_s), (*runs_s,))


def _steadiness(runs_s: Sequence[float]) -> float | None:
    if len(runs_s) < 2 * LEAST_RUNS:
        return None
    half = len(runs_s) // 2
    first, second = float(np.median(runs_s[:half])), float(np.median(runs_s[-half:]))
    return abs(first - second) / max(first, second)


@dataclass(frozen=True)
class Speedup:
    """How many times as fast a piece of work has become; below 1 it has become slower."""

    ratio: float  # of the medians, before over after
    low: float  # of the interval that holds the true ratio
    high: float
    noise: float  # what the ratio must be away from 1 to count

    @property
    def verdict(self) -> str:
        """`faster` or `slower`; `same` where the difference is within noise."""
        if self.low <= 1 <= self.high or max(self.ratio, 1 / self.ratio) < 1 + self.noise:
            return "same"
        return "faster" if self.ratio > 1 else "slower"


def speedup(before: LatencyStats, after: LatencyStats) -> Speedup | None:
    """Compare the medians of two series of runs; None if either is too short.

    The interval is a percentile bootstrap's over the runs. Runs that follow each other are alike,
    which makes it too narrow; so a difference must also be larger than either series differs from
    itself, first half to second, and than `NOISE`.
    """
    if min(len(before.runs_s), len(after.runs_s)) < LEAST_RUNS:
        return None
    random = np.random.default_rng(0)  # the same runs get the same verdict
    ratios = _medians(before.runs_s, random) / _medians(after.runs_s, random)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail]).tolist()
    noise = max(NOISE, before.steadiness or 0.0, after.steadiness or 0.0)
    return Speedup(before.p50_s / after.p50_s, low, high, noise)


def _medians(runs_s: tuple[float, ...], random: np.random.Generator) -> np.ndarray:
    drawn = random.choice(np.array(runs_s), (RESAMPLES, len(runs_s)))
    return np.median(drawn, axis=1)


@dataclass(frozen=True)
class RunBudget:
    """How often to time a piece of work."""

    least: int = LEAST_RUNS
    most: int = 100
    limit_s: float = 20.0  # when to stop before `most`, but not before `least`

    def __str__(self) -> str:
        if self.least == self.most:
            return f"{self.most} time{'s' * (self.most != 1)}"
        return f"up to {self.most} times or {self.limit_s:g} s"

    def rounds(self) -> Iterator[None]:
        """Give a round for each run; Python collects its garbage before a run, never in one."""
        end_s = time.perf_counter() + self.limit_s
        collecting = gc.isenabled()
        gc.disable()
        try:
            for run in range(self.most):
                if run >= self.least and time.perf_counter() >= end_s:
                    return
                gc.collect()
                yield
        finally:
            if collecting:
                gc.enable()


def timed(work: Callable[[], object], effort: RunBudget) -> list[float]:
    """Call something again and again, after a warm-up: the seconds that each call took."""
    for _ in range(WARM_UP):
        work()
    runs_s = []
    for _ in effort.rounds():
        start_s = time.perf_counter()
        work()
        runs_s.append(time.perf_counter() - start_s)
    return runs_s
