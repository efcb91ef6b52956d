"""Tables of a benchmark."""

from __future__ import annotations

from dataclasses import replace

from mfer_edge.bench.report import report_text
from tests.support.bench_results import BENCH


class TestTable:
    def test_describes_bundle_clip_machine_and_resources(self) -> None:
        text = report_text(BENCH)
        for fact in (
            "compact int8+fp32 (int8 40%, fp32 60% of the MACs; abababababab) on cpu, 6 threads",
            "commit abc1234",
            "face.mp4: 4.00 s, 640x360 h264 + aac (cdcdcdcdcdcd)",
            "Jetson Orin Nano: Cortex, 6 cores, 8 GB, governor schedutil, power mode 25W",
            "Orin, driver 540",
            "onnxruntime 1.32.0",
            "peak memory of a process that reads the clip: 237 MB",
            "VDD_IN: 6.5 W (4 to 9)",
            "warning: the machine is busy",
        ):
            assert fact in text

    def test_rows_are_milliseconds(self) -> None:
        rows = {
            line.split()[0]: line.split()[1:] for line in report_text(BENCH).splitlines() if line
        }
        assert rows["decode"] == ["200.00", "280.00", "290.00", "298.00", "200.00", "3"]

    def test_stages_that_never_ran_are_not_zero(self) -> None:
        lines = [line.split() for line in report_text(BENCH).splitlines()]
        assert ["audio", "not", "run"] in lines

    def test_speed_and_algorithmic_latency_are_apart(self) -> None:
        text = report_text(BENCH)
        assert "one clip at a time: 10.0 s of clip a second, real-time factor 0.100" in text
        assert "looks back 4 s and comes every 1 s, first after 4.5 s" in text

    def test_streams(self) -> None:
        rows = [line.split() for line in report_text(BENCH).splitlines()]
        assert ["2", "250.0", "500.0", "20", "holds"] in rows
        assert ["4", "-", "-", "40", "falls", "behind"] in rows
        assert "2 live streams held at p99" in report_text(BENCH)

    def test_sweep_ends_with_its_verdicts(self) -> None:
        rows = [line.split() for line in report_text(BENCH).splitlines()]
        assert ["face", "fp32", "1", "20", "1.000", "1.000", "compact"] in rows
        assert "\nint8 is not worth it here\n" in report_text(BENCH)

    def test_unknown_facts_are_left_out(self) -> None:
        machine = replace(BENCH.machine, memory_bytes=None, governor=None, gpus=(), board=None)
        clip = replace(BENCH.clip, video=None, width=0, height=0)
        text = report_text(replace(BENCH, machine=machine, clip=clip, gauges=(), commit=None))
        assert "face.mp4: 4.00 s, aac (" in text
        assert "power and clocks: this machine does not tell" in text
        assert "None" not in text
