"""Latency of starts, clips and readings, on real clips with the real engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mfer_edge.bench.latency import time_clip, time_offline, time_starts, time_updates
from mfer_edge.bench.machine import (
    peak_memory,
)
from mfer_edge.bench.run import (
    algorithmic_latency,
)
from mfer_edge.bench.stats import RunBudget
from mfer_edge.errors import MferError
from mfer_edge.pipeline import Pipeline
from mfer_edge.sources.replay import Replay
from mfer_edge.stopwatch import STAGES
from tests.support.slow_engines import slowed

TWICE = RunBudget(2, 2)
RATE = 5.0  # frames per second


class TestClip:
    def test_every_stage_of_a_clip_with_face_and_voice(
        self, pipeline: Pipeline, moment: Path
    ) -> None:
        times = time_clip(pipeline, moment, TWICE)
        assert list(times) == [f"clip.{stage}" for stage in (*STAGES, "total")]
        assert all(len(of.runs_s) == 2 and of.p50_s > 0 for of in times.values())

    def test_measures_what_a_stage_takes(self, pipeline: Pipeline, moment: Path) -> None:
        usual = time_clip(pipeline, moment, TWICE)
        slow = time_clip(slowed(pipeline, audio=0.5), moment, TWICE)
        assert min(usual["clip.audio"].runs_s) < 0.5 <= min(slow["clip.audio"].runs_s)
        assert min(slow["clip.visual"].runs_s) < 0.5 <= min(slow["clip.total"].runs_s)

    def test_stages_that_never_ran_are_absent(
        self, pipeline: Pipeline, voice: Path, face: Path, empty: Path
    ) -> None:
        def ran(clip: Path) -> set[str]:
            return {
                name.removeprefix("clip.") for name in time_clip(pipeline, clip, RunBudget(1, 1))
            }

        assert ran(voice) == {"decode", "vad", "audio", "total"}
        assert ran(face) == {"decode", "detect", "visual", "total"}
        assert ran(empty) == {"decode", "vad", "detect", "total"}


class TestUpdates:
    def test_one_call_of_each_stage(self, brisk: Pipeline, moment: Path) -> None:
        times = time_updates(brisk, Replay.read(moment, RATE), RunBudget(5, 5))
        assert set(times) == {f"call.{stage}" for stage in (*STAGES[1:], "update")}
        assert len(times["call.update"].runs_s) == 5
        assert len(times["call.vad"].runs_s) == 5  # one for each window
        assert 9 <= len(times["call.detect"].runs_s) <= 11  # one for each frame, two per window

    def test_update_includes_all_engines(self, brisk: Pipeline, moment: Path) -> None:
        slow = slowed(brisk, audio=0.2, visual=0.1)
        update = time_updates(slow, Replay.read(moment, RATE), RunBudget(3, 3))["call.update"]
        assert min(update.runs_s) > 0.1  # some windows may hold no speech
        assert max(update.runs_s) > 0.3

    def test_of_the_voice_alone(self, brisk: Pipeline, voice: Path) -> None:
        times = time_updates(brisk, Replay.read(voice, RATE), RunBudget(4, 4))
        assert set(times) == {"call.vad", "call.audio", "call.update"}

    def test_readings_are_ready_at_the_algorithmic_latency(
        self, pipeline: Pipeline, moment: Path
    ) -> None:
        session, footage = pipeline.session(), Replay.read(moment, RATE)
        waits = algorithmic_latency(pipeline)
        arrived = []
        for due_s, item in footage.endless().timed():
            session.push(item)
            if session.readings():
                arrived.append(due_s)
            if len(arrived) == 2:
                break
        assert arrived[0] == pytest.approx(waits.first_s, abs=waits.picture_s)
        assert arrived[1] == pytest.approx(waits.window_s + waits.hop_s, abs=waits.picture_s)


class TestStarts:
    def test_parts_add_up_and_memory_is_that_of_the_process(self, moment: Path) -> None:
        ours = np.ones(50_000_000)  # 400 MB of this process
        times, memory = time_starts(None, "cpu", 1, moment, 2)
        parts = [times[f"start.{part}"].runs_s for part in ("import", "load", "first")]
        assert np.allclose(np.sum(parts, axis=0), times["start.total"].runs_s)
        assert all(seconds > 0 for runs_s in parts for seconds in runs_s)
        assert memory is not None
        assert 50e6 < memory < ours.nbytes < (peak_memory() or 0)

    def test_an_error_of_the_process_is_raised(self, moment: Path) -> None:
        with pytest.raises(MferError, match="no-such-bundle"):
            time_starts(Path("no-such-bundle"), "cpu", 1, moment, 1)


class TestOffline:
    def test_workers_run_at_once(self, brisk: Pipeline, voice: Path) -> None:
        """With an engine that mostly waits, time shows how many clips run at once."""
        slow = slowed(brisk, audio=0.3)
        one = time_offline(slow, voice, 1, RunBudget(1, 1))["offline.clip"].p50_s
        three = time_offline(slow, voice, 3, RunBudget(1, 1))["offline.clip"].p50_s
        assert one / three > 1.5
