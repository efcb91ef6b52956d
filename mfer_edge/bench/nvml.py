"""NVIDIA GPUs through NVML, the library that comes with every driver."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass, field

LIBRARY = "nvml.dll" if os.name == "nt" else "libnvidia-ml.so.1"
CLOCK_SM = 1  # NVML_CLOCK_SM in nvml.h
NAME_BYTES = 96  # NVML_DEVICE_NAME_V2_BUFFER_SIZE; the driver's version needs less


class _Memory(ctypes.Structure):
    """nvmlMemory_t, in bytes."""

    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


@dataclass(frozen=True)
class NvidiaGpu:
    """One GPU; properties that the driver does not report are None."""

    name: str
    driver: str  # version
    _library: ctypes.CDLL = field(repr=False, compare=False)
    _handle: ctypes.c_void_p = field(repr=False, compare=False)

    @property
    def memory_bytes(self) -> int | None:
        """Total memory."""
        memory = self._memory()
        return None if memory is None else memory.total

    @property
    def used_bytes(self) -> int | None:
        """Memory in use now, by all processes."""
        memory = self._memory()
        return None if memory is None else memory.used

    @property
    def power_w(self) -> float | None:
        """Power draw of the whole board."""
        milliwatts = ctypes.c_uint()
        failed = self._library.nvmlDeviceGetPowerUsage(self._handle, ctypes.byref(milliwatts))
        return None if failed else milliwatts.value / 1000

    @property
    def clock_mhz(self) -> float | None:
        """Current clock of the streaming multiprocessors."""
        clock = ctypes.c_uint()
        failed = self._library.nvmlDeviceGetClockInfo(self._handle, CLOCK_SM, ctypes.byref(clock))
        return None if failed else float(clock.value)

    def _memory(self) -> _Memory | None:
        memory = _Memory()
        failed = self._library.nvmlDeviceGetMemoryInfo(self._handle, ctypes.byref(memory))
        return None if failed else memory


def nvidia_gpus(library: str = LIBRARY) -> tuple[NvidiaGpu, ...]:
    """List the GPUs; empty without a driver."""
    try:
        nvml = ctypes.CDLL(library)
    except OSError:
        return ()
    if nvml.nvmlInit_v2():
        return ()
    driver = ctypes.create_string_buffer(NAME_BYTES)
    nvml.nvmlSystemGetDriverVersion(driver, NAME_BYTES)
    count = ctypes.c_uint()
    nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
    found = []
    for index in range(count.value):
        handle, name = ctypes.c_void_p(), ctypes.create_string_buffer(NAME_BYTES)
        if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)):
            continue  # lost, or without permission
        nvml.nvmlDeviceGetName(handle, name, NAME_BYTES)
        found.append(NvidiaGpu(name.value.decode(), driver.value.decode(), nvml, handle))
    return tuple(found)
