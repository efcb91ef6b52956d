"""Order of the values in an ONNX graph, and the PyTorch modules that they come from."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import Any

import onnx

SCOPES = "pkg.torch.onnx.name_scopes"  # exporter metadata: the modules that a node comes from
OWNER = "owner."  # prefix of the model's modules in exported graphs


class GraphOrder:
    """Ancestors and descendants of the values of a graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.producers = {value: node for node in graph.node for value in node.output if value}
        self.values = list(self.producers)  # in topological order
        self._consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for value in node.input:
                self._consumers.setdefault(value, []).append(node)

    def ancestors(self, value: str, stop_at: Iterable[str] = ()) -> set[str]:
        """The value and all that it is computed from, up to and without some values."""
        borders = set(stop_at)
        found, queue = set(borders), [value]
        while queue:
            value = queue.pop()
            if value in self.producers and value not in found:
                found.add(value)
                queue += self.producers[value].input
        return found - borders

    def next_among(self, value: str, among: Mapping[str, Any]) -> set[str]:
        """The first values of a selection on each path from this value on."""
        found: set[str] = set()
        seen, queue = set(), [value]
        while queue:
            for node in self._consumers.get(queue.pop(), []):
                for later in node.output:
                    if later in among:
                        found.add(later)
                    elif later not in seen:
                        seen.add(later)
                        queue.append(later)
        return found


def module_paths(node: onnx.NodeProto) -> list[str] | None:
    """Paths of the PyTorch modules that a node is in, innermost last; None if unknown."""
    for entry in node.metadata_props:
        if entry.key == SCOPES:
            outermost, *paths, _ = ast.literal_eval(entry.value)
            return None if outermost else [path.removeprefix(OWNER) for path in paths]
    return None


def module_outputs(traced: onnx.GraphProto) -> dict[str, list[list[str]]]:
    """Values that leave each PyTorch module, by its path and call.

    Args:
        traced: a graph with the exporter's metadata.
    """
    calls: dict[str, list[list[int]]] = {}  # nodes of each call of each module
    current: list[str] = []
    for index, node in enumerate(traced.node):
        paths = module_paths(node)
        if paths is None:
            continue
        for path in paths:
            if path not in current:
                calls.setdefault(path, []).append([])
            calls[path][-1].append(index)
        current = paths

    consumers: dict[str, set[int]] = {output.name: {-1} for output in traced.output}
    for index, node in enumerate(traced.node):
        for value in node.input:
            consumers.setdefault(value, set()).add(index)

    def leaving(nodes: list[int]) -> list[str]:
        inside = set(nodes)
        values = [value for index in nodes for value in traced.node[index].output]
        return [value for value in values if consumers.get(value, set()) - inside]

    return {path: [leaving(nodes) for nodes in each] for path, each in calls.items()}
