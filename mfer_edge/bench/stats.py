"""Latency statistics of repeated runs, and a test of whether two series differ."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

NOISE = 0.05  # relative difference of medians below which two series count as the same
MIN_RUNS = 5  # of a series that can be compared
WARM_UP = 2  # calls before the runs: caches, clocks, memory that is allocated once
CONFIDENCE = 0.99  # of intervals; a comparison makes a dozen of them at once
RESAMPLES = 2000  # of the bootstrap


@dataclass(frozen=True)
class LatencyStats:
    """Statistics of the seconds that repeated runs took."""

    p50_s: float
    p90_s: float
    p95_s: float
    p99_s: float
    mean_s: float
    steadiness: float | None
    """Difference of the medians of the first and the second half of the runs, relative to the
    larger; None for too few runs."""
    runs_s: tuple[float, ...]  # in the order in which they were made

    @classmethod
    def of(cls, runs_s: Sequence[float]) -> LatencyStats:
        """Summarise runs, given in the order in which they were made.

        Percentiles are interpolated between runs: p99 of fewer than 100 runs is close to the
        slowest of them.
        """
        p50, p90, p95, p99 = np.percentile(runs_s, [50, 90, 95, 99]).tolist()
        return cls(p50, p90, p95, p99, float(np.mean(runs_s)), _steadiness(runs_s), (*runs_s,))


def _steadiness(runs_s: Sequence[float]) -> float | None:
    if len(runs_s) < 2 * MIN_RUNS:
        return None
    half = len(runs_s) // 2
    first, second = float(np.median(runs_s[:half])), float(np.median(runs_s[-half:]))
    return abs(first - second) / max(first, second)


@dataclass(frozen=True)
class Speedup:
    """Ratio of two latencies, before over after; below 1 for a slowdown."""

    ratio: float  # of the medians
    low: float  # of the confidence interval
    high: float
    noise: float  # distance of the ratio from 1 below which it does not count

    @property
    def verdict(self) -> str:
        """`faster`, `slower`, or `same` for a difference within noise."""
        if self.low <= 1 <= self.high or max(self.ratio, 1 / self.ratio) < 1 + self.noise:
            return "same"
        return "faster" if self.ratio > 1 else "slower"


def speedup(before: LatencyStats, after: LatencyStats) -> Speedup | None:
    """Compare the medians of two series; None if either has too few runs.

    The interval is a percentile bootstrap over blocks of consecutive runs, which are correlated
    (Künsch 1989). It says nothing of drift; so a difference must also exceed `NOISE` and the
    steadiness of both series.
    """
    if min(len(before.runs_s), len(after.runs_s)) < MIN_RUNS:
        return None
    random = np.random.default_rng(0)  # the same runs give the same verdict
    ratios = _resampled_medians(before.runs_s, random) / _resampled_medians(after.runs_s, random)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail]).tolist()
    noise = max(NOISE, before.steadiness or 0.0, after.steadiness or 0.0)
    return Speedup(before.p50_s / after.p50_s, low, high, noise)


def _resampled_medians(runs_s: tuple[float, ...], random: np.random.Generator) -> np.ndarray:
    count = len(runs_s)
    block = round(count ** (1 / 3))
    starts = random.integers(0, count, (RESAMPLES, -(-count // block)))  # blocks go round the end
    drawn = (starts[..., None] + np.arange(block)).reshape(RESAMPLES, -1)[:, :count] % count
    return np.median(np.array(runs_s)[drawn], axis=1)


@dataclass(frozen=True)
class RunBudget:
    """Number of runs to make."""

    min_runs: int = MIN_RUNS
    max_runs: int = 100
    limit_s: float = 20.0  # time after which no run is started, once `min_runs` are made

    def __str__(self) -> str:
        if self.min_runs == self.max_runs:
            return f"{self.max_runs} time{'s' * (self.max_runs != 1)}"
        return f"up to {self.max_runs} times or {self.limit_s:g} s"

    def rounds(self) -> Iterator[None]:
        """Iterate once per run; garbage is collected before each run and not during it."""
        end_s = time.perf_counter() + self.limit_s
        was_enabled = gc.isenabled()
        gc.disable()
        try:
            for run in range(self.max_runs):
                if run >= self.min_runs and time.perf_counter() >= end_s:
                    return
                gc.collect()
                yield
        finally:
            if was_enabled:
                gc.enable()


def timed(call: Callable[[], object], budget: RunBudget) -> list[float]:
    """Time a call repeatedly after a warm-up: seconds of each run."""
    for _ in range(WARM_UP):
        call()
    runs_s = []
    for _ in budget.rounds():
        start_s = time.perf_counter()
        call()
        runs_s.append(time.perf_counter() - start_s)
    return runs_s
