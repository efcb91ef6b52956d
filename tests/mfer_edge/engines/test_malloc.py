"""What a process holds beside its networks' weights: next to nothing."""

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

WIDTHS = [512, 1024, 2048, 512, 1536, 1024] * 8 + [512]  # between the layers: 210 MB of weights
WEIGHTS_MB = sum(a * b * 4 for a, b in pairwise(WIDTHS)) / 1e6

PROCESS = """
import sys
from contextlib import nullcontext
from pathlib import Path
import numpy as np
from mfer_edge.engine import Engine, import_onnxruntime
from mfer_edge.memory import given_back

def held(name):  # MB
    for line in open("/proc/self/status"):
        if line.startswith(name):
            return int(line.split()[1]) * 1024 / 1e6

import_onnxruntime()
path, loading, width, *rows = sys.argv[1:]
before = held("VmRSS")
with given_back(0) if loading == "given_back" else nullcontext():
    engine = Engine(Path(path), ["CPUExecutionProvider"], 1)
print(held("VmRSS") - before, held("VmHWM") - before)
for count in map(int, rows):
    engine(x=np.ones((count, int(width)), np.float32))
    print(held("VmRSS") - before, held("VmHWM") - before)
"""


def megabytes(network: Path, loading: str, width: int, *rows: int) -> list[tuple[float, float]]:
    """Load a network in a process of its own and call it: what is held, and was at the peak."""
    command = [sys.executable, "-c", PROCESS, str(network), loading, str(width), *map(str, rows)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    lines = [line.split() for line in run.stdout.splitlines()]
    return [(float(held), float(peak)) for held, peak in lines]


def saved(nodes: list, weights: list, widths: tuple[int, int], path: Path) -> Path:
    """Save a network from x, (rows, widths[0]), to y, (rows, widths[1])."""
    taken, given = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", width])
        for name, width in zip("xy", widths, strict=True)
    )
    graph = helper.make_graph(nodes, "made", [taken], [given], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), path)
    return path


def test_weights_are_held_once(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    nodes, weights = [], []
    for layer, shape in enumerate(pairwise(WIDTHS)):
        weight = rng.normal(0, shape[0] ** -0.5, shape).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{layer}"))
        names = ["x" if layer == 0 else f"x{layer}", f"w{layer}"]
        out = "y" if layer == len(WIDTHS) - 2 else f"x{layer + 1}"
        nodes.append(helper.make_node("MatMul", names, [out]))
    path = saved(nodes, weights, (512, 512), tmp_path / "chain.onnx")
    [(held, peak)] = megabytes(path, "given_back", 512)
    assert WEIGHTS_MB < held < 1.1 * WEIGHTS_MB
    assert peak < 1.15 * WEIGHTS_MB
    [(kept, _)] = megabytes(path, "as it is", 512)
    assert kept > 1.15 * WEIGHTS_MB  # or `given_back` is no longer needed


def test_what_a_call_needed_is_given_back(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Softmax", ["x"], ["a"]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[1, 0]),
        helper.make_node("Softmax", ["b"], ["c"]),
        helper.make_node("Transpose", ["c"], ["d"], perm=[1, 0]),
        helper.make_node("ReduceMax", ["d", "axes"], ["y"]),
    ]
    axes = numpy_helper.from_array(np.array([1]), "axes")
    path = saved(nodes, [axes], (1024, 1), tmp_path / "steps.onnx")
    _, (before, _), (after, peak) = megabytes(path, "given_back", 1024, 1, 12_000)
    assert peak - before > 2 * 12_000 * 1024 * 4 / 1e6  # 49 MB in, and at least as much on the way
    assert after - before < 10


FREE = """
import sys
import numpy as np
from mfer_edge.memory import given_back

def held():  # MB
    for line in open("/proc/self/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024 / 1e6

with given_back(int(sys.argv[1])):
    pass
blocks = [np.ones(4_000_000, np.uint8) for _ in range(40)]
before = held()
del blocks[::2]
print(before - held())
"""


@pytest.mark.parametrize(
    ("weights_bytes", "freed_mb"), [(15_000_000, 0), (700_000_000, 80)], ids=["few", "many"]
)
def test_what_is_freed_later_is_given_back_beside_many_weights(
    weights_bytes: int, freed_mb: float
) -> None:
    command = [sys.executable, "-c", FREE, str(weights_bytes)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert float(run.stdout) == pytest.approx(freed_mb, abs=5)
