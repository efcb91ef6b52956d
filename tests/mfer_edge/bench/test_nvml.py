"""NVIDIA GPUs through a stand-in of the driver's library."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mfer_edge.bench.nvml import nvidia_gpus

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


def nvml(folder: Path, init: int = 0) -> str:
    """Compile a library with the signatures of nvml.h."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    (folder / "nvml.c").write_text(NVML % init)
    library = folder / "libnvml.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, folder / "nvml.c"], check=True)
    return str(library)


class TestNvml:
    def test_usable_gpus(self, tmp_path: Path) -> None:
        first, last = nvidia_gpus(nvml(tmp_path))
        assert (first.name, first.driver, last.name) == ("Some GPU", "570.1", "Other")
        assert (first.memory_bytes, first.used_bytes) == (80 << 30, 3 << 30)
        assert (first.power_w, first.clock_mhz) == (71.5, 1980)

    def test_unknown_properties_are_none(self, tmp_path: Path) -> None:
        last = nvidia_gpus(nvml(tmp_path))[-1]
        assert (last.memory_bytes, last.used_bytes) == (None, None)

    def test_a_driver_that_does_not_start(self, tmp_path: Path) -> None:
        assert nvidia_gpus(nvml(tmp_path, init=9)) == ()

    def test_no_driver(self) -> None:
        assert nvidia_gpus("libnothing-of-that-name.so") == ()
