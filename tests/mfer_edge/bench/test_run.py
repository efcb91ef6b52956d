"""Scenarios of a benchmark."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from mfer_edge.bench import run as run_module
from mfer_edge.bench.machine import CpuUsage
from mfer_edge.bench.result import BenchResult
from mfer_edge.bench.run import (
    Attempt,
    BenchOptions,
    Measurements,
    Setup,
    measure,
    measure_quietly,
    thread_counts,
)
from mfer_edge.bench.stats import LatencyStats
from mfer_edge.bundle import Bundle, save_bundle
from mfer_edge.cpu import core_count
from mfer_edge.pipeline import Pipeline


@pytest.fixture(scope="module")
def measured(moment: Path) -> BenchResult:
    return measure(BenchOptions(device="cpu", clip=moment, runs=2, threads=1))


class TestMeasure:
    def test_describes_bundle_and_clip(self, measured: BenchResult, moment: Path) -> None:
        bundle = Bundle.open()
        assert (measured.scenario, measured.device, measured.threads) == ("single", "cpu", 1)
        assert measured.bundle.sha256 == bundle.sha256
        assert measured.bundle.precision == bundle.manifest.precision
        clip = measured.clip
        assert clip.sha256 == hashlib.sha256(moment.read_bytes()).hexdigest()
        assert clip.bytes == moment.stat().st_size
        assert (clip.width, clip.height, clip.video) == (640, 360, "h264")
        assert clip.duration_s == pytest.approx(1.6, abs=0.05)
        assert (measured.waits.window_s, measured.waits.hop_s) == (4, 1)
        assert measured.waits.vad_chunk_s == pytest.approx(0.032)
        assert measured.gpu_bytes is None

    def test_measures_start_clip_and_calls(self, measured: BenchResult) -> None:
        groups = {name.split(".")[0] for name in measured.times}
        assert groups == {"start", "clip", "call"}
        runs = {len(of.runs_s) for name, of in measured.times.items() if name != "call.detect"}
        assert runs == {2}
        assert measured.memory_bytes is not None
        assert 50e6 < measured.memory_bytes < 400e6

    @pytest.mark.parametrize("threads", [1, 2])
    def test_streams_with_another_bundle(self, moment: Path, tmp_path: Path, threads: int) -> None:
        bundle = Bundle.open()
        manifest = replace(bundle.manifest, window_s=0.8, hop_s=0.2)
        files = {file.file: bundle.folder / file.file for file in manifest.files}
        save_bundle(tmp_path / "brisk", manifest, files)
        options = BenchOptions(
            (tmp_path / "brisk",), "cpu", moment, "streams", streams=2, threads=threads
        )
        steps: list[str] = []
        found = measure(options, steps.append)
        in_processes = threads == 2 <= core_count()
        told = {step.endswith("in 2 processes") for step in steps if "live stream" in step}
        assert told == {in_processes}
        assert found.waits.hop_s == 0.2
        assert [trial.streams for trial in found.trials] == [2]
        assert found.streams == 2 * found.trials[0].holds
        assert not found.times

    @pytest.mark.parametrize(("cores", "tried"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6])])
    def test_thread_counts_of_a_sweep(self, cores: int, tried: list[int]) -> None:
        assert thread_counts(cores) == tried


class TestAttempts:
    """A busy machine is measured again; what other processes do is told by a stand-in."""

    def attempts(
        self, monkeypatch: pytest.MonkeyPatch, busy: Sequence[float], options: BenchOptions
    ) -> tuple[list[Attempt], list[str]]:
        """Measure while other processes use these shares of the cores, one for each attempt."""
        shares, lines = iter(busy), list[str]()
        steady = LatencyStats.of([0.1] * 20)

        def usage() -> CpuUsage:
            return CpuUsage(0.0, 0.0, 0.0)

        monkeypatch.setattr(CpuUsage, "others_since", lambda after, before: next(shares))
        monkeypatch.setattr(run_module, "cpu_usage", usage)
        scenario = {"single": lambda setup: Measurements({"clip.total": steady})}
        monkeypatch.setattr(run_module, "SCENARIOS", scenario)
        setup = Setup(options, cast(Pipeline, None), Path("a.mp4"), 1, lines.append)
        return measure_quietly(setup), lines

    def test_a_quiet_machine_is_measured_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        attempts, lines = self.attempts(monkeypatch, [0.02], BenchOptions())
        assert [attempt.others for attempt in attempts] == [0.02] and lines == []

    def test_it_is_measured_until_it_is_quiet(self, monkeypatch: pytest.MonkeyPatch) -> None:
        attempts, lines = self.attempts(monkeypatch, [0.6, 0.01, 0.5], BenchOptions())
        assert [attempt.others for attempt in attempts] == [0.6, 0.01]
        assert lines == ["the machine was busy or unsteady (60%): again, attempt 2 of at most 3"]

    def test_it_gives_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        attempts, lines = self.attempts(monkeypatch, [0.6, 0.3, 0.5, 0.0], BenchOptions())
        assert [attempt.others for attempt in attempts] == [0.6, 0.3, 0.5]
        assert len(lines) == 2
        assert min(attempt.noise for attempt in attempts) == 0.3

    @pytest.mark.parametrize(
        ("options", "count"),
        [(BenchOptions(runs=5), 1), (BenchOptions(runs=5, attempts=2), 2), (BenchOptions(), 3)],
    )
    def test_at_most_as_often_as_asked_for(
        self, options: BenchOptions, count: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert len(self.attempts(monkeypatch, [0.6] * 9, options)[0]) == count

    def test_runs_that_drift_are_noise(self) -> None:
        drifting = LatencyStats.of([0.1] * 10 + [0.2] * 10)
        found = Measurements({"clip.total": drifting, "clip.vad": drifting})
        assert found.unsteady == {"clip.total": 0.5}  # the main latencies decide
        assert Attempt(found, 0.1, ()).noise == 0.5
        assert Attempt(Measurements(), None, ()).noise == 0.0

    def test_the_warning_names_the_attempts(self, pipeline: Pipeline) -> None:
        busy = Attempt(Measurements(), 0.25, ())
        (warning,) = run_module._warnings(pipeline, busy, 3)
        assert "25% of this machine's cores" in warning and "quietest of 3" in warning
        (warning,) = run_module._warnings(pipeline, busy, 1)
        assert "attempts" not in warning
