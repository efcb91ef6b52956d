"""Power and clock sensors of CPUs, NVIDIA GPUs and Jetsons, sampled while a benchmark runs."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mfer_edge.bench.machine import ROOT, read_text
from mfer_edge.bench.nvml import nvidia_gpus

INTERVAL_S = 0.5  # between samples
# Names of Tegra GPUs under devfreq: 17000000.gpu, 17000000.gv11b, 17000000.ga10b
TEGRA_GPU = re.compile(r"gpu|\.g[apv]1\db")
JETSON_POWER_MONITOR = "ina3221"  # chip that measures the power rails, on every Jetson


@dataclass(frozen=True)
class Sensor:
    """A value that can be read at any time."""

    name: str
    unit: str
    read: Callable[[], float | None]


@dataclass(frozen=True)
class SensorStats:
    """Values of a sensor over a benchmark. The field names are those of the JSON, schema 1."""

    name: str
    unit: str
    least: float
    mean: float
    most: float


def sensors(root: Path = ROOT) -> tuple[Sensor, ...]:
    """Find the sensors of this machine that can be read.

    Args:
        root: of the file system.
    """
    found = []
    clocks = sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq"))
    if clocks:
        found.append(Sensor("CPU clock", "MHz", lambda: _mean_mhz(clocks)))
    for device in sorted(root.glob("sys/class/devfreq/*")):
        if TEGRA_GPU.search(device.name):
            found.append(Sensor("GPU clock", "MHz", _NumberFile(device / "cur_freq", 1e-6)))
    for chip in sorted(root.glob("sys/class/hwmon/hwmon*")):
        if read_text(chip / "name") != JETSON_POWER_MONITOR:
            continue
        for channel in (1, 2, 3):
            rail = read_text(chip / f"in{channel}_label")
            if rail is not None:
                found.append(Sensor(rail, "W", _RailPower(chip, channel)))
    for gpu in nvidia_gpus():
        found.append(Sensor(f"{gpu.name} clock", "MHz", partial(getattr, gpu, "clock_mhz")))
        found.append(Sensor(f"{gpu.name} power", "W", partial(getattr, gpu, "power_w")))
    return tuple(sensor for sensor in found if sensor.read() is not None)


@contextmanager
def sampled(
    watched: tuple[Sensor, ...], every_s: float = INTERVAL_S
) -> Iterator[list[SensorStats]]:
    """Sample sensors in a thread while a block runs; the list is filled at the end of the block."""
    stats: list[SensorStats] = []
    if not watched:
        yield stats
        return
    samples: dict[Sensor, list[float]] = {sensor: [] for sensor in watched}
    done = threading.Event()

    def sample() -> None:
        is_last = False
        while not is_last:
            is_last = done.wait(every_s)
            for sensor, values in samples.items():
                value = sensor.read()
                if value is not None:
                    values.append(value)

    thread = threading.Thread(target=sample, daemon=True)
    thread.start()
    try:
        yield stats
    finally:
        done.set()
        thread.join()
        for sensor, values in samples.items():
            if values:
                mean = sum(values) / len(values)
                stats.append(SensorStats(sensor.name, sensor.unit, min(values), mean, max(values)))


@dataclass(frozen=True)
class _NumberFile:
    """Number in a file of the kernel, scaled."""

    path: Path
    scale: float = 1.0

    def __call__(self) -> float | None:
        try:
            return int(self.path.read_text()) * self.scale
        except (OSError, ValueError):
            return None


@dataclass(frozen=True)
class _RailPower:
    """Power of a Jetson's rail in watts."""

    chip: Path
    channel: int

    def __call__(self) -> float | None:
        volts = _NumberFile(self.chip / f"in{self.channel}_input", 1e-3)()
        amperes = _NumberFile(self.chip / f"curr{self.channel}_input", 1e-3)()
        return None if volts is None or amperes is None else volts * amperes


def _mean_mhz(clocks: list[Path]) -> float | None:
    read = [mhz for path in clocks if (mhz := _NumberFile(path, 1e-3)()) is not None]
    return sum(read) / len(read) if read else None
