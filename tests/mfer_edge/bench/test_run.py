"""Scenarios of a benchmark."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from mfer_edge.bench.result import (
    BenchResult,
)
from mfer_edge.bench.run import (
    BenchOptions,
    measure,
    thread_counts,
)
from mfer_edge.bundle import Bundle, save_bundle


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

    def test_streams_with_another_bundle(self, moment: Path, tmp_path: Path) -> None:
        bundle = Bundle.open()
        manifest = replace(bundle.manifest, window_s=0.8, hop_s=0.2)
        files = {file.file: bundle.folder / file.file for file in manifest.files}
        save_bundle(tmp_path / "brisk", manifest, files)
        options = BenchOptions(
            (tmp_path / "brisk",), "cpu", moment, "streams", streams=2, threads=1
        )
        found = measure(options)
        assert found.waits.hop_s == 0.2
        assert [trial.streams for trial in found.trials] == [2]
        assert found.streams == 2 * found.trials[0].holds
        assert not found.times

    @pytest.mark.parametrize(("cores", "tried"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6])])
    def test_thread_counts_of_a_sweep(self, cores: int, tried: list[int]) -> None:
        assert thread_counts(cores) == tried
