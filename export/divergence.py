"""Search for the first operator of an exported engine that diverges from PyTorch."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from torch import nn

from export.graph_order import GraphOrder, module_outputs, module_paths
from export.graphs import model_graphs, trace
from export.parity import Call, Distance, tolerance
from export.torch_reference import reference_engines
from mfer_edge.engines.onnx import OnnxEngine
from mfer_edge.manifest import MODEL_ENGINES
from train.models.emotion_model import EmotionModel


@dataclass(frozen=True)
class Operator:
    """An operator of a graph, and the difference of its output from the expected one."""

    kind: str  # such as MatMul
    node: str
    value: str  # its output
    module: str  # path of the PyTorch module; empty if unknown
    distance: Distance

    def __str__(self) -> str:
        return f"{self.kind} '{self.node}'" + (f" ({self.module})" if self.module else "")


@dataclass(frozen=True)
class Divergence:
    """The first operator of an engine whose output is wrong."""

    engine: str
    first: Operator
    last_correct: Operator | None  # the last correct one before it, if any

    def __str__(self) -> str:
        distance = self.first.distance
        text = (
            f"{self.engine} diverges first at {self.first}: "
            f"cosine {distance.cosine:.6f}, relative error {distance.relative:.2g}"
        )
        if self.last_correct is not None:
            cosine = self.last_correct.distance.cosine
            text += f", after {self.last_correct} was correct (cosine {cosine:.7f})"
        return text


def find_divergence(
    model: EmotionModel, name: str, fp32_file: Path, tested: Path, call: Call, *, precision: str
) -> Divergence | None:
    """Find the first operator of an engine file whose output diverges from PyTorch.

    First the outputs of PyTorch's modules are compared with the values that stand for them in the
    tested file. Then every value between the first one that diverges and the correct ones before it
    is compared with the value of the same name in the fp32 file, as long as that agrees with
    PyTorch. A change of precision keeps the names of values. Values without a counterpart of the
    same name and shape are not compared.

    Args:
        name: of the engine.
        fp32_file: the engine as exported.
        tested: the converted engine.
        call: inputs to compare on.
        precision: of the tested file; decides which error counts as diverged.

    Returns:
        None if no value has a larger error than the tolerance.

    Raises:
        EngineError: a file does not run on these inputs.
    """
    order = GraphOrder(_without_weights(onnx.load(tested)))
    allowed = tolerance(name, precision).inner
    # MTCNN and the VAD are small: the operator is enough, without the module.
    traced = _without_weights(
        trace(model_graphs(model)[name]) if name in MODEL_ENGINES else onnx.ModelProto()
    )

    distances = _compare_with_pytorch(model, name, tested, call, module_outputs(traced))
    first = _first_diverged(order, distances, allowed)
    if first is None:
        return None
    between = order.ancestors(first, stop_at=_correct(distances, allowed))
    closer = _compare_with_fp32(fp32_file, tested, call, between)
    found = _first_diverged(order, closer, allowed)
    if found is not None:
        first, distances = found, distances | closer

    paths = {value: module_paths(node) for node in traced.node for value in node.output}

    def operator(value: str) -> Operator:
        node, path = order.producers[value], paths.get(value) or [""]
        return Operator(node.op_type, node.name, value, path[-1], distances[value])

    correct_before = order.ancestors(first) & _correct(distances, allowed)
    last = max(correct_before, key=order.values.index, default=None)
    return Divergence(name, operator(first), None if last is None else operator(last))


def _without_weights(model: onnx.ModelProto) -> onnx.GraphProto:
    """Nodes and outputs of a graph, without its weights, to free their memory."""
    return onnx.GraphProto(node=model.graph.node, output=model.graph.output)


def _correct(distances: Mapping[str, Distance], allowed: float) -> set[str]:
    return {value for value, distance in distances.items() if distance.relative <= allowed}


def _first_diverged(
    order: GraphOrder, distances: Mapping[str, Distance], allowed: float
) -> str | None:
    """First value with too large an error, unless all compared values after it are correct.

    If those are correct, a rewrite of the graph has given the value another meaning.
    """
    values = [value for value in order.values if value in distances]
    diverged: dict[str, bool] = {}
    for value in reversed(values):
        following = order.next_among(value, distances)
        diverged[value] = not distances[value].relative <= allowed and (
            not following or any(diverged[later] for later in following)
        )
    return next((value for value in values if diverged[value]), None)


def _compare_with_pytorch(
    model: EmotionModel,
    name: str,
    tested: Path,
    call: Call,
    outputs: Mapping[str, list[list[str]]],
) -> dict[str, Distance]:
    """Compare a graph's values with the outputs of PyTorch's modules and of the whole engine.

    PyTorch's outputs are compared in hooks and not kept: those of a large model take gigabytes.

    Args:
        outputs: values by module and call, from `module_outputs`.
    """
    wanted = {value for calls in outputs.values() for values in calls for value in values}
    actual = _run(tested, wanted, call)
    compared: dict[str, list[dict[str, Distance]]] = {path: [] for path in outputs}

    def add_hook(path: str, module: nn.Module) -> Any:
        def compare(module: nn.Module, inputs: Any, output: Any) -> None:
            index = len(compared[path])
            values = outputs[path][index] if index < len(outputs[path]) else []
            arrays = {value: actual[value] for value in values if value in actual}
            compared[path].append(_compare_with_module(arrays, output))

        return module.register_forward_hook(compare)

    hooks = [add_hook(path, m) for path, m in model.named_modules() if path in outputs]
    try:
        expected = reference_engines(model)[name](**call)
    finally:
        for hook in hooks:
            hook.remove()
    distances = {v: _distance(actual[v], array) for v, array in expected.items() if v in actual}
    for path, calls in compared.items():
        if len(calls) == len(outputs[path]):  # else the graph calls the module in another way
            for found in calls:
                distances = found | distances
    return distances


def _compare_with_module(actual: Mapping[str, np.ndarray], output: Any) -> dict[str, Distance]:
    """Compare a module's values in the graph with the part of its output that matches best."""
    tensors = [t for t in (output if isinstance(output, tuple) else (output,)) if t is not None]
    # Graphs keep only what is used: the last layer of a GRU's states, the class token of a ViT's
    # last block.
    parts = [part.numpy() for t in tensors if t.dim() > 1 for part in (t, t[-1:], t[:, :1])]
    distances = {}
    for value, array in actual.items():
        candidates = [Distance.between(array, part) for part in parts if part.shape == array.shape]
        if candidates:
            distances[value] = min(candidates, key=lambda distance: distance.relative)
    return distances


