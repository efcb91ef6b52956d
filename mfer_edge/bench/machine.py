"""What machine this is, and how hot it runs: what a measured time can't do without."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mfer_edge import __version__
from mfer_edge.bench.nvml import nvidia_gpus
from mfer_edge.cpu import core_count

ROOT = Path("/")
SAMPLE_S = 0.5  # between two looks at the sensors
PACKAGES = ("numpy", "opencv-python-headless", "av", "onnxruntime", "onnxruntime-gpu", "tensorrt")
# Names of Tegra's GPUs among the devices whose clock the kernel sets: 17000000.gpu, .gv11b, .ga10b
TEGRA_GPU = re.compile(r"gpu|\.g[apv]1\db")


@dataclass(frozen=True)
class Gpu:
    """A graphics processor."""

    name: str
    driver: str  # version
    memory_bytes: int | None


@dataclass(frozen=True)
class Machine:
    """Where something was measured."""

    system: str
    cpu: str
    cores: int  # that this process may use
    memory_bytes: int | None
    governor: str | None  # of the CPU's clock
    gpus: tuple[Gpu, ...]
    board: str | None  # of a machine on one board, such as a Jetson
    power_mode: str | None  # of a Jetson
    versions: Mapping[str, str]  # of what does the work


@dataclass(frozen=True)
class Gauge:
    """What a sensor showed during the work."""

    name: str
    unit: str
    least: float
    mean: float
    most: float


@dataclass(frozen=True)
class Sensor:
    """Something to look at while the work runs."""

    name: str
    unit: str
    read: Callable[[], float | None]


def describe_machine(root: Path = ROOT) -> Machine:
    """Describe the machine; what it does not tell is None.

    Args:
        root: of the file system.
    """
    return Machine(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=_cpu(root),
        cores=core_count(),
        memory_bytes=_memory(root),
        governor=_text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        gpus=tuple(Gpu(gpu.name, gpu.driver, gpu.memory_bytes) for gpu in nvidia_gpus()),
        board=_text(root / "proc/device-tree/model"),
        power_mode=_power_mode(root),
        versions=_versions(root),
    )


def sensors(root: Path = ROOT) -> tuple[Sensor, ...]:
    """Find what shows power and clocks: of the CPU, of NVIDIA's GPUs, and of a Jetson's rails."""
    found = []
    clocks = sorted(root.glob("sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq"))
    if clocks:
        found.append(Sensor("CPU clock", "MHz", lambda: _mean_mhz(clocks)))
    for device in sorted(root.glob("sys/class/devfreq/*")):
        if TEGRA_GPU.search(device.name):
            found.append(Sensor("GPU clock", "MHz", _Number(device / "cur_freq", 1e-6)))
    for chip in sorted(root.glob("sys/class/hwmon/hwmon*")):
        if _text(chip / "name") != "ina3221":  # what measures the rails on every Jetson
            continue
        for channel in (1, 2, 3):
            rail = _text(chip / f"in{channel}_label")
            if rail is not None:
                found.append(Sensor(rail, "W", _Rail(chip, channel)))
    for gpu in nvidia_gpus():
        found.append(Sensor(f"{gpu.name} clock", "MHz", partial(getattr, gpu, "clock_mhz")))
        found.append(Sensor(f"{gpu.name} power", "W", partial(getattr, gpu, "power_w")))
    return tuple(sensor for sensor in found if sensor.read() is not None)


@contextmanager
def watching(looked_at: tuple[Sensor, ...], every_s: float = SAMPLE_S) -> Iterator[list[Gauge]]:
    """Look at sensors while a block runs; the list is filled when it ends."""
    gauges: list[Gauge] = []
    if not looked_at:
        yield gauges
        return
    seen: dict[Sensor, list[float]] = {sensor: [] for sensor in looked_at}
    done = threading.Event()

    def look() -> None:
        over = False
        while not over:
            over = done.wait(every_s)
            for sensor, values in seen.items():
                value = sensor.read()
                if value is not None:
                    values.append(value)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield gauges
    finally:
        done.set()
        thread.join()
        for sensor, values in seen.items():
            if values:
                mean = sum(values) / len(values)
                gauges.append(Gauge(sensor.name, sensor.unit, min(values), mean, max(values)))


@dataclass(frozen=True)
class Spent:
    """What the processors have done so far, in seconds of one core."""

    wall_s: float  # since the epoch
    busy_s: float  # since the machine's start, for everybody
    own_s: float  # of that, for this process and the children it has waited for

    def others_since(self, before: Spent) -> float:
        """Share of all cores that others have kept busy since then."""
        others_s = (self.busy_s - before.busy_s) - (self.own_s - before.own_s)
        return max(0.0, others_s / (self.wall_s - before.wall_s) / (os.cpu_count() or 1))


def spent(root: Path = ROOT) -> Spent | None:
    """Look at what the processors have done; None where the kernel does not tell."""
    line = re.match(r"cpu +([\d ]+)", _text(root / "proc/stat") or "")
    if not line:
        return None
    user, nice, system, _idle, _wait, *rest = map(int, line[1].split())
    ticks = user + nice + system + sum(rest[:3])  # interrupts, and what a host takes; guests are in
    own_s = sum(os.times()[:4])
    return Spent(time.time(), ticks / os.sysconf("SC_CLK_TCK"), own_s)


def peak_memory() -> int | None:
    """The most memory that this process has held so far, in bytes."""
    status = _text(Path("/proc/self/status"))
    if status is not None and (peak := re.search(r"VmHWM:\s+(\d+) kB", status)):
        # Not `getrusage`: on Linux that counts what the parent held when it started this process.
        return int(peak[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS


@dataclass(frozen=True)
class _Number:
    """A number in a file of the kernel's."""

    path: Path
    scale: float = 1.0

    def __call__(self) -> float | None:
        try:
            return int(self.path.read_text()) * self.scale
        except (OSError, ValueError):
            return None


