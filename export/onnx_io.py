"""Tracing of PyTorch modules to ONNX, and reproducible ONNX files."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

OPSET = 18  # ONNX operator set version of every exported graph


def trace_module(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    dynamic: tuple[Any, ...],
) -> torch.onnx.ONNXProgram:
    """Trace a module to an ONNX graph that keeps the exporter's metadata.

    Args:
        inputs: an example of each input, by name.
        outputs: names of the outputs.
        dynamic: dynamic dimensions in the form of `torch.export`.
    """
    with quiet_exporter():
        program = torch.onnx.export(
            module,
            tuple(inputs.values()),
            input_names=list(inputs),
            output_names=list(outputs),
            opset_version=OPSET,
            dynamic_shapes=dynamic,
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RuntimeError(f"PyTorch's exporter returned no graph for {type(module).__name__}")
    return program


def save_onnx(model: onnx.ModelProto, path: Path) -> None:
    """Check a graph and write it without metadata, so that equal graphs give equal files."""
    for part in (model, model.graph):
        part.doc_string = ""
    del model.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.doc_string = ""
        if hasattr(value, "metadata_props"):
            del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """Suppress the exporter's progress and its messages about optional packages."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
