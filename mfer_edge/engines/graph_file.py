"""ONNX files as untrusted input: what is in a graph, read without running any of it."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from mfer_edge.errors import EngineError

OPERATOR_SETS = ("", "ai.onnx")
ENDLESS = ("Loop", "Scan")  # operators that may run for ever; no export needs them
MAX_DEPTH = 8  # of graphs within graphs, as `If` has
MAX_NODES = 100_000  # the full-size audio engine has a few thousand

# Numbers of fields, from onnx.proto.
MODEL_GRAPH, MODEL_FUNCTIONS = 7, 25
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_SPARSE_INITIALIZER = 1, 5, 15
NODE_OPERATOR, NODE_ATTRIBUTE, NODE_DOMAIN = 4, 5, 7
ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS = (5, 10), (6, 11)
ATTRIBUTE_SPARSE = (22, 23)
SPARSE_PARTS = (1, 2)
TENSOR_EXTERNAL, TENSOR_LOCATION = 13, 14

VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5  # wire types of Protocol Buffers
MAX_VARINT_BYTES = 10


def check_graph(path: Path) -> None:
    """Refuse an ONNX file that reads other files, runs others' code, or may run for ever.

    Raises:
        EngineError: it does, or the file is damaged; the message says what was found.
    """
    try:
        with open(path, "rb") as file:
            # Not copied: the full-size engines have hundreds of megabytes.
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        problem = _problem_of_model(memoryview(data))
    except OSError as error:
        raise EngineError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise EngineError(f"{path}: not an ONNX file, or damaged ({error})") from error
    if problem:
        raise EngineError(f"{path}: {problem}, which no bundle needs: it was not loaded")


def _problem_of_model(model: memoryview) -> str | None:
    graphs = 0
    for number, value in _fields(model):
        if number == MODEL_FUNCTIONS:
            return "it defines operators of its own"
        if number == MODEL_GRAPH and isinstance(value, memoryview):
            graphs += 1
            if problem := _Graphs().problem(value, 0):
                return problem
    if not graphs:
        raise ValueError("it has no graph")
    return None


class _Graphs:
    """The graphs of a model, with what was counted so far."""

    def __init__(self) -> None:
        self._nodes = 0

    def problem(self, graph: memoryview, depth: int) -> str | None:
        """What is wrong with a graph and those within it; None if nothing is."""
        if depth > MAX_DEPTH:
            return "its graphs are nested too deeply"
        for number, value in _fields(graph):
            if not isinstance(value, memoryview):
                continue
            problem = None
            if number == GRAPH_NODE:
                problem = self._problem_of_node(value, depth)
            elif number == GRAPH_INITIALIZER:
                problem = _problem_of_tensor(value)
            elif number == GRAPH_SPARSE_INITIALIZER:
                problem = _problem_of_sparse(value)
            if problem:
                return problem
        return None

    def _problem_of_node(self, node: memoryview, depth: int) -> str | None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            return f"it has more than {MAX_NODES} nodes"
        for number, value in _fields(node):
            if not isinstance(value, memoryview):
                continue
            problem = None
            if number == NODE_DOMAIN and (domain := _text(value)) not in OPERATOR_SETS:
                problem = f"it has operators of {domain!r}"
            elif number == NODE_OPERATOR and (operator := _text(value)) in ENDLESS:
                problem = f"it has the operator {operator}"
            elif number == NODE_ATTRIBUTE:
                problem = self._problem_of_attribute(value, depth)
            if problem:
                return problem
        return None

    def _problem_of_attribute(self, attribute: memoryview, depth: int) -> str | None:
        for number, value in _fields(attribute):
            if not isinstance(value, memoryview):
                continue
            problem = None
            if number in ATTRIBUTE_TENSORS:
                problem = _problem_of_tensor(value)
            elif number in ATTRIBUTE_SPARSE:
                problem = _problem_of_sparse(value)
            elif number in ATTRIBUTE_GRAPHS:
                problem = self.problem(value, depth + 1)
            if problem:
                return problem
        return None


def _problem_of_tensor(tensor: memoryview) -> str | None:
    for number, value in _fields(tensor):
        if number == TENSOR_EXTERNAL or (number == TENSOR_LOCATION and value):
            return "it takes weights from another file"
    return None


def _problem_of_sparse(tensor: memoryview) -> str | None:
    parts = (v for n, v in _fields(tensor) if n in SPARSE_PARTS and isinstance(v, memoryview))
    return next(filter(None, map(_problem_of_tensor, parts)), None)


def _text(value: memoryview) -> str:
    return bytes(value[:64]).decode(errors="replace")


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Fields of a message: their number, and their value as a number or as bytes.

    Raises:
        ValueError: the message is damaged.
    """
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if wire == BYTES:
            length, at = _varint(message, at)
        elif wire in (FIXED_32, FIXED_64):
            length = 4 if wire == FIXED_32 else 8
        else:
            raise ValueError(f"a field of type {wire}")
        if not number or at + length > end:
            raise ValueError("it ends within a field")
        if wire == BYTES:
            yield number, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    if at < len(message) and (byte := message[at]) < 0x80:
        return byte, at + 1  # as nearly all are
    value = 0
    for index, byte in enumerate(message[at : at + MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise ValueError("it ends within a number")
