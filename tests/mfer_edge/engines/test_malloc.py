"""Memory of a process with loaded engines: little more than their weights."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.support.paths import ROOT

pytestmark = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "mallopt"), reason="the C library is not glibc"
)

WIDTHS = [512, 1024, 2048, 512, 1536, 1024] * 8 + [512]  # of the layers: 210 MB of weights
WEIGHTS_MB = sum(a * b * 4 for a, b in pairwise(WIDTHS)) / 1e6

PROCESS = """
import sys
from contextlib import nullcontext
from pathlib import Path
import numpy as np
from mfer_edge.engines.onnx import OnnxEngine, import_onnxruntime
from mfer_edge.engines.malloc import memory_returned

def memory_mb(name):
    for line in open("/proc/self/status"):
        if line.startswith(name):
            return int(line.split()[1]) * 1024 / 1e6

import_onnxruntime()
path, loading, width, *rows = sys.argv[1:]
before = memory_mb("VmRSS")
with memory_returned(0) if loading == "memory_returned" else nullcontext():
    engine = OnnxEngine(Path(path), ["CPUExecutionProvider"], 1)
print(memory_mb("VmRSS") - before, memory_mb("VmHWM") - before)
for count in map(int, rows):
    engine(x=np.ones((count, int(width)), np.float32))
    print(memory_mb("VmRSS") - before, memory_mb("VmHWM") - before)
"""


def measure_mb(file: Path, loading: str, width: int, *rows: int) -> list[tuple[float, float]]:
    """Memory and its peak after loading an engine in a new process, and after each call."""
    command = [sys.executable, "-c", PROCESS, str(file), loading, str(width), *map(str, rows)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    lines = [line.split() for line in run.stdout.splitlines()]
    return [(float(current), float(peak)) for current, peak in lines]


def save_graph(nodes: list, weights: list, widths: tuple[int, int], path: Path) -> Path:
    """Save a graph from x, (rows, widths[0]), to y, (rows, widths[1])."""
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", width])
        for name, width in zip("xy", widths, strict=True)
    )
    graph = helper.make_graph(nodes, "test", [x], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


def test_weights_are_in_memory_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    nodes, weights = [], []
    for layer, shape in enumerate(pairwise(WIDTHS)):
        weight = rng.normal(0, shape[0] ** -0.5, shape).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{layer}"))
        names = ["x" if layer == 0 else f"x{layer}", f"w{layer}"]
        out = "y" if layer == len(WIDTHS) - 2 else f"x{layer + 1}"
        nodes.append(helper.make_node("MatMul", names, [out]))
    path = save_graph(nodes, weights, (512, 512), tmp_path / "chain.onnx")
    [(current, peak)] = measure_mb(path, "memory_returned", 512)
    assert WEIGHTS_MB < current < 1.1 * WEIGHTS_MB
    assert peak < 1.15 * WEIGHTS_MB
    [(default, _)] = measure_mb(path, "default", 512)
    assert default > 1.15 * WEIGHTS_MB  # else `memory_returned` is no longer needed


def test_memory_of_a_call_is_returned(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Softmax", ["x"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[1, 0]),
        helper.make_node("Softmax", ["b"], ["c"]),
        helper.make_node("Transpose", ["c"], ["d"], perm=[1, 0]),
        helper.make_node("ReduceMax", ["d", "axes"], ["y"]),
    ]
    axes = numpy_helper.from_array(np.array([1]), "axes")
    path = save_graph(nodes, [axes], (1024, 1), tmp_path / "steps.onnx")
    _, (before, _), (after, peak) = measure_mb(path, "memory_returned", 1024, 1, 12_000)
    assert (
        peak - before > 2 * 12_000 * 1024 * 4 / 1e6
    )  # 49 MB of input, and at least as much inside
    assert after - before < 10


FREE = """
import sys
import numpy as np
from mfer_edge.engines.malloc import memory_returned

def memory_mb():
    for line in open("/proc/self/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024 / 1e6

with memory_returned(int(sys.argv[1])):
    pass
blocks = [np.ones(4_000_000, np.uint8) for _ in range(40)]
before = memory_mb()
del blocks[::2]
print(before - memory_mb())
"""


@pytest.mark.parametrize(
    ("weights_bytes", "freed_mb"), [(15_000_000, 0), (700_000_000, 80)], ids=["few", "many"]
)
def test_freed_memory_is_returned_beside_large_models(weights_bytes: int, freed_mb: float) -> None:
    command = [sys.executable, "-c", FREE, str(weights_bytes)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert float(run.stdout) == pytest.approx(freed_mb, abs=5)
