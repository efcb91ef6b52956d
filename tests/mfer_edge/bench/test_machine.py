"""Description of this machine and of a Jetson."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mfer_edge import __version__
from mfer_edge.bench.machine import (
    CpuUsage,
    cpu_usage,
    describe_machine,
)
from mfer_edge.bench.sensors import sensors
from mfer_edge.cpu import core_count


class TestThisMachine:
    def test_is_described(self) -> None:
        machine = describe_machine()
        assert machine.cores == core_count()
        assert machine.versions["mfer-edge"] == __version__
        assert machine.versions["numpy"] == np.__version__
        assert machine.versions["python"] == ".".join(map(str, sys.version_info[:3]))
        assert machine.cpu and machine.system
        assert machine.memory_bytes is not None and machine.memory_bytes > 1e8

    def test_peak_memory_includes_freed_memory_but_not_the_parents(self) -> None:
        """In a process of its own: this one's peak is that of all tests before."""
        held = np.ones(60_000_000)  # 480 MB of this process
        code = (
            "import numpy as np; from mfer_edge.bench.machine import peak_memory\n"
            "print(peak_memory())\n"
            "np.ones(30_000_000)\n"  # 240 MB, freed at once
            "print(peak_memory())"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        before, after = map(int, done.stdout.split())
        assert 1e6 < before < 240e6 <= after < held.nbytes

    def test_own_cpu_usage_is_not_that_of_others(self) -> None:
        before = cpu_usage()
        end_s = time.process_time() + 0.3
        while time.process_time() < end_s:
            pass
        after = cpu_usage()
        if before is None or after is None:
            pytest.skip("no /proc/stat")
        assert after.own_s - before.own_s > 0.25  # the system counts in hundredths
        assert 0 <= after.others_since(before) <= 1.1

    def test_cpu_usage_of_others(self) -> None:
        before, after = (
            CpuUsage(100, 50, 5),
            CpuUsage(110, 62, 7),
        )
        assert after.others_since(before) == pytest.approx(1 / (os.cpu_count() or 1))


class TestJetson:
    def test_is_described(self, jetson: Path) -> None:
        machine = describe_machine(jetson)
        assert machine.board == "NVIDIA Jetson AGX Orin Developer Kit"
        assert machine.power_mode == "MODE_30W"
        assert machine.governor == "schedutil"
        assert machine.memory_bytes == 31367312 * 1024
        assert machine.versions["l4t"] == "36.4.3"

    def test_a_mode_without_a_name_has_its_number(self, jetson: Path) -> None:
        (jetson / "etc/nvpmodel.conf").unlink()
        assert describe_machine(jetson).power_mode == "2"

    def test_missing_files_give_none(self, tmp_path: Path) -> None:
        machine = describe_machine(tmp_path)
        assert (machine.board, machine.power_mode, machine.governor) == (None, None, None)
        assert sensors(tmp_path) == ()
        assert cpu_usage(tmp_path) is None

    def test_cpu_times_are_added_up(self, tmp_path: Path) -> None:
        (tmp_path / "proc").mkdir()
        # user nice system idle iowait irq softirq steal guest guest_nice, in hundredths
        (tmp_path / "proc/stat").write_text("cpu  100 20 30 9999 888 4 5 6 70 0\ncpu0 1 1 1\n")
        found = cpu_usage(tmp_path)
        assert found is not None
        assert found.busy_s == pytest.approx(1.65)
