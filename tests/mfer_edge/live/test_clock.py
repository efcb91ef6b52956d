"""Clocks of live sources: jitter, bursts, drift over hours, loss."""

from __future__ import annotations

import math
import random

import pytest

from mfer_edge.live.clock import ArrivalOffset, Stamps

HOUR_S = 3600.0


class TestArrivalOffset:
    def test_is_the_least_delay(self) -> None:
        offset = ArrivalOffset()
        assert offset.offset_s == math.inf
        for index, late_s in enumerate([0.4, 0.1, 3.0, 0.2]):
            offset.observe(index, 100 + index + late_s)
        assert offset.offset_s == pytest.approx(100.1)

    def test_follows_clocks_that_drift_apart(self) -> None:
        offset = ArrivalOffset()
        for second in range(int(HOUR_S)):
            offset.observe(second * (1 - 1e-4), second + 5.0)  # the source is slow
        assert offset.offset_s == pytest.approx(5.0 + HOUR_S * 1e-4, abs=0.01)


class TestStamps:
    @pytest.mark.parametrize("drift", [-2e-4, 0.0, 2e-4])
    def test_frames_stay_with_the_sound_for_an_hour(self, drift: float) -> None:
        """Jitter, a stall of a second each minute, and a microphone that is slow or fast."""
        rng, stamps, worst_s, latest_s = random.Random(1), Stamps(has_audio=True), 0.0, -1.0
        for index in range(1, int(HOUR_S * 5)):
            now_s = index / 5
            stall_s = 1.0 if index % 300 == 0 else 0.0
            stamps.audio(0.2 * (1 + drift), now_s + rng.uniform(0, 0.03) + stall_s)
            time_s = stamps.frame(now_s + 0.04)
            if time_s is None:
                continue
            assert time_s > latest_s
            latest_s = time_s
            worst_s = max(worst_s, abs(time_s - now_s * (1 + drift)))
        assert worst_s < 0.1  # half a frame at five a second

    def test_sound_that_was_lost_moves_the_frames(self) -> None:
        stamps = Stamps(has_audio=True)
        for index in range(500):
            if not 100 <= index < 120:  # two seconds of it
                stamps.audio(0.1, index / 10)
        assert stamps.frame(50.0) == pytest.approx(50.0 - 2.0, abs=0.15)

    def test_there_is_no_time_before_the_sound(self) -> None:
        stamps = Stamps(has_audio=True)
        assert stamps.frame(7.0) is None
        stamps.audio(0.5, 8.0)
        assert stamps.frame(8.0) == pytest.approx(0.5)
        assert stamps.frame(8.0) is None  # no later than the one before

    def test_without_sound_it_is_the_time_since_the_first_frame(self) -> None:
        stamps = Stamps(has_audio=False)
        assert [stamps.frame(s) for s in (9.0, 9.2, 19.0)] == pytest.approx([0.0, 0.2, 10.0])