@dataclass(frozen=True)
class _Rail:
    """The power on one of a Jetson's rails."""

    chip: Path
    channel: int

    def __call__(self) -> float | None:
        volts = _Number(self.chip / f"in{self.channel}_input", 1e-3)()
        amperes = _Number(self.chip / f"curr{self.channel}_input", 1e-3)()
        return None if volts is None or amperes is None else volts * amperes


def _mean_mhz(clocks: list[Path]) -> float | None:
    read = [mhz for path in clocks if (mhz := _Number(path, 1e-3)()) is not None]
    return sum(read) / len(read) if read else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def _cpu(root: Path) -> str:
    name = re.search(r"^model name\s*: (.+)$", _text(root / "proc/cpuinfo") or "", re.MULTILINE)
    return name[1] if name else platform.processor() or platform.machine()


def _memory(root: Path) -> int | None:
    total = re.search(r"MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo") or "")
    if total:
        return int(total[1]) * 1024
    names = getattr(os, "sysconf_names", {})
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if names else None


def _power_mode(root: Path) -> str | None:
    """A Jetson's power mode: its name where the list of modes is there, else its number."""
    mode = re.search(r"pmode:(\d+)", _text(root / "var/lib/nvpmodel/status") or "")
    if not mode:
        return None
    modes = _text(root / "etc/nvpmodel.conf") or ""
    name = re.search(rf"POWER_MODEL ID=0*{int(mode[1])} NAME=(\S+)", modes)
    return name[1] if name else str(int(mode[1]))


def _versions(root: Path) -> dict[str, str]:
    versions = {"mfer-edge": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    tegra = re.search(r"R(\d+).*?REVISION: ([\d.]+)", _text(root / "etc/nv_tegra_release") or "")
    if tegra:
        versions["l4t"] = f"{tegra[1]}.{tegra[2]}"
    return versions
