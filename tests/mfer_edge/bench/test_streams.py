"""Live streams in real time, and the search for their largest number."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfer_edge.bench import streams
from mfer_edge.bench.streams import Trial, most_streams, try_streams
from mfer_edge.engines.load import load_engines
from mfer_edge.errors import MferError
from mfer_edge.model import Model
from mfer_edge.pipeline import Pipeline
from mfer_edge.sources.replay import Replay
from tests.support.slow_engines import slowed

RATE = 5.0  # frames per second


class TestStreams:
    def test_one_stream_in_real_time(self, brisk: Pipeline, moment: Path) -> None:
        start_s = time.perf_counter()
        trial = try_streams(
            brisk, brisk.options(), Replay.read(moment, RATE), 1, at_once=1, updates=3
        )
        assert time.perf_counter() - start_s >= 0.8 + 3 * 0.4  # in real time
        assert (trial.streams, trial.updates, trial.lost) == (1, 3, False)
        assert trial.p50_s is not None and trial.p99_s is not None
        assert 0 < trial.p50_s <= trial.p99_s

    def test_latency_counts_from_the_sample_not_from_the_push(
        self, brisk: Pipeline, moment: Path
    ) -> None:
        """A slow engine delays the reading, however late its frames are pushed."""
        slow = slowed(brisk, visual=0.25)
        trial = try_streams(
            slow, slow.options(), Replay.read(moment, RATE), 1, at_once=1, updates=3
        )
        assert trial.p50_s is not None and trial.p50_s > 0.25

    def test_too_many_are_aborted(self, brisk: Pipeline, moment: Path) -> None:
        hopeless = slowed(brisk, visual=0.9)  # a hop is 0.4 s
        trial = try_streams(
            hopeless, hopeless.options(), Replay.read(moment, RATE), 2, at_once=2, updates=50
        )
        assert trial.lost and not trial.holds
        assert trial.updates < 2 * 50

    def test_an_error_in_one_ends_all(
        self, brisk: Pipeline, moment: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(streams, "LOST_HOPS", math.inf)  # as on a machine that is never late
        broken = dict(load_engines(brisk.bundle))
        broken["visual"] = broken["fusion"]
        pipeline = Pipeline(Model.of(brisk.bundle, broken))
        start_s = time.perf_counter()
        with pytest.raises(MferError):
            try_streams(
                pipeline, pipeline.options(), Replay.read(moment, RATE), 2, at_once=1, updates=1000
            )
        assert time.perf_counter() - start_s < 200  # of the 400 s it was to last

    @given(limit=st.integers(0, 300), start=st.integers(0, 300))
    def test_the_search_ends_near_the_limit(self, limit: int, start: int) -> None:
        trials = most_streams(lambda n: made_trial(n, n <= limit), start)
        tried = [trial.streams for trial in trials]
        assert len(trials) <= 8
        assert min(tried) >= 1
        assert len(set(tried)) == len(tried)  # no number twice
        held = max((trial.streams for trial in trials if trial.holds), default=0)
        failed = min((trial.streams for trial in trials if not trial.holds), default=None)
        assert held <= limit
        if failed is not None and len(trials) < 8:
            assert failed - held <= max(1, 0.1 * held)

    @pytest.mark.parametrize(("limit", "start"), [(0, 3), (1, 1), (1, 9), (5, 3), (12, 8)])
    def test_the_search_finds_small_limits_exactly(self, limit: int, start: int) -> None:
        trials = most_streams(lambda n: made_trial(n, n <= limit), start)
        assert max((t.streams for t in trials if t.holds), default=0) == limit


def made_trial(streams: int, holds: bool) -> Trial:
    return Trial(streams, 10, 0.1, 0.5 if holds else 1.5, hop_s=1.0, lost=False)
