"""What the machine tells of itself: this one, a Jetson's files, a GPU's driver."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mfer_edge import __version__
from mfer_edge.bench.machine import (
    Sensor,
    Spent,
    describe_machine,
    peak_memory,
    sensors,
    spent,
    watching,
)
from mfer_edge.bench.nvml import nvidia_gpus
from mfer_edge.cpu import core_count

HWMON = "sys/class/hwmon"
JETSON = {
    "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
    "proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 62.50\n",
    "proc/meminfo": "MemTotal:       31367312 kB\nMemFree:        20000000 kB\n",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n",
    "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n< POWER_MODEL ID=2 NAME=MODE_30W >\n",
    "var/lib/nvpmodel/status": "pmode:0002 fmode:quiet\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1728000\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "729600\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "612000000\n",
    "sys/class/devfreq/15340000.vic/cur_freq": "115200000\n",  # not a GPU
    f"{HWMON}/hwmon0/name": "tmp451\n",
    f"{HWMON}/hwmon0/in1_label": "no rail\n",
    f"{HWMON}/hwmon3/name": "ina3221\n",
    f"{HWMON}/hwmon3/in1_label": "VDD_GPU_SOC\n",
    f"{HWMON}/hwmon3/in1_input": "19120\n",  # mV
    f"{HWMON}/hwmon3/curr1_input": "208\n",  # mA
    f"{HWMON}/hwmon3/in2_label": "VDD_CPU_CV\n",
    f"{HWMON}/hwmon3/in2_input": "19120\n",
    f"{HWMON}/hwmon3/curr2_input": "56\n",
    f"{HWMON}/hwmon3/in3_label": "NC\n",  # a channel that can't be read
}

NVML = """
#include <string.h>
typedef struct { unsigned long long total, free, used; } Memory;
int nvmlInit_v2(void) { return %d; }
int nvmlSystemGetDriverVersion(char *text, unsigned length) { strcpy(text, "570.1"); return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 3; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    *handle = (void *)(0x700000000000 + index);
    return index == 1;
}
int nvmlDeviceGetName(void *handle, char *text, unsigned length) {
    strcpy(text, (long)handle & 2 ? "Other" : "Some GPU");
    return 0;
}
int nvmlDeviceGetMemoryInfo(void *handle, Memory *memory) {
    memory->total = 80ull << 30; memory->used = 3ull << 30; memory->free = 77ull << 30;
    return (long)handle & 2 ? 3 : 0;
}
int nvmlDeviceGetPowerUsage(void *handle, unsigned *mw) { *mw = 71500; return 0; }
int nvmlDeviceGetClockInfo(void *handle, int type, unsigned *mhz) {
    *mhz = type == 1 ? 1980 : 0;
    return 0;
}
"""


@pytest.fixture
def jetson(tmp_path: Path) -> Path:
    """The files by which a Jetson describes itself, as its documents name them."""
    for name, text in JETSON.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def nvml(folder: Path, init: int = 0) -> str:
    """Compile a driver's library, by the signatures in nvml.h."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    (folder / "nvml.c").write_text(NVML % init)
    library = folder / "libnvml.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, folder / "nvml.c"], check=True)
    return str(library)


