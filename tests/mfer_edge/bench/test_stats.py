"""Latency statistics, and when two series differ."""

from __future__ import annotations

import gc
import statistics
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfer_edge.bench.stats import MIN_RUNS, WARM_UP, LatencyStats, RunBudget, speedup, timed

SECONDS = st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=60)


def noisy(median_s: float, runs: int, seed: int, spread: float = 0.02) -> LatencyStats:
    random = np.random.default_rng(seed)
    return LatencyStats.of((median_s * random.lognormal(0, spread, runs)).tolist())


class TestLatencyStats:
    def test_of_a_hundred_and_one_runs(self) -> None:
        """With 101 runs every percentile is one of them."""
        times = LatencyStats.of([float(run) for run in range(101)][::-1])
        assert (times.p50_s, times.p90_s, times.p95_s, times.p99_s) == (50, 90, 95, 99)
        assert times.mean_s == 50
        assert times.runs_s[0] == 100  # in the order in which they were made

    @given(SECONDS)
    def test_are_in_order_and_within_the_runs(self, runs_s: list[float]) -> None:
        times = LatencyStats.of(runs_s)
        in_order = [min(runs_s), times.p50_s, times.p90_s, times.p95_s, times.p99_s, max(runs_s)]
        assert all(a <= b * (1 + 1e-12) for a, b in pairwise(in_order))
        assert times.p50_s == pytest.approx(statistics.median(runs_s))
        assert times.mean_s == pytest.approx(statistics.fmean(runs_s))

    def test_steadiness_is_how_far_the_halves_are_apart(self) -> None:
        assert LatencyStats.of([1.0] * 10).steadiness == 0
        assert LatencyStats.of([1.0] * 5 + [2.0] * 5).steadiness == 0.5
        assert LatencyStats.of([2.0] * 5 + [1.0] * 5).steadiness == 0.5
        assert LatencyStats.of([1.0, 2.0] * 10).steadiness == 0  # noisy, but it stays the same

    def test_of_few_runs_have_no_steadiness(self) -> None:
        assert LatencyStats.of([1.0] * 9).steadiness is None


class TestSpeedup:
    @pytest.mark.parametrize("seed", range(20))
    def test_of_one_distribution_is_noise(self, seed: int) -> None:
        found = speedup(noisy(0.1, 40, seed), noisy(0.1, 40, seed + 100, spread=0.05))
        assert found is not None
        assert found.verdict == "same"

    @pytest.mark.parametrize("runs", [MIN_RUNS, 30])
    def test_of_twice_the_time_is_slower(self, runs: int) -> None:
        before, after = noisy(0.1, runs, 1), noisy(0.2, runs, 2)
        slower, faster = speedup(before, after), speedup(after, before)
        assert slower is not None and faster is not None
        assert (slower.verdict, faster.verdict) == ("slower", "faster")
        assert slower.ratio == pytest.approx(0.5, rel=0.1)
        assert slower.low < slower.ratio < slower.high < 1
        assert faster.ratio == pytest.approx(1 / slower.ratio)

    def test_of_less_than_five_percent_is_noise_however_sure(self) -> None:
        found = speedup(LatencyStats.of([1.04] * 100), LatencyStats.of([1.0] * 100))
        assert found is not None
        assert (found.low, found.verdict) == (1.04, "same")

    def test_drift_widens_the_noise(self) -> None:
        steady, other = LatencyStats.of([1.1] * 20), LatencyStats.of([1.0] * 20)
        drifting = LatencyStats.of([1.1] * 11 + [0.95] * 9)
        sure, unsure = speedup(steady, other), speedup(drifting, other)
        assert sure is not None and unsure is not None
        assert (sure.verdict, unsure.verdict) == ("faster", "same")

    def test_of_wide_spread_is_noise(self) -> None:
        spread, other = [1.0, 1.0, 3.0, 1.0, 3.0, 3.0], [2.5, 1.0, 1.0, 2.5, 2.5, 1.0]
        found = speedup(LatencyStats.of(spread), LatencyStats.of(other))
        assert found is not None
        assert found.low < 1 < found.high
        assert found.verdict == "same"

    def test_of_too_few_runs_is_none(self) -> None:
        assert speedup(LatencyStats.of([1.0] * 4), LatencyStats.of([2.0] * 40)) is None

    @given(SECONDS, SECONDS)
    def test_is_deterministic(self, before: list[float], after: list[float]) -> None:
        one, other = LatencyStats.of(before), LatencyStats.of(after)
        assert speedup(one, other) == speedup(one, other)

    @given(st.lists(st.floats(1e-3, 1e3), min_size=5, max_size=30))
    def test_of_a_series_with_itself_is_1(self, runs_s: list[float]) -> None:
        found = speedup(LatencyStats.of(runs_s), LatencyStats.of(runs_s))
        assert found is not None
        assert (found.ratio, found.verdict) == (1, "same")


class TestTimed:
    def test_counts_calls_after_a_warm_up(self) -> None:
        calls: list[bool] = []
        runs_s = timed(lambda: calls.append(gc.isenabled()), RunBudget(7, 7))
        assert len(runs_s) == 7
        assert calls == [True] * WARM_UP + [False] * 7  # no garbage is collected in a run
        assert gc.isenabled()

    def test_measures_the_call(self) -> None:
        assert min(timed(lambda: time.sleep(0.005), RunBudget(3, 3))) >= 0.005

    def test_stops_in_time_but_not_before_the_least(self) -> None:
        assert len(timed(lambda: time.sleep(0.005), RunBudget(3, 1000, 0.0))) == 3
        assert 3 <= len(timed(lambda: time.sleep(0.005), RunBudget(3, 1000, 0.05))) <= 11

    def test_an_error_leaves_the_collector_as_it_was(self) -> None:
        calls: list[int] = []

        def work() -> None:
            calls.append(1 // (WARM_UP + 1 - len(calls)))

        with pytest.raises(ZeroDivisionError):
            timed(work, RunBudget(5, 5))
        assert gc.isenabled()

    def test_budget_in_words(self) -> None:
        assert str(RunBudget(1, 1)) == "1 time"
        assert str(RunBudget(5, 100, 20)) == "up to 100 times or 20 s"


class TestIntervals:
    def test_correlated_runs_have_a_wider_one(self) -> None:
        """Runs in waves, as of a clock that changes, are worth fewer than they are."""
        random = np.random.default_rng(0)
        waves = 1 + 0.05 * np.repeat(random.standard_normal(20), 5)
        mixed = random.permutation(waves)

        def width(runs_s: np.ndarray) -> float:
            steady = LatencyStats.of([1.0] * 100)
            found = speedup(steady, LatencyStats.of(runs_s.tolist()))
            assert found is not None
            return found.high - found.low

        assert width(waves) > 1.3 * width(mixed)

    def test_the_true_ratio_is_within(self) -> None:
        """In at least 95 of 100 comparisons, for an interval of 99 %."""
        inside = 0
        for seed in range(100):
            found = speedup(noisy(1.0, 60, seed), noisy(0.8, 60, 1000 + seed))
            assert found is not None
            inside += found.low <= 1.25 <= found.high
        assert inside >= 95
