"""Where within a network an export departs from PyTorch."""

from __future__ import annotations

import ast
import math
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from torch import nn

from export.graphs import annotated, model_graphs
from export.parity import Call, Distance, tolerance
from export.torch_reference import reference_engines
from mfer_edge.engines.onnx import OnnxEngine
from mfer_edge.manifest import MODEL_ENGINES
from train.models.emotion_model import EmotionModel

SCOPES = "pkg.torch.onnx.name_scopes"  # the exporter's note of the modules that a node is from
OWNER = "owner."  # what the exported graphs call the model


@dataclass(frozen=True)
class Operator:
    """One operator of a graph, and how far its output is from what it should be."""

    kind: str  # such as MatMul
    node: str
    value: str  # its output
    module: str  # of the PyTorch model; empty where none is known
    distance: Distance

    def __str__(self) -> str:
        return f"{self.kind} '{self.node}'" + (f" ({self.module})" if self.module else "")


@dataclass(frozen=True)
class Divergence:
    """The first operator of an engine whose output is not what it should be."""

    engine: str
    first: Operator
    right: Operator | None  # the last one before it that was right, if there is one

    def __str__(self) -> str:
        off = self.first.distance
        text = (
            f"{self.engine} departs first at {self.first}: "
            f"cosine {off.cosine:.6f}, relative error {off.relative:.2g}"
        )
        if self.right is not None:
            text += f", after {self.right} was right (cosine {self.right.distance.cosine:.7f})"
        return text


def bisect(
    model: EmotionModel, name: str, original: Path, suspect: Path, call: Call, precision: str
) -> Divergence | None:
    """Find the first operator of a network's file whose output departs from PyTorch.

    First, what PyTorch's modules give is compared with the values that stand for it in the file.
    Then every value between the first that departs and those before it that are right is compared
    with the same one of the file in single precision, unless that departs as well. Values go by
    their names, which a change of precision keeps; where a file has none of that name, or PyTorch
    none of that shape, nothing is compared.

    Args:
        name: of the network.
        original: its file in single precision, as exported.
        suspect: the file under test.
        call: the inputs on which to look.
        precision: of the suspect, for what counts as a departure.

    Returns:
        None where nothing departs by more than that.

    Raises:
        EngineError: a file does not run on these inputs.
    """
    graph, inner = _Graph(_bare(onnx.load(suspect))), tolerance(name, precision).inner
    # MTCNN and the VAD are small: their operators are enough to find the place by.
    notes = _bare(
        annotated(model_graphs(model)[name]) if name in MODEL_ENGINES else onnx.ModelProto()
    )

    distances = _from_pytorch(model, name, suspect, call, _module_calls(notes))
    first = graph.first_off(distances, inner)
    if first is None:
        return None
    right = {value for value, distance in distances.items() if distance.relative <= inner}
    closer = _from_original(original, suspect, call, graph.before(first, right))
    found = graph.first_off(closer, inner)
    if found is not None:
        first, distances = found, distances | closer
    right = {value for value, distance in distances.items() if distance.relative <= inner}

    modules = {value: _modules(node) for node in notes.node for value in node.output}

    def operator(value: str) -> Operator:
        node, path = graph.makers[value], modules.get(value) or [""]
        return Operator(node.op_type, node.name, value, path[-1], distances[value])

    last = max(graph.before(first) & right, key=graph.order.index, default=None)
    return Divergence(name, operator(first), None if last is None else operator(last))


def _bare(model: onnx.ModelProto) -> onnx.GraphProto:
    """Give a graph without its weights, which may be too large to keep."""
    graph = model.graph
    return onnx.GraphProto(node=graph.node, output=graph.output)