class TestThisMachine:
    def test_is_described(self) -> None:
        machine = describe_machine()
        assert machine.cores == core_count()
        assert machine.versions["mfer-edge"] == __version__
        assert machine.versions["numpy"] == np.__version__
        assert machine.versions["python"] == ".".join(map(str, sys.version_info[:3]))
        assert machine.cpu and machine.system
        assert machine.memory_bytes is not None and machine.memory_bytes > 1e8

    def test_peak_memory_remembers(self) -> None:
        np.ones(30_000_000)  # 240 MB, for a moment
        peak = peak_memory()
        assert peak is not None
        assert peak >= 240e6

    def test_peak_memory_is_not_the_parents(self) -> None:
        held = np.ones(40_000_000)  # 320 MB
        code = "from mfer_edge.bench.machine import peak_memory; print(peak_memory())"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        assert 1e6 < int(done.stdout) < held.nbytes

    def test_own_work_is_not_that_of_others(self) -> None:
        before = spent()
        end_s = time.process_time() + 0.3
        while time.process_time() < end_s:
            pass
        after = spent()
        if before is None or after is None:
            pytest.skip("no /proc/stat")
        assert after.own_s - before.own_s > 0.25  # the system counts in hundredths
        assert 0 <= after.others_since(before) <= 1.1

    def test_what_others_did(self) -> None:
        before, after = Spent(100, 50, 5), Spent(110, 62, 7)  # 12 s of work in 10 s, 2 of them ours
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

    def test_power_and_clocks(self, jetson: Path) -> None:
        read = {sensor.name: (sensor.unit, sensor.read()) for sensor in sensors(jetson)}
        assert read == {
            "CPU clock": ("MHz", pytest.approx((1728 + 729.6) / 2)),
            "GPU clock": ("MHz", pytest.approx(612)),
            "VDD_GPU_SOC": ("W", pytest.approx(19.12 * 0.208)),
            "VDD_CPU_CV": ("W", pytest.approx(19.12 * 0.056)),
        }

    def test_nothing_is_made_up(self, tmp_path: Path) -> None:
        machine = describe_machine(tmp_path)
        assert (machine.board, machine.power_mode, machine.governor) == (None, None, None)
        assert sensors(tmp_path) == ()
        assert spent(tmp_path) is None

    def test_all_processors_time_is_added_up(self, tmp_path: Path) -> None:
        (tmp_path / "proc").mkdir()
        # user nice system idle iowait irq softirq steal guest guest_nice, in hundredths
        (tmp_path / "proc/stat").write_text("cpu  100 20 30 9999 888 4 5 6 70 0\ncpu0 1 1 1\n")
        found = spent(tmp_path)
        assert found is not None
        assert found.busy_s == pytest.approx(1.65)


class TestWatching:
    def test_sees_what_changes(self) -> None:
        values = iter(range(10_000))
        with watching((Sensor("rail", "W", lambda: float(next(values))),), 0.001) as gauges:
            time.sleep(0.05)
        [gauge] = gauges
        assert (gauge.name, gauge.unit, gauge.least) == ("rail", "W", 0)
        assert gauge.mean == pytest.approx(gauge.most / 2)
        assert gauge.most > 2
        seen = next(values)
        time.sleep(0.01)
        assert next(values) == seen + 1  # nobody looks any more

    def test_a_short_block_is_seen_at_its_end(self) -> None:
        with watching((Sensor("rail", "W", lambda: 5.0),)) as gauges:
            pass
        assert [gauge.mean for gauge in gauges] == [5.0]

    def test_a_sensor_that_goes_away(self) -> None:
        with watching((Sensor("rail", "W", lambda: None),), 0.001) as gauges:
            pass
        assert gauges == []

    def test_no_sensors_no_thread(self) -> None:
        before = threading.active_count()
        with watching(()) as gauges:
            assert threading.active_count() == before
        assert gauges == []


class TestNvml:
    def test_every_gpu_that_can_be_used(self, tmp_path: Path) -> None:
        first, last = nvidia_gpus(nvml(tmp_path))
        assert (first.name, first.driver, last.name) == ("Some GPU", "570.1", "Other")
        assert (first.memory_bytes, first.used_bytes) == (80 << 30, 3 << 30)
        assert (first.power_w, first.clock_mhz) == (71.5, 1980)

    def test_what_it_does_not_tell_is_none(self, tmp_path: Path) -> None:
        last = nvidia_gpus(nvml(tmp_path))[-1]
        assert (last.memory_bytes, last.used_bytes) == (None, None)

    def test_a_driver_that_does_not_start(self, tmp_path: Path) -> None:
        assert nvidia_gpus(nvml(tmp_path, init=9)) == ()

    def test_no_driver(self) -> None:
        assert nvidia_gpus("libnothing-of-that-name.so") == ()