def _compare_with_fp32(
    fp32_file: Path, tested: Path, call: Call, values: set[str]
) -> dict[str, Distance]:
    """Compare values of a graph with those of the same names in the fp32 graph.

    Outputs of operators that the fp32 graph does not have are only checked for being finite.
    """
    actual = _run(tested, values, call)
    expected = _run(fp32_file, values, call)
    distances = {v: _distance(array, expected[v]) for v, array in actual.items() if v in expected}
    return distances | {
        v: Distance.between(array, np.zeros_like(array))
        for v, array in actual.items()
        if v not in expected and not np.isfinite(array).all()
    }


def _run(file: Path, values: set[str], call: Call) -> dict[str, np.ndarray]:
    """Run a graph; return its outputs and those of the given values that it has."""
    model = onnx.load(file)
    outputs = {output.name for output in model.graph.output}
    inner = [value for node in model.graph.node for value in node.output if value in values]
    model.graph.output.extend(onnx.ValueInfoProto(name=v) for v in inner if v not in outputs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file.name
        onnx.save(model, path)
        del model
        results = OnnxEngine(path, ["CPUExecutionProvider"])(**call)
    return {
        value: array
        for value, array in results.items()
        if isinstance(array, np.ndarray) and array.dtype.kind in "biuf"
    }


def _distance(actual: np.ndarray, expected: np.ndarray) -> Distance:
    """Compare two arrays; other shapes are infinitely far apart."""
    if actual.shape != expected.shape:
        return Distance(1, math.inf, expected_sq=1.0, error_sq=math.inf)
    return Distance.between(actual, expected)