class _Graph:
    """What comes before and after a value of a graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.makers = {value: node for node in graph.node for value in node.output if value}
        self.order = list(self.makers)  # a value comes after those that it is made from
        self._users: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for value in node.input:
                self._users.setdefault(value, []).append(node)

    def before(self, value: str, borders: Iterable[str] = ()) -> set[str]:
        """Give the value and all that it is made from, up to the borders, which stay out."""
        found, waiting = set(borders), [value]
        while waiting:
            value = waiting.pop()
            if value in self.makers and value not in found:
                found.add(value)
                waiting += self.makers[value].input
        return found - set(borders)

    def first_off(self, distances: Mapping[str, Distance], inner: float) -> str | None:
        """Find the first value that departs and is not put right by those that follow on it.

        One that is, stands for something else: a rearranged graph passes through other numbers.
        """
        values = [value for value in self.order if value in distances]
        off: dict[str, bool] = {}
        for value in reversed(values):
            following = self._following(value, distances)
            off[value] = not distances[value].relative <= inner and (
                not following or any(off[later] for later in following)
            )
        return next((value for value in values if off[value]), None)

    def _following(self, value: str, among: Mapping[str, Any]) -> set[str]:
        """Give the nearest of some values that are made from this one."""
        found: set[str] = set()
        seen, waiting = set(), [value]
        while waiting:
            for node in self._users.get(waiting.pop(), []):
                for later in node.output:
                    if later in among:
                        found.add(later)
                    elif later not in seen:
                        seen.add(later)
                        waiting.append(later)
        return found


def _modules(node: onnx.NodeProto) -> list[str] | None:
    """Name the modules that an operator belongs to, the innermost last; None if it is unknown."""
    for note in node.metadata_props:
        if note.key == SCOPES:
            outermost, *paths, _ = ast.literal_eval(note.value)
            return None if outermost else [path.removeprefix(OWNER) for path in paths]
    return None


def _module_calls(notes: onnx.GraphProto) -> dict[str, list[list[str]]]:
    """For each module and each time that it is called, the values that leave it."""
    calls: dict[str, list[list[int]]] = {}
    entered: list[str] = []
    for index, node in enumerate(notes.node):
        paths = _modules(node)
        if paths is None:
            continue
        for path in paths:
            if path not in entered:
                calls.setdefault(path, []).append([])
            calls[path][-1].append(index)
        entered = paths

    users: dict[str, set[int]] = {output.name: {-1} for output in notes.output}
    for index, node in enumerate(notes.node):
        for value in node.input:
            users.setdefault(value, set()).add(index)

    def leaving(nodes: list[int]) -> list[str]:
        inside = set(nodes)
        values = [value for index in nodes for value in notes.node[index].output]
        return [value for value in values if users.get(value, set()) - inside]

    return {path: [leaving(nodes) for nodes in each] for path, each in calls.items()}


def _from_pytorch(
    model: EmotionModel,
    name: str,
    suspect: Path,
    call: Call,
    module_calls: Mapping[str, list[list[str]]],
) -> dict[str, Distance]:
    """Compare a graph's values with what PyTorch's modules and the whole network give.

    PyTorch's are compared as they come and not kept: those of a large network take gigabytes.
    """
    wanted = {value for each in module_calls.values() for values in each for value in values}
    given = _run(suspect, wanted, call)
    seen: dict[str, list[dict[str, Distance]]] = {path: [] for path in module_calls}

    def watch(path: str, module: nn.Module) -> Any:
        def compare(module: nn.Module, inputs: Any, output: Any) -> None:
            number = len(seen[path])
            values = module_calls[path][number] if number < len(module_calls[path]) else []
            seen[path].append(_nearest({v: given[v] for v in values if v in given}, output))

        return module.register_forward_hook(compare)

    watched = [watch(path, m) for path, m in model.named_modules() if path in module_calls]
    try:
        results = reference_engines(model)[name](**call)
    finally:
        for hook in watched:
            hook.remove()
    distances = {v: _distance(given[v], result) for v, result in results.items() if v in given}
    for path, each in seen.items():
        if len(each) == len(module_calls[path]):  # else the graph has them in another way
            for found in each:
                distances = found | distances
    return distances


def _nearest(given: Mapping[str, np.ndarray], output: Any) -> dict[str, Distance]:
    """Compare values that leave a module with that of its outputs which they may stand for."""
    tensors = [t for t in (output if isinstance(output, tuple) else (output,)) if t is not None]
    # Of a GRU's states, and of what a ViT's last block gives, graphs keep what is read: those of
    # the last layer, the class token.
    parts = [part.numpy() for t in tensors if t.dim() > 1 for part in (t, t[-1:], t[:, :1])]
    distances = {}
    for value, array in given.items():
        options = [Distance.between(array, part) for part in parts if part.shape == array.shape]
        if options:
            distances[value] = min(options, key=lambda distance: distance.relative)
    return distances


def _from_original(
    original: Path, suspect: Path, call: Call, values: set[str]
) -> dict[str, Distance]:
    """Compare some of a graph's values with those of the same names in another graph.

    Of an operator that the other graph does not have, it can be told only whether its output is
    finite.
    """
    given = _run(suspect, values, call)
    expected = _run(original, values, call)
    distances = {v: _distance(array, expected[v]) for v, array in given.items() if v in expected}
    return distances | {
        v: Distance.between(array, np.zeros_like(array))
        for v, array in given.items()
        if v not in expected and not np.isfinite(array).all()
    }


def _run(file: Path, values: set[str], call: Call) -> dict[str, np.ndarray]:
    """Run a graph for its outputs, and for those of the values that it has."""
    model = onnx.load(file)
    outputs = {output.name for output in model.graph.output}
    made = [value for node in model.graph.node for value in node.output if value in values]
    model.graph.output.extend(onnx.ValueInfoProto(name=v) for v in made if v not in outputs)
    with tempfile.TemporaryDirectory() as folder:
        asking = Path(folder) / file.name
        onnx.save(model, asking)
        del model
        results = OnnxEngine(asking, ["CPUExecutionProvider"])(**call)
    return {
        value: array
        for value, array in results.items()
        if isinstance(array, np.ndarray) and array.dtype.kind in "biuf"
    }


def _distance(given: np.ndarray, expected: np.ndarray) -> Distance:
    if given.shape != expected.shape:
        return Distance(1, math.inf, expected=1.0, off=math.inf)
    return Distance.between(given, expected)
