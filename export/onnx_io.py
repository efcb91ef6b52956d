"""ONNX files as this project writes them."""

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

OPSET = 18  # the version of ONNX's operators in every exported graph


def traced(
    module: nn.Module,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    dynamic: tuple[Any, ...],
) -> torch.onnx.ONNXProgram:
    """Let PyTorch's exporter make a graph of a module, with the exporter's notes in it.

    Args:
        inputs: by name, an example each.
        outputs: names.
        dynamic: which dimensions vary, in the form of `torch.export`.
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
        raise RuntimeError(f"PyTorch's exporter gave no graph of {type(module).__name__}")
    return program


def save_onnx(model: onnx.ModelProto, path: Path) -> None:
    """Check a graph and write it without the exporter's notes, so that equal graphs are equal."""
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
    """Keep the exporter's progress and its notes about optional packages off the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
