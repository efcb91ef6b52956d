"""Comparison of two benchmarks."""

from __future__ import annotations

from dataclasses import replace

from mfer_edge.bench.comparison import comparison_text, differences
from mfer_edge.bench.stats import LatencyStats
from tests.support.bench_results import BENCH, CLIP


class TestComparison:
    def test_shows_what_became_faster_and_what_is_noise(self) -> None:
        before = {
            "clip.total": LatencyStats.of([0.8] * 20),
            "clip.vad": LatencyStats.of([0.0103] * 20),
            "clip.decode": LatencyStats.of([0.1] * 20),
        }
        after = {
            "clip.total": CLIP,
            "clip.vad": LatencyStats.of([0.01] * 20),
            "clip.decode": LatencyStats.of([0.2] * 3),
            "clip.audio": CLIP,
        }
        text = comparison_text(replace(BENCH, times=before), replace(BENCH, times=after))
        rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line}
        assert rows["clip.total"][:4] == ["800.00", "400.00", "faster", "2.00x"]
        assert rows["clip.vad"][2] == "same"
        assert rows["clip.decode"][2:] == ["too", "few", "runs"]
        assert "clip.audio" not in rows  # not measured before
        assert "speed-up (99% interval)" in text
        assert rows["clip.total"][4:] == ["(2.00", "to", "2.00)"]
        assert "warning" not in text

    def test_nothing_in_common(self) -> None:
        text = comparison_text(replace(BENCH, times={}), BENCH)
        assert "nothing was measured in both" in text

    def test_warns_of_other_differences(self) -> None:
        other = replace(
            BENCH,
            machine=replace(BENCH.machine, cpu="Xeon", versions={"onnxruntime": "1.20.0"}),
            clip=replace(BENCH.clip, sha256="00" * 32),
            bundle=replace(BENCH.bundle, sha256="00" * 32, name="paper"),
            threads=1,
            others=0.5,
        )
        assert differences(BENCH, BENCH) == []
        assert differences(BENCH, other) == [
            "the machines differ: Jetson Orin Nano Cortex 6 cores 25W Orin, "
            "Jetson Orin Nano Xeon 6 cores 25W Orin",
            "the bundles differ: compact, paper",
            "the threads differ: 6, 1",
            "the versions of ONNX Runtime differ: 1.32.0, 1.20.0",
            "the clip face.mp4 is not the same: its sha256 differs",
            "now, other processes kept 50% of the cores busy",
        ]
