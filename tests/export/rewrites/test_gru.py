"""ONNX's GRU operator with PyTorch's weights, against `nn.GRU`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from export.graphs import Graph, to_onnx
from export.rewrites.gru import OnnxGru
from mfer_edge.engines.onnx import OnnxEngine

WIDTH_IN = 5


class LastState(nn.Module):
    """The last state of a GRU, as the arms use it."""

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        self.gru = OnnxGru(gru)

    def forward(self, *arrays: Tensor) -> tuple[Tensor]:
        return (self.gru(*arrays)[1][-1],)


@pytest.mark.parametrize(("layers", "width"), [(1, 3), (2, 8), (3, 4)])
def test_states_are_those_of_pytorch(layers: int, width: int, tmp_path: Path) -> None:
    torch.manual_seed(layers)
    gru = nn.GRU(WIDTH_IN, width, layers, batch_first=True)
    for parameter in gru.parameters():  # large enough to saturate the gates
        nn.init.uniform_(parameter, -1.5, 1.5)
    graph = Graph(
        LastState(gru),
        {"sequence": torch.zeros(1, 7, WIDTH_IN)},
        ("state",),
        {"sequence": {1: ("steps", 1, 100)}},
    )
    to_onnx(graph, tmp_path / "gru.onnx")
    engine = OnnxEngine(tmp_path / "gru.onnx", ["CPUExecutionProvider"], 1)
    for steps in (1, 2, 3, 7, 50, 100):
        sequence = torch.randn(1, steps, WIDTH_IN)
        with torch.inference_mode():
            expected = gru(sequence)[1][-1].numpy()
        given = engine(sequence=sequence.numpy())["state"]
        assert given.shape == (1, width)
        np.testing.assert_allclose(given, expected, atol=1e-5)
    used = [node.op_type for node in onnx.load(tmp_path / "gru.onnx").graph.node]
    assert used.count("GRU") == layers


def test_weights_are_copied() -> None:
    gru = nn.GRU(WIDTH_IN, 4, 2, batch_first=True)
    converted = OnnxGru(gru)
    before = converted.w0.clone()
    with torch.no_grad():
        gru.weight_ih_l0.zero_()
    assert torch.equal(converted.w0, before)
    assert not list(converted.parameters())
