"""Description of this machine, CPU usage, and peak memory."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mfer_edge import __version__
from mfer_edge.bench.nvml import nvidia_gpus
from mfer_edge.cpu import core_count

ROOT = Path("/")
PACKAGES = ("numpy", "opencv-python-headless", "av", "onnxruntime", "onnxruntime-gpu", "tensorrt")


@dataclass(frozen=True)
class GpuInfo:
    """A GPU and its driver."""

    name: str
    driver: str  # version
    memory_bytes: int | None

    def __str__(self) -> str:
        return f"{self.name}, driver {self.driver}"


@dataclass(frozen=True)
class Machine:
    """The machine that something was measured on."""

    system: str
    cpu: str
    cores: int  # available to this process
    memory_bytes: int | None
    governor: str | None  # CPU frequency governor
    gpus: tuple[GpuInfo, ...]
    board: str | None  # of a single-board computer, such as a Jetson
    power_mode: str | None  # of a Jetson
    versions: Mapping[str, str]  # of Python, mfer-edge and the packages that it runs on


def describe_machine(root: Path = ROOT) -> Machine:
    """Describe the machine; unknown facts are None.

    Args:
        root: of the file system.
    """
    return Machine(
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=_cpu(root),
        cores=core_count(),
        memory_bytes=_memory(root),
        governor=read_text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        gpus=tuple(GpuInfo(gpu.name, gpu.driver, gpu.memory_bytes) for gpu in nvidia_gpus()),
        board=read_text(root / "proc/device-tree/model"),
        power_mode=_power_mode(root),
        versions=_versions(root),
    )


@dataclass(frozen=True)
class CpuUsage:
    """CPU time at one moment, in seconds of one core."""

    wall_s: float  # since the epoch
    busy_s: float  # of all processes, since the machine started
    own_s: float  # of this process and the child processes that it has waited for

    def others_since(self, before: CpuUsage) -> float:
        """Fraction of all cores that other processes have used since another moment."""
        others_s = (self.busy_s - before.busy_s) - (self.own_s - before.own_s)
        return max(0.0, others_s / (self.wall_s - before.wall_s) / (os.cpu_count() or 1))


def cpu_usage(root: Path = ROOT) -> CpuUsage | None:
    """Read the CPU times; None without /proc/stat."""
    line = re.match(r"cpu +([\d ]+)", read_text(root / "proc/stat") or "")
    if not line:
        return None
    user, nice, system, _idle, _wait, *rest = map(int, line[1].split())
    ticks = user + nice + system + sum(rest[:3])  # interrupts and steal; guests are in `user`
    own_s = sum(os.times()[:4])
    return CpuUsage(time.time(), ticks / os.sysconf("SC_CLK_TCK"), own_s)


def peak_memory() -> int | None:
    """Peak resident memory of this process in bytes."""
    status = read_text(Path("/proc/self/status"))
    if status is not None and (peak := re.search(r"VmHWM:\s+(\d+) kB", status)):
        # Not `getrusage`: on Linux it includes the memory of the parent at the time of the fork.
        return int(peak[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS


def read_text(path: Path) -> str | None:
    """Read a small file of the kernel or the system; None if it is missing or empty."""
    try:
        return path.read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def _cpu(root: Path) -> str:
    name = re.search(r"^model name\s*: (.+)$", read_text(root / "proc/cpuinfo") or "", re.MULTILINE)
    return name[1] if name else platform.processor() or platform.machine()


def _memory(root: Path) -> int | None:
    total = re.search(r"MemTotal:\s+(\d+) kB", read_text(root / "proc/meminfo") or "")
    if total:
        return int(total[1]) * 1024
    names = getattr(os, "sysconf_names", {})
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if names else None


def _power_mode(root: Path) -> str | None:
    """Power mode of a Jetson: its name, or its number without a list of names."""
    mode = re.search(r"pmode:(\d+)", read_text(root / "var/lib/nvpmodel/status") or "")
    if not mode:
        return None
    modes = read_text(root / "etc/nvpmodel.conf") or ""
    name = re.search(rf"POWER_MODEL ID=0*{int(mode[1])} NAME=(\S+)", modes)
    return name[1] if name else str(int(mode[1]))


def _versions(root: Path) -> dict[str, str]:
    versions = {"mfer-edge": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    tegra = re.search(
        r"R(\d+).*?REVISION: ([\d.]+)", read_text(root / "etc/nv_tegra_release") or ""
    )
    if tegra:
        versions["l4t"] = f"{tegra[1]}.{tegra[2]}"
    return versions
